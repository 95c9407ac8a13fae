// float16 (IEEE half).
#pragma once

#include "../half.h"

namespace fivefold {
namespace {

struct F16 {
  static constexpr const char* kName = "f16";
  static constexpr int kBlock = 1;
  static constexpr int kStoredBytes = 2;
  static constexpr bool kPairs = false;

  static float value(const uint8_t* stored) { return half_to_float(read_u16(stored)); }

#ifdef FIVEFOLD_KERNELS
  static F weights(const uint8_t* packed) { return load_half(reinterpret_cast<const uint16_t*>(packed)); }
#endif
};

}  // namespace
}  // namespace fivefold
