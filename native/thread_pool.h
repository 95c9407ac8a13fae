// A fixed set of threads that run one function together, and a place to wait for something.
//
// Work here comes in pieces of microseconds, so a waiting thread first spins and then sleeps. It never
// yields: on a busy machine a thread that yields comes back after the other's whole time slice, one that
// sleeps is woken.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

namespace fivefold {

// Threads wait here until a condition holds. Whoever makes one hold does so by a sequentially consistent
// read-modify-write, and then calls notify().
class Parking {
 public:
  static constexpr int kSpins = 1500;  // some tens of microseconds

  void notify() {
    if (sleepers_.load(std::memory_order_seq_cst) == 0) return;
    {
      std::lock_guard<std::mutex> lock(mutex_);
    }
    condition_.notify_all();
  }

  // `ready` reads atomics only, sequentially consistent.
  template <class Ready>
  void wait(Ready ready, int spins = kSpins) {
    for (int i = 0; i < spins; ++i) {
      if (ready()) return;
      pause();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    condition_.wait(lock, ready);
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  }

 private:
  static void pause();

  alignas(64) std::atomic<int> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable condition_;
};

class ThreadPool {
 public:
  // Threads start at the first run. Throws std::invalid_argument unless 1 <= threads <= 1024.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  // Calls work(thread) on every thread, the caller being thread 0; returns when all have returned. `work`
  // must not throw. Calls from several threads run one after the other.
  void run(const std::function<void(int)>& work);

 private:
  struct Team;

  void start();

  int threads_;
  std::mutex run_mutex_;
  std::shared_ptr<Team> team_;
};

// The part of `count` things that is for `index` of `parts`: [first, second).
std::pair<int, int> share(int count, int index, int parts);

}  // namespace fivefold
