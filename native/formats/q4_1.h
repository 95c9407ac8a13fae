// q4_1: blocks of 32, an f16 scale d, an f16 minimum m and 4-bit codes q; value = d * q + m.
#pragma once

#include "nibbles.h"

namespace fivefold {
namespace {

struct Q4_1 {
  static constexpr const char* kName = "q4_1";
  static constexpr int kBlock = 32;
  static constexpr int kStoredBytes = 20;
  static constexpr int kScales = 2;
  static constexpr int kCodeBytes = 16;
  static constexpr int kGroup = 4;

  static void split(const uint8_t* block, uint16_t* scales, uint8_t* codes) {
    scales[0] = read_u16(block);
    scales[1] = read_u16(block + 2);
    std::memcpy(codes, block + 4, 16);
  }
  static void decode(const uint8_t* block, float* out) {
    const float d = half_to_float(read_u16(block));
    const float m = half_to_float(read_u16(block + 2));
    for (int k = 0; k < 16; ++k) {
      out[k] = __builtin_fmaf(d, float(block[4 + k] & 15), m);
      out[16 + k] = __builtin_fmaf(d, float(block[4 + k] >> 4), m);
    }
  }

#ifdef FIVEFOLD_KERNELS
  using Dot = NibbleDot;

  template <int T>
  static void accumulate(const uint8_t* codes, const int8_t* const* x, Dot* dot) {
    NibbleBlock::accumulate<T>(codes, x, dot);
  }
  static I total(const Dot& dot, int32_t) { return dot.total(); }

  // The block's numbers as floats, [32][W].
  static void unpack(const uint8_t* packed, float* out) {
    const F d = load_half(reinterpret_cast<const uint16_t*>(packed));
    const F m = load_half(reinterpret_cast<const uint16_t*>(packed) + kWidth);
    NibbleBlock::each_column(packed + 4 * kWidth,
                             [&](int k, I code) { store(out + k * kWidth, fma(d, to_float(code), m)); });
  }
#endif
};

}  // namespace
}  // namespace fivefold
