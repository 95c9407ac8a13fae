// A fixed set of threads that run one function together and meet at barriers inside it.
//
// Work here comes in pieces of microseconds, so waiting threads first spin, then give the processor away,
// then sleep: a barrier costs about a microsecond when every thread has a core, and nothing is burnt when
// not.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace fivefold {

// A number that threads wait on to change: spin, yield, sleep.
class Gate {
 public:
  uint32_t value() const { return value_.load(std::memory_order_acquire); }
  void advance();
  void wait_past(uint32_t seen, int spins);

 private:
  alignas(64) std::atomic<uint32_t> value_{0};
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

  // Inside `work`: returns when all threads have called it.
  void barrier();

 private:
  struct Team;

  void start();

  int threads_;
  std::mutex run_mutex_;
  std::shared_ptr<Team> team_;
};

// The part of `count` things that is for `thread`: [first, second).
std::pair<int, int> share(int count, int thread, int threads);

}  // namespace fivefold
