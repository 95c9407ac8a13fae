// Activations to int8, one scale for each 32 columns; also the sums that the linear kernels need. A row with
// a number that is not finite gets NaN for its last scale, for codes cannot tell of it.

// B blocks, whose sums across lanes are made together. Returns what stays zero while all numbers are finite.
template <int B>
FIVEFOLD_INLINE F quantize_blocks(const float* x, F bad, QuantizedBlock* blocks) {
  constexpr int kVectors = kQuantBlock / kWidth;
  F v[B][kVectors], largest[B];
#pragma GCC unroll 4
  for (int b = 0; b < B; ++b) {
    largest[b] = set1(0.0f);
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) {
      v[b][j] = load(x + b * kQuantBlock + j * kWidth);
      largest[b] = max(abs(v[b][j]), largest[b]);
      bad = fma(v[b][j], set1(0.0f), bad);
    }
  }
  float scales[B], inverses[B];
  reduce_max(largest, scales);
  for (int b = 0; b < B; ++b) {
    scales[b] = scales[b] / 127.0f;
    inverses[b] = 1.0f / scales[b];
    if (!(inverses[b] <= 3.4028234e38f)) scales[b] = inverses[b] = 0.0f;  // zero, or without an inverse
  }
  int32_t sums[2][B];
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    I codes_of_half[B];
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) {
      codes_of_half[b] = set1_int(0);
      for (int j = half * kVectors / 2; j < (half + 1) * kVectors / 2; ++j) {
        const I code = round_int(v[b][j] * set1(inverses[b]));
        codes_of_half[b] = codes_of_half[b] + code;
        store_int8(blocks[b].codes + j * kWidth, code);
      }
    }
    reduce_int(codes_of_half, sums[half]);
  }
  for (int b = 0; b < B; ++b) {
    // It may wrap, as those of the halves, when a number is none.
    const uint32_t sum = uint32_t(sums[0][b]) + uint32_t(sums[1][b]);
    blocks[b].scale = scales[b];
    for (int half = 0; half < 2; ++half) {
      blocks[b].half_sums[half] = int16_t(sums[half][b]);
      blocks[b].half_offsets[half] = int32_t(0u - 16u * uint32_t(sums[half][b]));
    }
    blocks[b].scaled_sum = scales[b] * float(int32_t(sum));
    blocks[b].offset_sum = int32_t(0u - 8u * sum);
  }
  return bad;
}

void quantize(const float* x, int rows, int columns, uint8_t* out) {
  const int blocks = columns / kQuantBlock;
  const size_t stride = quantized_stride(columns);
  for (int row = 0; row < rows; ++row, out += stride) {
    QuantizedBlock* block = reinterpret_cast<QuantizedBlock*>(out);
    F bad = set1(0.0f);
    int b = 0;
    for (; b + 4 <= blocks; b += 4, block += 4, x += 4 * kQuantBlock) bad = quantize_blocks<4>(x, bad, block);
    for (; b < blocks; ++b, ++block, x += kQuantBlock) bad = quantize_blocks<1>(x, bad, block);
    if (reduce_tree(bad) != 0.0f) block[-1].scale = block[-1].scaled_sum = __builtin_nanf("");
  }
}
