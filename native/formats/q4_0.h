// q4_0: blocks of 32, an f16 scale d and 4-bit codes q; value = d * (q - 8).
#pragma once

#include "nibbles.h"

namespace fivefold {
namespace {

struct Q4_0 {
  static constexpr const char* kName = "q4_0";
  static constexpr int kBlock = 32;
  static constexpr int kStoredBytes = 18;
  static constexpr int kScales = 1;
  static constexpr int kCodeBytes = 16;
  static constexpr int kGroup = 4;

  static void split(const uint8_t* block, uint16_t* scales, uint8_t* codes) {
    scales[0] = read_u16(block);
    std::memcpy(codes, block + 2, 16);
  }
  static void decode(const uint8_t* block, float* out) {
    const float d = half_to_float(read_u16(block));
    for (int k = 0; k < 16; ++k) {
      out[k] = d * float((block[2 + k] & 15) - 8);
      out[16 + k] = d * float((block[2 + k] >> 4) - 8);
    }
  }

#ifdef FIVEFOLD_KERNELS
  using Dot = NibbleDot;

  template <int T>
  static void accumulate(const uint8_t* codes, const int8_t* const* x, Dot* dot) {
    NibbleBlock::accumulate<T>(codes, x, dot);
  }
  static I total(const Dot& dot, int32_t x_sum) { return dot.total() - set1_int(8 * x_sum); }

  // The block's numbers as floats, [32][W].
  static void unpack(const uint8_t* packed, float* out) {
    const F d = load_half(reinterpret_cast<const uint16_t*>(packed));
    NibbleBlock::each_column(packed + 2 * kWidth, [&](int k, I code) {
      store(out + k * kWidth, d * to_float(code - set1_int(8)));
    });
  }
#endif
};

}  // namespace
}  // namespace fivefold
