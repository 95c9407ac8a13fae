// Short convolution and the gated delta rule: kernels whose rows come after each other.

void convolve(const float* const* rows, const float* weights, size_t stride, int taps, size_t count,
              float* y) {
  size_t i = 0;
  for (; i + kWidth <= count; i += kWidth) {
    F sum = set1(0.0f);
    for (int j = 0; j < taps; ++j) sum = fma(load(rows[j] + i), load(weights + size_t(j) * stride + i), sum);
    store(y + i, silu(sum));
  }
  if (i == count) return;
  float tail[kWidth] = {};
  for (size_t k = i; k < count; ++k)
    for (int j = 0; j < taps; ++j)
      tail[k - i] = __builtin_fmaf(rows[j][k], weights[size_t(j) * stride + k], tail[k - i]);
  store(tail, silu(load(tail)));
  for (size_t k = i; k < count; ++k) y[k] = tail[k - i];
}

// Sums over the keys are four chains (key k in chain k % 4), added as (0 + 1) + (2 + 3).
constexpr int kDeltaChains = 4;

FIVEFOLD_INLINE F chains_added(const F (&chains)[kDeltaChains]) {
  return (chains[0] + chains[1]) + (chains[2] + chains[3]);
}

// One row through one vector of columns: the new state, what it gives for the query, and for the next key.
template <bool kNext>
FIVEFOLD_INLINE void delta_row(const float* key, const float* query, const float* next, int key_width,
                               F decay, F change, const float* from, float* to, F* output, F* expected) {
  F found[kDeltaChains], ahead[kDeltaChains];
  for (int c = 0; c < kDeltaChains; ++c) found[c] = ahead[c] = set1(0.0f);
  for (int k = 0; k < key_width; k += kDeltaChains)
    for (int c = 0; c < kDeltaChains; ++c) {
      const F state = fma(set1(key[k + c]), change, decay * load(from + (k + c) * kStateColumns));
      store(to + (k + c) * kStateColumns, state);
      found[c] = fma(state, set1(query[k + c]), found[c]);
      if (kNext) ahead[c] = fma(state, set1(next[k + c]), ahead[c]);
    }
  *output = chains_added(found);
  *expected = chains_added(ahead);
}

// The state is read and written once a row: what it has for a row's key is found while the row before is
// added. The sums are those of a row that comes alone.
void delta_rule(const DeltaTask& task) {
  const int width = task.key_width;
  for (int at = 0; at < kStateColumns; at += kWidth) {
    const float* from = task.from + at;
    F first[kDeltaChains], output, expected;
    for (F& chain : first) chain = set1(0.0f);
    for (int k = 0; k < width; k += kDeltaChains)
      for (int c = 0; c < kDeltaChains; ++c)
        first[c] = fma(load(from + (k + c) * kStateColumns), set1(task.keys[k + c]), first[c]);
    expected = chains_added(first);
    for (int row = 0; row < task.rows; ++row) {
      const size_t r = size_t(row);
      const float* key = task.keys + r * size_t(width);
      const float* query = task.queries + r * size_t(width);
      const F decay = set1(task.decays[r * task.gate_stride]);
      const F value = load(task.values + r * task.value_stride + at);
      const F change = (value - decay * expected) * set1(task.writes[r * task.gate_stride]);
      float* to = task.to + at;
      if (row + 1 < task.rows)
        delta_row<true>(key, query, key + width, width, decay, change, from, to, &output, &expected);
      else
        delta_row<false>(key, query, nullptr, width, decay, change, from, to, &output, &expected);
      store(task.output + r * task.output_stride + at, output);
      from = to;
    }
  }
}
