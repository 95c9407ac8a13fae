// y = x W^T + bias over packed tiles, int8 activations. Every output is summed along the columns in the order
// that docs/numeric-contract.md gives, whatever the rows.

// A row of x.
inline const uint8_t* input_row(const LinearTask& task, int row) {
  return task.x + size_t(task.x_rows ? task.x_rows[row] : row) * task.x_stride;
}

// Adds the bias and writes the outputs of one tile for one row.
inline void finish_tile(const LinearTask& task, int row, int tile, F sum) {
  const int first = tile * kWidth;
  const int count = task.outputs - first;
  float* y = task.y + size_t(task.y_rows ? task.y_rows[row] : row) * task.y_stride + first;
  if (count >= kWidth) {
    store(y, task.bias ? sum + load(task.bias + first) : sum);
    return;
  }
  float lanes_of_sum[kWidth];
  store(lanes_of_sum, sum);
  for (int i = 0; i < count; ++i) y[i] = task.bias ? lanes_of_sum[i] + task.bias[first + i] : lanes_of_sum[i];
}

template <int J>
struct Index {  // a number that the compiler knows
  static constexpr int value = J;
};

// Calls use(Index<j>(), vector j of codes) for the eight vectors of a part, in order.
template <class Codes, int J = 0, class Use>
FIVEFOLD_INLINE void each_vector(const uint8_t* codes, const Use& use) {
  if constexpr (J < 8) {
    use(Index<J>(), Codes::template get<J>(codes));
    each_vector<Codes, J + 1>(codes, use);
  }
}

// The products of T rows with one part of a tile: take(t, dot, half) whenever a dot holds all that it may.
template <class Format, int T, class Dot, class Take>
FIVEFOLD_INLINE void multiply_part(const uint8_t* codes, const QuantizedBlock* const (&x)[T], Dot (&dot)[T],
                                   const Take& take) {
  constexpr int kTaken = Format::Parts::kScales == 2 && Dot::kAdds > 4 ? 4 : Dot::kAdds;
  Columns columns[T];
  each_vector<typename Format::Codes>(codes, [&](auto index, Bytes code) FIVEFOLD_INLINED {
    constexpr int j = decltype(index)::value;
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      if (j % 4 == 0) columns[t] = load_columns(x[t]->codes + 4 * j);
      dot[t].add(code, columns[t].template four<j % 4>());
    }
    if ((j + 1) % kTaken != 0) return;
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      take(t, dot[t], j / 4);
      dot[t] = Dot();
    }
  });
}

// Begins a sum of one dot: in the dot itself if that can hold it.
template <class Dot>
FIVEFOLD_INLINE void start_sum(WholeSum& sum, Dot& dot, I at) {
  if constexpr (Dot::kWhole)
    dot.sum = at;
  else
    sum.start(at);
}

// The scale of a block that is one part.
template <class Format>
FIVEFOLD_INLINE F block_scale(const uint8_t* weights) {
  if constexpr (Format::kScales == 0)
    return typename Format::Parts(weights, 0).float_scale(0);
  else
    return load_half(reinterpret_cast<const uint16_t*>(weights));
}

// A block that is one part: an exact integer sum, then one or two fused adds.
template <class Format, int T>
FIVEFOLD_INLINE void add_block(const uint8_t* weights, const QuantizedBlock* (&x)[T], F (&sums)[T]) {
  constexpr int kOffset = Format::kOffset + Format::Codes::Dot::kOffset;
  constexpr int kShift = __builtin_ctz(kOffset / 8 | 256);
  static_assert(kOffset == 0 || kOffset == 8 << kShift, "the offset is eight times a power of two");
  typename Format::Codes::Dot dots[T];
  WholeSum products[T];
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
    if (kOffset) start_sum(products[t], dots[t], shift_left<kShift>(set1_int(x[t]->offset_sum)));
  multiply_part<Format, T>(weights + (2 * Format::kScales + Format::Parts::kBytes) * kWidth, x, dots,
                           [&](int t, auto dot, int) FIVEFOLD_INLINED { products[t].take(dot); });
  const F d = block_scale<Format>(weights);
  F m = d;
  if (Format::kScales == 2) m = load_half(reinterpret_cast<const uint16_t*>(weights) + kWidth);
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) {
    sums[t] = fma(products[t].value(), d * set1(x[t]->scale), sums[t]);
    if (Format::kScales == 2) sums[t] = fma(m, set1(x[t]->scaled_sum), sums[t]);
    ++x[t];
  }
}

