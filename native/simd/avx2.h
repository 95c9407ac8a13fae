// The vector wrapper for AVX2, FMA and F16C: eight lanes.
#pragma once

#include <immintrin.h>

#include "../half.h"

namespace fivefold {
namespace {

constexpr int kWidth = 8;
constexpr int kLinearRows = 8;  // rows that linear takes at a time, of int8 activations
constexpr int kFloatRows = 6;   // and of float ones
// Tiles that so many rows meet side by side, of most formats and of those with blocks of 256.
constexpr int kLinearTiles[] = {0, 4, 4, 2, 2, 1, 1, 1, 1};
constexpr int kPartTiles[] = {0, 4, 4, 2, 2, 1, 1, 1, 1};

struct F {
  __m256 v;
};
struct I {
  __m256i v;
};
struct Bytes {  // four bytes for each lane
  __m256i v;
};

inline F load(const float* p) { return {_mm256_loadu_ps(p)}; }
inline void store(float* p, F a) { _mm256_storeu_ps(p, a.v); }
inline F set1(float x) { return {_mm256_set1_ps(x)}; }
inline F operator+(F a, F b) { return {_mm256_add_ps(a.v, b.v)}; }
inline F operator-(F a, F b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline F operator*(F a, F b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline F operator/(F a, F b) { return {_mm256_div_ps(a.v, b.v)}; }
inline F fma(F a, F b, F c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline F max(F a, F b) { return {_mm256_max_ps(a.v, b.v)}; }
inline F abs(F a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
inline F copy_sign(F magnitude, F sign) {
  const __m256 bit = _mm256_set1_ps(-0.0f);
  return {_mm256_or_ps(_mm256_andnot_ps(bit, magnitude.v), _mm256_and_ps(bit, sign.v))};
}
inline F select_less(F a, F b, F yes, F no) {
  return {_mm256_blendv_ps(no.v, yes.v, _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ))};
}
inline F select_bits(uint32_t bits, F yes, F no) {
  const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i set = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(int(bits)), lane), lane);
  return {_mm256_blendv_ps(no.v, yes.v, _mm256_castsi256_ps(set))};
}

inline I as_int(F a) { return {_mm256_castps_si256(a.v)}; }
inline F as_float(I a) { return {_mm256_castsi256_ps(a.v)}; }
inline I set1_int(int32_t x) { return {_mm256_set1_epi32(x)}; }
inline I operator+(I a, I b) { return {_mm256_add_epi32(a.v, b.v)}; }
inline I operator-(I a, I b) { return {_mm256_sub_epi32(a.v, b.v)}; }
template <int N>
inline I shift_left(I a) {
  return {_mm256_slli_epi32(a.v, N)};
}
template <int N>
inline I shift_right(I a) {  // arithmetic
  return {_mm256_srai_epi32(a.v, N)};
}
inline I shift_right_by(I a, int n) {  // logical
  return {_mm256_srl_epi32(a.v, _mm_cvtsi32_si128(n))};
}
inline F to_float(I a) { return {_mm256_cvtepi32_ps(a.v)}; }

// a0 b0 a1 b1 ... from the lower lanes of both, and the same from the upper ones.
inline void interleave(F a, F b, F& lower, F& upper) {
  const __m256 even = _mm256_unpacklo_ps(a.v, b.v), odd = _mm256_unpackhi_ps(a.v, b.v);
  lower = {_mm256_permute2f128_ps(even, odd, 0x20)};
  upper = {_mm256_permute2f128_ps(even, odd, 0x31)};
}
inline F load_half(const uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
inline void store_half(uint16_t* p, F a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
inline F load_bfloat(const uint16_t* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16))};
}
inline F load_int8(const int8_t* p) {
  const __m128i codes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes))};
}
// E4M3 numbers over 256, see e4m3_half.
inline F load_e4m3(const uint8_t* p) {
  const __m128i codes = _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  return {_mm256_cvtph_ps(_mm_and_si128(_mm_slli_epi16(codes, 7), _mm_set1_epi16(short(0xbfff))))};
}
inline void load_e4m3(const uint8_t* p, F& first, F& second) {
  const __m256i codes = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m256i halves = _mm256_and_si256(_mm256_slli_epi16(codes, 7), _mm256_set1_epi16(short(0xbfff)));
  first = {_mm256_cvtph_ps(_mm256_castsi256_si128(halves))};
  second = {_mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1))};
}
inline float half_scalar(uint16_t half) { return _cvtsh_ss(half); }

