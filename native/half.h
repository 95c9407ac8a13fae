// Conversions between float and the 16-bit floats, and from 8-bit ones, one number at a time, with the same
// bits as the hardware gives.
#pragma once

#include <cstdint>
#include <cstring>

namespace fivefold {
namespace {

inline uint32_t float_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float bits_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline bool is_finite(float value) { return (float_bits(value) & 0x7f800000u) != 0x7f800000u; }

inline uint16_t read_u16(const uint8_t* bytes) {
  uint16_t value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

// Exact for every half; a signalling NaN becomes quiet.
inline float half_to_float(uint16_t half) {
  const uint32_t sign = uint32_t(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1fu;
  const uint32_t mantissa = half & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = float(mantissa) * 0x1p-24f;
    return bits_float(float_bits(magnitude) | sign);
  }
  if (exponent == 31) return bits_float(sign | 0x7f800000u | (mantissa << 13) | (mantissa ? 0x400000u : 0u));
  return bits_float(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

// Round to nearest even, overflow to infinity, NaN kept quiet.
inline uint16_t float_to_half(float value) {
  const uint32_t bits = float_bits(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return uint16_t(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  if (magnitude >= 0x477ff000u) return uint16_t(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {  // subnormal half: adding 0.5 rounds at 2^-24
    const float shifted = bits_float(magnitude) + 0.5f;
    return uint16_t(sign | (float_bits(shifted) - 0x3f000000u));
  }
  const uint32_t odd = (magnitude >> 13) & 1u;
  return uint16_t(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
}

inline float bfloat_to_float(uint16_t bits) { return bits_float(uint32_t(bits) << 16); }

// Round to nearest even, NaN kept quiet.
inline uint16_t float_to_bfloat(float value) {
  const uint32_t bits = float_bits(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return uint16_t((bits | 0x400000u) >> 16);
  return uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Exact; NaN for the two codes that are.
inline float e4m3_to_float(uint8_t code) {
  const uint32_t sign = uint32_t(code & 0x80u) << 24;
  const uint32_t rest = code & 0x7fu;
  if (rest == 0x7fu) return bits_float(sign | 0x7fc00000u);
  return bits_float(float_bits(bits_float(rest << 20) * 0x1p120f) | sign);
}

// The half that is a finite E4M3 number over 256.
inline uint16_t e4m3_half(uint8_t code) { return uint16_t((code & 0x80u) << 8 | (code & 0x7fu) << 7); }

}  // namespace
}  // namespace fivefold
