// The vector wrapper without any instruction set: eight lanes as arrays. The definition of what the others
// do.
#pragma once

#include "../half.h"

namespace fivefold {
namespace {

constexpr int kWidth = 8;

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
inline F to_float(I a) {
  F r;
  FIVEFOLD_LANES r.v[i] = float(a.v[i]);
  return r;
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
inline int32_t reduce_int(I a) {
  int32_t sum = 0;
  FIVEFOLD_LANES sum += a.v[i];
  return sum;
}

// Rounds |a| < 2^22 to the nearest integer (even on ties).
inline I round_int(F a) {
  FIVEFOLD_LANES a.v[i] += 12582912.0f;
  return as_int(a) - set1_int(0x4b400000);
}
inline void store_int8(int8_t* p, I a) { FIVEFOLD_LANES p[i] = int8_t(a.v[i]); }

inline Bytes load_bytes(const uint8_t* p) {
  Bytes r;
  std::memcpy(r.v, p, sizeof r.v);
  return r;
}
inline Bytes low_nibbles(Bytes a) {
  for (uint8_t& byte : a.v) byte &= 15;
  return a;
}
inline Bytes high_nibbles(Bytes a) {
  for (uint8_t& byte : a.v) byte = uint8_t(byte >> 4);
  return a;
}
inline Bytes repeat4(const int8_t* p) {
  Bytes r;
  for (int i = 0; i < kWidth * 4; ++i) r.v[i] = uint8_t(p[i % 4]);
  return r;
}
inline I lanes(Bytes a) {
  I r;
  std::memcpy(r.v, a.v, sizeof r.v);
  return r;
}
inline I low_bits(I a, int32_t mask) {
  FIVEFOLD_LANES a.v[i] &= mask;
  return a;
}

// Sums codes (0 to 15) times int8 over at most 32 products a lane.
struct NibbleDot {
  I sum = set1_int(0);
  void add(Bytes codes, Bytes x) {
    FIVEFOLD_LANES for (int t = 0; t < 4; ++t) sum.v[i] +=
        int(codes.v[4 * i + t]) * int(int8_t(x.v[4 * i + t]));
  }
  I total() const { return sum; }
};

// Sums int8 times int8. `sum` of the int8 on the x side is there for instruction sets that need it.
struct ByteDot {
  I sum = set1_int(0);
  void add(Bytes codes, Bytes x) {
    FIVEFOLD_LANES for (int t = 0; t < 4; ++t) sum.v[i] +=
        int(int8_t(codes.v[4 * i + t])) * int(int8_t(x.v[4 * i + t]));
  }
  I total(int32_t) const { return sum; }
};

#undef FIVEFOLD_LANES

}  // namespace
}  // namespace fivefold
