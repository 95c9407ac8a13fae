// RMS norm and rotary embedding: kernels that work row by row.

// The sum of squares: 16 partial sums (column i in partial i % 16), then a tree: 16 -> 8 -> 4 -> 2 -> 1.
inline float square_sum(const float* x, int columns) {
  constexpr int kVectors = 16 / kWidth;
  F sums[kVectors];
  for (F& sum : sums) sum = set1(0.0f);
  int i = 0;
  for (; i + 16 <= columns; i += 16)
    for (int j = 0; j < kVectors; ++j) {
      const F v = load(x + i + j * kWidth);
      sums[j] = fma(v, v, sums[j]);
    }
  if (i < columns) {
    float tail[16];
    for (int j = 0; j < kVectors; ++j) store(tail + j * kWidth, sums[j]);
    for (int j = 0; i + j < columns; ++j) tail[j] = __builtin_fmaf(x[i + j], x[i + j], tail[j]);
    for (int j = 0; j < kVectors; ++j) sums[j] = load(tail + j * kWidth);
  }
  F all = sums[0];
  if (kVectors == 2) all = sums[0] + sums[kVectors - 1];
  return reduce_tree(all);
}

// y = x / sqrt(mean(x^2) + eps) * weight
void rms_norm(const float* x, const float* weight, float eps, int rows, int columns, float* y) {
  for (int row = 0; row < rows; ++row, x += columns, y += columns) {
    const float mean = square_sum(x, columns) / float(columns);
    const F factor = set1(1.0f / __builtin_sqrtf(mean + eps));
    map_vectors(x, weight, size_t(columns), y, [=](F v, F w) { return (v * factor) * w; });
  }
}

void unit_norm(const float* x, float eps, float factor, int columns, float* y) {
  const F inverse = set1(1.0f / __builtin_sqrtf(square_sum(x, columns) + eps));
  map_vector(x, size_t(columns), y, [=](F v) { return (v * inverse) * set1(factor); });
}

// One pair of rotary embedding: (x0, x1) turned by the angle.
inline void turn_pair(float x0, float x1, float cosine, float sine, float* y0, float* y1) {
  *y0 = __builtin_fmaf(x0, cosine, -(x1 * sine));
  *y1 = __builtin_fmaf(x0, sine, x1 * cosine);
}

void rope_head(const float* x, const float* cosines, const float* sines, int pairs, RopeStyle style,
               float* y) {
  if (style == RopeStyle::kAdjacent) {
    for (int i = 0; i < pairs; ++i)
      turn_pair(x[2 * i], x[2 * i + 1], cosines[i], sines[i], y + 2 * i, y + 2 * i + 1);
    return;
  }
  int i = 0;
  for (; i + kWidth <= pairs; i += kWidth) {
    const F x0 = load(x + i), x1 = load(x + pairs + i);
    const F cosine = load(cosines + i), sine = load(sines + i);
    store(y + i, fma(x0, cosine, set1(-0.0f) - x1 * sine));
    store(y + pairs + i, fma(x0, sine, x1 * cosine));
  }
  for (; i < pairs; ++i) turn_pair(x[i], x[pairs + i], cosines[i], sines[i], y + i, y + pairs + i);
}

void rope(const RopeTask& task) {
  const int width = task.heads * task.head_size;
  for (int row = 0; row < task.rows; ++row) {
    const float* cosines = task.angles + size_t(row) * task.rotary;
    for (int head = 0; head < task.heads; ++head) {
      const size_t at = size_t(row) * width + size_t(head) * task.head_size;
      rope_head(task.x + at, cosines, cosines + task.rotary / 2, task.rotary / 2, task.style, task.y + at);
      if (task.x != task.y)
        for (int i = task.rotary; i < task.head_size; ++i) task.y[at + i] = task.x[at + i];
    }
  }
}
