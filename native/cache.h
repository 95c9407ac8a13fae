// Memory for the keys and values of one cache group: pages of 32 entries, in one of the formats of entries.h.
//
// [page][layer][head of the page]: K^T (key_width x 32 slots) and the scales of its slots, then V (32 slots x
// value_width) and those of its own. All layers of a page lie together, so that its first use touches new
// memory in one place and not in one for each layer. Which page belongs to whom is not known here.
#pragma once

#include "kernels.h"
#include "memory.h"

namespace fivefold {

class CacheStorage {
 public:
  // Throws std::invalid_argument if a size is out of range.
  CacheStorage(int layers, int pages, int heads_per_page, int page_size, int key_width, int value_width,
               bool value_in_key, EntryId format);

  int layers() const { return layers_; }
  int pages() const { return pages_; }
  int heads_per_page() const { return heads_; }
  int key_width() const { return key_width_; }
  int value_width() const { return value_width_; }
  bool value_in_key() const { return value_in_key_; }
  EntryId format() const { return format_; }
  size_t bytes() const { return memory_.size(); }

  size_t page_stride() const { return head_stride_ * size_t(heads_) * size_t(layers_); }  // bytes
  uint8_t* entries(int layer, int page, int head) const;

  // Copies one entry in all layers and heads of the page, in the order given. Throws std::invalid_argument
  // before anything is copied if a page or slot is out of range.
  void copy_entries(const int32_t* page_from, const int32_t* slot_from, const int32_t* page_to,
                    const int32_t* slot_to, size_t count);
  // The same in one layer and one head of the page.
  void copy_head_entries(int layer, int head, const int32_t* page_from, const int32_t* slot_from,
                         const int32_t* page_to, const int32_t* slot_to, size_t count);
  void read_entry(int layer, int page, int head, int slot, float* key, float* value) const;
  // `value` may be null when values lie in the key.
  void write_entry(int layer, int page, int head, int slot, const float* key, const float* value);

 private:
  void check(int layer, int page, int head, int slot) const;
  template <class Number>
  void copy_entry(const uint8_t* from, int slot_from, uint8_t* to, int slot_to) const;
  void copy_one(int layer, int head, int page_from, int slot_from, int page_to, int slot_to) const;

  int layers_, pages_, heads_, key_width_, value_width_;
  bool value_in_key_;
  EntryId format_;
  size_t head_stride_;  // bytes
  Memory memory_;
};

}  // namespace fivefold
