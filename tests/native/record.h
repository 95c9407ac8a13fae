// What a table of kernels computed from inputs that are the same for all tables, and random numbers for
// those.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "kernels.h"

namespace fivefold {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2654435769u + 1) {}
  uint32_t next() {  // xorshift64*
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return uint32_t((state_ * 0x2545f4914f6cdd1du) >> 32);
  }
  int below(int count) { return int(next() % uint32_t(count)); }
  float between(float low, float high) { return low + (high - low) * (float(next() >> 8) * 0x1p-24f); }
  std::vector<float> floats(size_t count, float most = 4.0f) {
    std::vector<float> numbers(count);
    for (float& number : numbers) number = between(-most, most);
    return numbers;
  }
  // Numbers of all magnitudes, with zeros, infinities and NaN among them.
  std::vector<float> any_floats(size_t count) {
    constexpr uint32_t kSpecial[] = {0, 0x80000000u, 0x7f800000u, 0xff800000u, 0x7fc00000u, 1, 0x3f800000u};
    std::vector<float> numbers(count);
    for (float& number : numbers) {
      const uint32_t bits = below(6) == 0 ? kSpecial[below(7)] : next();
      std::memcpy(&number, &bits, 4);
    }
    return numbers;
  }

 private:
  uint64_t state_;
};

// One result: what it is, and its numbers as bits. All NaN are one, for the sign of a new NaN is the
// processor's choice.
struct Result {
  std::string what;
  std::vector<uint32_t> bits;
};

class Record {
 public:
  void add(const std::string& what, const float* numbers, size_t count) {
    Result result{what, std::vector<uint32_t>(count)};
    for (size_t i = 0; i < count; ++i) {
      std::memcpy(&result.bits[i], numbers + i, 4);
      if (numbers[i] != numbers[i]) result.bits[i] = 0x7fc00000u;
    }
    results_.push_back(result);
  }
  void add(const std::string& what, const std::vector<float>& numbers) {
    add(what, numbers.data(), numbers.size());
  }
  template <class Number>
  void add_integers(const std::string& what, const Number* numbers, size_t count) {
    Result result{what, {}};
    for (size_t i = 0; i < count; ++i) result.bits.push_back(uint32_t(numbers[i]));
    results_.push_back(result);
  }
  const std::vector<Result>& results() const { return results_; }

 private:
  std::vector<Result> results_;
};

void run_linear_kernels(const Kernels& kernels, Record& record);
void run_attention_kernels(const Kernels& kernels, Record& record);
void run_row_kernels(const Kernels& kernels, Record& record);

}  // namespace fivefold
