// E4M3, one byte a number: no infinities, one NaN of either sign, at most 448. Kernels take them over 256.
#pragma once

#include "../half.h"

namespace fivefold {
namespace {

struct F8_E4m3 {
  static constexpr const char* kName = "f8_e4m3";
  static constexpr int kBlock = 1;
  static constexpr int kStoredBytes = 1;
  static constexpr float kFactor = 256.0f;
  static constexpr bool kPairs = true;

  static float value(const uint8_t* stored) { return e4m3_to_float(*stored); }

#ifdef FIVEFOLD_KERNELS
  static F weights(const uint8_t* packed) { return load_e4m3(packed); }
  static void weights(const uint8_t* packed, F& first, F& second) { load_e4m3(packed, first, second); }
#endif
};

}  // namespace
}  // namespace fivefold
