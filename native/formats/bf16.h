// bfloat16: the upper half of a float32.
#pragma once

#include "../half.h"

namespace fivefold {
namespace {

struct Bf16 {
  static constexpr const char* kName = "bf16";
  static constexpr int kBlock = 1;
  static constexpr int kStoredBytes = 2;
  static constexpr bool kPairs = false;

  static float value(const uint8_t* stored) { return bfloat_to_float(read_u16(stored)); }

#ifdef FIVEFOLD_KERNELS
  static F weights(const uint8_t* packed) { return load_bfloat(reinterpret_cast<const uint16_t*>(packed)); }
#endif
};

}  // namespace
}  // namespace fivefold
