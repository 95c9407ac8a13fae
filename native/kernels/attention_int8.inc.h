// Attention over int8 entries in whole numbers: queries and softmax weights become int16 codes, those of a
// query with one scale, those of its weights with one for each page. A score is one exact sum over the key,
// an output takes one exact sum over the slots of a page; what rounds is the scales alone.

constexpr float kLargestCode = 32767.0f;

// The largest code of a query: a sum of `width` products with int8 stays below 2^31.
inline float largest_query_code(int width) {
  const float most = 2147483000.0f / (127.0f * float(width));
  return most < kLargestCode ? __builtin_floorf(most) : kLargestCode;
}

// The codes of all queries of a segment; `pairs` pairs of dimensions each.
struct QueryCodes {
  float* scales;
  int16_t* codes;
  size_t stride;  // codes of a query, an even number
};

// `count` numbers with an inverse scale to codes. What is not finite gets some code: its scale says what it
// is.
inline void to_codes(const float* x, int count, float inverse, int16_t* codes) {
  for (int d = 0; d < count; d += kWidth) {
    const int some = count - d < kWidth ? count - d : kWidth;
    float numbers[kWidth] = {};
    for (int i = 0; i < some; ++i) numbers[i] = inverse == 0.0f ? 0.0f : x[d + i];
    int16_t whole[kWidth];
    store_int16(whole, round_int(load(numbers) * set1(inverse)));
    for (int i = 0; i < some; ++i) codes[d + i] = whole[i];
  }
}

inline QueryCodes query_codes(const AttentionSegment& s, float* memory) {
  const int queries = s.rows * s.group;
  QueryCodes result = {memory, reinterpret_cast<int16_t*>(memory + queries), size_t(s.key_width + 1) / 2 * 2};
  const float most = largest_query_code(s.key_width);
  for (int q = 0; q < queries; ++q) {
    const float* query = s.queries + size_t(q) * s.key_width;
    int16_t* codes = result.codes + size_t(q) * result.stride;
    float inverse;
    result.scales[q] = scale_for(query, s.key_width, most, &inverse);
    codes[result.stride - 1] = 0;
    to_codes(query, s.key_width, inverse, codes);
  }
  return result;
}

// scores[q][slot] = the exact sum times both scales.
template <int Q>
FIVEFOLD_APART void whole_scores(const QueryGroup<Q>& group, const Part<Int8Entry>& keys,
                                 const QueryCodes& queries, int first_query) {
  constexpr int kVectors = 2;
  const int16_t* codes[Q];
  for (int q = 0; q < Q; ++q) codes[q] = queries.codes + size_t(first_query + q) * queries.stride;
  for (int first = 0; first < kPageSize; first += kVectors * kWidth) {
    I sums[Q][kVectors];
    for (int q = 0; q < Q; ++q)
      for (int v = 0; v < kVectors; ++v) sums[q][v] = set1_int(0);
    const uint8_t* key = reinterpret_cast<const uint8_t*>(keys.numbers) + 2 * first;
    for (int d = 0; d < group.key_width; d += 2, key += 2 * kPageSize) {
      if (first == 0) __builtin_prefetch(keys.next + size_t(d) * kPageSize);
      I k[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) k[v] = load_pairs(key + 2 * v * kWidth);
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q) {
        const I x = set1_pair(codes[q] + d);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sums[q][v] = pair_dot_add(sums[q][v], x, k[v]);
      }
    }
    for (int q = 0; q < Q; ++q)
      for (int v = 0; v < kVectors; ++v) {
        const F scale = load(keys.scales + first + v * kWidth) * set1(queries.scales[first_query + q]);
        store(group.scores + q * kPageSize + first + v * kWidth, to_float(sums[q][v]) * scale);
      }
  }
}

