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

// Calls use(Index<j>()) for each of the eight vectors of a part, in order.
template <int J = 0, class Use>
FIVEFOLD_INLINE void each_vector(const Use& use) {
  if constexpr (J < 8) {
    use(Index<J>());
    each_vector<J + 1>(use);
  }
}

// The products of T rows with one part of S tiles: take(s, t, dot, half) whenever a dot holds all that it
// may. Four columns of a row are read once for all tiles.
template <class Format, int S, int T, class Dot, class Take>
FIVEFOLD_INLINE void multiply_part(const uint8_t* const (&codes)[S], const QuantizedBlock* const (&x)[T],
                                   Dot (&dot)[S][T], const Take& take) {
  constexpr int kTaken = Format::Parts::kScales == 2 && Dot::kAdds > 4 ? 4 : Dot::kAdds;
  Columns columns[T];
  each_vector([&](auto index) FIVEFOLD_INLINED {
    constexpr int j = decltype(index)::value;
    Bytes code[S];
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) code[s] = Format::Codes::template get<j>(codes[s]);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      if (j % 4 == 0) columns[t] = load_columns(x[t]->codes + 4 * j);
      const auto four = columns[t].template four<j % 4>();
#pragma GCC unroll 8
      for (int s = 0; s < S; ++s) dot[s][t].add(code[s], four);
    }
    if ((j + 1) % kTaken != 0) return;
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 8
      for (int s = 0; s < S; ++s) {
        take(s, t, dot[s][t], j / 4);
        dot[s][t] = Dot();
      }
  });
}

// What is fetched while blocks are multiplied: lines first, first + step and so on, that lie `bytes` after
// those in use. Soon: this pass itself comes to them, so they go into the first-level cache, else the second.
template <bool Soon>
struct Ahead {
  size_t bytes;
  int first, step;
  size_t left = 0;     // bytes from the block in use to the end of its tile
  size_t skipped = 0;  // bytes of the tiles side by side, which come after it and are read already

  // For a share of kSize bytes, `at` bytes within the block.
  template <int kSize>
  FIVEFOLD_INLINE void fetch(const uint8_t* block, size_t at) const {
    const size_t distance = bytes + (Soon && at + bytes >= left ? skipped : 0);
    for (int line = first; line < (kSize + 63) / 64; line += step)
      __builtin_prefetch(block + at + distance + 64 * line, 0, Soon ? 3 : 2);
  }
};

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
template <class Format, int S, int T>
FIVEFOLD_INLINE void add_block(const uint8_t* const (&weights)[S], const QuantizedBlock* const (&x)[T],
                               F (&sums)[S][T]) {
  constexpr int kOffset = Format::kOffset + Format::Codes::Dot::kOffset;
  constexpr int kShift = __builtin_ctz(kOffset / 8 | 256);
  static_assert(kOffset == 0 || kOffset == 8 << kShift, "the offset is eight times a power of two");
  typename Format::Codes::Dot dots[S][T];
  WholeSum products[S][T];
  const uint8_t* codes[S];
#pragma GCC unroll 8
  for (int s = 0; s < S; ++s) {
    codes[s] = weights[s] + (2 * Format::kScales + Format::Parts::kBytes) * kWidth;
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
      if (kOffset) start_sum(products[s][t], dots[s][t], shift_left<kShift>(set1_int(x[t]->offset_sum)));
  }
  multiply_part<Format>(codes, x, dots,
                        [&](int s, int t, auto dot, int) FIVEFOLD_INLINED { products[s][t].take(dot); });
#pragma GCC unroll 8
  for (int s = 0; s < S; ++s) {
    const F d = block_scale<Format>(weights[s]);
    F m = d;
    if (Format::kScales == 2) m = load_half(reinterpret_cast<const uint16_t*>(weights[s]) + kWidth);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      sums[s][t] = fma(products[s][t].value(), d * set1(x[t]->scale), sums[s][t]);
      if (Format::kScales == 2) sums[s][t] = fma(m, set1(x[t]->scaled_sum), sums[s][t]);
    }
  }
}

// A block of parts whose halves have a float scale each: of a part's two exact integer sums the first is
// multiplied, the second added, fused; then that times the scale of x.
template <class Format, int S, int T>
FIVEFOLD_INLINE void add_halves(const uint8_t* const (&weights)[S], const QuantizedBlock* const (&x)[T],
                                F (&sums)[S][T]) {
  using Codes = typename Format::Codes;
  using Parts = typename Format::Parts;
  static_assert(Format::kOffset == 16 && Codes::Dot::kOffset == 0, "half_offsets are for these");
  for (int p = 0; p < Format::kBlock / 32; ++p) {
    const QuantizedBlock* at[T];
    for (int t = 0; t < T; ++t) at[t] = x[t] + p;
    const uint8_t* codes[S];
    F scales[S][2];
    for (int s = 0; s < S; ++s) {
      const Parts parts(weights[s], p);
      for (int half = 0; half < 2; ++half) scales[s][half] = parts.float_scale(half);
      codes[s] = weights[s] + (Parts::kBytes + p * Codes::kBytes) * kWidth;
    }
    typename Codes::Dot dots[S][T];
    F part[S][T];
    multiply_part<Format>(codes, at, dots, [&](int s, int t, auto dot, int half) FIVEFOLD_INLINED {
      WholeSum whole;
      whole.start(set1_int(at[t]->half_offsets[half]));
      whole.take(dot);
      part[s][t] = half == 0 ? whole.value() * scales[s][0] : fma(whole.value(), scales[s][1], part[s][t]);
    });
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 8
      for (int s = 0; s < S; ++s) sums[s][t] = fma(part[s][t], set1(at[t]->scale), sums[s][t]);
  }
}

