// Which slots of a page a row sees.
#pragma once

#include <algorithm>

#include "state.h"

namespace fivefold {

// Bits [from, from + 32) of a mask of `words` words; bits outside are clear.
inline uint32_t mask_bits(const uint64_t* mask, int words, int64_t from) {
  const auto word = [&](int64_t i) { return i < 0 || i >= words ? uint64_t(0) : mask[i]; };
  const int64_t index = from >= 0 ? from / 64 : -((63 - from) / 64);
  const int shift = int(from - index * 64);
  const uint64_t low = word(index) >> shift;
  const uint64_t high = shift == 0 ? 0 : word(index + 1) << (64 - shift);
  return uint32_t(low | high);
}

// The slots of a page that a row sees, one bit each.
inline uint32_t visible_bits(const GroupArguments& view, int tables, int row, int table, int page) {
  const size_t at = size_t(row) * size_t(tables) + size_t(table);
  const int64_t base = int64_t(page) * kPageSize;
  const int64_t first = std::max<int64_t>(view.start[at] - base, 0);
  const int64_t last = std::min<int64_t>(view.stop[at] - base, kPageSize);
  if (first >= last) return 0;
  uint32_t bits = uint32_t((uint64_t(1) << last) - (uint64_t(1) << first));
  if (view.mask == nullptr) return bits;
  const int64_t masked = view.mask_from[at] - base;  // slots from here on are seen by the mask
  if (masked >= kPageSize) return bits;
  const uint32_t free = masked <= 0 ? 0 : uint32_t((uint64_t(1) << masked) - 1);
  const uint64_t* words = view.mask + size_t(row) * size_t(view.mask_words);
  return bits & (free | mask_bits(words, view.mask_words, -masked));
}

}  // namespace fivefold
