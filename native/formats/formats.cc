// The table of number formats that the native core can pack and read, by name.

#include "formats/formats.h"

#include <type_traits>

#define FIVEFOLD_FORMAT_BODIES 1
#include "formats/list.h"

namespace fivefold {
namespace {

template <class Format>
constexpr bool kDense = Format::kBlock == 1;

// A block as it was read: the f16 numbers, the parts' small integers, a code for each number.
template <class Format>
struct ReadBlock {
  static constexpr int kParts = Format::kBlock / 32;
  uint16_t scales[2] = {0, 0};
  uint8_t small[Format::Parts::kRead + 1];
  uint8_t codes[Format::kBlock];
  explicit ReadBlock(const uint8_t* block) { Format::read(block, scales, small, codes); }
};

// Whether its numbers are all finite, too.
template <class Format>
bool pack_block(const uint8_t* stored, int row, int width, uint8_t* out) {
  if constexpr (kDense<Format>) {
    std::memcpy(out + Format::kStoredBytes * row, stored, Format::kStoredBytes);
    return is_finite(Format::value(stored));
  } else {
    const ReadBlock<Format> block(stored);
    for (int s = 0; s < Format::kScales; ++s, out += 2 * width)
      std::memcpy(out + 2 * row, &block.scales[s], 2);
    uint8_t small[Format::Parts::kBytes + 1];
    Format::Parts::put(block.small, small);
    const uint8_t* from = small;
    for (int g = 0; Format::Parts::group(g) != 0; ++g) {
      const int size = Format::Parts::group(g);
      std::memcpy(out + size * row, from, size_t(size));
      out += size * width;
      from += size;
    }
    for (int p = 0; p < block.kParts; ++p) {
      uint8_t bytes[Format::Codes::kBytes];
      Format::Codes::put(block.codes + 32 * p, bytes);
      for (int g = 0; g < Format::Codes::kBytes; g += 4, out += 4 * width)
        std::memcpy(out + 4 * row, bytes + g, 4);
    }
    bool finite = is_finite(half_to_float(block.scales[0])) && is_finite(half_to_float(block.scales[1]));
    if constexpr (Format::kScales == 0)
      for (int half = 0; half < Format::Parts::kScales * block.kParts; ++half)
        finite &= is_finite(Format::Parts::number(block.small, half));
    return finite;
  }
}

template <class Format>
bool pack_tile(const uint8_t* stored, size_t row_bytes, int rows, int width, int blocks, uint8_t* tile) {
  constexpr size_t kBytes = PackedBlock<Format>::kBytes;
  std::memset(tile, 0, kBytes * width * blocks);
  bool finite = true;
  for (int row = 0; row < rows; ++row)
    for (int b = 0; b < blocks; ++b)
      finite &= pack_block<Format>(stored + row * row_bytes + size_t(b) * Format::kStoredBytes, row, width,
                                   tile + kBytes * width * b);
  return finite;
}

// The numbers of a block. Products with d are exact, so a sum is rounded once, as in the definition.
template <class Format>
void decode_block(const uint8_t* stored, float* out) {
  using Parts = typename Format::Parts;
  const ReadBlock<Format> block(stored);
  const float d = half_to_float(block.scales[0]), second = half_to_float(block.scales[1]);
  for (int k = 0; k < Format::kBlock; ++k) {
    const float code = float(Format::Codes::value(block.codes[k]) - Format::kOffset);
    if constexpr (Format::kScales == 0) {
      out[k] = Parts::number(block.small, k / (32 / Parts::kScales)) * Parts::kFactor * code;
    } else if constexpr (Parts::kBytes == 0) {
      out[k] = Format::kScales == 2 ? __builtin_fmaf(d, code, second) : d * code;
    } else {
      const uint8_t* small = block.small + k / 32 * (Parts::kRead / block.kParts);
      const int half = Parts::kScales == 2 ? k / 16 % 2 : 0;
      const float step = d * float(Parts::scale(small, half));
      out[k] = Parts::kMinima ? __builtin_fmaf(step, code, -(second * float(Parts::minimum(small, half))))
                              : step * code;
    }
  }
}

template <class Format>
void decode_row(const uint8_t* stored, int blocks, float* out) {
  for (int b = 0; b < blocks; ++b, stored += Format::kStoredBytes, out += Format::kBlock) {
    if constexpr (kDense<Format>)
      *out = Format::value(stored);
    else
      decode_block<Format>(stored, out);
  }
}

template <class Format, class = void>
constexpr float kFactor = 1.0f;
template <class Format>
constexpr float kFactor<Format, std::void_t<decltype(Format::kFactor)>> = Format::kFactor;
template <class Format>
constexpr float kFactor<Format, std::void_t<decltype(Format::Parts::kFactor)>> = Format::Parts::kFactor;

template <class Format>
constexpr FormatInfo row(FormatId id) {
  return {Format::kName,
          id,
          Format::kBlock,
          Format::kStoredBytes,
          PackedBlock<Format>::kBytes,
          !kDense<Format>,
          kFactor<Format>,
          pack_tile<Format>,
          decode_row<Format>};
}

#define FIVEFOLD_FORMAT(Format) row<Format>(FormatId::k##Format),
constexpr FormatInfo kTable[kFormats] = {FIVEFOLD_FORMATS(FIVEFOLD_FORMAT)};
#undef FIVEFOLD_FORMAT

}  // namespace

const FormatInfo* find_format(const std::string& name) {
  for (const FormatInfo& info : kTable)
    if (name == info.name) return &info;
  return nullptr;
}

std::string format_names() {
  std::string names;
  for (const FormatInfo& info : kTable) names += (names.empty() ? "" : ", ") + std::string(info.name);
  return names;
}

}  // namespace fivefold
