// How a cache stores the numbers of keys and values: the formats by name, and where the parts of a page lie.
//
// int8 and fp8 (E4M3) codes share one f32 scale for each entry and head, of the key and of the value apart. A
// page has its numbers in the order the attention kernel reads them, then one scale for each slot.
#pragma once

#include <cstddef>
#include <string>

namespace fivefold {

constexpr int kPageSize = 32;

#define FIVEFOLD_ENTRIES(X) X(F16) X(Bf16) X(Int8) X(Fp8)

#define FIVEFOLD_ENTRY(Name) k##Name,
enum class EntryId : int { FIVEFOLD_ENTRIES(FIVEFOLD_ENTRY) kCount };
#undef FIVEFOLD_ENTRY
constexpr int kEntryFormats = int(EntryId::kCount);

struct EntryInfo {
  const char* name;
  size_t number_bytes;
  size_t scale_bytes;  // 0: numbers have no scale
};

// In the order of EntryId.
constexpr EntryInfo kEntryInfos[kEntryFormats] = {
    {"f16", 2, 0},
    {"bf16", 2, 0},
    {"int8", 1, sizeof(float)},
    {"fp8", 1, sizeof(float)},
};
constexpr const EntryInfo& entry_info(EntryId id) { return kEntryInfos[int(id)]; }

// Bytes of the numbers of a page's keys, or of its values, and of them with their scales.
constexpr size_t numbers_bytes(EntryId id, int width) {
  return size_t(kPageSize) * size_t(width) * entry_info(id).number_bytes;
}
constexpr size_t part_bytes(EntryId id, int width) {
  return numbers_bytes(id, width) + size_t(kPageSize) * entry_info(id).scale_bytes;
}

// Throws std::invalid_argument, with the names there are, for another one.
EntryId entry_format(const std::string& name);

}  // namespace fivefold
