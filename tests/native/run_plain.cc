// What a plain loop over stored blocks costs, left to the compiler: a measure for the kernels beside the
// portable ones.
//   run_plain FORMAT ROWS OUTPUTS COLUMNS TIMES
#include <cstdio>
#include <cstdlib>

#include "formats/parts.h"
#include "half.h"
#include "weights.h"

namespace fivefold {
namespace {

float half_at(const uint8_t* bytes) {
#if defined(__aarch64__)
  __fp16 number;
  std::memcpy(&number, bytes, 2);
  return number;
#else
  return half_to_float(read_u16(bytes));
#endif
}

int dot(const int8_t* codes, const int8_t* x) {
  int sum = 0;
  for (int i = 0; i < 32; ++i) sum += codes[i] * x[i];
  return sum;
}

float q8_0(const uint8_t* w, const QuantizedBlock* x) {
  return half_at(w) * x->scale * float(dot(reinterpret_cast<const int8_t*>(w + 2), x->codes));
}

// Codes first unpacked, then multiplied: GCC makes vectors of these loops, and not of one loop that does
// both.
int nibble_dot(const uint8_t* nibbles, const int8_t* x, int offset) {
  int8_t codes[32];
  for (int i = 0; i < 16; ++i) codes[i] = int8_t((nibbles[i] & 15) - offset);
  for (int i = 0; i < 16; ++i) codes[16 + i] = int8_t((nibbles[i] >> 4) - offset);
  return dot(codes, x);
}

float q4_0(const uint8_t* w, const QuantizedBlock* x) {
  return half_at(w) * x->scale * float(nibble_dot(w + 2, x->codes, 8));
}

float q4_1(const uint8_t* w, const QuantizedBlock* x) {
  return half_at(w) * x->scale * float(nibble_dot(w + 4, x->codes, 0)) + half_at(w + 2) * x->scaled_sum;
}

float q4_k(const uint8_t* w, const QuantizedBlock* x) {
  uint8_t pairs[16];
  read_six_bit_pairs(w + 4, pairs);
  float products = 0.0f, minima = 0.0f;
  for (int part = 0; part < 8; ++part) {
    const uint8_t* nibbles = w + 16 + part / 2 * 32;
    int8_t codes[32];
    if (part % 2 == 0)
      for (int i = 0; i < 32; ++i) codes[i] = int8_t(nibbles[i] & 15);
    else
      for (int i = 0; i < 32; ++i) codes[i] = int8_t(nibbles[i] >> 4);
    products += x[part].scale * float(pairs[2 * part] * dot(codes, x[part].codes));
    minima += x[part].scaled_sum * float(pairs[2 * part + 1]);
  }
  return half_at(w) * products - half_at(w + 2) * minima;
}

using Block = float (*)(const uint8_t*, const QuantizedBlock*);

template <Block kBlock>
__attribute__((noinline)) void plain_rows(const Weights& weights, const uint8_t* x, int rows, float* y) {
  const int blocks = weights.columns / weights.format->block;
  const size_t bytes = size_t(weights.format->stored_bytes), stride = quantized_stride(weights.columns);
  for (int output = 0; output < weights.outputs; ++output)
    for (int row = 0; row < rows; ++row) {
      const QuantizedBlock* codes = reinterpret_cast<const QuantizedBlock*>(x + stride * size_t(row));
      const uint8_t* w = weights.stored.data() + size_t(output) * size_t(blocks) * bytes;
      float sum = 0.0f;
      for (int b = 0; b < blocks; ++b)
        sum += kBlock(w + size_t(b) * bytes, codes + b * (weights.format->block / 32));
      y[size_t(row) * size_t(weights.outputs) + size_t(output)] = sum;
    }
}

}  // namespace
}  // namespace fivefold

int main(int count, char** words) {
  using namespace fivefold;
  const std::string name = count == 6 ? words[1] : "";
  const auto plain = name == "q8_0"   ? plain_rows<q8_0>
                     : name == "q4_0" ? plain_rows<q4_0>
                     : name == "q4_1" ? plain_rows<q4_1>
                     : name == "q4_k" ? plain_rows<q4_k>
                                      : nullptr;
  if (plain == nullptr) {
    std::fprintf(stderr, "usage: run_plain q8_0|q4_0|q4_1|q4_k ROWS OUTPUTS COLUMNS TIMES\n");
    return 2;
  }
  const int rows = std::atoi(words[2]), outputs = std::atoi(words[3]), columns = std::atoi(words[4]);
  Random random(1);
  const Weights weights = draw_weights(random, *find_format(name), outputs, columns, false);
  const std::vector<float> x = random.floats(size_t(rows) * size_t(columns));
  std::vector<uint8_t> quantized(quantized_stride(columns) * size_t(rows));
  kPortableKernels.quantize(x.data(), rows, columns, quantized.data());
  std::vector<float> y(size_t(rows) * size_t(outputs));
  for (int i = 0; i < std::atoi(words[5]); ++i) plain(weights, quantized.data(), rows, y.data());
  return y[0] == 1e30f;  // never: it keeps the work
}
