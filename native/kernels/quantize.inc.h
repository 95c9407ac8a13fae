// Activations to int8, one scale for each 32 columns; also the sums that the linear kernels need. A row with
// a number that is not finite gets NaN for its last scale, for codes cannot tell of it.

void quantize(const float* x, int rows, int columns, uint8_t* out) {
  constexpr int kVectors = kQuantBlock / kWidth;
  const int blocks = columns / kQuantBlock;
  const size_t stride = quantized_stride(columns);
  for (int row = 0; row < rows; ++row, out += stride) {
    QuantizedBlock* block = reinterpret_cast<QuantizedBlock*>(out);
    F bad = set1(0.0f);  // stays zero while all are finite
    for (int b = 0; b < blocks; ++b, ++block, x += kQuantBlock) {
      F v[kVectors];
      F largest = set1(0.0f);
      for (int j = 0; j < kVectors; ++j) {
        v[j] = load(x + j * kWidth);
        largest = max(abs(v[j]), largest);
        bad = fma(v[j], set1(0.0f), bad);
      }
      float d = reduce_max(largest) / 127.0f;
      float inverse = 1.0f / d;
      if (!(inverse <= 3.4028234e38f)) d = inverse = 0.0f;  // zero, or too small to have an inverse
      uint32_t sum = 0;  // it may wrap, as those of the halves, when a number is none
      for (int half = 0; half < 2; ++half) {
        I codes_of_half = set1_int(0);
        for (int j = half * kVectors / 2; j < (half + 1) * kVectors / 2; ++j) {
          const I code = round_int(v[j] * set1(inverse));
          codes_of_half = codes_of_half + code;
          store_int8(block->codes + j * kWidth, code);
        }
        const int half_sum = reduce_int(codes_of_half);
        block->half_sums[half] = int16_t(half_sum);
        sum += uint32_t(half_sum);
      }
      block->scale = d;
      block->scaled_sum = d * float(int32_t(sum));
      block->offset_sum = int32_t(0u - 8u * sum);
    }
    if (reduce_tree(bad) != 0.0f) block[-1].scale = block[-1].scaled_sum = __builtin_nanf("");
  }
}
