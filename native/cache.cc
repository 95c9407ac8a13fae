#include "cache.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace fivefold {
namespace {

constexpr double kMostNumbers = 0x1p46;

}  // namespace

EntryId entry_format(const std::string& name, bool value_in_key) {
  std::string known;
  for (int id = 0; id < kEntryFormats; ++id) {
    const std::string one = kEntryInfos[id].name;
    if (one.empty()) continue;
    if (name == one) return EntryId(id) == EntryId::kInt8 && value_in_key ? EntryId::kPlainInt8 : EntryId(id);
    known += (known.empty() ? "" : ", ") + one;
  }
  throw std::invalid_argument("there is no cache format named '" + name + "'; there are " + known);
}

CacheStorage::CacheStorage(int layers, int pages, int heads_per_page, int page_size, int key_width,
                           int value_width, bool value_in_key, EntryId format)
    : layers_(layers),
      pages_(pages),
      heads_(heads_per_page),
      key_width_(key_width),
      value_width_(value_width),
      value_in_key_(value_in_key),
      format_(format) {
  if (page_size != kPageSize)
    throw std::invalid_argument("cache pages have " + std::to_string(kPageSize) + " entries, not " +
                                std::to_string(page_size));
  if (layers < 1 || pages < 1 || heads_per_page < 1 || key_width < 1 || value_width < 1 ||
      key_width > 65536 || value_width > 65536)
    throw std::invalid_argument("a cache needs at least one layer, page, head and column");
  if (value_in_key && value_width > key_width)
    throw std::invalid_argument("values that lie in the key cannot be wider than it");
  const double numbers =
      double(layers) * pages * heads_per_page * (double(key_width) + value_width) * kPageSize;
  if (numbers > kMostNumbers)
    throw std::invalid_argument("a cache of this size does not fit into any memory");
  head_stride_ = head_bytes(format, key_width, value_width, value_in_key);
  memory_ = Memory(size_t(pages) * page_stride());
}

uint8_t* CacheStorage::entries(int layer, int page, int head) const {
  return memory_.data() + size_t(page) * page_stride() +
         (size_t(layer) * size_t(heads_) + size_t(head)) * head_stride_;
}

void CacheStorage::check(int layer, int page, int head, int slot) const {
  if (layer < 0 || layer >= layers_ || page < 0 || page >= pages_ || head < 0 || head >= heads_ || slot < 0 ||
      slot >= kPageSize)
    throw std::invalid_argument("no cache entry at layer " + std::to_string(layer) + ", page " +
                                std::to_string(page) + ", head " + std::to_string(head) + ", slot " +
                                std::to_string(slot));
}

template <class Number>
void CacheStorage::copy_entry(const uint8_t* from, int slot_from, uint8_t* to, int slot_to) const {
  const auto copy = [&](size_t at, int width, const auto& place) {
    const Number* source = reinterpret_cast<const Number*>(from + at);
    Number* target = reinterpret_cast<Number*>(to + at);
    for (int d = 0; d < width; ++d) target[place(slot_to, d)] = source[place(slot_from, d)];
    const size_t bytes = entry_info(format_).scale_bytes, every = kPageSize * bytes;
    size_t scales = at + numbers_bytes(format_, width);
    for (int part = 0; part < (value_in_key_ ? 2 : 1); ++part, scales += every)
      std::copy_n(from + scales + size_t(slot_from) * bytes, bytes, to + scales + size_t(slot_to) * bytes);
  };
  copy(0, key_width_, [&](int slot, int d) { return key_place(format_, slot, d); });
  if (value_in_key_) return;
  copy(part_bytes(format_, key_width_), value_width_,
       [&](int slot, int d) { return value_place(format_, value_width_, slot, d); });
}

void CacheStorage::copy_entries(const int32_t* page_from, const int32_t* slot_from, const int32_t* page_to,
                                const int32_t* slot_to, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    check(0, page_from[i], 0, slot_from[i]);
    check(0, page_to[i], 0, slot_to[i]);
  }
  for (size_t i = 0; i < count; ++i)
    for (int layer = 0; layer < layers_; ++layer)
      for (int head = 0; head < heads_; ++head)
        copy_one(layer, head, page_from[i], slot_from[i], page_to[i], slot_to[i]);
}

void CacheStorage::copy_head_entries(int layer, int head, const int32_t* page_from, const int32_t* slot_from,
                                     const int32_t* page_to, const int32_t* slot_to, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    check(layer, page_from[i], head, slot_from[i]);
    check(layer, page_to[i], head, slot_to[i]);
  }
  for (size_t i = 0; i < count; ++i)
    copy_one(layer, head, page_from[i], slot_from[i], page_to[i], slot_to[i]);
}

void CacheStorage::copy_one(int layer, int head, int page_from, int slot_from, int page_to,
                            int slot_to) const {
  const uint8_t* from = entries(layer, page_from, head);
  uint8_t* to = entries(layer, page_to, head);
  if (entry_info(format_).number_bytes == 2)
    copy_entry<uint16_t>(from, slot_from, to, slot_to);
  else
    copy_entry<uint8_t>(from, slot_from, to, slot_to);
}

void CacheStorage::read_entry(int layer, int page, int head, int slot, float* key, float* value) const {
  check(layer, page, head, slot);
  kPortableKernels.read_entry[int(format_)](entries(layer, page, head), key_width_, value_width_, slot, key,
                                            value_in_key_ ? nullptr : value);
  if (value_in_key_) std::copy_n(key, value_width_, value);
}

void CacheStorage::write_entry(int layer, int page, int head, int slot, const float* key,
                               const float* value) {
  check(layer, page, head, slot);
  kPortableKernels.store_entry[int(format_)](key, value_in_key_ ? nullptr : value, key_width_, value_width_,
                                             slot, entries(layer, page, head));
}

}  // namespace fivefold
