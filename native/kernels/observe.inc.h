// What attention is paid to each slot: the scores of a page's keys, and softmax weights added up.
//
// Keys are turned to floats, times their scales, whatever their format: importance is a measure and not the
// attention itself, which for int8 entries works in whole numbers.

// The keys of a page as floats [dimension][slot].
template <class Entry>
inline void float_keys(const KeyScoresTask& task, float* y) {
  const auto* numbers = reinterpret_cast<const typename Entry::Number*>(task.page);
  const auto* scales = reinterpret_cast<const float*>(task.page + numbers_bytes(Entry::kId, task.key_width));
  for (int d = 0; d < task.key_width; ++d, y += kPageSize) {
    if (entry_info(Entry::kId).whole) {
      for (int slot = 0; slot < kPageSize; ++slot)
        y[slot] = Entry::value(numbers[key_place(Entry::kId, slot, d)]);
    } else {
      for (int slot = 0; slot < kPageSize; slot += kWidth)
        store(y + slot, Entry::floats(numbers + size_t(d) * kPageSize + slot));
    }
    if constexpr (kScaled<Entry>) {
      const float* own = scales + (task.value_in_key && d >= task.value_width ? kPageSize : 0);
      for (int slot = 0; slot < kPageSize; slot += kWidth) store(y + slot, load(y + slot) * load(own + slot));
    }
  }
}

// scores[q][slot] = query q . key of the slot, one chain along the key for each slot.
template <int Q>
FIVEFOLD_APART void float_scores(const KeyScoresTask& task, int first_query) {
  constexpr int kVectors = 2;
  const float* queries[Q];
  for (int q = 0; q < Q; ++q) queries[q] = task.queries + size_t(first_query + q) * size_t(task.key_width);
  for (int first = 0; first < kPageSize; first += kVectors * kWidth) {
    F sums[Q][kVectors];
    for (int q = 0; q < Q; ++q)
      for (int v = 0; v < kVectors; ++v) sums[q][v] = set1(0.0f);
    const float* key = task.keys + first;
    for (int d = 0; d < task.key_width; ++d, key += kPageSize) {
      F k[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) k[v] = load(key + v * kWidth);
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q) {
        const F x = set1(queries[q][d]);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sums[q][v] = fma(x, k[v], sums[q][v]);
      }
    }
    for (int q = 0; q < Q; ++q)
      for (int v = 0; v < kVectors; ++v)
        store(task.scores + size_t(first_query + q) * task.stride + first + v * kWidth, sums[q][v]);
  }
}

template <class Entry>
void key_scores(const KeyScoresTask& task) {
  float_keys<Entry>(task, task.keys);
  int q = 0;
  for (; q + 4 <= task.count; q += 4) float_scores<4>(task, q);
  for (; q < task.count; ++q) float_scores<1>(task, q);
}

void observe_scores(const ObserveTask& task) {
  constexpr int kVectors = kPageSize / kWidth;
  F most = set1(kMinusInfinity);
  for (size_t i = 0; i < task.count; i += kWidth) most = max(load(task.scores + i), most);
  float largest = reduce_max(most);
  if (task.sink != nullptr && *task.sink > largest) largest = *task.sink;
  if (largest == kMinusInfinity) return;
  const F base = set1(largest);
  F sums[kVectors];
  for (F& sum : sums) sum = set1(0.0f);
  for (size_t i = 0; i < task.count; i += kPageSize)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const F weight = exp2_negative(load(task.scores + i + v * kWidth) - base);
      sums[v] = sums[v] + weight;
      store(task.scores + i + v * kWidth, weight);
    }
  for (int n = kVectors / 2; n > 0; n /= 2)
    for (int v = 0; v < n; ++v) sums[v] = sums[v] + sums[v + n];
  float total = reduce_tree(sums[0]);
  if (task.sink != nullptr) {
    float of_sink[kWidth];
    store(of_sink, exp2_negative(set1(*task.sink) - base));
    total += of_sink[0];
  }
  const F share = set1(1.0f / total);
  for (size_t i = 0; i < task.count; i += kWidth) {
    const F weight = load(task.scores + i) * share, before = load(task.importance + i);
    store(task.importance + i, task.peak ? max(weight, before) : before + weight);
  }
}
