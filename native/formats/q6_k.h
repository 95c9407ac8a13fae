// q6_k: blocks of 256, an f16 d, and for each 16 numbers an int8 scale s; 6-bit codes q;
// value = d * s * (q - 32).
#pragma once

#include "codes.h"
#include "parts.h"

namespace fivefold {
namespace {

struct Q6_K {
  static constexpr const char* kName = "q6_k";
  static constexpr int kBlock = 256;
  static constexpr int kStoredBytes = 210;
  static constexpr int kScales = 1;
  static constexpr int kOffset = 32;
  using Codes = BitCodes<6>;
  using Parts = ByteScales;

  static void read(const uint8_t* block, uint16_t* scales, uint8_t* small, uint8_t* codes) {
    scales[0] = read_u16(block + 208);
    std::memcpy(small, block + 192, 16);
    std::memset(codes, 0, 256);
    read_runs<128, 4, 64>(block, codes);
    read_runs<64, 2, 32, 4>(block + 128, codes);
  }
};

}  // namespace
}  // namespace fivefold