// Halves the vector until one number is left: lane i + lane i + n/2.
inline float reduce_tree(F a) {
  __m128 r = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  r = _mm_add_ps(r, _mm_movehl_ps(r, r));
  return _mm_cvtss_f32(_mm_add_ss(r, _mm_movehdup_ps(r)));
}
inline float reduce_max(F a) {
  __m128 r = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  r = _mm_max_ps(r, _mm_movehl_ps(r, r));
  return _mm_cvtss_f32(_mm_max_ss(r, _mm_movehdup_ps(r)));
}
inline float first_lane(F a) { return _mm256_cvtss_f32(a.v); }
// The largest of all lanes, in each.
inline F max_of_lanes(F a) {
  a = max(a, {_mm256_permute2f128_ps(a.v, a.v, 1)});
  a = max(a, {_mm256_permute_ps(a.v, 0x4e)});
  return max(a, {_mm256_permute_ps(a.v, 0xb1)});
}
inline int32_t reduce_int(I a) {
  __m128i r = _mm_add_epi32(_mm256_castsi256_si128(a.v), _mm256_extracti128_si256(a.v, 1));
  r = _mm_add_epi32(r, _mm_shuffle_epi32(r, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(r, _mm_shuffle_epi32(r, 0xb1)));
}

// The same of four vectors, which are first turned, so that each 128 bits hold a number of every one.
inline void reduce_max(const F (&a)[4], float* out) {
  const F ab = max({_mm256_unpacklo_ps(a[0].v, a[1].v)}, {_mm256_unpackhi_ps(a[0].v, a[1].v)});
  const F cd = max({_mm256_unpacklo_ps(a[2].v, a[3].v)}, {_mm256_unpackhi_ps(a[2].v, a[3].v)});
  const F all = max({_mm256_shuffle_ps(ab.v, cd.v, 0x44)}, {_mm256_shuffle_ps(ab.v, cd.v, 0xee)});
  _mm_storeu_ps(out, _mm_max_ps(_mm256_castps256_ps128(all.v), _mm256_extractf128_ps(all.v, 1)));
}
inline void reduce_int(const I (&a)[4], int32_t* out) {
  const I ab = I{_mm256_unpacklo_epi32(a[0].v, a[1].v)} + I{_mm256_unpackhi_epi32(a[0].v, a[1].v)};
  const I cd = I{_mm256_unpacklo_epi32(a[2].v, a[3].v)} + I{_mm256_unpackhi_epi32(a[2].v, a[3].v)};
  const I all = I{_mm256_unpacklo_epi64(ab.v, cd.v)} + I{_mm256_unpackhi_epi64(ab.v, cd.v)};
  const __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(all.v), _mm256_extracti128_si256(all.v, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), sums);
}

// Rounds to the nearest integer (even on ties).
inline I round_int(F a) { return {_mm256_cvtps_epi32(a.v)}; }
inline void store_int8(int8_t* p, I a) {
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(a.v), _mm256_extracti128_si256(a.v, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
}

inline void store_uint8(uint8_t* p, I a) {
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(a.v), _mm256_extracti128_si256(a.v, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
}
inline void store_int16(int16_t* p, I a) {
  const __m128i low = _mm256_castsi256_si128(a.v), high = _mm256_extracti128_si256(a.v, 1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packs_epi32(low, high));
}

inline Bytes load_bytes(const uint8_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))};
}
inline Bytes repeat4(const int8_t* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return {_mm256_set1_epi32(four)};
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
inline I low_bits(I a, int32_t mask) { return {_mm256_and_si256(a.v, _mm256_set1_epi32(mask))}; }
inline I operator|(I a, I b) { return {_mm256_or_si256(a.v, b.v)}; }
// Each byte shifted to the right, and of that the bits of the mask.
template <int Shift, int Mask>
inline I byte_bits(Bytes a) {
  const I all = lanes(a);
  return low_bits(Shift == 0 ? all : shift_right<Shift>(all), Mask * 0x01010101);
}
// Each byte (0 to 15) becomes the table's entry of that number.
inline Bytes lookup(Bytes codes, const int8_t* table) {
  const __m128i all = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
  return {_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(all), codes.v)};
}

