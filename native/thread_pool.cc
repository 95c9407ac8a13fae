#include "thread_pool.h"

#include <unistd.h>

#include <stdexcept>
#include <thread>
#include <vector>

namespace fivefold {

void Parking::pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// What the threads share. They hold it themselves, so it outlives a pool that is dropped in a forked child.
struct ThreadPool::Team {
  explicit Team(int count) : threads(count), process(getpid()) {}

  void serve(int thread) {
    for (uint32_t round = 1;; ++round) {
      idle.wait([&] { return started.load() >= round || stopping.load(); }, kIdleSpins);
      if (stopping.load()) return;
      (*work)(thread);
      finished.fetch_add(1);
      busy.notify();
    }
  }

  void run(const std::function<void(int)>& function) {
    work = &function;
    finished.store(0);
    started.fetch_add(1);
    idle.notify();
    function(0);
    busy.wait([&] { return finished.load() == threads - 1; });
  }

  void stop() {
    stopping.exchange(true);
    idle.notify();
    for (std::thread& worker : workers) worker.join();
  }

  // A step is often followed by the next within this time.
  static constexpr int kIdleSpins = 3 * Parking::kSpins;

  const int threads;
  const pid_t process;
  Parking idle, busy;
  alignas(64) std::atomic<uint32_t> started{0};
  alignas(64) std::atomic<int> finished{0};
  std::atomic<bool> stopping{false};
  const std::function<void(int)>* work = nullptr;
  std::vector<std::thread> workers;
};

namespace {

// After a fork only the parent has the threads; the child's copy is left alone, as its locks may be held.
template <class Team>
void abandon(std::shared_ptr<Team>& team) {
  for (std::thread& worker : team->workers) worker.detach();
  new std::shared_ptr<Team>(std::move(team));
}

}  // namespace

ThreadPool::ThreadPool(int threads) : threads_(threads) {
  if (threads < 1 || threads > 1024)
    throw std::invalid_argument("a thread pool has between 1 and 1024 threads");
}

ThreadPool::~ThreadPool() {
  if (!team_) return;
  if (team_->process == getpid())
    team_->stop();
  else
    abandon(team_);
}

void ThreadPool::start() {
  if (team_ && team_->process == getpid()) return;
  if (team_) abandon(team_);
  team_ = std::make_shared<Team>(threads_);
  for (int thread = 1; thread < threads_; ++thread)
    team_->workers.emplace_back([team = team_, thread] { team->serve(thread); });
}

void ThreadPool::run(const std::function<void(int)>& work) {
  std::lock_guard<std::mutex> lock(run_mutex_);
  start();
  team_->run(work);
}

std::pair<int, int> share(int count, int index, int parts) {
  const auto bound = [=](int64_t i) { return int((count * i + parts - 1) / parts); };
  return {bound(index), bound(index + 1)};
}

}  // namespace fivefold
