// q4_k: blocks of 256, f16 d and least, and for each 32 numbers a 6-bit scale s and a 6-bit minimum m; 4-bit
// codes q; value = d * s * q - least * m.
#pragma once

#include "codes.h"
#include "parts.h"

namespace fivefold {
namespace {

struct Q4_K {
  static constexpr const char* kName = "q4_k";
  static constexpr int kBlock = 256;
  static constexpr int kStoredBytes = 144;
  static constexpr int kScales = 2;
  static constexpr int kOffset = 0;
  using Codes = BitCodes<4>;
  using Parts = SixBitScaleAndMinimum;

  static void read(const uint8_t* block, uint16_t* scales, uint8_t* small, uint8_t* codes) {
    scales[0] = read_u16(block);
    scales[1] = read_u16(block + 2);
    read_six_bit_pairs(block + 4, small);
    std::memset(codes, 0, 256);
    read_runs<128, 4, 32>(block + 16, codes);
  }
};

}  // namespace
}  // namespace fivefold
