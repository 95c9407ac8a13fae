// The vector wrapper for AVX-512 (F, BW, VL, DQ, VNNI): sixteen lanes.
#pragma once

#include <immintrin.h>

#include "../half.h"

namespace fivefold {
namespace {

constexpr int kWidth = 16;
constexpr int kLinearRows = 8;  // rows that linear takes at a time, of int8 activations
constexpr int kFloatRows = 8;   // and of float ones
// Tiles that so many rows meet side by side, of most formats and of those with blocks of 256.
constexpr int kLinearTiles[] = {0, 4, 4, 3, 3, 3, 2, 2, 2};
constexpr int kPartTiles[] = {0, 4, 2, 2, 2, 2, 2, 2, 2};

struct F {
  __m512 v;
};
struct I {
  __m512i v;
};
struct Bytes {  // four bytes for each lane
  __m512i v;
};

inline F load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void store(float* p, F a) { _mm512_storeu_ps(p, a.v); }
inline F set1(float x) { return {_mm512_set1_ps(x)}; }
inline F operator+(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F operator-(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F operator*(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F operator/(F a, F b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F fma(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline F max(F a, F b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F abs(F a) { return {_mm512_andnot_ps(_mm512_set1_ps(-0.0f), a.v)}; }
inline F copy_sign(F magnitude, F sign) {
  const __m512 bit = _mm512_set1_ps(-0.0f);
  return {_mm512_or_ps(_mm512_andnot_ps(bit, magnitude.v), _mm512_and_ps(bit, sign.v))};
}
inline F select_less(F a, F b, F yes, F no) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), no.v, yes.v)};
}
inline F select_bits(uint32_t bits, F yes, F no) {
  return {_mm512_mask_blend_ps(__mmask16(bits), no.v, yes.v)};
}

inline I as_int(F a) { return {_mm512_castps_si512(a.v)}; }
inline F as_float(I a) { return {_mm512_castsi512_ps(a.v)}; }
inline I set1_int(int32_t x) { return {_mm512_set1_epi32(x)}; }
inline I operator+(I a, I b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline I operator-(I a, I b) { return {_mm512_sub_epi32(a.v, b.v)}; }
template <int N>
inline I shift_left(I a) {
  return {_mm512_slli_epi32(a.v, N)};
}
template <int N>
inline I shift_right(I a) {  // arithmetic
  return {_mm512_srai_epi32(a.v, N)};
}
inline I shift_right_by(I a, int n) {  // logical
  return {_mm512_srl_epi32(a.v, _mm_cvtsi32_si128(n))};
}
inline F to_float(I a) { return {_mm512_cvtepi32_ps(a.v)}; }

// a0 b0 a1 b1 ... from the lower lanes of both, and the same from the upper ones.
inline void interleave(F a, F b, F& lower, F& upper) {
  const __m512i from = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  lower = {_mm512_permutex2var_ps(a.v, from, b.v)};
  upper = {_mm512_permutex2var_ps(a.v, _mm512_add_epi32(from, _mm512_set1_epi32(8)), b.v)};
}
inline F load_half(const uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline void store_half(uint16_t* p, F a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
inline F load_bfloat(const uint16_t* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}
inline F load_int8(const int8_t* p) {
  const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes))};
}
// E4M3 numbers over 256, see e4m3_half.
inline F load_e4m3(const uint8_t* p) {
  const __m256i codes = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return {_mm512_cvtph_ps(_mm256_and_si256(_mm256_slli_epi16(codes, 7), _mm256_set1_epi16(short(0xbfff))))};
}
inline void load_e4m3(const uint8_t* p, F& first, F& second) {
  const __m512i codes = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  const __m512i halves = _mm512_and_si512(_mm512_slli_epi16(codes, 7), _mm512_set1_epi16(short(0xbfff)));
  first = {_mm512_cvtph_ps(_mm512_castsi512_si256(halves))};
  second = {_mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1))};
}
inline float half_scalar(uint16_t half) { return _cvtsh_ss(half); }

inline __m256 upper_half(__m512 a) {
  return _mm256_castsi256_ps(_mm512_extracti64x4_epi64(_mm512_castps_si512(a), 1));
}

// Halves the vector until one number is left: lane i + lane i + n/2.
inline float reduce_tree(F a) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a.v), upper_half(a.v));
  __m128 r = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  r = _mm_add_ps(r, _mm_movehl_ps(r, r));
  return _mm_cvtss_f32(_mm_add_ss(r, _mm_movehdup_ps(r)));
}
inline float reduce_max(F a) {
  const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(a.v), upper_half(a.v));
  __m128 r = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  r = _mm_max_ps(r, _mm_movehl_ps(r, r));
  return _mm_cvtss_f32(_mm_max_ss(r, _mm_movehdup_ps(r)));
}
inline float first_lane(F a) { return _mm512_cvtss_f32(a.v); }
// The largest of all lanes, in each.
inline F max_of_lanes(F a) {
  a = max(a, {_mm512_shuffle_f32x4(a.v, a.v, 0x4e)});
  a = max(a, {_mm512_shuffle_f32x4(a.v, a.v, 0xb1)});
  a = max(a, {_mm512_permute_ps(a.v, 0x4e)});
  return max(a, {_mm512_permute_ps(a.v, 0xb1)});
}
inline int32_t reduce_int(I a) {
  const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(a.v), _mm512_extracti64x4_epi64(a.v, 1));
  __m128i r = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  r = _mm_add_epi32(r, _mm_shuffle_epi32(r, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(r, _mm_shuffle_epi32(r, 0xb1)));
}

