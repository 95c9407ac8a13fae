// How the codes of a part (32 columns of a row) lie in a packed tile.
//
// A kernel takes a part as eight vectors: vector j holds columns 4j to 4j + 3 of W rows, four bytes a lane. A
// struct here says how those are packed:
//   kBytes              bytes of a row and part, in groups of four
//   kSigned, value()    what a code stands for, before the format's offset is taken off
//   put(codes, bytes)   packs 32 codes of one row
//   Dot, get<j>(packed) for kernels: the sum that suits the codes, and vector j
#pragma once

#include "../half.h"

namespace fivefold {
namespace {

// Codes of `Bits` bits, without gaps: as many byte vectors as a code has bits. The first vectors lie whole in
// the low bits of one byte vector each. The others lie in the bits above, one after the other: their bits are
// taken from the byte vectors in order, so that most codes are a shift and a mask away.
template <int Bits>
struct BitCodes {
  static constexpr int kBytes = 4 * Bits;
  static constexpr bool kSigned = false;
  static constexpr int kAbove = 8 - Bits;  // bits of a byte vector above the code that lies whole in it
  static int value(uint8_t code) { return code; }

  static void put(const uint8_t* codes, uint8_t* bytes) {
    uint32_t words[8];  // of each vector, four codes
    std::memcpy(words, codes, 32);
    for (int bit = 0; bit < kAbove * Bits; ++bit)
      words[bit / kAbove] |= (words[Bits + bit / Bits] >> bit % Bits & 0x01010101u) << (Bits + bit % kAbove);
    std::memcpy(bytes, words, kBytes);
  }

#ifdef FIVEFOLD_KERNELS
  using Dot = CodeDot<Bits>;
  template <int J>
  static Bytes get(const uint8_t* packed) {
    if constexpr (J < Bits)
      return bytes(byte_bits<0, (1 << Bits) - 1>(load_bytes(packed + J * kWidth * 4)));
    else
      return bytes(above<(J - Bits) * Bits, 0>(packed));
  }

 private:
  // Bits `Done` and up of a code, which begin at bit `At` of those above.
  template <int At, int Done>
  static I above(const uint8_t* packed) {
    constexpr int kFrom = Bits + At % kAbove;
    constexpr int kCount = 8 - kFrom < Bits - Done ? 8 - kFrom : Bits - Done;
    constexpr int kMask = ((1 << kCount) - 1) << Done;
    const I some = byte_bits<kFrom - Done, kMask>(load_bytes(packed + At / kAbove * kWidth * 4));
    if constexpr (Done + kCount < Bits)
      return some | above<At + kCount, Done + kCount>(packed);
    else
      return some;
  }
#endif
};

// Whole bytes with a sign.
struct SignedBytes {
  static constexpr int kBytes = 32;
  static constexpr bool kSigned = true;
  static int value(uint8_t code) { return int8_t(code); }
  static void put(const uint8_t* codes, uint8_t* bytes) { std::memcpy(bytes, codes, 32); }
#ifdef FIVEFOLD_KERNELS
  using Dot = SignedDot;
  template <int J>
  static Bytes get(const uint8_t* packed) {
    return load_bytes(packed + J * kWidth * 4);
  }
#endif
};

// Four bits that name one of 16 values.
struct TableCodes {
  static constexpr int kBytes = 16;
  static constexpr bool kSigned = true;
  static constexpr int8_t kValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                         1,    13,   25,  38,  53,  69,  89,  113};
  static int value(uint8_t code) { return kValues[code]; }
  static void put(const uint8_t* codes, uint8_t* bytes) { BitCodes<4>::put(codes, bytes); }
#ifdef FIVEFOLD_KERNELS
  using Dot = SignedDot;
  template <int J>
  static Bytes get(const uint8_t* packed) {
    return lookup(BitCodes<4>::get<J>(packed), kValues);
  }
#endif
};

// E2M1, four-bit floats: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and the same with a sign. Here twice that, and 16 more,
// so that all are whole numbers from 0 to 31.
struct E2m1Codes {
  static constexpr int kBytes = 16;
  static constexpr bool kSigned = false;
  static constexpr int kOffset = 16;
  static constexpr int8_t kValues[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};
  static int value(uint8_t code) { return kValues[code]; }
  static void put(const uint8_t* codes, uint8_t* bytes) { BitCodes<4>::put(codes, bytes); }
#ifdef FIVEFOLD_KERNELS
  using Dot = CodeDot<5>;
  template <int J>
  static Bytes get(const uint8_t* packed) {
    return lookup(BitCodes<4>::get<J>(packed), kValues);
  }
#endif
};

// 16 bytes that hold 32 codes: byte i has code i below and code 16 + i above. How many formats store them.
inline void read_nibbles(const uint8_t* bytes, uint8_t* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = bytes[i] & 15;
    codes[16 + i] = uint8_t(bytes[i] >> 4);
  }
}

// Adds the fifth bits of 32 codes, in order from the lowest bit of the first byte.
inline void read_fifth_bits(const uint8_t* bytes, uint8_t* codes) {
  for (int j = 0; j < 8; ++j) {
    const uint32_t bits = (bytes[j / 2] >> 4 * (j % 2)) & 15;
    uint32_t four;
    std::memcpy(&four, codes + 4 * j, 4);
    four |= ((bits * 0x00204081u) & 0x01010101u) << 4;  // bit i moves to byte i
    std::memcpy(codes + 4 * j, &four, 4);
  }
}

// `Count` bytes hold, for each `Run` of them, 8 / Width runs of Run codes: the first in the lowest bits.
// Their bits are added to the codes from bit `To` on.
template <int Count, int Width, int Run, int To = 0>
inline void read_runs(const uint8_t* bytes, uint8_t* codes) {
  constexpr int kMask = (1 << Width) - 1;
  for (int start = 0; start < Count; start += Run)
    for (int shift = 0; shift < 8; shift += Width, codes += Run)
      for (int i = 0; i < Run; ++i)
        codes[i] = uint8_t(codes[i] | ((bytes[start + i] >> shift) & kMask) << To);
}

}  // namespace
}  // namespace fivefold
