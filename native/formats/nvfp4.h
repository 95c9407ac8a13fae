// nvfp4: blocks of 64, an E4M3 scale s without its sign for each 16, and 4-bit floats (E2M1);
// value = s * float. The tensor's factor is applied to outputs.
#pragma once

#include "codes.h"
#include "parts.h"

namespace fivefold {
namespace {

struct Nvfp4 {
  static constexpr const char* kName = "nvfp4";
  static constexpr int kBlock = 64;
  static constexpr int kStoredBytes = 36;
  static constexpr int kScales = 0;
  static constexpr int kOffset = E2m1Codes::kOffset;
  using Codes = E2m1Codes;
  using Parts = E4m3Scales;

  static void read(const uint8_t* block, uint16_t*, uint8_t* small, uint8_t* codes) {
    for (int half = 0; half < 4; ++half) {
      small[half] = block[half] & 0x7f;
      const uint8_t* bytes = block + 4 + 8 * half;
      for (int i = 0; i < 8; ++i) {
        codes[16 * half + i] = bytes[i] & 15;
        codes[16 * half + 8 + i] = uint8_t(bytes[i] >> 4);
      }
    }
  }
};

}  // namespace
}  // namespace fivefold
