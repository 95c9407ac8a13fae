#include "thread_pool.h"

#include <pthread.h>
#include <unistd.h>

#include <chrono>
#include <stdexcept>

namespace fivefold {
namespace {

constexpr int kBarrierSpins = 4000;  // about 50 us of `pause`
constexpr int kIdleSpins = 8000;
constexpr int kYields = 50;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

}  // namespace

void Gate::advance() {
  value_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
    }
    condition_.notify_all();
  }
}

void Gate::wait_past(uint32_t seen, int spins) {
  for (int i = 0; i < spins; ++i) {
    if (value() != seen) return;
    pause();
  }
  for (int i = 0; i < kYields; ++i) {
    if (value() != seen) return;
    std::this_thread::yield();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  while (value_.load(std::memory_order_seq_cst) == seen) condition_.wait(lock);
  sleepers_.fetch_sub(1, std::memory_order_seq_cst);
}

// What the threads share. They hold it themselves, so it outlives a pool that is dropped in a forked child.
struct ThreadPool::Team {
  explicit Team(int count) : threads(count), process(getpid()) {}

  void barrier() {
    if (threads == 1) return;
    const uint32_t seen = meeting.value();
    if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
      arrived.store(0, std::memory_order_relaxed);
      meeting.advance();
      return;
    }
    meeting.wait_past(seen, kBarrierSpins);
  }

  void serve(int thread) {
    for (uint32_t round = 0;; ++round) {
      go.wait_past(round, kIdleSpins);
      if (stopping.load(std::memory_order_acquire)) return;
      (*work)(thread);
      barrier();
    }
  }

  const int threads;
  const pid_t process;
  Gate go;
  Gate meeting;
  alignas(64) std::atomic<int> arrived{0};
  std::atomic<bool> stopping{false};
  const std::function<void(int)>* work = nullptr;
  std::vector<std::thread> workers;
};

ThreadPool::ThreadPool(int threads) : threads_(threads) {
  if (threads < 1 || threads > 1024)
    throw std::invalid_argument("a thread pool has between 1 and 1024 threads");
}

ThreadPool::~ThreadPool() {
  if (!team_) return;
  if (team_->process != getpid()) {  // after a fork only the parent has the threads
    for (std::thread& worker : team_->workers) worker.detach();
    new std::shared_ptr<Team>(team_);  // never freed: its locks may be held
    return;
  }
  team_->stopping.store(true, std::memory_order_release);
  team_->go.advance();
  for (std::thread& worker : team_->workers) worker.join();
}

void ThreadPool::start() {
  if (team_ && team_->process == getpid()) return;
  if (team_) {
    for (std::thread& worker : team_->workers) worker.detach();
    new std::shared_ptr<Team>(team_);
  }
  team_ = std::make_shared<Team>(threads_);
  for (int thread = 1; thread < threads_; ++thread)
    team_->workers.emplace_back([team = team_, thread] { team->serve(thread); });
}

void ThreadPool::run(const std::function<void(int)>& work) {
  std::lock_guard<std::mutex> lock(run_mutex_);
  start();
  team_->work = &work;
  if (threads_ > 1) team_->go.advance();
  work(0);
  team_->barrier();
}

void ThreadPool::barrier() { team_->barrier(); }

std::pair<int, int> share(int count, int thread, int threads) {
  return {int(int64_t(count) * thread / threads), int(int64_t(count) * (thread + 1) / threads)};
}

}  // namespace fivefold
