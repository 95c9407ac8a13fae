// Memory for the keys and values of one cache group: pages of 32 entries, in float16.
//
// [page][layer][head of the page]: K^T (key_width x 32 slots), then V (32 slots x value_width). All layers of
// a page lie together, so that its first use touches new memory in one place and not in one for each layer.
// Which page belongs to whom is not known here.
#pragma once

#include "kernels.h"
#include "memory.h"

namespace fivefold {

class CacheStorage {
 public:
  // Throws std::invalid_argument if a size is out of range.
  CacheStorage(int layers, int pages, int heads_per_page, int page_size, int key_width, int value_width,
               bool value_in_key);

  int layers() const { return layers_; }
  int pages() const { return pages_; }
  int heads_per_page() const { return heads_; }
  int key_width() const { return key_width_; }
  int value_width() const { return value_width_; }
  bool value_in_key() const { return value_in_key_; }
  size_t bytes() const { return memory_.size(); }

  size_t head_stride() const { return head_stride_; }                                     // numbers
  size_t page_stride() const { return head_stride_ * size_t(heads_) * size_t(layers_); }  // numbers
  uint16_t* entries(int layer, int page, int head) const;

  // Copies one entry in all layers and heads of the page, in the order given. Throws std::invalid_argument
  // before anything is copied if a page or slot is out of range.
  void copy_entries(const int32_t* page_from, const int32_t* slot_from, const int32_t* page_to,
                    const int32_t* slot_to, size_t count);
  void read_entry(int layer, int page, int head, int slot, float* key, float* value) const;
  // `value` may be null when values lie in the key.
  void write_entry(int layer, int page, int head, int slot, const float* key, const float* value);

 private:
  void check(int layer, int page, int head, int slot) const;

  int layers_, pages_, heads_, key_width_, value_width_;
  bool value_in_key_;
  size_t head_stride_;
  Memory memory_;
};

}  // namespace fivefold
