// Attention over one segment of pages: an online softmax, page by page, in float32 over entries as stored.
//
// A page holds K^T (key_width x 32 slots), then V (32 slots x value_width), each with the scales of its slots
// if the format has any. Sums are over codes: the scale of a key is applied to its score once, that of a
// value to its softmax weight. With several queries the codes of a page are turned to float once, in scratch;
// with few the kernel reads them as they lie. The numbers are the same.

// The keys or the values of a page, and where those of the page after it lie, which are fetched meanwhile.
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

inline float exp_scalar(float x) {
  float out[kWidth];
  store(out, exp(set1(x)));
  return out[0];
}

// Q queries that see the same slots of the page.
template <int Q>
struct QueryGroup {
  QueryGroup(const AttentionSegment& s, int first, uint32_t seen, float* memory)
      : maximum(s.maximum + first),
        total(s.total + first),
        visible(seen),
        key_width(s.key_width),
        value_width(s.value_width),
        soft_cap(s.soft_cap),
        scores(memory) {
    for (int q = 0; q < Q; ++q) {
      queries[q] = s.queries + size_t(first + q) * s.key_width;
      outputs[q] = s.output + size_t(first + q) * s.value_width;
    }
  }
  const float* queries[Q];
  float* outputs[Q];
  float* maximum;  // Q following numbers
  float* total;
  uint32_t visible;
  int key_width, value_width;
  float soft_cap;
  float* scores;  // Q x 32
};

// scores[q][slot] = q . K[slot], one chain along the key for each slot.
template <int Q, class Entry>
inline void page_scores(const QueryGroup<Q>& group, const Part<Entry>& keys) {
  constexpr int kVectors = 2;
  constexpr size_t kStep = kPageSize * sizeof(typename Entry::Number);  // bytes of a column of all slots
  for (int first = 0; first < kPageSize; first += kVectors * kWidth) {
    F sums[Q][kVectors];
    for (int q = 0; q < Q; ++q)
      for (int v = 0; v < kVectors; ++v) sums[q][v] = set1(0.0f);
    const auto* key = keys.numbers + first;
    for (int d = 0; d < group.key_width; ++d, key += kPageSize) {
      if (!kTurned<Entry> && first == 0 && d * kStep % kLine == 0)
        __builtin_prefetch(keys.next + size_t(d) * kStep);
      F k[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) k[v] = Entry::floats(key + v * kWidth);
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q) {
        const F x = set1(group.queries[q][d]);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sums[q][v] = fma(x, k[v], sums[q][v]);
      }
    }
    for (int q = 0; q < Q; ++q)
      for (int v = 0; v < kVectors; ++v) {
        if constexpr (kScaled<Entry>) sums[q][v] = sums[q][v] * load(keys.scales + first + v * kWidth);
        store(group.scores + q * kPageSize + first + v * kWidth, sums[q][v]);
      }
  }
}

// Scores to weights, times the scales of the values if there are any; the running maxima and totals move on.
// alpha[q] is the factor for what was summed before. The queries go through each step together, since a step
// alone would only wait for the one before it.
template <int Q, bool Scaled>
inline void page_softmax(const QueryGroup<Q>& group, const float* scales, float* alpha) {
  constexpr int kVectors = kPageSize / kWidth;
  F s[Q][kVectors];
  float before[kWidth] = {}, next[Q];
#pragma GCC unroll 4
  for (int q = 0; q < Q; ++q) {
    F largest = set1(kMinusInfinity);
    for (int v = 0; v < kVectors; ++v) {
      s[q][v] = load(group.scores + q * kPageSize + v * kWidth);
      if (group.soft_cap != 0.0f) s[q][v] = set1(group.soft_cap) * tanh(s[q][v] / set1(group.soft_cap));
      s[q][v] = select_bits(group.visible >> (v * kWidth), s[q][v], set1(kMinusInfinity));
      largest = max(s[q][v], largest);
    }
    const float seen = reduce_max(largest);
    next[q] = group.maximum[q] > seen ? group.maximum[q] : seen;
    if (next[q] == kMinusInfinity) {  // something is seen, and no score of it is a number: nor is the result
      next[q] = 0.0f;
      group.total[q] = __builtin_nanf("");
    }
    before[q] = group.maximum[q] - next[q];
    group.maximum[q] = next[q];
  }
  float factors[kWidth];
  store(factors, exp_negative(load(before)));
#pragma GCC unroll 4
  for (int q = 0; q < Q; ++q) {
    for (int v = 0; v < kVectors; ++v) {
      s[q][v] = exp_negative(s[q][v] - set1(next[q]));
      F weight = s[q][v];
      if constexpr (Scaled)  // a slot that is not seen may have any scale
        weight = select_bits(group.visible >> (v * kWidth), weight * load(scales + v * kWidth), set1(0.0f));
      store(group.scores + q * kPageSize + v * kWidth, weight);
    }
    for (int n = kVectors / 2; n > 0; n /= 2)
      for (int v = 0; v < n; ++v) s[q][v] = s[q][v] + s[q][v + n];
    alpha[q] = factors[q];
    group.total[q] = group.total[q] * alpha[q] + reduce_tree(s[q][0]);
  }
}

