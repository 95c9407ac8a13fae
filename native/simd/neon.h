// The vector wrapper for ARM's NEON (ARMv8-a): eight lanes in two registers. With FIVEFOLD_DOTPROD its dots
// take the dot product instructions of ARMv8.2-a.
#pragma once

#include <arm_neon.h>

#include "../half.h"

namespace fivefold {
namespace {

constexpr int kWidth = 8;
// Rows that linear takes at a time, of int8 activations and of float ones.
#if defined(FIVEFOLD_DOTPROD)
constexpr int kLinearRows = 4;
constexpr int kLinearTiles[] = {0, 1, 1, 1, 1};
#else
constexpr int kLinearRows = 2;
constexpr int kLinearTiles[] = {0, 1, 1};
#endif
constexpr auto& kPartTiles = kLinearTiles;
constexpr int kFloatRows = 6;

struct F {
  float32x4_t low, high;
};
struct I {
  int32x4_t low, high;
};
struct Bytes {  // four bytes for each lane
  uint8x16_t low, high;
};

inline F load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4)}; }
inline void store(float* p, F a) {
  vst1q_f32(p, a.low);
  vst1q_f32(p + 4, a.high);
}
inline F set1(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x)}; }
inline F operator+(F a, F b) { return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)}; }
inline F operator-(F a, F b) { return {vsubq_f32(a.low, b.low), vsubq_f32(a.high, b.high)}; }
inline F operator*(F a, F b) { return {vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)}; }
inline F operator/(F a, F b) { return {vdivq_f32(a.low, b.low), vdivq_f32(a.high, b.high)}; }
inline F fma(F a, F b, F c) { return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)}; }
// Not vmaxq_f32, which treats NaN and zeros in another way.
inline float32x4_t larger(float32x4_t a, float32x4_t b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
inline F max(F a, F b) { return {larger(a.low, b.low), larger(a.high, b.high)}; }
inline F abs(F a) { return {vabsq_f32(a.low), vabsq_f32(a.high)}; }
inline F copy_sign(F magnitude, F sign) {
  const uint32x4_t bit = vdupq_n_u32(0x80000000u);
  return {vbslq_f32(bit, sign.low, magnitude.low), vbslq_f32(bit, sign.high, magnitude.high)};
}
inline F select_less(F a, F b, F yes, F no) {
  return {vbslq_f32(vcltq_f32(a.low, b.low), yes.low, no.low),
          vbslq_f32(vcltq_f32(a.high, b.high), yes.high, no.high)};
}
inline F select_bits(uint32_t bits, F yes, F no) {
  const uint32x4_t low = {1, 2, 4, 8}, high = {16, 32, 64, 128};
  const uint32x4_t all = vdupq_n_u32(bits);
  return {vbslq_f32(vtstq_u32(all, low), yes.low, no.low),
          vbslq_f32(vtstq_u32(all, high), yes.high, no.high)};
}

inline I as_int(F a) { return {vreinterpretq_s32_f32(a.low), vreinterpretq_s32_f32(a.high)}; }
inline F as_float(I a) { return {vreinterpretq_f32_s32(a.low), vreinterpretq_f32_s32(a.high)}; }
inline I set1_int(int32_t x) { return {vdupq_n_s32(x), vdupq_n_s32(x)}; }
inline I operator+(I a, I b) { return {vaddq_s32(a.low, b.low), vaddq_s32(a.high, b.high)}; }
inline I operator-(I a, I b) { return {vsubq_s32(a.low, b.low), vsubq_s32(a.high, b.high)}; }
inline I operator|(I a, I b) { return {vorrq_s32(a.low, b.low), vorrq_s32(a.high, b.high)}; }
inline I low_bits(I a, int32_t mask) {
  return {vandq_s32(a.low, vdupq_n_s32(mask)), vandq_s32(a.high, vdupq_n_s32(mask))};
}
template <int N>
inline I shift_left(I a) {
  return {vshlq_n_s32(a.low, N), vshlq_n_s32(a.high, N)};
}
template <int N>
inline I shift_right(I a) {  // arithmetic
  if constexpr (N == 0)
    return a;
  else
    return {vshrq_n_s32(a.low, N), vshrq_n_s32(a.high, N)};
}
inline int32x4_t shift_right_by(int32x4_t a, int n) {
  return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a), vdupq_n_s32(-n)));
}
inline I shift_right_by(I a, int n) {  // logical
  return {shift_right_by(a.low, n), shift_right_by(a.high, n)};
}
inline F to_float(I a) { return {vcvtq_f32_s32(a.low), vcvtq_f32_s32(a.high)}; }

