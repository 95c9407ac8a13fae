// What the targets have alike: numbers taken from an input, and the end of a run that shows a fault.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "cpu.h"

// An input as a row of small decisions. When it is used up all further ones are 0.
class Taken {
 public:
  Taken(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  uint8_t byte() { return at_ < size_ ? data_[at_++] : uint8_t(0); }
  int below(int limit) { return byte() % limit; }
  bool one_in(int count) { return byte() % count == count - 1; }

  template <class Number>
  Number number() {
    uint8_t bytes[sizeof(Number)] = {};
    for (uint8_t& one : bytes) one = byte();
    Number value;
    std::memcpy(&value, bytes, sizeof value);
    return value;
  }

  // Mostly from 0 to limit - 1; now and then one beside, or any number at all.
  int32_t index(int limit) {
    const uint8_t kind = byte();
    if (kind < 0xf0) return limit > 0 ? kind % limit : 0;
    if (kind < 0xf8) return limit + (kind & 7) - 4;
    if (kind < 0xfc) return int32_t(0x7fffffff) - (kind & 3);
    return number<int32_t>();
  }

  // Mostly a number of everyday size; now and then any bits.
  float real() {
    const uint8_t kind = byte();
    if (kind < 0xe0) return (float(kind) - 112.0f) / 16.0f;
    constexpr float kOdd[] = {0.0f,
                              -0.0f,
                              1e-45f,
                              -1e-38f,
                              3.4028235e38f,
                              -3.4e38f,
                              __builtin_inff(),
                              -__builtin_inff(),
                              __builtin_nanf(""),
                              65504.0f};
    if (kind < 0xea) return kOdd[kind - 0xe0];
    return number<float>();
  }

 private:
  const uint8_t* data_;
  size_t size_, at_ = 0;
};

// The kernels that an input runs on: mostly the widest, now and then all, which are then compared.
inline std::vector<size_t> chosen_kernels(Taken& taken, size_t count) {
  const uint8_t kind = taken.byte();
  if (kind >= 0x30) return {count - 1};
  if (kind >= 0x18) return {kind % count};
  std::vector<size_t> all(count);
  for (size_t i = 0; i < count; ++i) all[i] = i;
  return all;
}

[[noreturn]] inline void fault(const char* what, int where = -1) {
  std::fprintf(stderr, "finding: %s (%d)\n", what, where);
  std::abort();
}

// Two instruction sets must agree on every bit of a number; which NaN it is does not matter.
inline void same_bits(const float* a, const float* b, size_t count, const char* what) {
  for (size_t i = 0; i < count; ++i) {
    uint32_t x, y;
    std::memcpy(&x, a + i, 4);
    std::memcpy(&y, b + i, 4);
    if (x != y && !(a[i] != a[i] && b[i] != b[i])) fault(what, int(i));
  }
}