// The same of four vectors, which are first turned, so that each 128 bits hold a number of every one.
inline void reduce_max(const F (&a)[4], float* out) {
  const F ab = max({_mm512_unpacklo_ps(a[0].v, a[1].v)}, {_mm512_unpackhi_ps(a[0].v, a[1].v)});
  const F cd = max({_mm512_unpacklo_ps(a[2].v, a[3].v)}, {_mm512_unpackhi_ps(a[2].v, a[3].v)});
  const F all = max({_mm512_shuffle_ps(ab.v, cd.v, 0x44)}, {_mm512_shuffle_ps(ab.v, cd.v, 0xee)});
  const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(all.v), upper_half(all.v));
  _mm_storeu_ps(out, _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}
inline void reduce_int(const I (&a)[4], int32_t* out) {
  const I ab = I{_mm512_unpacklo_epi32(a[0].v, a[1].v)} + I{_mm512_unpackhi_epi32(a[0].v, a[1].v)};
  const I cd = I{_mm512_unpacklo_epi32(a[2].v, a[3].v)} + I{_mm512_unpackhi_epi32(a[2].v, a[3].v)};
  const I all = I{_mm512_unpacklo_epi64(ab.v, cd.v)} + I{_mm512_unpackhi_epi64(ab.v, cd.v)};
  const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all.v), _mm512_extracti64x4_epi64(all.v, 1));
  const __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), sums);
}

// Rounds to the nearest integer (even on ties).
inline I round_int(F a) { return {_mm512_cvtps_epi32(a.v)}; }
inline void store_int8(int8_t* p, I a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(a.v));
}

inline void store_uint8(uint8_t* p, I a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtusepi32_epi8(a.v));
}
inline void store_int16(int16_t* p, I a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtsepi32_epi16(a.v));
}

