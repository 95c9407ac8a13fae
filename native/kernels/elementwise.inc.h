// Kernels that work number by number.

void add(const float* a, const float* b, size_t count, float* y) {
  map_vectors(a, b, count, y, [](F x, F z) { return x + z; });
}

void scale(const float* x, float factor, size_t count, float* y) {
  map_vector(x, count, y, [=](F v) { return v * set1(factor); });
}

void soft_cap(const float* x, float cap, size_t count, float* y) {
  map_vector(x, count, y, [=](F v) { return set1(cap) * tanh(v / set1(cap)); });
}

inline F silu(F x) { return x / (set1(1.0f) + exp(set1(0.0f) - x)); }
inline F sigmoid(F x) { return set1(1.0f) / (set1(1.0f) + exp(set1(0.0f) - x)); }

// 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
inline F gelu_tanh(F x) {
  const F inner = set1(0.79788456080286536f) * fma(set1(0.044715f) * x * x, x, x);
  return (set1(0.5f) * x) * (set1(1.0f) + tanh(inner));
}

// 0.5 x (1 + erf(x / sqrt(2))), by the C library, one number at a time.
inline F gelu(F x) {
  float lanes_of_x[kWidth];
  store(lanes_of_x, x);
  for (float& v : lanes_of_x) v = (0.5f * v) * (1.0f + __builtin_erff(v * 0.70710678118654752f));
  return load(lanes_of_x);
}

void gated(const float* gate, const float* up, size_t count, Activation activation, float* y) {
  switch (activation) {
    case Activation::kSilu:
      return map_vectors(gate, up, count, y, [](F g, F u) { return silu(g) * u; });
    case Activation::kGeluTanh:
      return map_vectors(gate, up, count, y, [](F g, F u) { return gelu_tanh(g) * u; });
    case Activation::kGelu:
      return map_vectors(gate, up, count, y, [](F g, F u) { return gelu(g) * u; });
    case Activation::kSigmoid:
      return map_vectors(gate, up, count, y, [](F g, F u) { return sigmoid(g) * u; });
  }
}

void clamped_gated(const float* gate, const float* up, size_t count, float alpha, float limit, float* y) {
  const F most = set1(limit), least = set1(-limit);
  map_vectors(gate, up, count, y, [=](F g, F u) {
    g = select_less(most, g, most, g);  // what is no number stays none
    u = max(least, select_less(most, u, most, u));
    return g / (set1(1.0f) + exp(set1(-alpha) * g)) * (u + set1(1.0f));
  });
}

void weighted_sum(const float* x, const float* weights, int count, int width, float* y) {
  int i = 0;
  for (; i + kWidth <= width; i += kWidth) {
    F sum = set1(0.0f);
    for (int p = 0; p < count; ++p) sum = fma(load(x + size_t(p) * size_t(width) + i), set1(weights[p]), sum);
    store(y + i, sum);
  }
  for (; i < width; ++i) {
    float sum = 0.0f;
    for (int p = 0; p < count; ++p) sum = __builtin_fmaf(x[size_t(p) * size_t(width) + i], weights[p], sum);
    y[i] = sum;
  }
}

uint64_t read_sum(const uint64_t* data, size_t count) {
  const uint8_t* bytes = reinterpret_cast<const uint8_t*>(data);
  constexpr size_t kStep = size_t(kWidth) * 4, kTaken = 4 * kStep;
  I sums[4] = {set1_int(0), set1_int(0), set1_int(0), set1_int(0)};
  const size_t part = count * 8 / 4 / kTaken * kTaken;
  for (size_t i = 0; i < part; i += kTaken)
    for (int stream = 0; stream < 4; ++stream) {
      const uint8_t* at = bytes + size_t(stream) * part + i;
      for (size_t line = 0; line < kTaken; line += 64) __builtin_prefetch(at + 2048 + line);
      for (int j = 0; j < 4; ++j) sums[j] = sums[j] + lanes(load_bytes(at + j * kStep));
    }
  return uint64_t(uint32_t(reduce_int((sums[0] + sums[1]) + (sums[2] + sums[3]))));
}
