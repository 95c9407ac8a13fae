// The attention kernels over random pages: entries stored, segments attended, merged and finished.
#include <algorithm>
#include <string>

#include "record.h"

namespace fivefold {
namespace {

struct Shape {
  int key_width, value_width;
  bool value_in_key;
  int rows, group, pages;
  float soft_cap;
};

constexpr Shape kShapes[] = {
    {64, 64, false, 1, 1, 1, 0.0f},  {64, 64, false, 1, 3, 4, 0.0f}, {64, 64, false, 5, 4, 3, 0.0f},
    {40, 20, false, 2, 2, 2, 30.0f}, {13, 7, false, 3, 1, 2, 0.0f},  {128, 128, false, 2, 8, 2, 0.0f},
    {96, 64, true, 1, 2, 2, 0.0f},   {24, 17, true, 4, 4, 3, 50.0f}, {8, 8, false, 16, 1, 16, 0.0f},
    {72, 56, true, 2, 24, 5, 0.0f},
};

size_t page_bytes(const Shape& shape, EntryId id) {
  return head_bytes(id, shape.key_width, shape.value_width, shape.value_in_key);
}

// int8 whose values lie in the key has an order of its own.
bool usable(const Shape& shape, EntryId id) {
  return id != (shape.value_in_key ? EntryId::kInt8 : EntryId::kPlainInt8);
}

std::vector<uint8_t> store_pages(const Kernels& kernels, const Shape& shape, EntryId id, Random& random) {
  std::vector<uint8_t> entries(page_bytes(shape, id) * size_t(shape.pages) + 4096);
  for (int page = 0; page < shape.pages; ++page)
    for (int slot = 0; slot < kPageSize; ++slot) {
      const std::vector<float> key = random.floats(size_t(shape.key_width), 1.5f);
      const std::vector<float> value = random.floats(size_t(shape.value_width));
      kernels.store_entry[int(id)](key.data(), shape.value_in_key ? nullptr : value.data(), shape.key_width,
                                   shape.value_width, slot,
                                   entries.data() + page_bytes(shape, id) * size_t(page));
    }
  return entries;
}

uint32_t draw_visible(Random& random) {
  switch (random.below(5)) {
    case 0:
      return 0;
    case 1:
      return random.next();
    case 2:
      return 0xffffffffu >> random.below(32);
    default:
      return 0xffffffffu;
  }
}

struct Attended {
  std::vector<float> maximum, total, output;
};

Attended attend(const Kernels& kernels, const Shape& shape, EntryId id, Random& random,
                const uint8_t* entries) {
  const size_t queries = size_t(shape.rows) * size_t(shape.group);
  const std::vector<float> query = random.floats(queries * size_t(shape.key_width), 0.7f);
  std::vector<int32_t> pages;
  for (int page = shape.pages; page > 0; --page) pages.push_back(page - 1);
  std::vector<uint32_t> visible;
  for (int i = 0; i < shape.pages * shape.rows; ++i) visible.push_back(draw_visible(random));
  Attended result{std::vector<float>(queries), std::vector<float>(queries),
                  std::vector<float>(queries * size_t(shape.value_width))};
  std::vector<float> scratch(attention_scratch(int(queries), shape.key_width, shape.value_width));
  AttentionSegment segment{};
  segment.entries = entries;
  segment.page_stride = page_bytes(shape, id);
  segment.pages = pages.data();
  segment.page_count = shape.pages;
  segment.key_width = shape.key_width;
  segment.value_width = shape.value_width;
  segment.value_in_key = shape.value_in_key;
  segment.soft_cap = shape.soft_cap;
  segment.rows = shape.rows;
  segment.group = shape.group;
  segment.visible = visible.data();
  segment.queries = query.data();
  segment.maximum = result.maximum.data();
  segment.total = result.total.data();
  segment.output = result.output.data();
  segment.scratch = scratch.data();
  kernels.attention[int(id)](segment);
  return result;
}

void run_shape(const Kernels& kernels, const Shape& shape, EntryId id, const std::string& what, Random random,
               Record& record) {
  const std::vector<uint8_t> entries = store_pages(kernels, shape, id, random);
  record.add_integers(what + ", stored", entries.data(), entries.size());
  Attended first = attend(kernels, shape, id, random, entries.data());
  Attended second = attend(kernels, shape, id, random, entries.data());
  for (const Attended* part : {&first, &second}) {
    record.add(what + ", maximum", part->maximum);
    record.add(what + ", total", part->total);
    record.add(what + ", output", part->output);
  }
  const size_t width = size_t(shape.value_width);
  std::vector<float> y(width);
  for (size_t q = 0; q < first.maximum.size(); ++q) {
    kernels.attention_merge(&first.maximum[q], &first.total[q], &first.output[q * width], second.maximum[q],
                            second.total[q], &second.output[q * width], shape.value_width);
    const float sink = random.between(-2.0f, 2.0f);
    for (const float* given : {static_cast<const float*>(nullptr), &sink}) {
      kernels.attention_finish(first.maximum[q], first.total[q], &first.output[q * width], given,
                               shape.value_width, y.data());
      record.add(what + ", finished", y);
    }
  }
  record.add(what + ", merged totals", first.total);
}

// Floats of all kinds stored and read back.
void run_entries(const Kernels& kernels, EntryId id, Random random, Record& record) {
  constexpr int kWide = 64;
  const std::string what = "entries of " + std::to_string(int(id));
  for (int i = 0; i < 200; ++i) {
    std::vector<uint8_t> page(2 * part_bytes(id, kWide));
    std::vector<float> numbers = random.any_floats(kWide);
    if (i >= 50) numbers = random.floats(kWide, i % 3 == 0 ? 1e-4f : i % 3 == 1 ? 1.0f : 1e5f);
    const int slot = i % kPageSize;
    kernels.store_entry[int(id)](numbers.data(), numbers.data(), kWide, kWide, slot, page.data());
    record.add_integers(what, page.data(), page.size());
    std::vector<float> key(kWide), value(kWide);
    kernels.read_entry[int(id)](page.data(), kWide, kWide, slot, key.data(), value.data());
    record.add(what + ", keys", key);
    record.add(what + ", values", value);
  }
}

}  // namespace

void run_attention_kernels(const Kernels& kernels, Record& record) {
  uint64_t seed = 200;
  for (int i = 0; i < kEntryFormats; ++i) {
    const EntryId id = EntryId(i);
    run_entries(kernels, id, Random(++seed), record);
    for (const Shape& shape : kShapes) {
      if (!usable(shape, id)) continue;
      const std::string what = "attention over entries of " + std::to_string(i) + ", widths " +
                               std::to_string(shape.key_width) + " and " + std::to_string(shape.value_width) +
                               ", queries " + std::to_string(shape.rows * shape.group);
      for (int repeat = 0; repeat < 4; ++repeat) run_shape(kernels, shape, id, what, Random(++seed), record);
    }
  }
}

}  // namespace fivefold
