// q8_0: blocks of 32, an f16 scale d and 32 int8 codes q; value = d * q.
#pragma once

#include "codes.h"
#include "parts.h"

namespace fivefold {
namespace {

struct Q8_0 {
  static constexpr const char* kName = "q8_0";
  static constexpr int kBlock = 32;
  static constexpr int kStoredBytes = 34;
  static constexpr int kScales = 1;
  static constexpr int kOffset = 0;
  using Codes = SignedBytes;
  using Parts = NoParts;

  static void read(const uint8_t* block, uint16_t* scales, uint8_t*, uint8_t* codes) {
    scales[0] = read_u16(block);
    std::memcpy(codes, block + 2, 32);
  }
};

}  // namespace
}  // namespace fivefold