// a0 b0 a1 b1 ... from the lower lanes of both, and the same from the upper ones.
inline void interleave(F a, F b, F& lower, F& upper) {
  lower = {vzip1q_f32(a.low, b.low), vzip2q_f32(a.low, b.low)};
  upper = {vzip1q_f32(a.high, b.high), vzip2q_f32(a.high, b.high)};
}
inline F load_half(const uint16_t* p) {
  const float16x8_t halves = vreinterpretq_f16_u16(vld1q_u16(p));
  return {vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)};
}
inline void store_half(uint16_t* p, F a) {
  vst1q_u16(p, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(a.low), a.high)));
}
inline F load_bfloat(const uint16_t* p) {
  const uint16x8_t upper = vld1q_u16(p);
  return {vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(upper), 16)),
          vreinterpretq_f32_u32(vshll_high_n_u16(upper, 16))};
}
inline F load_int8(const int8_t* p) {
  const int16x8_t codes = vmovl_s8(vld1_s8(p));
  return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(codes))), vcvtq_f32_s32(vmovl_high_s16(codes))};
}
// E4M3 numbers over 256, see e4m3_half.
inline F load_e4m3(const uint8_t* p) {
  const int16x8_t codes = vshll_n_s8(vreinterpret_s8_u8(vld1_u8(p)), 7);
  const float16x8_t halves = vreinterpretq_f16_s16(vandq_s16(codes, vdupq_n_s16(int16_t(0xbfff))));
  return {vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)};
}
inline void load_e4m3(const uint8_t* p, F& first, F& second) {
  first = load_e4m3(p);
  second = load_e4m3(p + kWidth);
}
inline float half_scalar(uint16_t half) {
  return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(half))), 0);
}

// Halves the vector until one number is left: lane i + lane i + n/2.
inline float reduce_tree(F a) {
  const float32x4_t four = vaddq_f32(a.low, a.high);
  return vpadds_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)));
}
inline float reduce_max(F a) {
  const float32x4_t four = larger(a.low, a.high);
  const float32x4_t two = larger(four, vextq_f32(four, four, 2));
  return vgetq_lane_f32(larger(two, vextq_f32(two, two, 1)), 0);
}
inline float first_lane(F a) { return vgetq_lane_f32(a.low, 0); }
// The largest of all lanes, in each.
inline F max_of_lanes(F a) { return set1(reduce_max(a)); }
inline int32_t reduce_int(I a) { return vaddvq_s32(vaddq_s32(a.low, a.high)); }

// Rounds to the nearest integer (even on ties).
inline I round_int(F a) { return {vcvtnq_s32_f32(a.low), vcvtnq_s32_f32(a.high)}; }
inline void store_int8(int8_t* p, I a) { vst1_s8(p, vmovn_s16(vmovn_high_s32(vmovn_s32(a.low), a.high))); }
inline void store_uint8(uint8_t* p, I a) {
  const int16x8_t words = vcombine_s16(vqmovn_s32(a.low), vqmovn_s32(a.high));
  vst1_u8(p, vqmovun_s16(words));
}
inline void store_int16(int16_t* p, I a) { vst1q_s16(p, vmovn_high_s32(vmovn_s32(a.low), a.high)); }

