// Activations to int8, one scale for each 32 columns; also the sums that the linear kernels need.

void quantize(const float* x, int rows, int columns, uint8_t* out) {
  constexpr int kVectors = kQuantBlock / kWidth;
  const int blocks = columns / kQuantBlock;
  const size_t stride = quantized_stride(columns);
  for (int row = 0; row < rows; ++row, x += columns, out += stride) {
    int8_t* codes = reinterpret_cast<int8_t*>(out);
    float* scales = reinterpret_cast<float*>(out + columns);
    int32_t* code_sums = reinterpret_cast<int32_t*>(scales + blocks);
    float* scaled_sums = scales + 2 * blocks;
    for (int b = 0; b < blocks; ++b) {
      const float* at = x + b * kQuantBlock;
      F v[kVectors];
      F largest = set1(0.0f);
      for (int j = 0; j < kVectors; ++j) {
        v[j] = load(at + j * kWidth);
        largest = max(abs(v[j]), largest);
      }
      float d = reduce_max(largest) / 127.0f;
      float inverse = 1.0f / d;
      if (!(inverse <= 3.4028234e38f)) d = inverse = 0.0f;  // zero, or too small to have an inverse
      I sum = set1_int(0);
      for (int j = 0; j < kVectors; ++j) {
        const I code = round_int(v[j] * set1(inverse));
        sum = sum + code;
        store_int8(codes + b * kQuantBlock + j * kWidth, code);
      }
      scales[b] = d;
      code_sums[b] = reduce_int(sum);
      scaled_sums[b] = d * float(code_sums[b]);
    }
  }
}
