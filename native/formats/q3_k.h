// q3_k: blocks of 256, an f16 d, and for each 16 numbers a 6-bit scale s; 3-bit codes q;
// value = d * (s - 32) * (q - 4).
#pragma once

#include "codes.h"
#include "parts.h"

namespace fivefold {
namespace {

struct Q3_K {
  static constexpr const char* kName = "q3_k";
  static constexpr int kBlock = 256;
  static constexpr int kStoredBytes = 110;
  static constexpr int kScales = 1;
  static constexpr int kOffset = 4;
  using Codes = BitCodes<3>;
  using Parts = SixBitScales;

  static void read(const uint8_t* block, uint16_t* scales, uint8_t* small, uint8_t* codes) {
    scales[0] = read_u16(block + 108);
    std::memset(small, 0, 16);
    read_runs<8, 4, 8>(block + 96, small);
    read_runs<4, 2, 4, 4>(block + 104, small);
    std::memset(codes, 0, 256);
    read_runs<64, 2, 32>(block + 32, codes);
    read_runs<32, 1, 32, 2>(block, codes);
  }
};

}  // namespace
}  // namespace fivefold
