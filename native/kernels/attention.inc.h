// Attention over one segment of pages: an online softmax, tile by tile, in float32 over entries as stored.
//
// A page holds K^T (key_width x 32 slots), then V (32 slots x value_width), each with the scales of its slots
// if the format has any. A tile is up to four pages, from a multiple of four on: its scores are all there
// before its softmax, then come its values. Sums are over codes: the scale of a key is applied to its score
// once, that of a value to its softmax weight. With several queries the codes of a page are turned to float
// once, in scratch; with few the kernel reads them as they lie. The numbers are the same, and so they are
// whatever else is in the tile: a slot that a query does not see has no score and the weight zero.
//
// A key that has its value in it is always turned to floats, times its scales, for both uses: its values lie
// across the order of keys, and many heads share it.

// The keys or the values of a page, and what is read after it, which is fetched meanwhile.
template <class Entry>
struct Part {
  const typename Entry::Number* numbers;
  const float* scales;  // of the slots
  const uint8_t* next;
};

// Codes that were turned to floats.
template <bool Scaled>
struct Turned {
  using Number = float;
  static F floats(const Number* p) { return load(p); }
  static float value(Number x) { return x; }
};
template <bool Scaled>
constexpr bool kScaled<Turned<Scaled>> = Scaled;
template <class Entry>
constexpr bool kTurned = sizeof(typename Entry::Number) == sizeof(float);

constexpr size_t kLine = 64;  // bytes that are fetched at once

// Up to so many queries read a page's codes as they lie; for more they are turned to floats first.
constexpr int kDirectQueries = 12;

// score(q, page)[slot] = q . K[slot], one chain along the key for each slot.
template <int Q, class Entry>
FIVEFOLD_APART void page_scores(const QueryGroup<Q>& group, int page, const Part<Entry>& keys) {
  constexpr int kVectors = 2;
  constexpr size_t kStep = kPageSize * sizeof(typename Entry::Number);  // bytes of a column of all slots
  const float* queries[Q];
  for (int q = 0; q < Q; ++q) queries[q] = group.query(q);
  for (int first = 0; first < kPageSize; first += kVectors * kWidth) {
    F sums[Q][kVectors];
    for (int q = 0; q < Q; ++q)
      for (int v = 0; v < kVectors; ++v) sums[q][v] = set1(0.0f);
    const auto* key = keys.numbers + first;
    for (int d = 0; d < group.s.key_width; ++d, key += kPageSize) {
      if (!kTurned<Entry> && first == 0 && d * kStep % kLine == 0)
        __builtin_prefetch(keys.next + size_t(d) * kStep);
      F k[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) k[v] = Entry::floats(key + v * kWidth);
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q) {
        const F x = set1(queries[q][d]);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sums[q][v] = fma(x, k[v], sums[q][v]);
      }
    }
    for (int q = 0; q < Q; ++q)
      for (int v = 0; v < kVectors; ++v) {
        if constexpr (kScaled<Entry>) sums[q][v] = sums[q][v] * load(keys.scales + first + v * kWidth);
        store(group.score(q, page) + first + v * kWidth, sums[q][v]);
      }
  }
}

