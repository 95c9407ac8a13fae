// y = x W^T + bias over packed tiles, float activations: every output is one chain of fused adds, column by
// column, in order. Where segments of columns have scales, each has a chain of its own, and those are a
// chain.

// The float weights of so many columns of a dense format.
template <class Format, int C>
struct FloatColumns {
  static constexpr int kColumns = C;
  F columns[C];
  void open(const uint8_t* block, int) {
    if constexpr (C == 1)
      columns[0] = Format::weights(block);
    else
      Format::weights(block, columns[0], columns[1]);
  }
  F column(int k) const { return columns[k]; }
};

// The float weights of one part of a block, unpacked. Products with d are exact.
template <class Format>
struct FloatPart {
  using Parts = typename Format::Parts;
  using Codes = typename Format::Codes;
  static constexpr int kColumns = 32;
  F step[2], least[2];
  float values[32 * kWidth];

  void open(const uint8_t* block, int part) {
    const uint16_t* halves = reinterpret_cast<const uint16_t*>(block);
    F d = set1(1.0f);
    if (Format::kScales > 0) d = load_half(halves);
    F second = d;
    if (Format::kScales == 2) second = load_half(halves + kWidth);
    const uint8_t* small = block + 2 * Format::kScales * kWidth;
    if constexpr (Format::kScales == 0) {
      const Parts parts(small, part);
      for (int half = 0; half < 2; ++half) step[half] = parts.float_scale(half);
    } else if constexpr (Parts::kBytes == 0) {
      step[0] = step[1] = d;
      least[0] = least[1] = second;
    } else {
      const Parts parts(small, part);
      for (int half = 0; half < 2; ++half) {
        step[half] = d * parts.float_scale(half);
        if constexpr (Parts::kMinima) least[half] = set1(-0.0f) - second * parts.float_minimum(half);
      }
    }
    const uint8_t* codes = small + (Parts::kBytes + part * Codes::kBytes) * kWidth;
    each_vector([&](auto index) FIVEFOLD_INLINED {
      constexpr int j = decltype(index)::value;
      const Bytes code = Codes::template get<j>(codes);
      put<0>(4 * j, lanes(code));
      put<1>(4 * j + 1, lanes(code));
      put<2>(4 * j + 2, lanes(code));
      put<3>(4 * j + 3, lanes(code));
    });
  }
  template <int Byte>
  FIVEFOLD_INLINE void put(int k, I four) {
    const I code = Codes::kSigned ? shift_right<24>(shift_left<24 - 8 * Byte>(four))
                                  : low_bits(shift_right<8 * Byte>(four), 255);
    const F number = to_float(code - set1_int(Format::kOffset));
    store(values + k * kWidth,
          Format::kScales == 2 ? fma(step[k / 16], number, least[k / 16]) : step[k / 16] * number);
  }
  F column(int k) const { return load(values + k * kWidth); }
};

// Adds to T x S sums the products of columns from `begin` on, as many at a time as an unpacked `Part` has:
// one fused add for each column, in order. Gives the column after the last.
template <class Format, class Part, int S, int T>
FIVEFOLD_INLINE int add_parts_of(const LinearTask& task, const uint8_t* weights, const float* const (&x)[T],
                                 int begin, int end, F (&sums)[S][T]) {
  constexpr size_t kBlockBytes = size_t(PackedBlock<Format>::kBytes) * kWidth;
  constexpr int kColumns = Part::kColumns;
  int k0 = begin;
  for (; k0 + kColumns <= end; k0 += kColumns) {
    const uint8_t* block = weights + size_t(k0 / Format::kBlock) * kBlockBytes;
    Part part[S];
    for (int s = 0; s < S; ++s) part[s].open(block + s * task.tile_bytes, k0 % Format::kBlock / kColumns);
    for (int k = 0; k < kColumns; ++k) {
      F w[S];
#pragma GCC unroll 16
      for (int s = 0; s < S; ++s) w[s] = part[s].column(k);
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        const F v = set1(x[t][k0 + k]);
#pragma GCC unroll 16
        for (int s = 0; s < S; ++s) sums[s][t] = fma(w[s], v, sums[s][t]);
      }
    }
  }
  return k0;
}

