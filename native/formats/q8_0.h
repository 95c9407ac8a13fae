// q8_0: blocks of 32, an f16 scale d and 32 int8 codes q; value = d * q.
#pragma once

#include "../half.h"

namespace fivefold {
namespace {

struct Q8_0 {
  static constexpr const char* kName = "q8_0";
  static constexpr int kBlock = 32;
  static constexpr int kStoredBytes = 34;
  static constexpr int kScales = 1;
  static constexpr int kCodeBytes = 32;
  static constexpr int kGroup = 4;

  static void split(const uint8_t* block, uint16_t* scales, uint8_t* codes) {
    scales[0] = read_u16(block);
    std::memcpy(codes, block + 2, 32);
  }
  static void decode(const uint8_t* block, float* out) {
    const float d = half_to_float(read_u16(block));
    for (int k = 0; k < 32; ++k) out[k] = d * float(int8_t(block[2 + k]));
  }

#ifdef FIVEFOLD_KERNELS
  using Dot = ByteDot;

  // Products of one block of W rows with the same 32 columns of T rows of activations.
  template <int T>
  static void accumulate(const uint8_t* codes, const int8_t* const* x, Dot* dot) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      const Bytes byte = load_bytes(codes + j * kWidth * 4);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) dot[t].add(byte, repeat4(x[t] + 4 * j));
    }
  }
  static I total(const Dot& dot, int32_t x_sum) { return dot.total(x_sum); }

  // The block's numbers as floats, [32][W].
  static void unpack(const uint8_t* packed, float* out) {
    const F d = load_half(reinterpret_cast<const uint16_t*>(packed));
    const uint8_t* codes = packed + 2 * kWidth;
    for (int j = 0; j < 8; ++j) {
      const I four = lanes(load_bytes(codes + j * kWidth * 4));
      float* at = out + 4 * j * kWidth;
      store(at, d * to_float(shift_right<24>(shift_left<24>(four))));
      store(at + kWidth, d * to_float(shift_right<24>(shift_left<16>(four))));
      store(at + 2 * kWidth, d * to_float(shift_right<24>(shift_left<8>(four))));
      store(at + 3 * kWidth, d * to_float(shift_right<24>(four)));
    }
  }
#endif
};

}  // namespace
}  // namespace fivefold
