// Attention over one segment of pages: an online softmax, page by page, in float32 over float16 entries.
//
// A page holds K^T (key_width x 32 slots), then V (32 slots x value_width). With several queries the page is
// turned to float once, in scratch; with few the kernel reads the halves. The numbers are the same.

inline F load_entry(const float* p) { return load(p); }
inline F load_entry(const uint16_t* p) { return load_half(p); }
inline float entry(const float* p) { return *p; }
inline float entry(const uint16_t* p) { return half_scalar(*p); }

// Up to so many queries read the halves of a page; for more it is turned to floats first.
constexpr int kDirectQueries = 12;

inline float exp_scalar(float x) {
  float out[kWidth];
  store(out, exp(set1(x)));
  return out[0];
}

// Q queries that see the same slots of the page.
template <int Q>
struct QueryGroup {
  const float* queries[Q];
  float* outputs[Q];
  float* maximum;  // Q following numbers
  float* total;
  uint32_t visible;
  int key_width, value_width;
  float soft_cap;
  float* scores;         // Q x 32
  const uint16_t* next;  // the page that will be read after this one: fetched meanwhile
};

// scores[q][slot] = q . K[slot], one chain along the key for each slot.
template <int Q, class Entry>
inline void page_scores(const QueryGroup<Q>& group, const Entry* keys) {
  constexpr bool kHalves =
      sizeof(Entry) == 2;  // each page is then read once, so the next is fetched meanwhile
  constexpr int kVectors = 2;
  for (int first = 0; first < kPageSize; first += kVectors * kWidth) {
    F sums[Q][kVectors];
    for (int q = 0; q < Q; ++q)
      for (int v = 0; v < kVectors; ++v) sums[q][v] = set1(0.0f);
    const Entry* key = keys + first;
    for (int d = 0; d < group.key_width; ++d, key += kPageSize) {
      if (kHalves && first == 0) __builtin_prefetch(group.next + size_t(d) * kPageSize);
      F k[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) k[v] = load_entry(key + v * kWidth);
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q) {
        const F x = set1(group.queries[q][d]);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sums[q][v] = fma(x, k[v], sums[q][v]);
      }
    }
    for (int q = 0; q < Q; ++q)
      for (int v = 0; v < kVectors; ++v) store(group.scores + q * kPageSize + first + v * kWidth, sums[q][v]);
  }
}

// Scores to weights; the running maximum and total move on. Returns the factor for what was summed before.
inline float page_softmax(float* scores, uint32_t visible, float cap, float* maximum, float* total) {
  constexpr int kVectors = kPageSize / kWidth;
  F s[kVectors];
  F largest = set1(kMinusInfinity);
  for (int v = 0; v < kVectors; ++v) {
    s[v] = load(scores + v * kWidth);
    if (cap != 0.0f) s[v] = set1(cap) * tanh(s[v] / set1(cap));
    s[v] = select_bits(visible >> (v * kWidth), s[v], set1(kMinusInfinity));
    largest = max(s[v], largest);
  }
  const float seen = reduce_max(largest);
  const float next = *maximum > seen ? *maximum : seen;
  if (next == kMinusInfinity) {
    for (int v = 0; v < kVectors; ++v) store(scores + v * kWidth, set1(0.0f));
    return 1.0f;
  }
  const float alpha = next == *maximum ? 1.0f : exp_scalar(*maximum - next);  // exp(0) is 1 exactly
  for (int v = 0; v < kVectors; ++v) {
    s[v] = exp(s[v] - set1(next));
    store(scores + v * kWidth, s[v]);
  }
  for (int n = kVectors / 2; n > 0; n /= 2)
    for (int v = 0; v < n; ++v) s[v] = s[v] + s[v + n];
  *total = *total * alpha + reduce_tree(s[0]);
  *maximum = next;
  return alpha;
}

