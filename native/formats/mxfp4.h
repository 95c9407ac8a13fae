// mxfp4: blocks of 32, a power of two e (E8M0) and 4-bit floats (E2M1); value = 2^(e - 127) * float.
#pragma once

#include "codes.h"
#include "parts.h"

namespace fivefold {
namespace {

struct Mxfp4 {
  static constexpr const char* kName = "mxfp4";
  static constexpr int kBlock = 32;
  static constexpr int kStoredBytes = 17;
  static constexpr int kScales = 0;
  static constexpr int kOffset = E2m1Codes::kOffset;
  using Codes = E2m1Codes;
  using Parts = PowerScale;

  static void read(const uint8_t* block, uint16_t*, uint8_t* small, uint8_t* codes) {
    small[0] = block[0];
    read_nibbles(block + 1, codes);
  }
};

}  // namespace
}  // namespace fivefold
