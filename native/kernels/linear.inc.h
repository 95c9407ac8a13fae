// y = x W^T + bias over packed tiles. Every output is one chain of sums along the columns, whatever the rows.

// Adds the bias and writes the outputs of one tile for one row.
inline void finish_tile(const LinearTask& task, int row, int tile, F sum) {
  const int first = tile * kWidth;
  const int count = task.outputs - first;
  float* y = task.y + size_t(row) * task.y_stride + first;
  if (count >= kWidth) {
    store(y, task.bias ? sum + load(task.bias + first) : sum);
    return;
  }
  float lanes_of_sum[kWidth];
  store(lanes_of_sum, sum);
  for (int i = 0; i < count; ++i) y[i] = task.bias ? lanes_of_sum[i] + task.bias[first + i] : lanes_of_sum[i];
}

// T rows against one tile, int8 activations: for each block an exact integer sum, then one or two fused adds.
template <class Format, int T>
inline void linear_int8_rows(const LinearTask& task, int tile, int row) {
  constexpr size_t kBlockBytes = size_t(2 * Format::kScales + Format::kCodeBytes) * kWidth;
  const uint8_t* weights = task.weights + size_t(tile) * task.tile_bytes;
  const int blocks = task.columns / kQuantBlock;
  const int8_t* x[T];
  const float* scales[T];
  F sums[T];
  for (int t = 0; t < T; ++t) {
    const uint8_t* start = task.x + size_t(row + t) * task.x_stride;
    x[t] = reinterpret_cast<const int8_t*>(start);
    scales[t] = reinterpret_cast<const float*>(start + task.columns);
    sums[t] = set1(0.0f);
  }
  for (int b = 0; b < blocks; ++b, weights += kBlockBytes) {
    if (T == 1)
      for (size_t line = 0; line < kBlockBytes; line += 64) __builtin_prefetch(weights + 2048 + line);
    typename Format::Dot dot[T];
    Format::template accumulate<T>(weights + 2 * Format::kScales * kWidth, x, dot);
    const F d = load_half(reinterpret_cast<const uint16_t*>(weights));
    F m = d;
    if (Format::kScales == 2) m = load_half(reinterpret_cast<const uint16_t*>(weights) + kWidth);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      int32_t code_sum;
      __builtin_memcpy(&code_sum, scales[t] + blocks + b, 4);
      sums[t] = fma(to_float(Format::total(dot[t], code_sum)), d * set1(scales[t][b]), sums[t]);
      if (Format::kScales == 2) sums[t] = fma(m, set1(scales[t][2 * blocks + b]), sums[t]);
      x[t] += kQuantBlock;
    }
  }
  for (int t = 0; t < T; ++t) finish_tile(task, row + t, tile, sums[t]);
}

template <class Format>
void linear_int8(const LinearTask& task) {
  constexpr int kRows = kWidth == 16 ? 8 : 6;
  for (int tile = task.tile_begin; tile < task.tile_end; ++tile) {
    int row = task.row_begin;
    for (; row + kRows <= task.row_end; row += kRows) linear_int8_rows<Format, kRows>(task, tile, row);
    if (kRows > 4 && row + 4 <= task.row_end) {
      linear_int8_rows<Format, 4>(task, tile, row);
      row += 4;
    }
    if (row + 2 <= task.row_end) {
      linear_int8_rows<Format, 2>(task, tile, row);
      row += 2;
    }
    if (row < task.row_end) linear_int8_rows<Format, 1>(task, tile, row);
  }
}

// The float weights of `block` for a tile: straight from a dense format, through an unpacked block otherwise.
template <class Format, bool kDense = Format::kBlock == 1>
struct FloatBlock {
  float values[32 * kWidth];
  void open(const uint8_t* packed) { Format::unpack(packed, values); }
  F column(int k) const { return load(values + k * kWidth); }
};
template <class Format>
struct FloatBlock<Format, true> {
  const uint8_t* packed;
  void open(const uint8_t* start) { packed = start; }
  F column(int) const { return Format::weights(packed); }
};

// T rows against S tiles, float activations: one fused add for each column, in order.
template <class Format, int S, int T>
inline void linear_float_rows(const LinearTask& task, int tile, int row) {
  constexpr size_t kBlockBytes = size_t(2 * Format::kScales + Format::kCodeBytes) * kWidth;
  const uint8_t* weights = task.weights + size_t(tile) * task.tile_bytes;
  const float* x[T];
  F sums[S][T];
  for (int t = 0; t < T; ++t) x[t] = reinterpret_cast<const float*>(task.x + size_t(row + t) * task.x_stride);
  for (int s = 0; s < S; ++s)
    for (int t = 0; t < T; ++t) sums[s][t] = set1(0.0f);
  for (int k0 = 0; k0 < task.columns; k0 += Format::kBlock, weights += kBlockBytes) {
    FloatBlock<Format> block[S];
    for (int s = 0; s < S; ++s) block[s].open(weights + s * task.tile_bytes);
    for (int k = 0; k < Format::kBlock; ++k) {
      F w[S];
#pragma GCC unroll 8
      for (int s = 0; s < S; ++s) w[s] = block[s].column(k);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const F v = set1(x[t][k0 + k]);
#pragma GCC unroll 8
        for (int s = 0; s < S; ++s) sums[s][t] = fma(w[s], v, sums[s][t]);
      }
    }
  }
  for (int s = 0; s < S; ++s)
    for (int t = 0; t < T; ++t) finish_tile(task, row + t, tile + s, sums[s][t]);
}

template <class Format>
void linear_float(const LinearTask& task) {
  int tile = task.tile_begin;
  for (; tile + 4 <= task.tile_end; tile += 4) {
    int row = task.row_begin;
    for (; row + 4 <= task.row_end; row += 4) {
      linear_float_rows<Format, 2, 4>(task, tile, row);
      linear_float_rows<Format, 2, 4>(task, tile + 2, row);
    }
    for (; row < task.row_end; ++row) linear_float_rows<Format, 4, 1>(task, tile, row);
  }
  for (; tile < task.tile_end; ++tile) {
    int row = task.row_begin;
    for (; row + 4 <= task.row_end; row += 4) linear_float_rows<Format, 1, 4>(task, tile, row);
    for (; row < task.row_end; ++row) linear_float_rows<Format, 1, 1>(task, tile, row);
  }
}
