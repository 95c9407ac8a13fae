// Every format's linear kernels, with int8 and with float rows, and the quantizing of rows.
#include "weights.h"

namespace fivefold {
namespace {

// Rows of which one is zero, one almost, and the others differ in size from block to block.
std::vector<float> draw_rows(Random& random, int rows, int columns) {
  std::vector<float> x = random.floats(size_t(rows) * size_t(columns));
  for (int row = 0; row < rows; ++row)
    for (int block = 0; block < columns / kQuantBlock; ++block) {
      const float size = row == 2 ? 0.0f : row == 3 ? 1e-40f : random.between(0.0f, 3.0f);
      for (int i = 0; i < kQuantBlock; ++i) x[size_t(row) * columns + block * kQuantBlock + i] *= size;
    }
  return x;
}

std::vector<uint8_t> quantize_rows(const Kernels& kernels, const std::vector<float>& x, int rows,
                                   int columns) {
  std::vector<uint8_t> quantized(quantized_stride(columns) * size_t(rows));
  kernels.quantize(x.data(), rows, columns, quantized.data());
  return quantized;
}

void run_shape(const Kernels& kernels, const FormatInfo& format, int outputs, int columns, bool any,
               Random random, Record& record) {
  constexpr int kMostRows = 9;
  const Weights weights = draw_weights(random, format, outputs, columns, any);
  const Packed packed = pack(kernels, weights);
  const std::vector<float> x = draw_rows(random, kMostRows, columns);
  const std::vector<float> bias = random.floats(size_t(outputs));
  const std::vector<uint8_t> quantized = quantize_rows(kernels, x, kMostRows, columns);
  const std::string what = std::string(format.name) + " " + std::to_string(outputs) + " x " +
                           std::to_string(columns) + (any ? " of any bytes" : "");
  for (int rows = 1; rows <= kMostRows; ++rows) {
    const float* added = rows % 2 == 0 ? bias.data() : nullptr;
    std::vector<float> y(size_t(rows) * size_t(outputs), -1.0f);
    const std::string name = what + ", rows " + std::to_string(rows);
    if (format.integer_dot) {
      kernels.linear_int8[int(format.id)](
          whole_task(weights, packed, quantized.data(), quantized_stride(columns), rows, added, y.data()));
      record.add("int8 " + name, y);
    }
    kernels.linear_float[int(format.id)](
        whole_task(weights, packed, x.data(), size_t(columns) * 4, rows, added, y.data()));
    record.add("float " + name, y);
  }
}

void run_quantize(const Kernels& kernels, Random random, Record& record) {
  constexpr int kRows = 64, kColumns = 96;
  std::vector<float> x = draw_rows(random, kRows, kColumns);
  for (int i = 0; i < 40 * kColumns; ++i) x[size_t(i)] *= random.between(0.0f, 1e6f);
  for (int i = 0; i < kQuantBlock; ++i) x[size_t(i)] = float(i) - 15.5f;  // ties
  x[0] = 127.0f;
  const std::vector<uint8_t> quantized = quantize_rows(kernels, x, kRows, kColumns);
  for (int row = 0; row < kRows; ++row)
    record.add_integers("quantize, row " + std::to_string(row),
                        quantized.data() + quantized_stride(kColumns) * row,
                        sizeof(QuantizedBlock) * (kColumns / kQuantBlock));
}

}  // namespace

void run_linear_kernels(const Kernels& kernels, Record& record) {
  run_quantize(kernels, Random(1), record);
  uint64_t seed = 100;
  for (const std::string& name : all_formats()) {
    const FormatInfo& format = *find_format(name);
    const int least = std::max(format.block, kQuantBlock);
    run_shape(kernels, format, 64, least * 3, false, Random(++seed), record);
    run_shape(kernels, format, 19, least, false, Random(++seed), record);
    run_shape(kernels, format, 40, least * 2, true, Random(++seed), record);
  }
}

}  // namespace fivefold
