// The vector wrapper without any instruction set: eight lanes as arrays. The definition of what the others
// do.
#pragma once

#include "../half.h"

namespace fivefold {
namespace {

constexpr int kWidth = 8;
constexpr int kLinearRows = 1;  // rows that linear takes at a time, of int8 activations
constexpr int kFloatRows = 4;   // and of float ones
constexpr int kLinearTiles[] = {0, 1}, kPartTiles[] = {0, 1};  // tiles side by side

struct F {
  float v[kWidth];
};
struct I {
  int32_t v[kWidth];
};
struct Bytes {  // four bytes for each lane
  uint8_t v[kWidth * 4];
};

#define FIVEFOLD_LANES for (int i = 0; i < kWidth; ++i)

inline F load(const float* p) {
  F r;
  FIVEFOLD_LANES r.v[i] = p[i];
  return r;
}
inline void store(float* p, F a) { FIVEFOLD_LANES p[i] = a.v[i]; }
inline F set1(float x) {
  F r;
  FIVEFOLD_LANES r.v[i] = x;
  return r;
}
inline F operator+(F a, F b) {
  FIVEFOLD_LANES a.v[i] += b.v[i];
  return a;
}
inline F operator-(F a, F b) {
  FIVEFOLD_LANES a.v[i] -= b.v[i];
  return a;
}
inline F operator*(F a, F b) {
  FIVEFOLD_LANES a.v[i] *= b.v[i];
  return a;
}
inline F operator/(F a, F b) {
  FIVEFOLD_LANES a.v[i] /= b.v[i];
  return a;
}
inline F fma(F a, F b, F c) {
  FIVEFOLD_LANES c.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]);
  return c;
}
inline F max(F a, F b) {
  FIVEFOLD_LANES a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return a;
}
inline F abs(F a) {
  FIVEFOLD_LANES a.v[i] = bits_float(float_bits(a.v[i]) & 0x7fffffffu);
  return a;
}
inline F copy_sign(F magnitude, F sign) {
  FIVEFOLD_LANES magnitude.v[i] =
      bits_float((float_bits(magnitude.v[i]) & 0x7fffffffu) | (float_bits(sign.v[i]) & 0x80000000u));
  return magnitude;
}
inline F select_less(F a, F b, F yes, F no) {
  FIVEFOLD_LANES no.v[i] = a.v[i] < b.v[i] ? yes.v[i] : no.v[i];
  return no;
}
inline F select_bits(uint32_t bits, F yes, F no) {
  FIVEFOLD_LANES no.v[i] = (bits >> i) & 1u ? yes.v[i] : no.v[i];
  return no;
}

inline I as_int(F a) {
  I r;
  FIVEFOLD_LANES r.v[i] = int32_t(float_bits(a.v[i]));
  return r;
}
inline F as_float(I a) {
  F r;
  FIVEFOLD_LANES r.v[i] = bits_float(uint32_t(a.v[i]));
  return r;
}
inline I set1_int(int32_t x) {
  I r;
  FIVEFOLD_LANES r.v[i] = x;
  return r;
}
inline I operator+(I a, I b) {
  FIVEFOLD_LANES a.v[i] = int32_t(uint32_t(a.v[i]) + uint32_t(b.v[i]));
  return a;
}
inline I operator-(I a, I b) {
  FIVEFOLD_LANES a.v[i] = int32_t(uint32_t(a.v[i]) - uint32_t(b.v[i]));
  return a;
}
template <int N>
inline I shift_left(I a) {
  FIVEFOLD_LANES a.v[i] = int32_t(uint32_t(a.v[i]) << N);
  return a;
}
template <int N>
inline I shift_right(I a) {  // arithmetic
  FIVEFOLD_LANES a.v[i] >>= N;
  return a;
}
inline I shift_right_by(I a, int n) {  // logical
  FIVEFOLD_LANES a.v[i] = int32_t(uint32_t(a.v[i]) >> n);
  return a;
}
inline F to_float(I a) {
  F r;
  FIVEFOLD_LANES r.v[i] = float(a.v[i]);
  return r;
}