// outputs[q][at ...] = outputs * alpha + sum over slots of weight * V, slots in order; V vectors of columns.
template <int Q, int V, class Entry>
inline void page_values(const QueryGroup<Q>& group, const Part<Entry>& values, const float* alpha, int at) {
  const int first = __builtin_ctz(group.visible), last = 31 - __builtin_clz(group.visible);
  F sums[Q][V];
  for (int q = 0; q < Q; ++q)
    for (int v = 0; v < V; ++v) sums[q][v] = load(group.outputs[q] + at + v * kWidth) * set1(alpha[q]);
  const auto* value = values.numbers + size_t(first) * group.value_width + at;
  for (int slot = first; slot <= last; ++slot, value += group.value_width) {
    if (!kTurned<Entry>)
      for (size_t byte = 0; byte < V * kWidth * sizeof(*value); byte += kLine)
        __builtin_prefetch(values.next + (size_t(slot) * group.value_width + at) * sizeof(*value) + byte);
    F x[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) x[v] = Entry::floats(value + v * kWidth);
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
inline void attend_page(const QueryGroup<Q>& group, const Part<Entry>& keys, const Part<Entry>& values) {
  constexpr int kVectors = kWidth == 16 ? 4 : (Q == 1 ? 8 : Q == 2 ? 4 : 2);
  page_scores<Q>(group, keys);
  float alpha[Q];
  page_softmax<Q, kScaled<Entry>>(group, values.scales, alpha);
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
                             Entry::value(values.numbers[size_t(slot) * group.value_width + at]), sum);
      group.outputs[q][at] = sum;
    }
}

// Calls use(count, first query, seen slots) for up to four queries at a time that see the same slots of a
// page.
template <class Use>
inline void each_group(const AttentionSegment& s, const uint32_t* visible, const Use& use) {
  const int queries = s.rows * s.group;
  for (int first = 0; first < queries;) {
    const uint32_t seen = visible[first / s.group];
    int count = 1;
    while (count < 4 && first + count < queries && visible[(first + count) / s.group] == seen) ++count;
    if (seen != 0) {
      if (count == 4) use(std::integral_constant<int, 4>(), first, seen);
      if (count == 3) use(std::integral_constant<int, 3>(), first, seen);
      if (count == 2) use(std::integral_constant<int, 2>(), first, seen);
      if (count == 1) use(std::integral_constant<int, 1>(), first, seen);
    }
    first += count;
  }
}

// All queries against one page.
template <class Entry>
inline void attend_all(const AttentionSegment& s, const uint32_t* visible, const Part<Entry>& keys,
                       const Part<Entry>& values) {
  each_group(s, visible, [&](auto count, int first, uint32_t seen) {
    attend_page<count.value>(QueryGroup<count.value>(s, first, seen, s.scratch), keys, values);
  });
}

// A part of a page as floats at `y`; the next page's is fetched meanwhile.
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

// The keys (`at` 0) or values of a page.
template <class Entry>
inline Part<Entry> part_at(const uint8_t* page, const uint8_t* next, size_t at, int width) {
  const uint8_t* part = page + at;
  return {reinterpret_cast<const typename Entry::Number*>(part),
          reinterpret_cast<const float*>(part + numbers_bytes(Entry::kId, width)), next + at};
}

inline void start_segment(const AttentionSegment& s) {
  const int queries = s.rows * s.group;
  for (int q = 0; q < queries; ++q) {
    s.maximum[q] = kMinusInfinity;
    s.total[q] = 0.0f;
  }
  for (size_t i = 0; i < size_t(queries) * s.value_width; ++i) s.output[i] = 0.0f;
}

// Calls use(visible slots of the rows, rows that see any, page, next page) for each page that a row sees.
template <class Use>
inline void each_page(const AttentionSegment& s, const Use& use) {
  for (int p = 0; p < s.page_count; ++p) {
    const uint32_t* visible = s.visible + size_t(p) * s.rows;
    int seeing = 0;
    for (int row = 0; row < s.rows; ++row) seeing += visible[row] != 0;
    if (seeing == 0) continue;
    const uint8_t* page = s.entries + size_t(s.pages[p]) * s.page_stride;
    const int32_t following = p + 1 < s.page_count ? s.pages[p + 1] : -1;
    use(visible, seeing, page, following < 0 ? page : s.entries + size_t(following) * s.page_stride);
  }
}

template <class Entry>
void attention(const AttentionSegment& s) {
  start_segment(s);
  float* key_floats = s.scratch + 4 * kPageSize;
  float* value_floats = key_floats + size_t(s.key_width) * kPageSize;
  each_page(s, [&](const uint32_t* visible, int seeing, const uint8_t* page, const uint8_t* next) {
    const Part<Entry> keys = part_at<Entry>(page, next, 0, s.key_width);
    if (s.value_in_key) {
      const Part<Turned<kScaled<Entry>>> turned = turn(keys, s.key_width, key_floats);
      for (int slot = 0; slot < kPageSize; ++slot)
        for (int d = 0; d < s.value_width; ++d)
          value_floats[size_t(slot) * s.value_width + d] = key_floats[size_t(d) * kPageSize + slot];
      attend_all(s, visible, turned, {value_floats, keys.scales, nullptr});
      return;
    }
    const Part<Entry> values = part_at<Entry>(page, next, part_bytes(Entry::kId, s.key_width), s.value_width);
    if (seeing * s.group <= kDirectQueries)
      attend_all(s, visible, keys, values);
    else
      attend_all(s, visible, turn(keys, s.key_width, key_floats), turn(values, s.value_width, value_floats));
  });
}