// outputs[q][at ...] = outputs * alpha + sum over slots of weight * V, slots in order; V vectors of columns.
template <int Q, int V, class Entry>
inline void page_values(const QueryGroup<Q>& group, const Entry* values, const float* alpha, int at) {
  constexpr bool kHalves = sizeof(Entry) == 2;
  const int first = __builtin_ctz(group.visible), last = 31 - __builtin_clz(group.visible);
  F sums[Q][V];
  for (int q = 0; q < Q; ++q)
    for (int v = 0; v < V; ++v) sums[q][v] = load(group.outputs[q] + at + v * kWidth) * set1(alpha[q]);
  const Entry* value = values + size_t(first) * group.value_width + at;
  const uint16_t* next = group.next + size_t(group.key_width) * kPageSize + at;
  for (int slot = first; slot <= last; ++slot, value += group.value_width) {
    if (kHalves)
      for (int v = 0; v < V * kWidth; v += 32)
        __builtin_prefetch(next + size_t(slot) * group.value_width + v);
    F x[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) x[v] = load_entry(value + v * kWidth);
#pragma GCC unroll 4
    for (int q = 0; q < Q; ++q) {
      const F p = set1(group.scores[q * kPageSize + slot]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sums[q][v] = fma(p, x[v], sums[q][v]);
    }
  }
  for (int q = 0; q < Q; ++q)
    for (int v = 0; v < V; ++v) store(group.outputs[q] + at + v * kWidth, sums[q][v]);
}

template <int Q, class Entry>
inline void attend_page(const QueryGroup<Q>& group, const Entry* keys, const Entry* values) {
  constexpr int kVectors = kWidth == 16 ? 4 : (Q == 1 ? 8 : Q == 2 ? 4 : 2);
  page_scores<Q>(group, keys);
  float alpha[Q];
  for (int q = 0; q < Q; ++q)
    alpha[q] = page_softmax(group.scores + q * kPageSize, group.visible, group.soft_cap, group.maximum + q,
                            group.total + q);
  int at = 0;
  for (; at + kVectors * kWidth <= group.value_width; at += kVectors * kWidth)
    page_values<Q, kVectors>(group, values, alpha, at);
  for (; at + kWidth <= group.value_width; at += kWidth) page_values<Q, 1>(group, values, alpha, at);
  const int first = __builtin_ctz(group.visible), last = 31 - __builtin_clz(group.visible);
  for (; at < group.value_width; ++at)
    for (int q = 0; q < Q; ++q) {
      float sum = group.outputs[q][at] * alpha[q];
      for (int slot = first; slot <= last; ++slot)
        sum = __builtin_fmaf(group.scores[q * kPageSize + slot],
                             entry(values + size_t(slot) * group.value_width + at), sum);
      group.outputs[q][at] = sum;
    }
}

template <int Q, class Entry>
inline void attend_queries(const AttentionSegment& s, int first, uint32_t visible, const Entry* keys,
                           const Entry* values, float* scores, const uint16_t* next) {
  QueryGroup<Q> group;
  group.next = next;
  for (int q = 0; q < Q; ++q) {
    group.queries[q] = s.queries + size_t(first + q) * s.key_width;
    group.outputs[q] = s.output + size_t(first + q) * s.value_width;
  }
  group.maximum = s.maximum + first;
  group.total = s.total + first;
  group.visible = visible;
  group.key_width = s.key_width;
  group.value_width = s.value_width;
  group.soft_cap = s.soft_cap;
  group.scores = scores;
  attend_page<Q>(group, keys, values);
}

// All queries against one page, up to four at a time where they see the same slots.
template <class Entry>
inline void attend_all(const AttentionSegment& s, const uint32_t* visible, const Entry* keys,
                       const Entry* values, float* scores, const uint16_t* next) {
  const int queries = s.rows * s.group;
  for (int first = 0; first < queries;) {
    const uint32_t seen = visible[first / s.group];
    int count = 1;
    while (count < 4 && first + count < queries && visible[(first + count) / s.group] == seen) ++count;
    if (seen != 0) {
      if (count == 4) attend_queries<4>(s, first, seen, keys, values, scores, next);
      if (count == 3) attend_queries<3>(s, first, seen, keys, values, scores, next);
      if (count == 2) attend_queries<2>(s, first, seen, keys, values, scores, next);
      if (count == 1) attend_queries<1>(s, first, seen, keys, values, scores, next);
    }
    first += count;
  }
}

// Also fetches `count` numbers from `next`.
inline void halves_to_floats(const uint16_t* x, size_t count, float* y, const uint16_t* next) {
  size_t i = 0;
  for (; i + kWidth <= count; i += kWidth) {
    if (i % 32 == 0) __builtin_prefetch(next + i);
    store(y + i, load_half(x + i));
  }
  for (; i < count; ++i) y[i] = half_scalar(x[i]);
}

void attention(const AttentionSegment& s) {
  const int queries = s.rows * s.group;
  for (int q = 0; q < queries; ++q) {
    s.maximum[q] = kMinusInfinity;
    s.total[q] = 0.0f;
  }
  for (size_t i = 0; i < size_t(queries) * s.value_width; ++i) s.output[i] = 0.0f;
  float* scores = s.scratch;
  float* keys = scores + 4 * kPageSize;
  float* values = keys + size_t(s.key_width) * kPageSize;
  for (int p = 0; p < s.page_count; ++p) {
    const uint32_t* visible = s.visible + size_t(p) * s.rows;
    int seeing = 0;
    for (int row = 0; row < s.rows; ++row) seeing += visible[row] != 0;
    if (seeing == 0) continue;
    const uint16_t* stored = s.entries + size_t(s.pages[p]) * s.page_stride;
    const int32_t following = p + 1 < s.page_count ? s.pages[p + 1] : -1;
    const uint16_t* next = following < 0 ? stored : s.entries + size_t(following) * s.page_stride;
    if (!s.value_in_key && seeing * s.group <= kDirectQueries) {
      attend_all(s, visible, stored, stored + size_t(s.key_width) * kPageSize, scores, next);
      continue;
    }
    halves_to_floats(stored, size_t(s.key_width) * kPageSize, keys, next);
    if (s.value_in_key) {
      for (int slot = 0; slot < kPageSize; ++slot)
        for (int d = 0; d < s.value_width; ++d)
          values[size_t(slot) * s.value_width + d] = keys[size_t(d) * kPageSize + slot];
    } else {
      const size_t after = size_t(s.key_width) * kPageSize;
      halves_to_floats(stored + after, size_t(s.value_width) * kPageSize, values, next + after);
    }
    attend_all<float>(s, visible, keys, values, scores, next);
  }
}

void attention_merge(float* maximum, float* total, float* output, float part_maximum, float part_total,
                     const float* part_output, int width) {
  if (part_maximum == kMinusInfinity) return;
  if (*maximum == kMinusInfinity) {
    *maximum = part_maximum;
    *total = part_total;
    __builtin_memcpy(output, part_output, size_t(width) * sizeof(float));
    return;
  }
  const float next = *maximum > part_maximum ? *maximum : part_maximum;
  const float before = exp_scalar(*maximum - next), part = exp_scalar(part_maximum - next);
  map_vectors(output, part_output, size_t(width), output,
              [=](F a, F b) { return fma(a, set1(before), b * set1(part)); });
  *total = __builtin_fmaf(*total, before, part_total * part);
  *maximum = next;
}

void attention_finish(float maximum, float total, const float* output, const float* sink, int width,
                      float* y) {
  float factor = 1.0f;
  if (sink != nullptr && maximum != kMinusInfinity) {
    const float next = maximum > *sink ? maximum : *sink;
    factor = exp_scalar(maximum - next);
    total = __builtin_fmaf(total, factor, exp_scalar(*sink - next));
  }
  if (maximum == kMinusInfinity) {
    for (int i = 0; i < width; ++i) y[i] = 0.0f;
    return;
  }
  map_vector(output, size_t(width), y, [=](F o) { return (o * set1(factor)) / set1(total); });
}

void store_entry(const float* key, const float* value, int key_width, int value_width, int slot,
                 uint16_t* page) {
  uint16_t* keys = page + slot;
  uint16_t half[kWidth];
  float tail[kWidth] = {};
  for (int d = 0; d < key_width; d += kWidth) {
    const int count = key_width - d < kWidth ? key_width - d : kWidth;
    for (int i = 0; i < count; ++i) tail[i] = key[d + i];
    store_half(half, load(tail));
    for (int i = 0; i < count; ++i) keys[size_t(d + i) * kPageSize] = half[i];
  }
  if (value == nullptr) return;
  uint16_t* values = page + size_t(key_width) * kPageSize + size_t(slot) * value_width;
  for (int d = 0; d < value_width; d += kWidth) {
    const int count = value_width - d < kWidth ? value_width - d : kWidth;
    for (int i = 0; i < count; ++i) tail[i] = value[d + i];
    store_half(half, load(tail));
    for (int i = 0; i < count; ++i) values[d + i] = half[i];
  }
}
