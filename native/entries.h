// How a cache stores the numbers of keys and values: the formats by name, and where the parts of a page lie.
//
// int8 and fp8 (E4M3) codes share one f32 scale for each entry and head, of the key and of the value apart. A
// page has its numbers in the order the attention kernel reads them, then one scale for each slot: keys
// [dimension][slot], values [slot][dimension]. int8 is multiplied as integers, the keys in pairs and the
// values in fours, so there two dimensions of a key lie beside each other, and four slots of a value:
// [dimension / 2][slot][2] and [slot / 4][dimension][4]. Values that lie in the key cannot have both orders:
// their int8 is multiplied as floats, in the plain one. Such a key has two scales a slot, one for the numbers
// that are the value and one for those behind them, which may be of another size.
#pragma once

#include <cstddef>
#include <string>

namespace fivefold {

constexpr int kPageSize = 32;

#define FIVEFOLD_ENTRIES(X) X(F16) X(Bf16) X(Int8) X(Fp8) X(PlainInt8)

#define FIVEFOLD_ENTRY(Name) k##Name,
enum class EntryId : int { FIVEFOLD_ENTRIES(FIVEFOLD_ENTRY) kCount };
#undef FIVEFOLD_ENTRY
constexpr int kEntryFormats = int(EntryId::kCount);

struct EntryInfo {
  const char* name;
  size_t number_bytes;
  size_t scale_bytes;  // 0: numbers have no scale
  bool whole;          // multiplied as integers
};

// In the order of EntryId.
constexpr EntryInfo kEntryInfos[kEntryFormats] = {
    {"f16", 2, 0, false},
    {"bf16", 2, 0, false},
    {"int8", 1, sizeof(float), true},
    {"fp8", 1, sizeof(float), false},
    {"", 1, sizeof(float), false},  // int8 with the values in the key
};
constexpr const EntryInfo& entry_info(EntryId id) { return kEntryInfos[int(id)]; }

// Bytes of the numbers of a page's keys, or of its values, and of them with their scales.
constexpr size_t numbers_bytes(EntryId id, int width) {
  const size_t stored = size_t(width) + (entry_info(id).whole ? size_t(width) % 2 : 0);
  return size_t(kPageSize) * stored * entry_info(id).number_bytes;
}
constexpr size_t part_bytes(EntryId id, int width) {
  return numbers_bytes(id, width) + size_t(kPageSize) * entry_info(id).scale_bytes;
}

// Bytes of a head's part of a page: its keys and values, or its keys alone where values lie in them.
constexpr size_t head_bytes(EntryId id, int key_width, int value_width, bool value_in_key) {
  const size_t scales = size_t(kPageSize) * entry_info(id).scale_bytes;
  return part_bytes(id, key_width) + (value_in_key ? scales : part_bytes(id, value_width));
}

// Where a page has dimension d of the key in a slot, and of the value, in numbers.
constexpr size_t key_place(EntryId id, int slot, int d) {
  if (entry_info(id).whole) return (size_t(d / 2) * kPageSize + size_t(slot)) * 2 + size_t(d % 2);
  return size_t(d) * kPageSize + size_t(slot);
}
constexpr size_t value_place(EntryId id, int width, int slot, int d) {
  if (entry_info(id).whole) return (size_t(slot / 4) * size_t(width) + size_t(d)) * 4 + size_t(slot % 4);
  return size_t(slot) * size_t(width) + size_t(d);
}

// The format for a cache whose values lie in the key, or not. Throws std::invalid_argument, with the names
// there are, for another one.
EntryId entry_format(const std::string& name, bool value_in_key);

}  // namespace fivefold