inline Bytes repeat4(const int8_t* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  const uint8x16_t all = vreinterpretq_u8_s32(vdupq_n_s32(four));
  return {all, all};
}
inline Bytes load_bytes(const uint8_t* p) { return {vld1q_u8(p), vld1q_u8(p + 16)}; }
inline I lanes(Bytes a) { return {vreinterpretq_s32_u8(a.low), vreinterpretq_s32_u8(a.high)}; }
inline Bytes bytes(I a) { return {vreinterpretq_u8_s32(a.low), vreinterpretq_u8_s32(a.high)}; }
// Each byte shifted to the right, and of that the bits of the mask.
template <int Shift, int Mask>
inline uint8x16_t byte_bits(uint8x16_t a) {
  if constexpr (Shift != 0) a = vshrq_n_u8(a, Shift);
  return ((255 >> Shift) & ~Mask) == 0 ? a : vandq_u8(a, vdupq_n_u8(Mask));
}
template <int Shift, int Mask>
inline I byte_bits(Bytes a) {
  return lanes({byte_bits<Shift, Mask>(a.low), byte_bits<Shift, Mask>(a.high)});
}
// Each byte (0 to 15) becomes the table's entry of that number.
inline Bytes lookup(Bytes codes, const int8_t* table) {
  const uint8x16_t all = vreinterpretq_u8_s8(vld1q_s8(table));
  return {vqtbl1q_u8(all, codes.low), vqtbl1q_u8(all, codes.high)};
}

// Pairs of int16, one pair a lane: from signed bytes; from memory to all lanes; times a number.
inline I load_pairs(const uint8_t* p) {
  const int8x16_t pairs = vreinterpretq_s8_u8(vld1q_u8(p));
  return {vreinterpretq_s32_s16(vmovl_s8(vget_low_s8(pairs))), vreinterpretq_s32_s16(vmovl_high_s8(pairs))};
}
inline I set1_pair(const int16_t* p) {
  int32_t pair;
  std::memcpy(&pair, p, 4);
  return set1_int(pair);
}
inline int16x8_t halves_of(int32x4_t pairs) { return vreinterpretq_s16_s32(pairs); }
inline I pairs_times(I pairs, int factor) {
  return {vreinterpretq_s32_s16(vmulq_n_s16(halves_of(pairs.low), int16_t(factor))),
          vreinterpretq_s32_s16(vmulq_n_s16(halves_of(pairs.high), int16_t(factor)))};
}
// Four unsigned bytes times int8, one sum a lane; a dot product is of signed ones, so there are two: of the
// codes halved, and of what halving drops.
inline int32x4_t four_dot_half(int32x4_t sum, uint8x16_t codes, uint8x16_t x) {
  const int8x16_t b = vreinterpretq_s8_u8(x);
#ifdef __ARM_FEATURE_DOTPROD
  const int8x16_t half = vreinterpretq_s8_u8(vshrq_n_u8(codes, 1));
  const int8x16_t rest = vreinterpretq_s8_u8(vandq_u8(codes, vdupq_n_u8(1)));
  const int32x4_t halves = vdotq_s32(vdupq_n_s32(0), half, b);
  return vdotq_s32(vaddq_s32(sum, vaddq_s32(halves, halves)), rest, b);
#else
  const int16x8_t low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(codes)));
  const int16x8_t high = vreinterpretq_s16_u16(vmovl_high_u8(codes));
  const int16x8_t low_x = vmovl_s8(vget_low_s8(b)), high_x = vmovl_high_s8(b);
  const int32x4_t two = vmull_s16(vget_low_s16(low), vget_low_s16(low_x));
  const int32x4_t four = vmull_s16(vget_low_s16(high), vget_low_s16(high_x));
  return vaddq_s32(sum, vpaddq_s32(vpaddq_s32(two, vmull_high_s16(low, low_x)),
                                   vpaddq_s32(four, vmull_high_s16(high, high_x))));
