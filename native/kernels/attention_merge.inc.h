// What several segments of pages gave becomes one, and then the output of a row.

void attention_merge(float* maximum, float* total, float* output, float part_maximum, float part_total,
                     const float* part_output, int width) {
  if (part_maximum == kMinusInfinity) return;
  if (*maximum == kMinusInfinity) {
    *maximum = part_maximum;
    *total = part_total;
    __builtin_memcpy(output, part_output, size_t(width) * sizeof(float));
    return;
  }
  const float next = *maximum > part_maximum ? *maximum : part_maximum;
  const float before = exp2_scalar(*maximum - next), part = exp2_scalar(part_maximum - next);
  map_vectors(output, part_output, size_t(width), output,
              [=](F a, F b) { return fma(a, set1(before), b * set1(part)); });
  *total = __builtin_fmaf(*total, before, part_total * part);
  *maximum = next;
}

void attention_finish(float maximum, float total, const float* output, const float* sink, int width,
                      float* y) {
  float factor = 1.0f;
  if (sink != nullptr && maximum != kMinusInfinity) {
    const float next = maximum > *sink ? maximum : *sink;
    factor = exp2_scalar(maximum - next);
    total = __builtin_fmaf(total, factor, exp2_scalar(*sink - next));
  }
  if (maximum == kMinusInfinity) {
    for (int i = 0; i < width; ++i) y[i] = 0.0f;
    return;
  }
  map_vector(output, size_t(width), y, [=](F o) { return (o * set1(factor)) / set1(total); });
}
