// Random matrices in any format, packed for a table of kernels.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "formats/formats.h"
#include "record.h"

namespace fivefold {

struct Weights {
  const FormatInfo* format;
  int outputs, columns;
  std::vector<uint8_t> stored;
};

// Random bytes for each block; unless `any`, such that its numbers are moderate.
inline Weights draw_weights(Random& random, const FormatInfo& format, int outputs, int columns, bool any) {
  Weights weights{&format, outputs, columns, {}};
  const size_t bytes = size_t(format.stored_bytes);
  weights.stored.resize(size_t(outputs) * size_t(columns / format.block) * bytes);
  std::vector<float> numbers(size_t(format.block));
  for (size_t at = 0; at < weights.stored.size(); at += bytes) {
    for (;;) {
      for (size_t i = 0; i < bytes; ++i) weights.stored[at + i] = uint8_t(random.next());
      if (any) break;
      format.decode(weights.stored.data() + at, 1, numbers.data());
      float most = 0.0f;
      for (float number : numbers) most = std::isfinite(number) ? std::max(most, std::fabs(number)) : 1e9f;
      if (most < 100.0f && most > 1e-3f) break;
    }
  }
  return weights;
}

struct Packed {
  size_t tile_bytes;
  int tiles;
  std::vector<uint8_t> bytes;  // and room behind them, for what kernels fetch ahead of time
  std::vector<float> scales;   // of each row, the format's own factor among them
};

inline Packed pack(const Kernels& kernels, const Weights& weights) {
  const int blocks = weights.columns / weights.format->block, width = kernels.width;
  const size_t row_bytes = size_t(blocks) * size_t(weights.format->stored_bytes);
  Packed packed{size_t(blocks) * size_t(weights.format->packed_bytes) * size_t(width),
                (weights.outputs + width - 1) / width,
                {},
                {}};
  for (int row = 0; row < packed.tiles * width; ++row)
    packed.scales.push_back(weights.format->factor * float(1 + row % 3));
  packed.bytes.resize(packed.tile_bytes * size_t(packed.tiles) + 4096);
  for (int tile = 0; tile < packed.tiles; ++tile)
    weights.format->pack_tile(weights.stored.data() + size_t(tile * width) * row_bytes, row_bytes,
                              std::min(width, weights.outputs - tile * width), width, blocks,
                              packed.bytes.data() + size_t(tile) * packed.tile_bytes);
  return packed;
}

// The task of all rows and tiles. `x` are float or quantized rows, `stride` bytes apart.
inline LinearTask whole_task(const Weights& weights, const Packed& packed, const void* x, size_t stride,
                             int rows, const float* bias, float* y) {
  LinearTask task{};
  task.weights = packed.bytes.data();
  task.tile_bytes = packed.tile_bytes;
  task.outputs = weights.outputs;
  task.columns = weights.columns;
  task.scales = packed.scales.data();
  task.scale_columns = weights.columns;
  task.bias = bias;
  task.x = static_cast<const uint8_t*>(x);
  task.x_stride = stride;
  task.y = y;
  task.y_stride = size_t(weights.outputs);
  task.row_end = rows;
  task.tile_end = packed.tiles;
  return task;
}

// The names of all formats.
inline std::vector<std::string> all_formats() {
  std::vector<std::string> names;
  const std::string text = format_names();
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(", ", at), text.size());
    names.push_back(text.substr(at, end - at));
    at = end + 2;
  }
  return names;
}

}  // namespace fivefold