// A block of parts whose halves have a float scale each: of a part's two exact integer sums the first is
// multiplied, the second added, fused; then that times the scale of x.
template <class Format, int T>
FIVEFOLD_INLINE void add_halves(const uint8_t* weights, const QuantizedBlock* (&x)[T], F (&sums)[T]) {
  using Codes = typename Format::Codes;
  static_assert(Format::kOffset == 16 && Codes::Dot::kOffset == 0, "half_offsets are for these");
  const uint8_t* codes = weights + Format::Parts::kBytes * kWidth;
  for (int p = 0; p < Format::kBlock / 32; ++p, codes += Codes::kBytes * kWidth) {
    const typename Format::Parts parts(weights, p);
    typename Codes::Dot dots[T];
    F part[T];
    multiply_part<Format, T>(codes, x, dots, [&](int t, auto dot, int half) FIVEFOLD_INLINED {
      WholeSum whole;
      whole.start(set1_int(x[t]->half_offsets[half]));
      whole.take(dot);
      part[t] = half == 0 ? whole.value() * parts.float_scale(0)
                          : fma(whole.value(), parts.float_scale(1), part[t]);
    });
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      sums[t] = fma(part[t], set1(x[t]->scale), sums[t]);
      ++x[t];
    }
  }
}

// A block of eight parts: their exact integer sums, each times the scale of x, are added in order, and so are
// the minima; then one or two fused adds.
template <class Format, int T, bool Fetch>
FIVEFOLD_INLINE void add_parts(const uint8_t* weights, const QuantizedBlock* (&x)[T], F (&sums)[T]) {
  using Parts = typename Format::Parts;
  constexpr int kOffset = Format::kOffset + Format::Codes::Dot::kOffset;
  constexpr int kLines = (PackedBlock<Format>::kBytes * kWidth / 8 + 63) / 64;
  constexpr bool kTogether = T <= kWidth / 4;  // codes and minima in one pass: enough registers for both
  const uint8_t* small = weights + 2 * Format::kScales * kWidth;
  const uint8_t* codes = small + Parts::kBytes * kWidth;
  F products[T], minima[T];
  for (int t = 0; t < T; ++t) products[t] = minima[t] = set1(0.0f);
  for (int p = 0; p < 8; ++p, codes += Format::Codes::kBytes * kWidth) {
    if (Fetch)
      for (int line = 0; line < kLines; ++line) __builtin_prefetch(codes + 3072 + 64 * line);
    const Parts parts(small, p);
    const Scale scales[2] = {parts.scale(0), parts.scale(Parts::kScales - 1)};
    typename Format::Codes::Dot dots[T];
    ScaledSum part[T];
    if constexpr (kOffset != 0) {
      const I offset = pairs_times(parts.pairs(), -kOffset);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) part[t].start(pair_dot(offset, set1_pair(x[t]->half_sums)));
    }
    multiply_part<Format, T>(
        codes, x, dots, [&](int t, auto dot, int half) FIVEFOLD_INLINED { part[t].take(dot, scales[half]); });
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      products[t] = fma(part[t].value(), set1(x[t]->scale), products[t]);
      if constexpr (Parts::kMinima && kTogether) minima[t] = parts.add_minima(minima[t], *x[t]);
      ++x[t];
    }
  }
  if constexpr (Parts::kMinima && !kTogether)
    for (int p = 0; p < 8; ++p) {
      const Parts parts(small, p);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) minima[t] = parts.add_minima(minima[t], x[t][p - 8]);
    }
  const uint16_t* halves = reinterpret_cast<const uint16_t*>(weights);
  const F d = load_half(halves);
  for (int t = 0; t < T; ++t) sums[t] = fma(d, products[t], sums[t]);
  if constexpr (Parts::kMinima) {
    const F least = set1(-0.0f) - load_half(halves + kWidth);
    for (int t = 0; t < T; ++t) sums[t] = fma(least, minima[t], sums[t]);
  }
}

