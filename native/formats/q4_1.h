// q4_1: blocks of 32, an f16 scale d, an f16 minimum m and 4-bit codes q; value = d * q + m.
#pragma once

#include "codes.h"
#include "parts.h"

namespace fivefold {
namespace {

struct Q4_1 {
  static constexpr const char* kName = "q4_1";
  static constexpr int kBlock = 32;
  static constexpr int kStoredBytes = 20;
  static constexpr int kScales = 2;
  static constexpr int kOffset = 0;
  using Codes = BitCodes<4>;
  using Parts = NoParts;

  static void read(const uint8_t* block, uint16_t* scales, uint8_t*, uint8_t* codes) {
    scales[0] = read_u16(block);
    scales[1] = read_u16(block + 2);
    read_nibbles(block + 4, codes);
  }
};

}  // namespace
}  // namespace fivefold
