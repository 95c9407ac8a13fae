// iq4_nl: blocks of 32, an f16 scale d and 4-bit codes q for 16 fixed values; value = d * values[q].
#pragma once

#include "codes.h"
#include "parts.h"

namespace fivefold {
namespace {

struct Iq4_Nl {
  static constexpr const char* kName = "iq4_nl";
  static constexpr int kBlock = 32;
  static constexpr int kStoredBytes = 18;
  static constexpr int kScales = 1;
  static constexpr int kOffset = 0;
  using Codes = TableCodes;
  using Parts = NoParts;

  static void read(const uint8_t* block, uint16_t* scales, uint8_t*, uint8_t* codes) {
    scales[0] = read_u16(block);
    read_nibbles(block + 2, codes);
  }
};

}  // namespace
}  // namespace fivefold
