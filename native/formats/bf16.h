// bfloat16: the upper half of a float32.
#pragma once

#include "../half.h"

namespace fivefold {
namespace {

struct Bf16 {
  static constexpr const char* kName = "bf16";
  static constexpr int kBlock = 1;
  static constexpr int kStoredBytes = 2;
  static constexpr int kScales = 0;
  static constexpr int kCodeBytes = 2;
  static constexpr int kGroup = 2;

  static void split(const uint8_t* block, uint16_t*, uint8_t* codes) { std::memcpy(codes, block, 2); }
  static void decode(const uint8_t* block, float* out) { *out = bfloat_to_float(read_u16(block)); }

#ifdef FIVEFOLD_KERNELS
  static F weights(const uint8_t* packed) { return load_bfloat(reinterpret_cast<const uint16_t*>(packed)); }
#endif
};

}  // namespace
}  // namespace fivefold