// a0 b0 a1 b1 ... from the lower lanes of both, and the same from the upper ones.
inline void interleave(F a, F b, F& lower, F& upper) {
  FIVEFOLD_LANES {
    lower.v[i] = (i % 2 == 0 ? a : b).v[i / 2];
    upper.v[i] = (i % 2 == 0 ? a : b).v[kWidth / 2 + i / 2];
  }
}
inline F load_half(const uint16_t* p) {
  F r;
  FIVEFOLD_LANES r.v[i] = half_to_float(p[i]);
  return r;
}
inline void store_half(uint16_t* p, F a) { FIVEFOLD_LANES p[i] = float_to_half(a.v[i]); }
inline F load_bfloat(const uint16_t* p) {
  F r;
  FIVEFOLD_LANES r.v[i] = bfloat_to_float(p[i]);
  return r;
}
inline F load_int8(const int8_t* p) {
  F r;
  FIVEFOLD_LANES r.v[i] = float(p[i]);
  return r;
}
// E4M3 numbers over 256.
inline F load_e4m3(const uint8_t* p) {
  F r;
  FIVEFOLD_LANES r.v[i] = half_to_float(e4m3_half(p[i]));
  return r;
}
inline void load_e4m3(const uint8_t* p, F& first, F& second) {
  first = load_e4m3(p);
  second = load_e4m3(p + kWidth);
}
inline float half_scalar(uint16_t half) { return half_to_float(half); }

// Halves the vector until one number is left: lane i + lane i + n/2.
inline float reduce_tree(F a) {
  for (int n = kWidth / 2; n > 0; n /= 2)
    for (int i = 0; i < n; ++i) a.v[i] += a.v[i + n];
  return a.v[0];
}
inline float reduce_max(F a) {
  for (int n = kWidth / 2; n > 0; n /= 2)
    for (int i = 0; i < n; ++i) a.v[i] = a.v[i] > a.v[i + n] ? a.v[i] : a.v[i + n];
  return a.v[0];
}
inline float first_lane(F a) { return a.v[0]; }
// The largest of all lanes, in each.
inline F max_of_lanes(F a) { return set1(reduce_max(a)); }
inline int32_t reduce_int(I a) {
  int64_t sum = 0;  // what is no number gives any codes; unsigned, GCC 12 sums half of them at -O3
  FIVEFOLD_LANES sum += a.v[i];
  return int32_t(sum);
}

// Rounds |a| < 2^22 to the nearest integer (even on ties).
inline I round_int(F a) {
  FIVEFOLD_LANES a.v[i] += 12582912.0f;
  return as_int(a) - set1_int(0x4b400000);
}
inline void store_int8(int8_t* p, I a) { FIVEFOLD_LANES p[i] = int8_t(a.v[i]); }
inline void store_uint8(uint8_t* p, I a) {
  FIVEFOLD_LANES p[i] = uint8_t(a.v[i] < 0 ? 0 : a.v[i] > 255 ? 255 : a.v[i]);
}
inline void store_int16(int16_t* p, I a) { FIVEFOLD_LANES p[i] = int16_t(a.v[i]); }

inline Bytes load_bytes(const uint8_t* p) {
  Bytes r;
  std::memcpy(r.v, p, sizeof r.v);
  return r;
}
inline Bytes repeat4(const int8_t* p) {
  Bytes r;
  FIVEFOLD_LANES std::memcpy(r.v + 4 * i, p, 4);
  return r;
}
// 16 columns of a row, and four of them as a dot takes them.
struct Columns {
  const int8_t* at;
  template <int J>
  Bytes four() const {
    return repeat4(at + 4 * J);
  }
};
inline Columns load_columns(const int8_t* p) { return {p}; }
inline I lanes(Bytes a) {
  I r;
  std::memcpy(r.v, a.v, sizeof r.v);
  return r;
}
inline I low_bits(I a, int32_t mask) {
  FIVEFOLD_LANES a.v[i] &= mask;
  return a;
}

inline Bytes bytes(I a) {
  Bytes r;
  std::memcpy(r.v, a.v, sizeof r.v);
  return r;
}
inline I operator|(I a, I b) {
  FIVEFOLD_LANES a.v[i] |= b.v[i];
  return a;
}
// Each byte shifted to the right, and of that the bits of the mask.
template <int Shift, int Mask>
inline I byte_bits(Bytes a) {
  const I all = lanes(a);
  return low_bits(Shift == 0 ? all : shift_right<Shift>(all), Mask * 0x01010101);
}
// Each byte (0 to 15) becomes the table's entry of that number.
inline Bytes lookup(Bytes codes, const int8_t* table) {
  for (uint8_t& code : codes.v) code = uint8_t(table[code]);
  return codes;
}