// Adds to T x S sums the products of columns [begin, end), in order.
template <class Format, int S, int T>
FIVEFOLD_INLINE void add_columns(const LinearTask& task, const uint8_t* weights, const float* const (&x)[T],
                                 int begin, int end, F (&sums)[S][T]) {
  if constexpr (Format::kBlock > 1) {
    add_parts_of<Format, FloatPart<Format>, S, T>(task, weights, x, begin, end, sums);
  } else {
    if constexpr (Format::kPairs && S * T <= 4)
      begin = add_parts_of<Format, FloatColumns<Format, 2>, S, T>(task, weights, x, begin, end, sums);
    add_parts_of<Format, FloatColumns<Format, 1>, S, T>(task, weights, x, begin, end, sums);
  }
}

// T rows against S tiles, float activations.
template <class Format, int S, int T>
inline void linear_float_rows(const LinearTask& task, int tile, int row) {
  const uint8_t* weights = task.weights + size_t(tile) * task.tile_bytes;
  const float* x[T];
  F sums[S][T];
  for (int t = 0; t < T; ++t) x[t] = reinterpret_cast<const float*>(input_row(task, row + t));
  for (int s = 0; s < S; ++s)
    for (int t = 0; t < T; ++t) sums[s][t] = set1(0.0f);
  if (task.scales == nullptr) {
    add_columns<Format, S, T>(task, weights, x, 0, task.columns, sums);
  } else {
    const int segments = (task.columns + task.scale_columns - 1) / task.scale_columns;
    const float* scales = task.scales + size_t(tile) * segments * kWidth;
    for (int begin = 0; begin < task.columns; begin += task.scale_columns, scales += kWidth) {
      const int rest = task.columns - begin;
      F part[S][T];
      for (int s = 0; s < S; ++s)
        for (int t = 0; t < T; ++t) part[s][t] = set1(0.0f);
      add_columns<Format, S, T>(task, weights, x, begin,
                                begin + (rest < task.scale_columns ? rest : task.scale_columns), part);
      for (int s = 0; s < S; ++s)
        for (int t = 0; t < T; ++t)
          sums[s][t] = fma(part[s][t], load(scales + size_t(s) * segments * kWidth), sums[s][t]);
    }
  }
  for (int s = 0; s < S; ++s)
    for (int t = 0; t < T; ++t) finish_tile(task, row + t, tile + s, sums[s][t]);
}

// So many rows, at most T, against S tiles: two tiles at a time, four for one row.
template <class Format, int S, int T>
inline void linear_float_few(const LinearTask& task, int tile, int row, int count) {
  constexpr int kTiles = T == 1 || S < 2 ? S : 2;
  if constexpr (T > 1)
    if (count < T) return linear_float_few<Format, S, T - 1>(task, tile, row, count);
  for (int s = 0; s < S; s += kTiles) linear_float_rows<Format, kTiles, T>(task, tile + s, row);
}

// As many rows at a time as there are registers for, in parts of about one size.
template <class Format, int S>
inline void linear_float_tiles(const LinearTask& task, int tile) {
  const int rows = task.row_end - task.row_begin;
  const int parts = (rows + kFloatRows - 1) / kFloatRows;
  for (int part = 0; part < parts; ++part) {
    const int first = rows * part / parts, last = rows * (part + 1) / parts;
    linear_float_few<Format, S, kFloatRows>(task, tile, task.row_begin + first, last - first);
  }
}

template <class Format>
void linear_float(const LinearTask& task) {
  int tile = task.tile_begin;
  for (; tile + kFloatTiles <= task.tile_end; tile += kFloatTiles)
    linear_float_tiles<Format, kFloatTiles>(task, tile);
  for (; tile < task.tile_end; ++tile) linear_float_tiles<Format, 1>(task, tile);
}
