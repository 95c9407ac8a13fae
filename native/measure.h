// What this machine does at most: memory, arithmetic, clock. Measured here, so that figures can be held
// against it.
#pragma once

#include <cstddef>
#include <string>

#include "kernels.h"
#include "thread_pool.h"

namespace fivefold {

// Bytes a second of reading `bytes` of memory again and again with all threads, for about `seconds`. Throws
// std::invalid_argument without bytes or time.
double read_bandwidth(ThreadPool& pool, size_t bytes, double seconds);

// Products a second of all threads together, in registers: of floats, or of four-bit codes with int8. Throws
// std::invalid_argument without time.
double peak_rate(ThreadPool& pool, const Kernels& kernels, bool integers, double seconds);

// Cycles a second of the calling thread, by a chain of additions that take a cycle each.
double clock_rate(double seconds);

}  // namespace fivefold
