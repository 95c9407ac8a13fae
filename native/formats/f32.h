// float32: one number, as it is.
#pragma once

#include "../half.h"

namespace fivefold {
namespace {

struct F32 {
  static constexpr const char* kName = "f32";
  static constexpr int kBlock = 1;
  static constexpr int kStoredBytes = 4;
  static constexpr bool kPairs = false;

  static float value(const uint8_t* stored) {
    float number;
    std::memcpy(&number, stored, 4);
    return number;
  }

#ifdef FIVEFOLD_KERNELS
  static F weights(const uint8_t* packed) { return load(reinterpret_cast<const float*>(packed)); }
#endif
};

}  // namespace
}  // namespace fivefold