// A block of eight parts: their exact integer sums, each times the scale of x, are added in order, and so are
// the minima; then one or two fused adds.
template <class Format, int S, int T, class Next>
FIVEFOLD_INLINE void add_parts(const uint8_t* const (&weights)[S], const QuantizedBlock* const (&x)[T],
                               const Next& next, F (&sums)[S][T]) {
  using Parts = typename Format::Parts;
  constexpr int kOffset = Format::kOffset + Format::Codes::Dot::kOffset;
  constexpr int kShare = PackedBlock<Format>::kBytes * kWidth / 8;
  constexpr bool kTogether = T <= kWidth / 4;  // codes and minima in one pass, where registers are enough
  const uint8_t* codes[S];
  F products[S][T], minima[S][T];
  for (int s = 0; s < S; ++s) {
    codes[s] = weights[s] + (2 * Format::kScales + Parts::kBytes) * kWidth;
    for (int t = 0; t < T; ++t) products[s][t] = minima[s][t] = set1(0.0f);
  }
  const QuantizedBlock* at[T];
  for (int t = 0; t < T; ++t) at[t] = x[t];
  for (int p = 0; p < 8; ++p) {
    Scale scales[S][2];
    typename Format::Codes::Dot dots[S][T];
    ScaledSum part[S][T];
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) {
      next.template fetch<kShare>(weights[s], size_t(p) * kShare);
      const Parts parts(weights[s] + 2 * Format::kScales * kWidth, p);
      scales[s][0] = parts.scale(0);
      scales[s][1] = parts.scale(Parts::kScales - 1);
      if constexpr (kOffset != 0) {
        const I offset = pairs_times(parts.pairs(), -kOffset);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) part[s][t].start(pair_dot(offset, set1_pair(at[t]->half_sums)));
      }
      if constexpr (Parts::kMinima && kTogether)
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) minima[s][t] = parts.add_minima(minima[s][t], *at[t]);
    }
    multiply_part<Format>(codes, at, dots, [&](int s, int t, auto dot, int half) FIVEFOLD_INLINED {
      part[s][t].take(dot, scales[s][half]);
    });
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const F scale = set1(at[t]->scale);
#pragma GCC unroll 8
      for (int s = 0; s < S; ++s) products[s][t] = fma(part[s][t].value(), scale, products[s][t]);
      ++at[t];
    }
    for (int s = 0; s < S; ++s) codes[s] += Format::Codes::kBytes * kWidth;
  }
  if constexpr (Parts::kMinima && !kTogether)
    for (int p = 0; p < 8; ++p)
#pragma GCC unroll 8
      for (int s = 0; s < S; ++s) {
        const Parts parts(weights[s] + 2 * Format::kScales * kWidth, p);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) minima[s][t] = parts.add_minima(minima[s][t], x[t][p]);
      }
  for (int s = 0; s < S; ++s) {
    const uint16_t* halves = reinterpret_cast<const uint16_t*>(weights[s]);
    const F d = load_half(halves);
    for (int t = 0; t < T; ++t) sums[s][t] = fma(d, products[s][t], sums[s][t]);
    if constexpr (Parts::kMinima) {
      const F least = set1(-0.0f) - load_half(halves + kWidth);
      for (int t = 0; t < T; ++t) sums[s][t] = fma(least, minima[s][t], sums[s][t]);
    }
  }
}

