// Runs one linear kernel some times, for those who count its instructions:
//   run_linear KERNELS FORMAT int8|float ROWS OUTPUTS COLUMNS TIMES
#include <cstdio>
#include <cstdlib>

#include "cpu.h"
#include "weights.h"

int main(int count, char** words) {
  using namespace fivefold;
  const Kernels* kernels = count == 8 ? find_kernels(words[1]) : nullptr;
  const FormatInfo* format = count == 8 ? find_format(words[2]) : nullptr;
  if (kernels == nullptr || format == nullptr) {
    std::fprintf(stderr, "usage: run_linear KERNELS FORMAT int8|float ROWS OUTPUTS COLUMNS TIMES\n");
    return 2;
  }
  const bool int8 = std::string(words[3]) == "int8";
  const int rows = std::atoi(words[4]), outputs = std::atoi(words[5]), columns = std::atoi(words[6]);
  Random random(1);
  const Weights weights = draw_weights(random, *format, outputs, columns, false);
  const Packed packed = pack(*kernels, weights);
  const std::vector<float> x = random.floats(size_t(rows) * size_t(columns));
  std::vector<uint8_t> quantized(quantized_stride(columns) * size_t(rows));
  kernels->quantize(x.data(), rows, columns, quantized.data());
  std::vector<float> y(size_t(rows) * size_t(outputs));
  const LinearTask task =
      int8 ? whole_task(weights, packed, quantized.data(), quantized_stride(columns), rows, nullptr, y.data())
           : whole_task(weights, packed, x.data(), size_t(columns) * 4, rows, nullptr, y.data());
  const auto kernel = int8 ? kernels->linear_int8[int(format->id)] : kernels->linear_float[int(format->id)];
  for (int i = 0; i < std::atoi(words[7]); ++i) kernel(task);
  return y[0] == 1e30f;  // never: it keeps the work
}
