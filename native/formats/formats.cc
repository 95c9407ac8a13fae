// The table of number formats that the native core can pack and read, by name.

#include "formats/formats.h"

#define FIVEFOLD_FORMAT_BODIES 1
#include "formats/list.h"

namespace fivefold {
namespace {

// A tile is one stream: for each block the scales of all rows, then the codes in groups of a few bytes a row.
template <class Format>
void pack_tile(const uint8_t* stored, size_t row_bytes, int rows, int width, int blocks, uint8_t* tile) {
  constexpr int kPackedBytes = 2 * Format::kScales + Format::kCodeBytes;
  std::memset(tile, 0, size_t(kPackedBytes) * width * blocks);
  for (int row = 0; row < rows; ++row) {
    const uint8_t* block = stored + row * row_bytes;
    uint8_t* out = tile;
    for (int b = 0; b < blocks; ++b, block += Format::kStoredBytes) {
      uint16_t scales[2] = {0, 0};
      uint8_t codes[Format::kCodeBytes];
      Format::split(block, scales, codes);
      for (int s = 0; s < Format::kScales; ++s, out += 2 * width) std::memcpy(out + 2 * row, &scales[s], 2);
      for (int g = 0; g < Format::kCodeBytes; g += Format::kGroup, out += Format::kGroup * width)
        std::memcpy(out + Format::kGroup * row, codes + g, Format::kGroup);
    }
  }
}

template <class Format>
void decode_row(const uint8_t* stored, int blocks, float* out) {
  for (int b = 0; b < blocks; ++b)
    Format::decode(stored + size_t(b) * Format::kStoredBytes, out + b * Format::kBlock);
}

template <class Format>
constexpr FormatInfo row(FormatId id) {
  return {Format::kName,
          id,
          Format::kBlock,
          Format::kStoredBytes,
          2 * Format::kScales + Format::kCodeBytes,
          Format::kScales > 0,
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