// Pairs of int16, one pair a lane: from signed bytes; from memory to all lanes; times a number.
inline I load_pairs(const uint8_t* p) {
  return {_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
inline I set1_pair(const int16_t* p) {
  int32_t pair;
  std::memcpy(&pair, p, 4);
  return {_mm256_set1_epi32(pair)};
}
inline I pairs_times(I pairs, int factor) {
  return {_mm256_mullo_epi16(pairs.v, _mm256_set1_epi16(int16_t(factor)))};
}
inline I pair_dot(I a, I b) { return {_mm256_madd_epi16(a.v, b.v)}; }
inline I pair_dot_add(I sum, I a, I b) { return {_mm256_add_epi32(sum.v, _mm256_madd_epi16(a.v, b.v))}; }
// Four unsigned bytes times int8, one sum a lane: the even and the odd ones as pairs of int16.
inline I four_dot_add(I sum, Bytes codes, Bytes x) {
  const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(x.v, 8), 8), odd = _mm256_srai_epi16(x.v, 8);
  const __m256i even_codes = _mm256_and_si256(codes.v, _mm256_set1_epi16(255));
  sum.v = _mm256_add_epi32(sum.v, _mm256_madd_epi16(even_codes, even));
  return {_mm256_add_epi32(sum.v, _mm256_madd_epi16(_mm256_srli_epi16(codes.v, 8), odd))};
}
inline I pairs_plus(I pairs, int number) {
  return {_mm256_add_epi16(pairs.v, _mm256_set1_epi16(int16_t(number)))};
}
// One byte, or one 16-bit number, a lane.
inline I load_unsigned(const uint8_t* p) {
  return {_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))};
}
inline I load_unsigned16(const uint8_t* p) {
  return {_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}

// Makes the compiler finish a sum here. GCC would rather keep all products and add them up at the end, which
// takes more registers than there are.
inline void settle(__m256i& sum) { __asm__("" : "+x"(sum)); }

// Sums codes below 2^Bits times int8 as pairs in int16, which has room for kAdds vectors of them.
template <int Bits>
struct CodeDot {
  static constexpr int kAdds = Bits <= 4 ? 8 : Bits == 5 ? 4 : 2;
  static constexpr int kOffset = 0;
  static constexpr bool kWhole = false;
  __m256i sum = _mm256_setzero_si256();
  void add(Bytes codes, Bytes x) {
    sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes.v, x.v));
    settle(sum);
  }
};
// The same for int8 codes: their sign moves to the other side, 2 * 128 * 127 stays in int16.
struct SignedDot {
  static constexpr int kAdds = 1;
  static constexpr int kOffset = 0;  // what `add` adds to the codes
  static constexpr bool kWhole = false;
  __m256i sum = _mm256_setzero_si256();
  void add(Bytes codes, Bytes x) {
    sum = _mm256_maddubs_epi16(_mm256_abs_epi8(codes.v), _mm256_sign_epi8(x.v, codes.v));
  }
};

// A sum of dots, in int32.
struct WholeSum {
  __m256i sum = _mm256_setzero_si256();
  void start(I at) { sum = at.v; }
  template <class Dot>
  void take(const Dot& dot) {
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(dot.sum, _mm256_set1_epi16(1)));
    settle(sum);
  }
  F value() const { return {_mm256_cvtepi32_ps(sum)}; }
};

// A sum of dots times small integers, exact as long as it stays below 2^24.
struct Scale {
  __m256i v;  // twice in each lane, as int16
};
inline Scale scale_low(I pairs) {
  const __m256i both =
      _mm256_setr_epi64x(0x0504050401000100, 0x0d0c0d0c09080908, 0x0504050401000100, 0x0d0c0d0c09080908);
  return {_mm256_shuffle_epi8(pairs.v, both)};
}
inline Scale scale_high(I pairs) {
  const __m256i both =
      _mm256_setr_epi64x(0x0706070603020302, 0x0f0e0f0e0b0a0b0a, 0x0706070603020302, 0x0f0e0f0e0b0a0b0a);
  return {_mm256_shuffle_epi8(pairs.v, both)};
}
struct ScaledSum {
  __m256i sum = _mm256_setzero_si256();
  void start(I at) { sum = at.v; }
  template <class Dot>
  void take(const Dot& dot, Scale scale) {
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(dot.sum, scale.v));
    settle(sum);
  }
  F value() const { return {_mm256_cvtepi32_ps(sum)}; }
};

}  // namespace
}  // namespace fivefold