#endif
}
inline I four_dot_add(I sum, Bytes codes, Bytes x) {
  return {four_dot_half(sum.low, codes.low, x.low), four_dot_half(sum.high, codes.high, x.high)};
}
inline I pairs_plus(I pairs, int number) {
  const int16x8_t all = vdupq_n_s16(int16_t(number));
  return {vreinterpretq_s32_s16(vaddq_s16(halves_of(pairs.low), all)),
          vreinterpretq_s32_s16(vaddq_s16(halves_of(pairs.high), all))};
}
inline int32x4_t pair_dot(int32x4_t a, int32x4_t b) {
  return vpaddq_s32(vmull_s16(vget_low_s16(halves_of(a)), vget_low_s16(halves_of(b))),
                    vmull_high_s16(halves_of(a), halves_of(b)));
}
inline I pair_dot(I a, I b) { return {pair_dot(a.low, b.low), pair_dot(a.high, b.high)}; }
inline I pair_dot_add(I sum, I a, I b) { return sum + pair_dot(a, b); }
inline I widen(uint16x8_t a) {
  return {vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(a))), vreinterpretq_s32_u32(vmovl_high_u16(a))};
}
// One byte, or one 16-bit number, a lane.
inline I load_unsigned(const uint8_t* p) { return widen(vmovl_u8(vld1_u8(p))); }
inline I load_unsigned16(const uint8_t* p) { return widen(vreinterpretq_u16_u8(vld1q_u8(p))); }

// 16 columns of a row, and four of them as a dot takes them: an instruction names them by their place.
template <int J>
struct Four {
  int8x16_t row;
};
struct Columns {
  int8x16_t row;
  template <int J>
  Four<J> four() const {
    return {row};
  }
};
inline Columns load_columns(const int8_t* p) { return {vld1q_s8(p)}; }

#if defined(FIVEFOLD_DOTPROD)

// Sums codes times int8, in int32. All codes below 128 are int8 too.
struct SignedDot {
  static constexpr int kAdds = 8;
  static constexpr int kOffset = 0;
  static constexpr bool kWhole = true;
  I sum = set1_int(0);
  template <int J>
  void add(Bytes codes, Four<J> x) {
    sum.low = vdotq_laneq_s32(sum.low, vreinterpretq_s8_u8(codes.low), x.row, J);
    sum.high = vdotq_laneq_s32(sum.high, vreinterpretq_s8_u8(codes.high), x.row, J);
  }
  I total() const { return sum; }
};
template <int Bits>
using CodeDot = SignedDot;

#else

// Sums codes of `Bits` bits times int8 in int16, which has room for kAdds vectors of them.
template <int Bits>
struct CodeDot {
  static constexpr int kAdds = Bits <= 5 ? 8 : Bits == 6 ? 4 : 2;
  static constexpr int kOffset = 0;
  static constexpr bool kWhole = false;
  int16x8_t sums[4] = {};  // of lanes 0 and 1, 2 and 3, ...: four numbers each
  template <int J>
  void add(Bytes codes, Four<J> x) {
    const int8x16_t four = vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(x.row), J));
    add_two(codes.low, four, sums[0], sums[1]);
    add_two(codes.high, four, sums[2], sums[3]);
  }
  I total() const {
    return {vpaddq_s32(vpaddlq_s16(sums[0]), vpaddlq_s16(sums[1])),
            vpaddq_s32(vpaddlq_s16(sums[2]), vpaddlq_s16(sums[3]))};
  }

 private:
  static void add_two(uint8x16_t codes, int8x16_t x, int16x8_t& low, int16x8_t& high) {
    const int8x16_t a = vreinterpretq_s8_u8(codes);
    low = vmlal_s8(low, vget_low_s8(a), vget_low_s8(x));
    high = vmlal_high_s8(high, a, x);
  }
};
using SignedDot = CodeDot<8>;

#endif

// A sum of dots, in int32.
struct WholeSum {
  I sum = set1_int(0);
  void start(I at) { sum = at; }
  template <class Dot>
  void take(const Dot& dot) {
    sum = sum + dot.total();
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
    const I total = dot.total();
    sum = {vmlaq_s32(sum.low, total.low, scale.v.low), vmlaq_s32(sum.high, total.high, scale.v.high)};
  }
  F value() const { return to_float(sum); }
};

}  // namespace
}  // namespace fivefold