// The softmax weights of a page, times the scales of its values, as codes; their scales.
template <int Q>
FIVEFOLD_APART void weight_codes(const QueryGroup<Q>& group, int16_t* codes, float* scales) {
  constexpr int kVectors = kPageSize / kWidth;
#pragma GCC unroll 4
  for (int q = 0; q < Q; ++q) {
    F w[kVectors];
    F largest = set1(0.0f);
    for (int v = 0; v < kVectors; ++v) {
      w[v] = load(group.scores + q * kPageSize + v * kWidth);
      largest = max(w[v], largest);
    }
    scales[q] = reduce_max(largest) / kLargestCode;
    float inverse = 1.0f / scales[q];
    if (!(inverse <= 3.4028234e38f)) scales[q] = inverse = 0.0f;
    for (int v = 0; v < kVectors; ++v) {
      const F x = w[v] * set1(inverse);
      const F most = set1(kLargestCode + 1.0f);  // a weight may be NaN: then so is the total
      store_int16(codes + q * kPageSize + v * kWidth, round_int(select_less(x, most, x, set1(0.0f))));
    }
  }
}

// outputs[q][at ...] = outputs * alpha + the exact sum over slots times the weights' scale; V vectors, of
// which only `count` numbers are there.
template <int Q, int V>
FIVEFOLD_APART void whole_values(const QueryGroup<Q>& group, const Part<Int8Entry>& values,
                                 const int16_t* codes, const float* scales, const float* alpha, int at,
                                 int count) {
  I sums[Q][V];
  for (int q = 0; q < Q; ++q)
    for (int v = 0; v < V; ++v) sums[q][v] = set1_int(0);
  const size_t row = 2 * size_t(group.value_width);
  const uint8_t* value = reinterpret_cast<const uint8_t*>(values.numbers) + 2 * at;
  for (int slot = 0; slot < kPageSize; slot += 2, value += row) {
    for (int byte = 0; byte < 2 * V * kWidth; byte += int(kLine))
      __builtin_prefetch(values.next + size_t(slot / 2) * row + 2 * at + byte);
    I x[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) x[v] = load_pairs(value + 2 * v * kWidth);
#pragma GCC unroll 4
    for (int q = 0; q < Q; ++q) {
      const I p = set1_pair(codes + q * kPageSize + slot);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[q][v] = pair_dot_add(sums[q][v], p, x[v]);
    }
  }
  for (int q = 0; q < Q; ++q)
    for (int v = 0; v < V; ++v) {
      float* output = group.outputs[q] + at + v * kWidth;
      const F sum = to_float(sums[q][v]) * set1(scales[q]);
      if (count - v * kWidth >= kWidth) {
        store(output, fma(load(output), set1(alpha[q]), sum));
        continue;
      }
      float some[kWidth];
      store(some, sum);
      for (int i = 0; i < count - v * kWidth; ++i) output[i] = __builtin_fmaf(output[i], alpha[q], some[i]);
    }
}

template <int Q>
inline void attend_whole(const AttentionSegment& s, int first, uint32_t visible, const Part<Int8Entry>& keys,
                         const Part<Int8Entry>& values, const QueryCodes& queries) {
  constexpr int kVectors = kWidth == 16 ? 4 : 2;
  QueryGroup<Q> group(s, first, visible, s.scratch);
  int16_t* codes = reinterpret_cast<int16_t*>(s.scratch + 4 * kPageSize);
  float alpha[Q], scales[Q];
  whole_scores<Q>(group, keys, queries, first);
  page_softmax<Q, true>(group, values.scales, alpha);
  weight_codes<Q>(group, codes, scales);
  int at = 0;
  for (; at + kVectors * kWidth <= s.value_width; at += kVectors * kWidth)
    whole_values<Q, kVectors>(group, values, codes, scales, alpha, at, kVectors * kWidth);
  for (; at < s.value_width; at += kWidth)
    whole_values<Q, 1>(group, values, codes, scales, alpha, at, s.value_width - at);
}

template <>
void attention<Int8Entry>(const AttentionSegment& s) {
  start_segment(s);
  const QueryCodes queries = query_codes(s, s.scratch + 8 * kPageSize);
  each_page(s, [&](const uint32_t* visible, int, const uint8_t* page, const uint8_t* next) {
    const Part<Int8Entry> keys = part_at<Int8Entry>(page, next, 0, s.key_width);
    const size_t after = part_bytes(Int8Entry::kId, s.key_width);
    const Part<Int8Entry> values = part_at<Int8Entry>(page, next, after, s.value_width);
    each_group(s, visible, [&](auto count, int first, uint32_t seen) {
      attend_whole<count.value>(s, first, seen, keys, values, queries);
    });
  });
}