// Pairs of int16, one pair a lane: from signed bytes; from memory to all lanes; times a number.
inline int low_of(int32_t pair) { return int16_t(uint32_t(pair) & 0xffffu); }
inline int high_of(int32_t pair) { return int16_t(uint32_t(pair) >> 16); }
inline int32_t pair_of(int low, int high) {
  return int32_t((uint32_t(low) & 0xffffu) | uint32_t(high) << 16);
}
inline I load_pairs(const uint8_t* p) {
  I r;
  FIVEFOLD_LANES r.v[i] = pair_of(int8_t(p[2 * i]), int8_t(p[2 * i + 1]));
  return r;
}
inline I set1_pair(const int16_t* p) { return set1_int(pair_of(p[0], p[1])); }
inline I pairs_times(I pairs, int factor) {
  FIVEFOLD_LANES pairs.v[i] = pair_of(low_of(pairs.v[i]) * factor, high_of(pairs.v[i]) * factor);
  return pairs;
}
inline I pair_dot(I a, I b) {
  FIVEFOLD_LANES a.v[i] = low_of(a.v[i]) * low_of(b.v[i]) + high_of(a.v[i]) * high_of(b.v[i]);
  return a;
}
inline I pair_dot_add(I sum, I a, I b) { return sum + pair_dot(a, b); }
// Four unsigned bytes times int8, one sum a lane.
inline I four_dot_add(I sum, Bytes codes, Bytes x) {
  FIVEFOLD_LANES for (int t = 0; t < 4; ++t) sum.v[i] +=
      int(codes.v[4 * i + t]) * int(int8_t(x.v[4 * i + t]));
  return sum;
}
inline I pairs_plus(I pairs, int number) {
  FIVEFOLD_LANES pairs.v[i] = pair_of(low_of(pairs.v[i]) + number, high_of(pairs.v[i]) + number);
  return pairs;
}
// One byte, or one 16-bit number, a lane.
inline I load_unsigned(const uint8_t* p) {
  I r;
  FIVEFOLD_LANES r.v[i] = p[i];
  return r;
}
inline I load_unsigned16(const uint8_t* p) {
  I r;
  FIVEFOLD_LANES r.v[i] = read_u16(p + 2 * i);
  return r;
}

// Sums codes below 2^Bits times int8. There may be room for kAdds vectors only, before the sum must be taken;
// `add` may add kOffset to the codes. kWhole: `sum` is int32 and may begin at any number.
template <int Bits>
struct CodeDot {
  static constexpr int kAdds = 8;
  static constexpr int kOffset = 0;
  static constexpr bool kWhole = false;
  I sum = set1_int(0);
  void add(Bytes codes, Bytes x) {
    FIVEFOLD_LANES for (int t = 0; t < 4; ++t) sum.v[i] +=
        int(codes.v[4 * i + t]) * int(int8_t(x.v[4 * i + t]));
  }
};
// The same for int8 codes.
struct SignedDot {
  static constexpr int kAdds = 8;
  static constexpr int kOffset = 0;
  static constexpr bool kWhole = false;
  I sum = set1_int(0);
  void add(Bytes codes, Bytes x) {
    FIVEFOLD_LANES for (int t = 0; t < 4; ++t) sum.v[i] +=
        int(int8_t(codes.v[4 * i + t])) * int(int8_t(x.v[4 * i + t]));
  }
};

// A sum of dots, in int32.
struct WholeSum {
  I sum = set1_int(0);
  void start(I at) { sum = at; }
  template <class Dot>
  void take(const Dot& dot) {
    sum = sum + dot.sum;
  }
  F value() const { return to_float(sum); }
};

// A sum of dots times small integers, exact as long as it stays below 2^24.
struct Scale {
  I v;
};
inline Scale scale_low(I pairs) { return {shift_right<16>(shift_left<16>(pairs))}; }
inline Scale scale_high(I pairs) { return {shift_right<16>(pairs)}; }
struct ScaledSum {
  I sum = set1_int(0);
  void start(I at) { sum = at; }
  template <class Dot>
  void take(const Dot& dot, Scale scale) {
    FIVEFOLD_LANES sum.v[i] += dot.sum.v[i] * scale.v.v[i];
  }
  F value() const { return to_float(sum); }
};

#undef FIVEFOLD_LANES

}  // namespace
}  // namespace fivefold
