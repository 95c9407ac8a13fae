#include "cache.h"

#include <stdexcept>
#include <string>

#include "half.h"

namespace fivefold {

CacheStorage::CacheStorage(int layers, int pages, int heads_per_page, int page_size, int key_width,
                           int value_width, bool value_in_key)
    : layers_(layers),
      pages_(pages),
      heads_(heads_per_page),
      key_width_(key_width),
      value_width_(value_width),
      value_in_key_(value_in_key) {
  if (page_size != kPageSize)
    throw std::invalid_argument("cache pages have " + std::to_string(kPageSize) + " entries, not " +
                                std::to_string(page_size));
  if (layers < 1 || pages < 1 || heads_per_page < 1 || key_width < 1 || value_width < 1 ||
      key_width > 65536 || value_width > 65536)
    throw std::invalid_argument("a cache needs at least one layer, page, head and column");
  if (value_in_key && value_width > key_width)
    throw std::invalid_argument("values that lie in the key cannot be wider than it");
  head_stride_ = size_t(kPageSize) * size_t(key_width + (value_in_key ? 0 : value_width));
  memory_ = Memory(size_t(pages) * page_stride() * sizeof(uint16_t));
}

uint16_t* CacheStorage::entries(int layer, int page, int head) const {
  return reinterpret_cast<uint16_t*>(memory_.data()) + size_t(page) * page_stride() +
         (size_t(layer) * size_t(heads_) + size_t(head)) * head_stride_;
}

void CacheStorage::check(int layer, int page, int head, int slot) const {
  if (layer < 0 || layer >= layers_ || page < 0 || page >= pages_ || head < 0 || head >= heads_ || slot < 0 ||
      slot >= kPageSize)
    throw std::invalid_argument("no cache entry at layer " + std::to_string(layer) + ", page " +
                                std::to_string(page) + ", head " + std::to_string(head) + ", slot " +
                                std::to_string(slot));
}

void CacheStorage::copy_entries(const int32_t* page_from, const int32_t* slot_from, const int32_t* page_to,
                                const int32_t* slot_to, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    check(0, page_from[i], 0, slot_from[i]);
    check(0, page_to[i], 0, slot_to[i]);
  }
  const int values = value_in_key_ ? 0 : value_width_;
  for (int layer = 0; layer < layers_; ++layer)
    for (size_t i = 0; i < count; ++i)
      for (int head = 0; head < heads_; ++head) {
        const uint16_t* from = entries(layer, page_from[i], head);
        uint16_t* to = entries(layer, page_to[i], head);
        for (int d = 0; d < key_width_; ++d)
          to[d * kPageSize + slot_to[i]] = from[d * kPageSize + slot_from[i]];
        const size_t after = size_t(key_width_) * kPageSize;
        for (int d = 0; d < values; ++d)
          to[after + size_t(slot_to[i]) * values + d] = from[after + size_t(slot_from[i]) * values + d];
      }
}

void CacheStorage::read_entry(int layer, int page, int head, int slot, float* key, float* value) const {
  check(layer, page, head, slot);
  const uint16_t* from = entries(layer, page, head);
  for (int d = 0; d < key_width_; ++d) key[d] = half_to_float(from[d * kPageSize + slot]);
  const uint16_t* values = from + size_t(key_width_) * kPageSize + size_t(slot) * value_width_;
  for (int d = 0; d < value_width_; ++d) value[d] = value_in_key_ ? key[d] : half_to_float(values[d]);
}

void CacheStorage::write_entry(int layer, int page, int head, int slot, const float* key,
                               const float* value) {
  check(layer, page, head, slot);
  kPortableKernels.store_entry(key, value_in_key_ ? nullptr : value, key_width_, value_width_, slot,
                               entries(layer, page, head));
}

}  // namespace fivefold