// output(q)[at ...] += sum over the seen slots of weight * V, slots in order; V vectors of columns.
template <int Q, int V, class Entry>
FIVEFOLD_APART void page_values(const QueryGroup<Q>& group, int page, uint32_t seen,
                                const Part<Entry>& values, int at) {
  const int first = __builtin_ctz(seen), last = 31 - __builtin_clz(seen);
  const size_t width = size_t(group.s.value_width);
  const float* weights[Q];
  F sums[Q][V];
  for (int q = 0; q < Q; ++q) {
    weights[q] = group.score(q, page);
    for (int v = 0; v < V; ++v) sums[q][v] = load(group.output(q) + at + v * kWidth);
  }
  const auto* value = values.numbers + size_t(first) * width + at;
  for (int slot = first; slot <= last; ++slot, value += width) {
    if ((seen >> slot & 1) == 0) continue;
    if (!kTurned<Entry>)
      for (size_t byte = 0; byte < V * kWidth * sizeof(*value); byte += kLine)
        __builtin_prefetch(values.next + (size_t(slot) * width + at) * sizeof(*value) + byte);
    F x[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) x[v] = Entry::floats(value + v * kWidth);
#pragma GCC unroll 4
    for (int q = 0; q < Q; ++q) {
      const F p = set1(weights[q][slot]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sums[q][v] = fma(p, x[v], sums[q][v]);
    }
  }
  for (int q = 0; q < Q; ++q)
    for (int v = 0; v < V; ++v) store(group.output(q) + at + v * kWidth, sums[q][v]);
}

template <int Q, class Entry>
inline void add_values(const QueryGroup<Q>& group, int page, uint32_t seen, const Part<Entry>& values) {
  constexpr int kVectors = kWidth == 16 ? 4 : (Q == 1 ? 8 : Q == 2 ? 4 : 2);
  const int width = group.s.value_width;
  int at = 0;
  for (; at + kVectors * kWidth <= width; at += kVectors * kWidth)
    page_values<Q, kVectors>(group, page, seen, values, at);
  for (; at + kWidth <= width; at += kWidth) page_values<Q, 1>(group, page, seen, values, at);
  const int first = __builtin_ctz(seen), last = 31 - __builtin_clz(seen);
  for (; at < width; ++at)
    for (int q = 0; q < Q; ++q) {
      float sum = group.output(q)[at];
      for (int slot = first; slot <= last; ++slot)
        if ((seen >> slot & 1) != 0)
          sum = __builtin_fmaf(group.score(q, page)[slot],
                               Entry::value(values.numbers[size_t(slot) * size_t(width) + at]), sum);
      group.output(q)[at] = sum;
    }
}

// A part of a page as floats at `y`; what is read next is fetched meanwhile.
template <class Entry>
inline Part<Turned<kScaled<Entry>>> turn(const Part<Entry>& part, int width, float* y) {
  const size_t count = size_t(width) * kPageSize;
  constexpr size_t kNumber = sizeof(typename Entry::Number);
  for (size_t i = 0; i < count; i += kWidth) {  // 32 slots are whole vectors
    if (i * kNumber % kLine == 0) __builtin_prefetch(part.next + i * kNumber);
    store(y + i, Entry::floats(part.numbers + i));
  }
  return {y, part.scales, nullptr};
}

// kWidth rows of as many numbers each, with rows and columns exchanged: each round deals the rows' halves
// like cards, and after as many rounds as kWidth has bits every number has changed its row with its place.
inline void exchange(const float* x, size_t x_stride, float* y, size_t y_stride) {
  F rows[kWidth], dealt[kWidth];
#pragma GCC unroll 16
  for (int i = 0; i < kWidth; ++i) rows[i] = load(x + size_t(i) * x_stride);
#pragma GCC unroll 4
  for (int round = 1; round < kWidth; round *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < kWidth / 2; ++i)
      interleave(rows[i], rows[i + kWidth / 2], dealt[2 * i], dealt[2 * i + 1]);
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) rows[i] = dealt[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < kWidth; ++i) store(y + size_t(i) * y_stride, rows[i]);
}

// Keys [dimension][slot] as values [slot][dimension], of which the first `width` dimensions are wanted.
FIVEFOLD_APART void values_of_keys(const float* keys, int width, float* values) {
  int d = 0;
  for (; d + kWidth <= width; d += kWidth)
    for (int slot = 0; slot < kPageSize; slot += kWidth)
      exchange(keys + size_t(d) * kPageSize + slot, kPageSize, values + size_t(slot) * width + d,
               size_t(width));
  for (; d < width; ++d)
    for (int slot = 0; slot < kPageSize; ++slot)
      values[size_t(slot) * width + d] = keys[size_t(d) * kPageSize + slot];
}

// Dimensions [first, last) of keys that have their values in them as floats at `y`, times the scales of their
// slots; what is read next is fetched meanwhile.
template <class Entry>
inline void turn_latents(const Part<Entry>& part, int first, int last, const float* scales, float* y) {
  constexpr size_t kNumber = sizeof(typename Entry::Number);
  for (size_t i = size_t(first) * kPageSize; i < size_t(last) * kPageSize; i += kWidth) {
    if (i * kNumber % kLine == 0) __builtin_prefetch(part.next + i * kNumber);
    F x = Entry::floats(part.numbers + i);
    if constexpr (kScaled<Entry>) x = x * load(scales + i % kPageSize);
    store(y + i, x);
  }
}

