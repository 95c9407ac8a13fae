// What parts (32 columns) of a stored block have beside their codes. In blocks of 256 that are small
// integers: scales, and minima in some formats. In blocks without f16 numbers they are scales of one
// byte that stand for floats: number() of a half, NaN for a byte that is none.
//
// They stay as narrow as they are stored. A struct here says how those of a block are read and how they lie
// in a packed tile:
//   kScales                scales in a part: one, or one for each half of it
//   kMinima                whether there are minima
//   kRead                  bytes of a block as a format's `read` gives them, part after part
//   scale(), minimum()     of a half, from that part's bytes
//   kBytes, group(i), put  bytes of a row and block in a tile, the sizes of the groups they are interleaved
//   in
//                          (0 after the last), and how those read become them
//   and for kernels, opened over W rows: scale(half); pairs(): the scales of both halves as 16-bit numbers
//   side by side; the float scale and minimum of a half; add_minima(): adds minimum * (scale of x) * (sum of
//   x).
#pragma once

#include "../half.h"

namespace fivefold {
namespace {

// Formats whose block is one part, with one scale for all of it.
struct NoParts {
  static constexpr int kBytes = 0;
  static constexpr int kRead = 0;
  static constexpr int kScales = 1;
  static constexpr bool kMinima = false;
  static constexpr int group(int) { return 0; }
  static void put(const uint8_t*, uint8_t*) {}
};

// mxfp4: a power of two for the whole part, E8M0. Kernels take 2^(e - 127) times codes of E2M1 doubled.
struct PowerScale {
  static constexpr int kBytes = 1;
  static constexpr int kRead = 1;
  static constexpr int kScales = 1;
  static constexpr bool kMinima = false;
  static constexpr float kFactor = 0.5f;
  static constexpr int group(int i) { return i == 0 ? 1 : 0; }
  static void put(const uint8_t* read, uint8_t* bytes) { bytes[0] = read[0]; }
  static float number(const uint8_t* part, int) {
    if (part[0] == 255) return bits_float(0x7fc00000u);
    return bits_float(part[0] == 0 ? 0x00400000u : uint32_t(part[0]) << 23);
  }
#ifdef FIVEFOLD_KERNELS
  PowerScale(const uint8_t* packed, int) {
    one = max(as_float(shift_left<23>(load_unsigned(packed))), set1(0x1p-127f));
  }
  F float_scale(int) const { return one; }
  F one;
#endif
};

// nvfp4: a scale in E4M3 for each half. Kernels take it over 256, times codes of E2M1 doubled.
struct E4m3Scales {
  static constexpr int kBytes = 4;
  static constexpr int kRead = 4;
  static constexpr int kScales = 2;
  static constexpr bool kMinima = false;
  static constexpr float kFactor = 128.0f;
  static constexpr int group(int i) { return i < 4 ? 1 : 0; }
  static void put(const uint8_t* read, uint8_t* bytes) { std::memcpy(bytes, read, 4); }
  static float number(const uint8_t* part, int half) {
    return e4m3_to_float(uint8_t(part[half] & 0x7f)) * 0x1p-8f;
  }
#ifdef FIVEFOLD_KERNELS
  E4m3Scales(const uint8_t* packed, int part) {
    for (int half = 0; half < 2; ++half) halves[half] = load_e4m3(packed + (2 * part + half) * kWidth);
  }
  F float_scale(int half) const { return halves[half]; }
  F halves[2];
#endif
};

#ifdef FIVEFOLD_KERNELS
inline F low_float(I pairs) { return to_float(shift_right<16>(shift_left<16>(pairs))); }
inline F high_float(I pairs) { return to_float(shift_right<16>(pairs)); }
#endif

// Two whole bytes for each part.
struct BytePairs {
  static constexpr int kBytes = 16;
  static constexpr int kRead = 16;
  static constexpr int group(int i) { return i < 8 ? 2 : 0; }
  static void put(const uint8_t* read, uint8_t* bytes) { std::memcpy(bytes, read, 16); }
};

// Two six-bit numbers for each part: their high two bits first, four bits for each part, then a byte for each
// part with their low four bits.
struct SixBitPairs {
  static constexpr int kBytes = 12;
  static constexpr int kRead = 16;
  static constexpr int group(int i) { return i == 0 ? 4 : i < 9 ? 1 : 0; }
  static void put(const uint8_t* read, uint8_t* bytes) {
    uint32_t high = 0;
    for (int p = 0; p < 8; ++p) {
      const uint32_t a = read[2 * p], b = read[2 * p + 1];
      bytes[4 + p] = uint8_t((a & 15) | (b & 15) << 4);
      high |= ((a >> 4 & 3) | (b >> 4 & 3) << 2) << 4 * p;
    }
    std::memcpy(bytes, &high, 4);
  }
#ifdef FIVEFOLD_KERNELS
  static I open(const uint8_t* packed, int part) {
    const I low = load_unsigned(packed + (4 + part) * kWidth);
    const I high = shift_right_by(lanes(load_bytes(packed)), 4 * part);
    return low_bits(low | shift_left<12>(low), 0x000f000f) | low_bits(shift_left<4>(high), 0x00000030) |
           low_bits(shift_left<18>(high), 0x00300000);
  }
#endif
};

// q6_k: an int8 scale for each half.
struct ByteScales : BytePairs {
  static constexpr int kScales = 2;
  static constexpr bool kMinima = false;
  static int scale(const uint8_t* part, int half) { return int8_t(part[half]); }
  static int minimum(const uint8_t*, int) { return 0; }
#ifdef FIVEFOLD_KERNELS
  ByteScales(const uint8_t* packed, int part) : both(load_pairs(packed + 2 * part * kWidth)) {}
  Scale scale(int half) const { return half ? scale_high(both) : scale_low(both); }
  I pairs() const { return both; }
  F float_scale(int half) const { return half ? high_float(both) : low_float(both); }
  I both;
#endif
};

// q3_k: a scale of six bits, less 32, for each half.
struct SixBitScales : SixBitPairs {
  static constexpr int kScales = 2;
  static constexpr bool kMinima = false;
  static int scale(const uint8_t* part, int half) { return part[half] - 32; }
  static int minimum(const uint8_t*, int) { return 0; }
#ifdef FIVEFOLD_KERNELS
  SixBitScales(const uint8_t* packed, int part) : both(pairs_plus(open(packed, part), -32)) {}
  Scale scale(int half) const { return half ? scale_high(both) : scale_low(both); }
  I pairs() const { return both; }
  F float_scale(int half) const { return half ? high_float(both) : low_float(both); }
  I both;
#endif
};

// q4_k, q5_k: a scale and a minimum of six bits for the whole part.
struct SixBitScaleAndMinimum : SixBitPairs {
  static constexpr int kScales = 1;
  static constexpr bool kMinima = true;
  static int scale(const uint8_t* part, int) { return part[0]; }
  static int minimum(const uint8_t* part, int) { return part[1]; }
#ifdef FIVEFOLD_KERNELS
  SixBitScaleAndMinimum(const uint8_t* packed, int part) : both(open(packed, part)) {}
  Scale scale(int) const { return scale_low(both); }
  F float_scale(int) const { return low_float(both); }
  F float_minimum(int) const { return high_float(both); }
  template <class Block>
  F add_minima(F sum, const Block& x) const {
    return fma(high_float(both), set1(x.scaled_sum), sum);
  }
  I both;
#endif
};

// q2_k: a scale and a minimum of four bits for each half.
struct NibbleScalesAndMinima : BytePairs {
  static constexpr int kScales = 2;
  static constexpr bool kMinima = true;
  static int scale(const uint8_t* part, int half) { return part[half] & 15; }
  static int minimum(const uint8_t* part, int half) { return part[half] >> 4; }
#ifdef FIVEFOLD_KERNELS
  NibbleScalesAndMinima(const uint8_t* packed, int part) {
    const I bytes = load_pairs(packed + 2 * part * kWidth);
    scales = low_bits(bytes, 0x000f000f);
    minima = low_bits(shift_right<4>(bytes), 0x000f000f);
  }
  Scale scale(int half) const { return half ? scale_high(scales) : scale_low(scales); }
  F float_scale(int half) const { return half ? high_float(scales) : low_float(scales); }
  F float_minimum(int half) const { return half ? high_float(minima) : low_float(minima); }
  template <class Block>
  F add_minima(F sum, const Block& x) const {
    return fma(to_float(pair_dot(minima, set1_pair(x.half_sums))), set1(x.scale), sum);
  }
  I scales, minima;
#endif
};

// iq4_xs: a scale of six bits, less 32, for the whole part. In a tile the low four bits of all parts first,
// then the high two.
struct SixBitScale {
  static constexpr int kBytes = 6;
  static constexpr int kRead = 8;
  static constexpr int kScales = 1;
  static constexpr bool kMinima = false;
  static constexpr int group(int i) { return i == 0 ? 4 : i == 1 ? 2 : 0; }
  static int scale(const uint8_t* part, int) { return part[0] - 32; }
  static int minimum(const uint8_t*, int) { return 0; }
  static void put(const uint8_t* read, uint8_t* bytes) {
    uint32_t low = 0, high = 0;
    for (int p = 0; p < 8; ++p) {
      low |= uint32_t(read[p] & 15) << 4 * p;
      high |= uint32_t(read[p] >> 4 & 3) << 2 * p;
    }
    std::memcpy(bytes, &low, 4);
    std::memcpy(bytes + 4, &high, 2);
  }
#ifdef FIVEFOLD_KERNELS
  SixBitScale(const uint8_t* packed, int part) {
    const I low = shift_right_by(lanes(load_bytes(packed)), 4 * part);
    const I high = shift_left<4>(shift_right_by(load_unsigned16(packed + 4 * kWidth), 2 * part));
    one = (low_bits(low, 15) | low_bits(high, 48)) - set1_int(32);
  }
  Scale scale(int) const { return scale_low(pairs()); }
  I pairs() const { return low_bits(one, 0xffff) | shift_left<16>(one); }
  F float_scale(int) const { return to_float(one); }
  I one;
#endif
};

// Bytes of a packed block, for each row: the f16 numbers, the parts' small integers, the codes.
template <class Format, bool kDense = Format::kBlock == 1>
struct PackedBlock {
  static constexpr int kBytes = Format::kStoredBytes;
};
template <class Format>
struct PackedBlock<Format, false> {
  static constexpr int kBytes =
      2 * Format::kScales + Format::Parts::kBytes + Format::kBlock / 32 * Format::Codes::kBytes;
};

// Eight scales and eight minima of six bits in 12 bytes, as pairs of bytes: of the first four the low six
// bits of bytes 0 to 7; of the others the nibbles of bytes 8 to 11 under the high bits of the bytes before.
inline void read_six_bit_pairs(const uint8_t* bytes, uint8_t* pairs) {
  for (int j = 0; j < 4; ++j) {
    pairs[2 * j] = bytes[j] & 63;
    pairs[2 * j + 1] = bytes[4 + j] & 63;
    pairs[8 + 2 * j] = uint8_t((bytes[8 + j] & 15) | (bytes[j] >> 6) << 4);
    pairs[9 + 2 * j] = uint8_t(bytes[8 + j] >> 4 | (bytes[4 + j] >> 6) << 4);
  }
}

}  // namespace
}  // namespace fivefold
