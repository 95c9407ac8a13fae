#include "matrix.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <new>
#include <stdexcept>

#include "cpu.h"

namespace fivefold {

const FormatInfo& require_format(const std::string& name) {
  const FormatInfo* info = find_format(name);
  if (info == nullptr)
    throw std::invalid_argument("no native format named '" + name + "'; there are " + format_names());
  return *info;
}

const Kernels& require_kernels(const std::string& isa) {
  const Kernels* kernels = find_kernels(isa);
  if (kernels == nullptr)
    throw std::invalid_argument("no kernels named '" + isa + "' work on this processor");
  return *kernels;
}

namespace {

std::string described(const FormatInfo& format, int64_t rows, int64_t columns) {
  return std::string(format.name) + " matrix of " + std::to_string(rows) + " x " + std::to_string(columns);
}

void check_sizes(const FormatInfo& format, int64_t rows, int64_t columns) {
  const std::string what = described(format, rows, columns);
  if (rows < 1 || columns < 1 || rows > (int64_t(1) << 30) || columns > (int64_t(1) << 24))
    throw std::invalid_argument(what + ": the sizes are out of range");
  if (columns % format.block != 0)
    throw std::invalid_argument(what + ": columns must be a multiple of " + std::to_string(format.block));
}

}  // namespace

size_t stored_row_bytes(const FormatInfo& format, size_t stored_bytes, int64_t rows, int64_t columns) {
  check_sizes(format, rows, columns);
  const size_t row_bytes = size_t(columns / format.block) * format.stored_bytes;
  if (stored_bytes != row_bytes * size_t(rows))
    throw std::invalid_argument(described(format, rows, columns) + " takes " +
                                std::to_string(row_bytes * size_t(rows)) + " bytes, not " +
                                std::to_string(stored_bytes));
  return row_bytes;
}

void Scales::check(size_t high, size_t wide, int64_t matrix_rows, int64_t matrix_columns) const {
  const std::string what = "scales of " + std::to_string(high) + " x " + std::to_string(wide);
  if (rows < 1 || columns < 1) throw std::invalid_argument(what + ": a block must have rows and columns");
  if (int64_t(high) != (matrix_rows + rows - 1) / rows ||
      int64_t(wide) != (matrix_columns + columns - 1) / columns)
    throw std::invalid_argument(what + " do not fit a matrix of " + std::to_string(matrix_rows) + " x " +
                                std::to_string(matrix_columns) + " in blocks of " + std::to_string(rows) +
                                " x " + std::to_string(columns));
  for (float value : values)
    if (!std::isfinite(value)) throw std::invalid_argument(what + ": one is not finite");
}

// The scales of each tile and segment of columns, side by side for its rows, with the format's own factor, of
// the matrix that is packed next.
void Matrix::spread_scales(const Scales& scales) {
  const bool given = !scales.values.empty();
  const bool wanted = given || format_->factor != 1.0f;
  const int segments = given ? scales.wide(columns_) : 1;
  const int columns = !wanted ? 0 : given ? std::min(scales.columns, columns_) : columns_;
  if (segments > 1 && format_->integer_dot)
    throw std::invalid_argument(std::string(format_->name) + " takes one scale a row, not one for each " +
                                std::to_string(scales.columns) + " columns");
  if (packed_ == 0) scale_columns_ = columns;
  if (columns != scale_columns_)
    throw std::invalid_argument("the matrices of a stack have scales for different numbers of columns");
  if (!wanted) return;
  const int width = kernels_->width;
  const size_t size = size_t(tiles()) * size_t(segments) * size_t(width);
  if (packed_ == 0) scales_.assign(size * size_t(count_), 0.0f);
  float* own = scales_.data() + size * size_t(packed_);
  for (int row = 0; row < rows_; ++row)
    for (int segment = 0; segment < segments; ++segment) {
      float scale = format_->factor;
      if (given) scale *= scales.values[size_t(row / scales.rows) * size_t(segments) + size_t(segment)];
      finite_ &= std::isfinite(scale);
      own[(size_t(row / width) * size_t(segments) + size_t(segment)) * size_t(width) + size_t(row % width)] =
          scale;
    }
}

Matrix::Matrix(ThreadPool& pool, const std::string& isa, const std::string& format, const uint8_t* stored,
               size_t stored_bytes, int64_t rows, int64_t columns, const Scales& scales)
    : Matrix(isa, format, 1, rows, columns) {
  pack(pool, stored, stored_bytes, scales);
}

Matrix::Matrix(const std::string& isa, const std::string& format, int64_t count, int64_t rows,
               int64_t columns)
    : kernels_(&require_kernels(isa)),
      format_(&require_format(format)),
      rows_(int(rows)),
      columns_(int(columns)),
      count_(int(count)) {
  check_sizes(*format_, rows, columns);
  if (count < 1 || count > (1 << 20)) throw std::invalid_argument("a stack has from 1 to 2^20 matrices");
  tile_bytes_ = size_t(columns_ / format_->block) * format_->packed_bytes * size_t(kernels_->width);
  const size_t one = tile_bytes_ * size_t(tiles());
  if (one > SIZE_MAX / size_t(count_)) throw std::bad_alloc();
  memory_ = Memory(one * size_t(count_));
}

void Matrix::pack(ThreadPool& pool, const uint8_t* stored, size_t stored_bytes, const Scales& scales) {
  if (complete()) throw std::invalid_argument("all matrices are packed already");
  const size_t row_bytes = stored_row_bytes(*format_, stored_bytes, rows_, columns_);
  const int blocks = columns_ / format_->block;
  const int width = kernels_->width;
  uint8_t* packed = memory_.data() + size_t(packed_) * size_t(tiles()) * tile_bytes_;
  std::atomic<bool> finite{true};
  pool.run([&](int thread) {
    const auto [first, last] = share(tiles(), thread, pool.threads());
    for (int tile = first; tile < last; ++tile) {
      const int row = tile * width;
      if (!format_->pack_tile(stored + size_t(row) * row_bytes, row_bytes, std::min(width, rows_ - row),
                              width, blocks, packed + size_t(tile) * tile_bytes_))
        finite = false;
    }
  });
  finite_ = finite_ && finite;
  spread_scales(scales);
  ++packed_;
}

}  // namespace fivefold
