// The softmax of a tile: scores, in units of log 2, to weights.

inline float exp2_scalar(float x) {
  float out[kWidth];
  store(out, exp2_negative(set1(x)));
  return out[0];
}

template <int Q>
FIVEFOLD_APART void cap_scores(const QueryGroup<Q>& group, int pages) {
  const F cap = set1(group.s.soft_cap);
  for (int q = 0; q < Q; ++q)
    map_vector(group.score(q, 0), size_t(pages) * kPageSize, group.score(q, 0),
               [=](F x) { return cap * tanh(x / cap); });
}

// The largest score of a query that it sees, in all lanes; those that it does not see become minus infinity.
template <int Q>
inline F mask_scores(const QueryGroup<Q>& group, const Tile& tile, int q) {
  constexpr int kVectors = kPageSize / kWidth;
  F most[kVectors];
  for (F& m : most) m = set1(kMinusInfinity);
  for (int page = 0; page < tile.pages; ++page) {
    const uint32_t seen = group.visible(tile, page, q);
    float* scores = group.score(q, page);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      F x = load(scores + v * kWidth);
      if (seen != kAllSlots) {
        x = select_bits(seen >> (v * kWidth), x, set1(kMinusInfinity));
        store(scores + v * kWidth, x);
      }
      most[v] = max(x, most[v]);
    }
  }
  for (int n = kVectors / 2; n > 0; n /= 2)
    for (int v = 0; v < n; ++v) most[v] = max(most[v], most[v + n]);
  return max_of_lanes(most[0]);
}

template <int Q>
inline bool sees_any(const QueryGroup<Q>& group, const Tile& tile, int q) {
  for (int page = 0; page < tile.pages; ++page)
    if (group.visible(tile, page, q) != 0) return true;
  return false;
}

// Scores to weights, times the scales of the values if there are any (at `scales_at` in a page); the running
// maxima and totals move on. alpha[q] is the factor for what was summed before, largest[q] the largest weight
// with its scale. The 32 sums of the slots of a page go on through the pages, then they are added as a tree.
// A query does all in vectors: what waits for a number of its own would make the next query wait.
template <bool Scaled, int Q>
FIVEFOLD_APART void tile_softmax(const QueryGroup<Q>& group, const Tile& tile, size_t scales_at, float* alpha,
                                 float* largest) {
  constexpr int kVectors = kPageSize / kWidth;
  if (group.s.soft_cap != 0.0f) cap_scores(group, tile.pages);
  for (int q = 0; q < Q; ++q) {
    float& maximum = group.s.maximum[group.first + q];
    float& total = group.s.total[group.first + q];
    const F before = set1(maximum);
    const F next = max(before, mask_scores(group, tile, q));
    maximum = first_lane(next);
    const F base = select_less(set1(kMinusInfinity), next, next, set1(0.0f));
    const float factor = first_lane(exp2_negative(before - base));
    if (maximum == kMinusInfinity && sees_any(group, tile, q)) {  // no score is a number: nor is the result
      maximum = 0.0f;
      total = __builtin_nanf("");
    }
    F sums[kVectors], most[kVectors];
    for (int v = 0; v < kVectors; ++v) sums[v] = most[v] = set1(0.0f);
    for (int page = 0; page < tile.pages; ++page) {
      const uint32_t seen = group.visible(tile, page, q);
      const float* scales = reinterpret_cast<const float*>(tile.page[page] + scales_at);
      float* scores = group.score(q, page);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        F weight = exp2_negative(load(scores + v * kWidth) - base);
        sums[v] = sums[v] + weight;
        if constexpr (Scaled) {
          weight = weight * load(scales + v * kWidth);
          // A slot that is not seen may have any scale.
          if (seen != kAllSlots) weight = select_bits(seen >> (v * kWidth), weight, set1(0.0f));
          most[v] = max(weight, most[v]);
        }
        store(scores + v * kWidth, weight);
      }
    }
    for (int n = kVectors / 2; n > 0; n /= 2)
      for (int v = 0; v < n; ++v) {
        sums[v] = sums[v] + sums[v + n];
        most[v] = max(most[v], most[v + n]);
      }
    alpha[q] = factor;
    if constexpr (Scaled) largest[q] = reduce_max(most[0]);
    total = total * factor + reduce_tree(sums[0]);
  }
}

template <int Q>
inline void scale_outputs(const QueryGroup<Q>& group, const float* alpha) {
  for (int q = 0; q < Q; ++q)
    map_vector(group.output(q), size_t(group.s.value_width), group.output(q),
               [=](F x) { return x * set1(alpha[q]); });
}
