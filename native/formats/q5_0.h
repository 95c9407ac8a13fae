// q5_0: blocks of 32, an f16 scale d and 5-bit codes q; value = d * (q - 16).
#pragma once

#include "codes.h"
#include "parts.h"

namespace fivefold {
namespace {

struct Q5_0 {
  static constexpr const char* kName = "q5_0";
  static constexpr int kBlock = 32;
  static constexpr int kStoredBytes = 22;
  static constexpr int kScales = 1;
  static constexpr int kOffset = 16;
  using Codes = BitCodes<5>;
  using Parts = NoParts;

  static void read(const uint8_t* block, uint16_t* scales, uint8_t*, uint8_t* codes) {
    scales[0] = read_u16(block);
    read_nibbles(block + 6, codes);
    read_fifth_bits(block + 2, codes);
  }
};

}  // namespace
}  // namespace fivefold
