#include "matrix.h"

#include <algorithm>
#include <atomic>
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

size_t stored_row_bytes(const FormatInfo& format, size_t stored_bytes, int64_t rows, int64_t columns) {
  const std::string what =
      std::string(format.name) + " matrix of " + std::to_string(rows) + " x " + std::to_string(columns);
  if (rows < 1 || columns < 1 || rows > (int64_t(1) << 30) || columns > (int64_t(1) << 24))
    throw std::invalid_argument(what + ": the sizes are out of range");
  if (columns % format.block != 0)
    throw std::invalid_argument(what + ": columns must be a multiple of " + std::to_string(format.block));
  const size_t row_bytes = size_t(columns / format.block) * format.stored_bytes;
  if (stored_bytes != row_bytes * size_t(rows))
    throw std::invalid_argument(what + " takes " + std::to_string(row_bytes * size_t(rows)) + " bytes, not " +
                                std::to_string(stored_bytes));
  return row_bytes;
}

Matrix::Matrix(ThreadPool& pool, const std::string& isa, const std::string& format, const uint8_t* stored,
               size_t stored_bytes, int64_t rows, int64_t columns)
    : kernels_(&require_kernels(isa)),
      format_(&require_format(format)),
      rows_(int(rows)),
      columns_(int(columns)) {
  const size_t row_bytes = stored_row_bytes(*format_, stored_bytes, rows, columns);
  const int blocks = columns_ / format_->block;
  const int width = kernels_->width;
  tile_bytes_ = size_t(blocks) * format_->packed_bytes * width;
  memory_ = Memory(tile_bytes_ * size_t(tiles()));
  std::atomic<bool> finite{true};
  pool.run([&](int thread) {
    const auto [first, last] = share(tiles(), thread, pool.threads());
    for (int tile = first; tile < last; ++tile) {
      const int row = tile * width;
      if (!format_->pack_tile(stored + size_t(row) * row_bytes, row_bytes, std::min(width, rows_ - row),
                              width, blocks, memory_.data() + size_t(tile) * tile_bytes_))
        finite = false;
    }
  });
  finite_ = finite;
}

}  // namespace fivefold
