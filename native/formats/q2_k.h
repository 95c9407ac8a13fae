// q2_k: blocks of 256, f16 d and least, and for each 16 numbers a 4-bit scale s and a 4-bit minimum m; 2-bit
// codes q; value = d * s * q - least * m.
#pragma once

#include "codes.h"
#include "parts.h"

namespace fivefold {
namespace {

struct Q2_K {
  static constexpr const char* kName = "q2_k";
  static constexpr int kBlock = 256;
  static constexpr int kStoredBytes = 84;
  static constexpr int kScales = 2;
  static constexpr int kOffset = 0;
  using Codes = BitCodes<2>;
  using Parts = NibbleScalesAndMinima;

  static void read(const uint8_t* block, uint16_t* scales, uint8_t* small, uint8_t* codes) {
    scales[0] = read_u16(block + 80);
    scales[1] = read_u16(block + 82);
    std::memcpy(small, block, 16);
    std::memset(codes, 0, 256);
    read_runs<64, 2, 32>(block + 16, codes);
  }
};

}  // namespace
}  // namespace fivefold
