#include "measure.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>

#include "cpu.h"
#include "memory.h"

namespace fivefold {
namespace {

void needs_time(double seconds) {
  if (!(seconds > 0)) throw std::invalid_argument("measuring takes some time");
}

// Calls `pass` once, and then until the time is over; the units of the later calls over their seconds.
template <class Pass>
double rate(double seconds, const Pass& pass) {
  pass();
  const auto start = std::chrono::steady_clock::now();
  double units = 0, elapsed = 0;
  do {
    units += pass();
    elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  } while (elapsed < seconds);
  return units / elapsed;
}

}  // namespace

double read_bandwidth(ThreadPool& pool, size_t bytes, double seconds) {
  needs_time(seconds);
  if (bytes < 4096) throw std::invalid_argument("at least 4096 bytes are needed");
  const Kernels& kernels = *usable_kernels().back();
  const size_t words = bytes / 8 / size_t(pool.threads());
  Memory memory(bytes);
  const auto part = [&](int thread) {
    return reinterpret_cast<uint64_t*>(memory.data()) + words * size_t(thread);
  };
  pool.run([&](int thread) { std::fill_n(part(thread), words, uint64_t(thread) + 1); });
  std::atomic<uint64_t> sum{0};
  return rate(seconds, [&] {
    pool.run(
        [&](int thread) { sum.fetch_add(kernels.read_sum(part(thread), words), std::memory_order_relaxed); });
    return double(words) * 8.0 * pool.threads();
  });
}

double peak_rate(ThreadPool& pool, const Kernels& kernels, bool integers, double seconds) {
  needs_time(seconds);
  constexpr size_t kCount = 20000;
  return rate(seconds, [&] {
    std::atomic<uint64_t> products{0};
    pool.run([&](int thread) {
      volatile float kept = 0.5f;
      float sink = kept;
      const uint64_t made = integers ? kernels.peak_int8(kCount, 0x01030507 + thread, &sink)
                                     : kernels.peak_float(kCount, kept, &sink);
      kept = sink;
      products.fetch_add(made, std::memory_order_relaxed);
    });
    return double(products.load());
  });
}

double clock_rate(double seconds) {
  needs_time(seconds);
  constexpr int kCount = 1 << 18, kAdds = 8;
  return rate(seconds, [] {
    uint64_t x = 0, step = 3;
    __asm__ volatile("" : "+r"(step));
    for (int i = 0; i < kCount; ++i) {
      // Empty pieces of assembly hold the additions apart, so that none is joined with the next; and some
      // processors add constants for nothing.
#pragma GCC unroll 8
      for (int add = 0; add < kAdds; ++add) {
        x += step;
        __asm__ volatile("" : "+r"(x));
      }
    }
    return double(kCount) * kAdds;
  });
}

}  // namespace fivefold