inline Bytes load_bytes(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
inline Bytes repeat4(const int8_t* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return {_mm512_set1_epi32(four)};
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
inline I lanes(Bytes a) { return {a.v}; }
inline Bytes bytes(I a) { return {a.v}; }
inline I low_bits(I a, int32_t mask) { return {_mm512_and_si512(a.v, _mm512_set1_epi32(mask))}; }
inline I operator|(I a, I b) { return {_mm512_or_si512(a.v, b.v)}; }
// Each byte shifted to the right, and of that the bits of the mask.
template <int Shift, int Mask>
inline I byte_bits(Bytes a) {
  const I all = lanes(a);
  return low_bits(Shift == 0 ? all : shift_right<Shift>(all), Mask * 0x01010101);
}
// Each byte (0 to 15) becomes the table's entry of that number.
inline Bytes lookup(Bytes codes, const int8_t* table) {
  const __m128i all = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
  return {_mm512_shuffle_epi8(_mm512_broadcast_i32x4(all), codes.v)};
}

// Pairs of int16, one pair a lane: from signed bytes; from memory to all lanes; times a number.
inline I load_pairs(const uint8_t* p) {
  return {_mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline I set1_pair(const int16_t* p) {
  int32_t pair;
  std::memcpy(&pair, p, 4);
  return {_mm512_set1_epi32(pair)};
}
inline I pairs_times(I pairs, int factor) {
  return {_mm512_mullo_epi16(pairs.v, _mm512_set1_epi16(int16_t(factor)))};
}
inline I pair_dot(I a, I b) { return {_mm512_madd_epi16(a.v, b.v)}; }
inline I pair_dot_add(I sum, I a, I b) { return {_mm512_dpwssd_epi32(sum.v, a.v, b.v)}; }
// Four unsigned bytes times int8, one sum a lane.
inline I four_dot_add(I sum, Bytes codes, Bytes x) { return {_mm512_dpbusd_epi32(sum.v, codes.v, x.v)}; }
inline I pairs_plus(I pairs, int number) {
  return {_mm512_add_epi16(pairs.v, _mm512_set1_epi16(int16_t(number)))};
}
// One byte, or one 16-bit number, a lane.
inline I load_unsigned(const uint8_t* p) {
  return {_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
inline I load_unsigned16(const uint8_t* p) {
  return {_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}

// Sums codes times int8, in int32.
template <int Bits>
struct CodeDot {
  static constexpr int kAdds = 8;  // vectors that there is room for
  static constexpr int kOffset = 0;
  static constexpr bool kWhole = false;
  __m512i sum = _mm512_setzero_si512();
  void add(Bytes codes, Bytes x) { sum = _mm512_dpbusd_epi32(sum, codes.v, x.v); }
};
// The same for int8 codes, which are read as code + kOffset.
struct SignedDot {
  static constexpr int kAdds = 8;
  static constexpr int kOffset = 128;
  static constexpr bool kWhole = false;
  __m512i sum = _mm512_setzero_si512();
  void add(Bytes codes, Bytes x) {
    sum = _mm512_dpbusd_epi32(sum, _mm512_xor_si512(codes.v, _mm512_set1_epi8(-128)), x.v);
  }
};

// A sum of dots, in int32.
struct WholeSum {
  __m512i sum = _mm512_setzero_si512();
  void start(I at) { sum = at.v; }
  template <class Dot>
  void take(const Dot& dot) {
    sum = _mm512_add_epi32(sum, dot.sum);
  }
  F value() const { return {_mm512_cvtepi32_ps(sum)}; }
};

// A sum of dots times small integers, exact as long as it stays below 2^24: so it may be a sum of floats.
struct Scale {
  __m512 v;
};
inline Scale scale_low(I pairs) { return {to_float(shift_right<16>(shift_left<16>(pairs))).v}; }
inline Scale scale_high(I pairs) { return {to_float(shift_right<16>(pairs)).v}; }
struct ScaledSum {
  __m512 sum = _mm512_setzero_ps();
  void start(I at) { sum = _mm512_cvtepi32_ps(at.v); }
  template <class Dot>
  void take(const Dot& dot, Scale scale) {
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot.sum), scale.v, sum);
  }
  F value() const { return {sum}; }
};

}  // namespace
}  // namespace fivefold
