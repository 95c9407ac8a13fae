// iq4_xs: blocks of 256, an f16 d, and for each 32 numbers a 6-bit scale s; 4-bit codes q for 16 fixed
// values; value = d * (s - 32) * values[q].
#pragma once

#include "codes.h"
#include "parts.h"

namespace fivefold {
namespace {

struct Iq4_Xs {
  static constexpr const char* kName = "iq4_xs";
  static constexpr int kBlock = 256;
  static constexpr int kStoredBytes = 136;
  static constexpr int kScales = 1;
  static constexpr int kOffset = 0;
  using Codes = TableCodes;
  using Parts = SixBitScale;

  static void read(const uint8_t* block, uint16_t* scales, uint8_t* small, uint8_t* codes) {
    scales[0] = read_u16(block);
    const int high = read_u16(block + 2);
    for (int part = 0; part < 8; ++part) {
      const int low = block[4 + part / 2] >> 4 * (part % 2) & 15;
      small[part] = uint8_t(low | (high >> 2 * part & 3) << 4);
      read_nibbles(block + 8 + 16 * part, codes + 32 * part);
    }
  }
};

}  // namespace
}  // namespace fivefold
