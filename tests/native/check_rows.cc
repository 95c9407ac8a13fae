// The kernels that work number by number or row by row, and those of choosing a token.
#include <limits>
#include <string>

#include "record.h"

namespace fivefold {
namespace {

void run_elementwise(const Kernels& kernels, const std::vector<float>& a, const std::vector<float>& b,
                     Record& record) {
  const size_t count = a.size();
  std::vector<float> y(count);
  const std::string of = " of " + std::to_string(count);
  kernels.add(a.data(), b.data(), count, y.data());
  record.add("add" + of, y);
  kernels.scale(a.data(), 0.37f, count, y.data());
  record.add("scale" + of, y);
  kernels.soft_cap(a.data(), 3.0f, count, y.data());
  record.add("soft cap" + of, y);
  for (Activation activation :
       {Activation::kSilu, Activation::kGeluTanh, Activation::kGelu, Activation::kSigmoid}) {
    kernels.gated(a.data(), b.data(), count, activation, y.data());
    record.add("gated " + std::to_string(int(activation)) + of, y);
  }
  kernels.clamped_gated(a.data(), b.data(), count, 1.702f, 2.0f, y.data());
  record.add("clamped gated" + of, y);
  kernels.softmax_weights(a.data(), 4.0f, 1.3f, count, y.data());
  record.add("softmax weights" + of, y);
}

void run_norms(const Kernels& kernels, Random random, Record& record) {
  for (int columns : {1, 7, 8, 16, 17, 31, 100, 576}) {
    const int rows = 3;
    const std::vector<float> x = random.floats(size_t(rows) * size_t(columns), 30.0f);
    const std::vector<float> weight = random.floats(size_t(columns));
    std::vector<float> y(x.size());
    kernels.rms_norm(x.data(), weight.data(), 1e-5f, rows, columns, y.data());
    record.add("rms norm of " + std::to_string(columns), y);
  }
}

void run_weighted_sums(const Kernels& kernels, Random random, Record& record) {
  for (int width : {1, 7, 8, 16, 17, 31, 100}) {
    const int count = 5;
    const std::vector<float> x = random.floats(size_t(count) * size_t(width), 30.0f);
    const std::vector<float> weights = random.floats(size_t(count));
    std::vector<float> y(size_t(width), -1.0f);
    kernels.weighted_sum(x.data(), weights.data(), count, width, y.data());
    record.add("weighted sum of " + std::to_string(width), y);
  }
}

void run_recurrent(const Kernels& kernels, Random random, Record& record) {
  for (int width : {1, 7, 16, 40, 100}) {
    const size_t count = size_t(width);
    const std::vector<float> x = random.floats(4 * count), weights = random.floats(4 * count);
    const float* rows[4];
    for (size_t tap = 0; tap < 4; ++tap) rows[tap] = x.data() + tap * count;
    std::vector<float> y(count);
    kernels.convolve(rows, weights.data(), count, 4, count, y.data());
    record.add("convolution of " + std::to_string(width), y);
    kernels.unit_norm(x.data(), 1e-6f, 0.3f, width, y.data());
    record.add("unit norm of " + std::to_string(width), y);
  }
  for (int key_width : {4, 12, 128}) {
    const int rows = 5;
    const std::vector<float> keys = random.floats(size_t(rows * key_width), 0.3f);
    const std::vector<float> queries = random.floats(size_t(rows * key_width), 0.3f);
    const std::vector<float> values = random.floats(size_t(rows) * kStateColumns);
    const std::vector<float> gates = random.floats(size_t(rows) * 2, 1.0f);
    std::vector<float> state = random.floats(size_t(key_width) * kStateColumns);
    std::vector<float> y(values.size());
    kernels.delta_rule({keys.data(), queries.data(), values.data(), gates.data(), gates.data() + 1, y.data(),
                        kStateColumns, 2, kStateColumns, rows, key_width, state.data(), state.data()});
    record.add("delta rule of " + std::to_string(key_width), y);
    record.add("state of " + std::to_string(key_width), state);
  }
}

void run_rope(const Kernels& kernels, Random random, Record& record) {
  for (int rotary : {2, 16, 26, 64})
    for (RopeStyle style : {RopeStyle::kHalf, RopeStyle::kAdjacent})
      for (int rest : {0, 6}) {
        const int rows = 3, heads = 2, head_size = rotary + rest;
        std::vector<float> x = random.floats(size_t(rows * heads * head_size));
        const std::vector<float> angles = random.floats(size_t(rows * rotary), 1.0f);
        std::vector<float> y(x.size());
        kernels.rope({x.data(), angles.data(), y.data(), rows, heads, head_size, rotary, style});
        record.add("rope of " + std::to_string(rotary), y);
        kernels.rope({x.data(), angles.data(), x.data(), rows, heads, head_size, rotary, style});
        record.add("rope in place of " + std::to_string(rotary), x);
      }
}

void run_largest(const Kernels& kernels, Random random, Record& record) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (size_t count : {1, 5, 8, 1000, 1024, 1025, 3001})
    for (int kind = 0; kind < 8; ++kind) {
      std::vector<float> x = random.floats(count);
      for (float& number : x)
        if (kind >= 2 && kind < 5) number = float(random.below(3));  // the first of many equal ones
      float& some = x[size_t(random.below(int(count)))];
      if (kind == 4) some = -kInfinity;
      if (kind == 5) some = std::numeric_limits<float>::quiet_NaN();
      if (kind == 6) some = kInfinity;
      if (kind == 7) x.assign(count, -kInfinity);
      const int64_t found = kernels.largest_logit(x.data(), count);
      record.add_integers("largest of " + std::to_string(count), &found, 1);
    }
}

void run_read_sum(const Kernels& kernels, Random random, Record& record) {
  std::vector<uint64_t> data(4096 + 512);
  for (uint64_t& number : data) number = random.next();
  const uint64_t sum = kernels.read_sum(data.data(), 4096);
  record.add_integers("sum of memory", &sum, 1);
}

}  // namespace

void run_row_kernels(const Kernels& kernels, Record& record) {
  Random random(3);
  for (size_t count = 1; count < 40; ++count) {
    run_elementwise(kernels, random.floats(count), random.floats(count), record);
    run_elementwise(kernels, random.any_floats(count), random.any_floats(count), record);
  }
  for (float most : {0.1f, 1.0f, 20.0f, 100.0f})
    run_elementwise(kernels, random.floats(2000, most), random.floats(2000), record);
  run_weighted_sums(kernels, Random(9), record);
  run_norms(kernels, Random(4), record);
  run_rope(kernels, Random(5), record);
  run_recurrent(kernels, Random(5), record);
  run_largest(kernels, Random(6), record);
  run_read_sum(kernels, Random(7), record);
}

}  // namespace fivefold