// The keys (`at` 0) or values of a page.
template <class Entry>
inline Part<Entry> part_at(const uint8_t* page, const uint8_t* next, size_t at, int width) {
  const uint8_t* part = page + at;
  return {reinterpret_cast<const typename Entry::Number*>(part),
          reinterpret_cast<const float*>(part + numbers_bytes(Entry::kId, width)), next};
}

// Calls use(page, part) for the keys of each page of a tile, and then for the values, which lie `after_keys`
// bytes behind them. What a part fetches meanwhile is read after the part that follows it.
template <class Entry, class Use>
inline void each_keys(const Tile& tile, int width, size_t after_keys, const Use& use) {
  for (int p = 0; p < tile.pages; ++p) {
    const int ahead = p + 2 - tile.pages;
    const uint8_t* next =
        ahead < 0 ? tile.page[p + 2] : tile.page[ahead < tile.pages ? ahead : 0] + after_keys;
    use(p, part_at<Entry>(tile.page[p], next, 0, width));
  }
}
template <class Entry, class Use>
inline void each_values(const Tile& tile, int width, size_t after_keys, const Use& use) {
  for (int p = 0; p < tile.pages; ++p) {
    const int ahead = p + 2 - tile.pages;
    const uint8_t* next = ahead < 0 ? tile.page[p + 2] + after_keys : tile.following[ahead];
    use(p, part_at<Entry>(tile.page[p], next, after_keys, width));
  }
}

template <class Entry>
void attention(const AttentionSegment& s) {
  start_segment(s);
  const int queries = s.rows * s.group;
  const bool direct = queries <= kDirectQueries && !s.value_in_key;
  const size_t after_keys = s.value_in_key ? 0 : part_bytes(Entry::kId, s.key_width);
  const int value_width = s.value_in_key ? s.key_width : s.value_width;  // of the entry
  const size_t scales_at = after_keys + numbers_bytes(Entry::kId, value_width);
  float* key_floats = s.scratch;
  float* value_floats = key_floats + size_t(s.key_width) * kPageSize;
  float* scores = value_floats + size_t(s.value_width) * kPageSize;
  const auto groups = [&](const auto& use) {
    each_group(s, [=](int first) { return scores + size_t(first) * kTileSlots; }, use);
  };
  const auto add_scores = [&](const Tile& tile, int page, const auto& keys) {
    groups([&](const auto& group) {
      if (group.seen(tile, page) != 0) page_scores(group, page, keys);
    });
  };
  // A query never meets a value that it does not see, which may be infinite: no weight makes up for that.
  const auto add_all_values = [&](const Tile& tile, int page, const auto& values) {
    groups([&](const auto& group) {
      const uint32_t seen = group.seen(tile, page);
      if (seen == 0) return;
      if (group.all_see(tile, page, seen)) return add_values(group, page, seen, values);
      for (int q = 0; q < group.kQueries; ++q) {
        const uint32_t own = group.visible(tile, page, q);
        if (own != 0) add_values(QueryGroup<1>(s, group.first + q, group.score(q, 0)), page, own, values);
      }
    });
  };
  each_tile(s, [&](const Tile& tile) {
    each_keys<Entry>(tile, s.key_width, after_keys, [&](int page, const auto& keys) {
      if (direct) return add_scores(tile, page, keys);
      if (!s.value_in_key) return add_scores(tile, page, turn(keys, s.key_width, key_floats));
      turn_latents(keys, 0, s.value_width, keys.scales, key_floats);
      turn_latents(keys, s.value_width, s.key_width, keys.scales + kPageSize, key_floats);
      add_scores(tile, page, Part<Turned<false>>{key_floats, nullptr, nullptr});
    });
    groups([&](const auto& group) {
      float alpha[4], largest[4];
      if (s.value_in_key)
        tile_softmax<false>(group, tile, 0, alpha, largest);
      else
        tile_softmax<kScaled<Entry>>(group, tile, scales_at, alpha, largest);
      scale_outputs(group, alpha);
    });
    each_values<Entry>(tile, value_width, after_keys, [&](int page, const auto& values) {
      if (direct) return add_all_values(tile, page, values);
      if (!s.value_in_key) return add_all_values(tile, page, turn(values, value_width, value_floats));
      turn_latents(values, 0, s.value_width, values.scales, key_floats);
      values_of_keys(key_floats, s.value_width, value_floats);
      add_all_values(tile, page, Part<Turned<false>>{value_floats, nullptr, nullptr});
    });
  });
}
