// What an instruction set does at most: chains of products that nothing holds up, in registers or with one
// load for several of them. For measuring.

constexpr int kPeakChains = 6;

// Float products with their sums; returns how many were made.
uint64_t peak_float(size_t count, float seed, float* sink) {
  constexpr int kChains = 10;
  F sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = set1(seed + float(i));
  const F factor = set1(seed), term = set1(seed * 0.5f);
  for (size_t n = 0; n < count; ++n)
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) sums[i] = fma(sums[i], factor, term);
  for (int i = 0; i < kChains; ++i) *sink += reduce_tree(sums[i]);
  return uint64_t(count) * kChains * kWidth;
}

// Products of four-bit codes with int8, summed to int32 as the linear kernels do: each vector of codes meets
// several rows. The codes come from a small table, another part of it each time, so that no product can be
// left out.
uint64_t peak_int8(size_t count, int32_t seed, float* sink) {
  using Dot = CodeDot<4>;
  constexpr int kVector = kWidth * 4, kTable = 64;
  alignas(64) uint8_t table[(kTable + Dot::kAdds) * kVector];
  for (size_t i = 0; i < sizeof(table); ++i) table[i] = uint8_t((int32_t(i) * seed >> 8) & 15);
  int8_t row[16] = {};
  decltype(load_columns(row).four<0>()) x[kPeakChains];
  for (int i = 0; i < kPeakChains; ++i) {
    const int32_t four = seed + i;
    __builtin_memcpy(row, &four, sizeof four);
    x[i] = load_columns(row).four<0>();
  }
  WholeSum sums[kPeakChains];
  for (size_t n = 0; n < count; ++n) {
    const uint8_t* codes = table + n % kTable * kVector;
    Dot dots[kPeakChains];
#pragma GCC unroll 8
    for (int j = 0; j < Dot::kAdds; ++j) {
      const Bytes code = load_bytes(codes + j * kVector);
#pragma GCC unroll 16
      for (int i = 0; i < kPeakChains; ++i) dots[i].add(code, x[i]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kPeakChains; ++i) sums[i].take(dots[i]);
  }
  for (int i = 0; i < kPeakChains; ++i) *sink += reduce_tree(sums[i].value());
  return uint64_t(count) * kPeakChains * Dot::kAdds * kWidth * 4;
}
