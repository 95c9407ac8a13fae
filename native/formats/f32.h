// float32: one number, as it is.
#pragma once

#include "../half.h"

namespace fivefold {
namespace {

struct F32 {
  static constexpr const char* kName = "f32";
  static constexpr int kBlock = 1;
  static constexpr int kStoredBytes = 4;
  static constexpr int kScales = 0;
  static constexpr int kCodeBytes = 4;
  static constexpr int kGroup = 4;

  static void split(const uint8_t* block, uint16_t*, uint8_t* codes) { std::memcpy(codes, block, 4); }
  static void decode(const uint8_t* block, float* out) { std::memcpy(out, block, 4); }

#ifdef FIVEFOLD_KERNELS
  static F weights(const uint8_t* packed) { return load(reinterpret_cast<const float*>(packed)); }
#endif
};

}  // namespace
}  // namespace fivefold
