// q5_1: blocks of 32, an f16 scale d, an f16 minimum m and 5-bit codes q; value = d * q + m.
#pragma once

#include "codes.h"
#include "parts.h"

namespace fivefold {
namespace {

struct Q5_1 {
  static constexpr const char* kName = "q5_1";
  static constexpr int kBlock = 32;
  static constexpr int kStoredBytes = 24;
  static constexpr int kScales = 2;
  static constexpr int kOffset = 0;
  using Codes = BitCodes<5>;
  using Parts = NoParts;

  static void read(const uint8_t* block, uint16_t* scales, uint8_t*, uint8_t* codes) {
    scales[0] = read_u16(block);
    scales[1] = read_u16(block + 2);
    read_nibbles(block + 8, codes);
    read_fifth_bits(block + 4, codes);
  }
};

}  // namespace
}  // namespace fivefold
