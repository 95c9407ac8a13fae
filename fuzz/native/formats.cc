// Weights of any format from arbitrary bytes: decoded, packed and multiplied, on every instruction set.
#include <stdexcept>

#include "matrix.h"
#include "taken.h"

using namespace fivefold;

namespace {

constexpr int kRowsOfX = 3;

// Names with commas between them.
std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> names;
  for (size_t from = 0, to = 0; to != std::string::npos; from = to + 2)
    names.push_back(text.substr(from, (to = text.find(", ", from)) - from));
  return names;
}

// One linear, into memory that ends where its numbers end.
std::vector<float> multiply(const Kernels& kernels, const Matrix& matrix, const std::vector<float>& x,
                            int rows, const float* bias, bool integer) {
  std::vector<float> y(size_t(rows) * size_t(matrix.rows()));
  std::vector<uint8_t> quantized;
  LinearTask task{};
  task.weights = matrix.data();
  task.tile_bytes = matrix.tile_bytes();
  task.outputs = matrix.rows();
  task.columns = matrix.columns();
  task.scales = matrix.scales();
  task.scale_columns = matrix.scale_columns();
  task.bias = bias;
  task.x = reinterpret_cast<const uint8_t*>(x.data());
  task.x_stride = size_t(matrix.columns()) * sizeof(float);
  if (integer) {
    task.x_stride = quantized_stride(matrix.columns());
    quantized.resize(task.x_stride * size_t(rows));
    kernels.quantize(x.data(), rows, matrix.columns(), quantized.data());
    task.x = quantized.data();
  }
  task.y = y.data();
  task.y_stride = size_t(matrix.rows());
  task.row_end = rows;
  task.tile_end = matrix.tiles();
  const size_t format = size_t(matrix.format().id);
  (integer ? kernels.linear_int8[format] : kernels.linear_float[format])(task);
  return y;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static ThreadPool pool(1);
  static const std::vector<const Kernels*> all = usable_kernels();
  static const std::vector<std::string> names = split(format_names());
  Taken taken(data, size);
  const FormatInfo& format = *find_format(names[size_t(taken.below(kFormats))]);
  const int rows = 1 + taken.below(35), blocks = 1 + taken.below(format.block == 1    ? 70
                                                                 : format.block == 32 ? 5
                                                                                      : 2);
  const int columns = blocks * format.block, rows_of_x = 1 + taken.below(kRowsOfX);
  const bool biased = taken.one_in(2);
  const int cut = taken.one_in(16) ? taken.index(4) : 0;
  const size_t row_bytes = size_t(blocks) * size_t(format.stored_bytes);
  std::vector<uint8_t> stored(row_bytes * size_t(rows));
  std::vector<float> x(size_t(rows_of_x) * size_t(columns)), bias(static_cast<size_t>(rows));
  uint32_t noise = taken.number<uint32_t>();
  const bool wild = taken.one_in(4);  // activations that are no numbers
  for (float& one : x) {
    noise = noise * 1664525u + 1013904223u;
    one = wild && noise >> 28 == 0 ? taken.real() : float(int32_t(noise) >> 16) / 8192.0f;
  }
  for (float& one : bias) one = taken.real();
  for (size_t i = 0; i < stored.size(); ++i) {
    noise = noise * 1664525u + 1013904223u;
    const uint8_t next = taken.byte();
    stored[i] = next != 0 ? next : uint8_t(noise >> 24);
  }
  for (int row = 0; row < rows; ++row) {
    const std::vector<uint8_t> one(stored.begin() + long(row_bytes) * row,
                                   stored.begin() + long(row_bytes) * (row + 1));
    std::vector<float> out(static_cast<size_t>(columns));
    format.decode(one.data(), blocks, out.data());
  }
  Scales scales;
  if (taken.one_in(2)) {
    scales.rows = 1 + taken.below(rows);
    scales.columns = format.integer_dot ? columns : 1 + taken.below(columns);
    const int high = (rows + scales.rows - 1) / scales.rows, wide = scales.wide(columns);
    for (int i = 0; i < high * wide; ++i) scales.values.push_back(taken.real());
  }
  std::vector<float> first[2];
  for (const size_t k : chosen_kernels(taken, all.size())) {
    const Kernels* kernels = all[k];
    try {
      const Matrix matrix(pool, kernels->isa, format.name, stored.data(), stored.size() - size_t(cut), rows,
                          columns, scales);
      if (cut != 0) fault("a matrix of another size was taken");
      for (int integer = 0; integer <= (format.integer_dot ? 1 : 0); ++integer) {
        const std::vector<float> y =
            multiply(*kernels, matrix, x, rows_of_x, biased ? bias.data() : nullptr, integer != 0);
        if (first[integer].empty()) first[integer] = y;
        if (!(integer != 0 && wild)) same_bits(first[integer].data(), y.data(), y.size(), format.name);
      }
    } catch (const std::invalid_argument&) {
      if (cut == 0) fault("a matrix of the right size was refused");
    }
  }
  return 0;
}