// One block of a tile against T rows, which go on to the next block.
template <class Format, int T, bool Fetch>
FIVEFOLD_INLINE void add_any(const uint8_t* weights, const QuantizedBlock* (&x)[T], F (&sums)[T]) {
  constexpr size_t kBlockBytes = size_t(PackedBlock<Format>::kBytes) * kWidth;
  if constexpr (Format::kBlock < 256) {
    if (Fetch)
      for (size_t line = 0; line < kBlockBytes; line += 64) __builtin_prefetch(weights + 2048 + line);
    if constexpr (Format::Parts::kScales == 2)
      add_halves<Format, T>(weights, x, sums);
    else
      add_block<Format, T>(weights, x, sums);
  } else {
    add_parts<Format, T, Fetch>(weights, x, sums);
  }
}

// Scales the sums of one tile, if all of it has a scale, and writes them.
template <int T>
inline void finish_rows(const LinearTask& task, int row, int tile, F (&sums)[T]) {
  if (task.scales) {
    const F scale = load(task.scales + size_t(tile) * kWidth);
    for (int t = 0; t < T; ++t) sums[t] = sums[t] * scale;
  }
  for (int t = 0; t < T; ++t) finish_tile(task, row + t, tile, sums[t]);
}

// T rows against S tiles that are read side by side: a processor has more of them under way than of one.
template <class Format, int S, int T, bool Fetch>
inline void linear_int8_tiles(const LinearTask& task, int tile, int row) {
  constexpr size_t kBlockBytes = size_t(PackedBlock<Format>::kBytes) * kWidth;
  const uint8_t* weights[S];
  const QuantizedBlock* x[S][T];
  F sums[S][T];
  for (int s = 0; s < S; ++s) {
    weights[s] = task.weights + size_t(tile + s) * task.tile_bytes;
    for (int t = 0; t < T; ++t) {
      x[s][t] = reinterpret_cast<const QuantizedBlock*>(input_row(task, row + t));
      sums[s][t] = set1(0.0f);
    }
  }
  for (int k = 0; k < task.columns; k += Format::kBlock)
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s, weights[s - 1] += kBlockBytes)
      add_any<Format, T, Fetch>(weights[s], x[s], sums[s]);
  for (int s = 0; s < S; ++s) finish_rows(task, row, tile + s, sums[s]);
}

// So many rows, at most T, against all tiles, each of which is met once: it comes from memory meanwhile.
template <class Format, int T>
inline void linear_int8_once(const LinearTask& task, int rows) {
  if constexpr (T > 1)
    if (rows < T) return linear_int8_once<Format, T - 1>(task, rows);
  constexpr int kWanted = T <= 2 ? kLinearTiles : T <= 4 ? kLinearTiles / 2 : 1;
  constexpr int kTiles = kWanted > 1 ? kWanted : 1;
  int tile = task.tile_begin;
  for (; tile + kTiles <= task.tile_end; tile += kTiles)
    linear_int8_tiles<Format, kTiles, T, true>(task, tile, task.row_begin);
  for (; tile < task.tile_end; ++tile) linear_int8_tiles<Format, 1, T, true>(task, tile, task.row_begin);
}

// So many rows, at most T, against one tile.
template <class Format, int T>
inline void linear_int8_few(const LinearTask& task, int tile, int row, int count) {
  if constexpr (T > 1)
    if (count < T) return linear_int8_few<Format, T - 1>(task, tile, row, count);
  linear_int8_tiles<Format, 1, T, false>(task, tile, row);
}

// As many rows at a time as there are registers for, in parts of about one size: seven and six are faster
// than eight, four and one. While a part of the rows meets a tile, its share of the next tile is fetched.
template <class Format>
void linear_int8(const LinearTask& task) {
  const int rows = task.row_end - task.row_begin;
  if (rows <= kLinearRows) return linear_int8_once<Format, kLinearRows>(task, rows);
  const int parts = (rows + kLinearRows - 1) / kLinearRows;
  for (int tile = task.tile_begin; tile < task.tile_end; ++tile) {
    const uint8_t* next = task.weights + size_t(tile + 1) * task.tile_bytes;
    const size_t lines = tile + 1 < task.tile_end ? task.tile_bytes / 64 : 0;
    for (int part = 0; part < parts; ++part) {
      for (size_t line = lines * part / parts; line < lines * (part + 1) / parts; ++line)
        __builtin_prefetch(next + 64 * line);
      const int first = rows * part / parts, last = rows * (part + 1) / parts;
      linear_int8_few<Format, kLinearRows>(task, tile, task.row_begin + first, last - first);
    }
  }
}
