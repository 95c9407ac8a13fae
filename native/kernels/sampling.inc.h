// What choosing a token does with all logits: the largest of them, and weights that stand in proportion.

// The first index of the largest of `count` numbers. -1 if any is NaN or infinite upwards, -2 if there is
// none.
int64_t largest_logit(const float* x, size_t count) {
  constexpr size_t kBlock = 1024;
  const F infinity = set1(__builtin_inff());
  float best = kMinusInfinity;
  size_t best_block = 0;
  F bad = set1(0.0f);
  for (size_t first = 0; first < count; first += kBlock) {
    const size_t last = first + kBlock < count ? first + kBlock : count;
    F most = set1(kMinusInfinity);
    size_t i = first;
    for (; i + kWidth <= last; i += kWidth) {
      const F v = load(x + i);
      most = max(v, most);
      bad = bad + select_less(v, infinity, set1(0.0f), set1(1.0f));
    }
    float found = reduce_max(most);
    for (; i < last; ++i) {
      if (!(x[i] < __builtin_inff())) return -1;
      found = x[i] > found ? x[i] : found;
    }
    if (found > best) {
      best = found;
      best_block = first;
    }
  }
  if (reduce_tree(bad) != 0.0f) return -1;
  if (best == kMinusInfinity) return -2;
  size_t i = best_block;
  while (x[i] != best) ++i;
  return int64_t(i);
}

// y = exp((x - largest) * factor), for x of at most `largest`.
void softmax_weights(const float* x, float largest, float factor, size_t count, float* y) {
  map_vector(x, count, y, [=](F v) { return exp((v - set1(largest)) * set1(factor)); });
}
