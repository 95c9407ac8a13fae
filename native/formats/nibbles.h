// What q4_0 and q4_1 share: 16 bytes for 32 codes; byte i holds code i below and code 16 + i above.
#pragma once

#include "../half.h"

namespace fivefold {
namespace {

#ifdef FIVEFOLD_KERNELS
struct NibbleBlock {
  using Dot = NibbleDot;

  // Products of one block of W rows with the same 32 columns of T rows of activations.
  template <int T>
  static void accumulate(const uint8_t* codes, const int8_t* const* x, Dot* dot) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const Bytes byte = load_bytes(codes + j * kWidth * 4);
      const Bytes low = low_nibbles(byte);
      const Bytes high = high_nibbles(byte);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) dot[t].add(low, repeat4(x[t] + 4 * j));
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) dot[t].add(high, repeat4(x[t] + 16 + 4 * j));
    }
  }

  // Calls put(k, codes of column k as integers) for the 32 columns.
  template <class Put>
  static void each_column(const uint8_t* codes, Put put) {
    for (int j = 0; j < 4; ++j) {
      const I four = lanes(load_bytes(codes + j * kWidth * 4));
      put(4 * j, low_bits(four, 15));
      put(4 * j + 1, low_bits(shift_right<8>(four), 15));
      put(4 * j + 2, low_bits(shift_right<16>(four), 15));
      put(4 * j + 3, low_bits(shift_right<24>(four), 15));
      put(4 * j + 16, low_bits(shift_right<4>(four), 15));
      put(4 * j + 17, low_bits(shift_right<12>(four), 15));
      put(4 * j + 18, low_bits(shift_right<20>(four), 15));
      put(4 * j + 19, low_bits(shift_right<28>(four), 15));
    }
  }
};
#endif

}  // namespace
}  // namespace fivefold