// One block of S tiles against T rows.
template <class Format, int S, int T, class Next>
FIVEFOLD_INLINE void add_any(const uint8_t* const (&weights)[S], const QuantizedBlock* const (&x)[T],
                             const Next& next, F (&sums)[S][T]) {
  if constexpr (Format::kBlock == 256) {
    add_parts<Format>(weights, x, next, sums);
  } else {
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) next.template fetch<PackedBlock<Format>::kBytes * kWidth>(weights[s], 0);
    if constexpr (Format::Parts::kScales == 2)
      add_halves<Format>(weights, x, sums);
    else
      add_block<Format>(weights, x, sums);
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

// T rows against S tiles side by side: a processor has more reads under way than of one, and columns of a row
// are loaded once for all of them.
template <class Format, int S, int T, class Next>
FIVEFOLD_INLINE void linear_int8_tiles(const LinearTask& task, int tile, int row, Next next) {
  constexpr size_t kBlockBytes = size_t(PackedBlock<Format>::kBytes) * kWidth;
  const uint8_t* weights[S];
  const QuantizedBlock* x[T];
  F sums[S][T];
  for (int t = 0; t < T; ++t) x[t] = reinterpret_cast<const QuantizedBlock*>(input_row(task, row + t));
  for (int s = 0; s < S; ++s) {
    weights[s] = task.weights + size_t(tile + s) * task.tile_bytes;
    for (int t = 0; t < T; ++t) sums[s][t] = set1(0.0f);
  }
  next.left = task.tile_bytes;
  next.skipped = size_t(S - 1) * task.tile_bytes;
  static_assert(Format::kBlock % kQuantBlock == 0, "a block is one or more of x");
  for (int k = 0; k < task.columns; k += Format::kBlock, next.left -= kBlockBytes) {
    add_any<Format>(weights, x, next, sums);
    for (int s = 0; s < S; ++s) weights[s] += kBlockBytes;
    for (int t = 0; t < T; ++t) x[t] += Format::kBlock / kQuantBlock;
  }
  for (int s = 0; s < S; ++s) finish_rows(task, row, tile + s, sums[s]);
}

static_assert(sizeof(kLinearTiles) == (kLinearRows + 1) * sizeof(int), "one for each number of rows");
static_assert(sizeof(kPartTiles) == sizeof(kLinearTiles), "one for each number of rows");

// Tiles that so many rows, of any number from 1 on, meet side by side. In blocks of 256 with a scale for each
// half there is more to keep.
template <class Format>
constexpr int tiles_for(int rows) {
  const int most = rows < kLinearRows ? rows : kLinearRows;
  if (Format::kBlock < 256) return kLinearTiles[most];
  return Format::Parts::kScales == 2 && most > 4 ? 1 : kPartTiles[most];
}

constexpr size_t kSoonBytes = 2048;  // what memory sends while so much is multiplied, about

// So many rows, at most T, against all tiles, each of which is met once: it comes from memory meanwhile.
template <class Format, int T>
inline void linear_int8_once(const LinearTask& task, int rows) {
  if constexpr (T > 1)
    if (rows < T) return linear_int8_once<Format, T - 1>(task, rows);
  constexpr int kTiles = tiles_for<Format>(T);
  constexpr Ahead<true> next{kSoonBytes, 0, 1};
  int tile = task.tile_begin;
  for (; tile + kTiles <= task.tile_end; tile += kTiles)
    linear_int8_tiles<Format, kTiles, T>(task, tile, task.row_begin, next);
  if constexpr (kTiles > 2)
    for (; tile + 2 <= task.tile_end; tile += 2)
      linear_int8_tiles<Format, 2, T>(task, tile, task.row_begin, next);
  for (; tile < task.tile_end; ++tile) linear_int8_tiles<Format, 1, T>(task, tile, task.row_begin, next);
}

// So many rows, a part of more, against S tiles: at least half as many as parts can have.
template <class Format, int S, int T>
inline void linear_int8_few(const LinearTask& task, int tile, int row, int count, Ahead<false> next) {
  if constexpr (T > (kLinearRows + 1) / 2)
    if (count < T) return linear_int8_few<Format, S, T - 1>(task, tile, row, count, next);
  linear_int8_tiles<Format, S, T>(task, tile, row, next);
}

// Rows in parts of about one size against S tiles: seven and six are faster than eight, four and one. While a
// part meets the tiles, its share of the next ones is fetched.
template <class Format, int S>
inline void linear_int8_parts(const LinearTask& task, int tile) {
  const int rows = task.row_end - task.row_begin;
  const int parts = (rows + kLinearRows - 1) / kLinearRows;
  constexpr int kNone = 1 << 24;  // more lines than there are
  const bool more = tile + S < task.tile_end;
  for (int part = 0; part < parts; ++part) {
    const int first = rows * part / parts, last = rows * (part + 1) / parts;
    linear_int8_few<Format, S, kLinearRows>(task, tile, task.row_begin + first, last - first,
                                            {S * task.tile_bytes, more ? part : kNone, parts});
  }
}

// As many rows at a time as there are registers for.
template <class Format>
void linear_int8(const LinearTask& task) {
  const int rows = task.row_end - task.row_begin;
  if (rows <= kLinearRows) return linear_int8_once<Format, kLinearRows>(task, rows);
  constexpr int kTiles = tiles_for<Format>(kLinearRows);
  int tile = task.tile_begin;
  for (; tile + kTiles <= task.tile_end; tile += kTiles) linear_int8_parts<Format, kTiles>(task, tile);
  for (; tile < task.tile_end; ++tile) linear_int8_parts<Format, 1>(task, tile);
}
