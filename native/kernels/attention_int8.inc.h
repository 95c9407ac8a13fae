// Attention over int8 entries in whole numbers: a query becomes int16 codes with one scale, its softmax
// weights codes from 0 to 255 with one scale for each tile. A score is one exact sum over the key, an output
// takes one exact sum over the slots of a tile.

constexpr float kLargestQueryCode = 32767.0f;
constexpr float kLargestWeightCode = 255.0f;

// The largest code of a query: a sum of `width` products with int8 stays below 2^31.
inline float largest_query_code(int width) {
  const float most = 2147483000.0f / (127.0f * float(width));
  return most < kLargestQueryCode ? __builtin_floorf(most) : kLargestQueryCode;
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

// score(q, page)[slot] = the exact sum times both scales.
template <int Q>
FIVEFOLD_APART void whole_scores(const QueryGroup<Q>& group, int page, const Part<Int8Entry>& keys,
                                 const QueryCodes& queries) {
  constexpr int kVectors = 2;
  const int16_t* codes[Q];
  for (int q = 0; q < Q; ++q) codes[q] = queries.codes + size_t(group.first + q) * queries.stride;
  for (int first = 0; first < kPageSize; first += kVectors * kWidth) {
    I sums[Q][kVectors];
    for (int q = 0; q < Q; ++q)
      for (int v = 0; v < kVectors; ++v) sums[q][v] = set1_int(0);
    const uint8_t* key = reinterpret_cast<const uint8_t*>(keys.numbers) + 2 * first;
    for (int d = 0; d < group.s.key_width; d += 2, key += 2 * kPageSize) {
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
        const F scale = load(keys.scales + first + v * kWidth) * set1(queries.scales[group.first + q]);
        store(group.score(q, page) + first + v * kWidth, to_float(sums[q][v]) * scale);
      }
  }
}

// The weights of a tile as codes; the scales of each query's, from its largest weight. Codes cannot tell of a
// weight that is no number, as that of a value with such a scale is: then the scale is none.
template <int Q>
FIVEFOLD_APART void weight_codes(const QueryGroup<Q>& group, int pages, const float* largest, uint8_t* codes,
                                 float* scales) {
  for (int q = 0; q < Q; ++q) {
    const float inverse = kLargestWeightCode / largest[q];
    const bool fits = inverse <= 3.4028234e38f;  // else it is zero, or too small to have an inverse
    scales[q] = fits ? largest[q] * (1.0f / kLargestWeightCode) : 0.0f;
    const F factor = set1(fits ? inverse : 0.0f);
    F bad = set1(0.0f);  // stays zero while all are finite
#pragma GCC unroll 4
    for (int slot = 0; slot < pages * kPageSize; slot += kWidth) {
      const F weight = load(group.score(q, 0) + slot);
      bad = fma(weight, set1(0.0f), bad);
      store_uint8(codes + q * kTileSlots + slot, round_int(weight * factor));
    }
    if (reduce_tree(bad) != 0.0f) scales[q] = __builtin_nanf("");
  }
}

// output(q)[at ...] = output * alpha + the exact sum over slots times the weights' scale; V vectors, of which
// only `count` numbers are there.
template <int Q, int V>
FIVEFOLD_APART void whole_values(const QueryGroup<Q>& group, const Tile& tile, const Part<Int8Entry>* values,
                                 const uint8_t* codes, const float* scales, const float* alpha, int at,
                                 int count) {
  I sums[Q][V];
  for (int q = 0; q < Q; ++q)
    for (int v = 0; v < V; ++v) sums[q][v] = set1_int(0);
  const size_t row = 4 * size_t(group.s.value_width);
  for (int page = 0; page < tile.pages; ++page) {
    const uint8_t* value = reinterpret_cast<const uint8_t*>(values[page].numbers) + 4 * at;
    const uint8_t* next = values[page].next + 4 * at;
    const uint8_t* code = codes + page * kPageSize;
    for (int slot = 0; slot < kPageSize; slot += 4, value += row, next += row) {
      Bytes x[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        for (int byte = 0; byte < 4 * kWidth; byte += int(kLine))
          __builtin_prefetch(next + 4 * v * kWidth + byte);
        x[v] = load_bytes(value + 4 * v * kWidth);
      }
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q) {
        const Bytes p = repeat4(reinterpret_cast<const int8_t*>(code) + q * kTileSlots + slot);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sums[q][v] = four_dot_add(sums[q][v], p, x[v]);
      }
    }
  }
  for (int q = 0; q < Q; ++q)
    for (int v = 0; v < V; ++v) {
      float* output = group.output(q) + at + v * kWidth;
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
inline void attend_tile(const QueryGroup<Q>& group, const Tile& tile, const QueryCodes& queries,
                        uint8_t* codes) {
  constexpr int kVectors = kWidth == 16 ? 4 : 2;
  const AttentionSegment& s = group.s;
  const size_t after_keys = part_bytes(Int8Entry::kId, s.key_width);
  // The first queries fetch what is read next for all.
  const bool fetch = group.first == 0;
  each_keys<Int8Entry>(tile, s.key_width, after_keys, [&](int page, Part<Int8Entry> keys) {
    if (!fetch) keys.next = reinterpret_cast<const uint8_t*>(keys.numbers);
    whole_scores(group, page, keys, queries);
  });
  float alpha[Q], largest[Q], scales[Q];
  tile_softmax<true>(group, tile, after_keys + numbers_bytes(Int8Entry::kId, s.value_width), alpha, largest);
  weight_codes(group, tile.pages, largest, codes, scales);
  Part<Int8Entry> values[kTilePages];
  each_values<Int8Entry>(tile, s.value_width, after_keys, [&](int page, Part<Int8Entry> part) {
    values[page] = part;
    if (!fetch) values[page].next = reinterpret_cast<const uint8_t*>(part.numbers);
  });
  int at = 0;
  for (; at + kVectors * kWidth <= s.value_width; at += kVectors * kWidth)
    whole_values<Q, kVectors>(group, tile, values, codes, scales, alpha, at, kVectors * kWidth);
  for (; at < s.value_width; at += kWidth)
    whole_values<Q, 1>(group, tile, values, codes, scales, alpha, at, s.value_width - at);
}

template <>
void attention<Int8Entry>(const AttentionSegment& s) {
  start_segment(s);
  float* scores = s.scratch;
  uint8_t* codes = reinterpret_cast<uint8_t*>(scores + 4 * kTileSlots);
  const QueryCodes queries = query_codes(s, scores + 5 * kTileSlots);
  each_tile(s, [&](const Tile& tile) {
    each_group(
        s, [=](int) { return scores; }, [&](const auto& group) { attend_tile(group, tile, queries, codes); });
  });
}
