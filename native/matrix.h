// A weight matrix (M outputs x K columns) packed for one instruction set's linear kernels, or a stack of such
// matrices, one for each expert.
//
// Tiles of W rows, each one contiguous stream along the columns; see formats/formats.cc. The packed bytes are
// a copy.
#pragma once

#include <vector>

#include "formats/formats.h"
#include "kernels.h"
#include "memory.h"
#include "thread_pool.h"

namespace fivefold {

// Factors of a stored matrix: each is for `rows` x `columns` numbers of it, fewer at the edges. Row by row.
struct Scales {
  std::vector<float> values;  // empty: there are none
  int rows = 0, columns = 0;

  // Throws std::invalid_argument unless they are finite and as many as such a matrix has blocks.
  void check(size_t high, size_t wide, int64_t matrix_rows, int64_t matrix_columns) const;
  int wide(int matrix_columns) const { return (matrix_columns + columns - 1) / columns; }
};

class Matrix {
 public:
  // `stored` holds rows x columns in the format's own blocks. Throws std::invalid_argument, too where a
  // format whose kernels add integers has more than one scale a row.
  Matrix(ThreadPool& pool, const std::string& isa, const std::string& format, const uint8_t* stored,
         size_t stored_bytes, int64_t rows, int64_t columns, const Scales& scales = {});
  // A stack of `count` matrices, to be packed one by one.
  Matrix(const std::string& isa, const std::string& format, int64_t count, int64_t rows, int64_t columns);
  // Packs the next matrix of a stack; throws as the constructor does.
  void pack(ThreadPool& pool, const uint8_t* stored, size_t stored_bytes, const Scales& scales = {});

  int count() const { return count_; }
  // Whether all matrices have been packed.
  bool complete() const { return packed_ == count_; }
  int rows() const { return rows_; }
  int columns() const { return columns_; }
  size_t bytes() const { return memory_.size() + scales_.size() * sizeof(float); }
  const FormatInfo& format() const { return *format_; }
  const Kernels& kernels() const { return *kernels_; }
  const uint8_t* data(int number = 0) const {
    return memory_.data() + size_t(number) * size_t(tiles()) * tile_bytes_;
  }
  size_t tile_bytes() const { return tile_bytes_; }
  // Factors of outputs as kernels take them, see LinearTask; null if there are none.
  const float* scales(int number = 0) const {
    return scales_.empty() ? nullptr : scales_.data() + size_t(number) * (scales_.size() / size_t(count_));
  }
  int scale_columns() const { return scale_columns_; }
  // Whether all numbers are: no NaN, nothing infinite.
  bool finite() const { return finite_; }
  int tiles() const { return (rows_ + kernels_->width - 1) / kernels_->width; }

 private:
  const Kernels* kernels_;
  const FormatInfo* format_;
  int rows_, columns_;
  int count_ = 1, packed_ = 0;
  void spread_scales(const Scales& scales);

  size_t tile_bytes_ = 0;
  std::vector<float> scales_;
  int scale_columns_ = 0;
  bool finite_ = true;
  Memory memory_;
};

// Checks a stored matrix's sizes and gives the bytes of a row. Throws std::invalid_argument.
size_t stored_row_bytes(const FormatInfo& format, size_t stored_bytes, int64_t rows, int64_t columns);

// The format of that name. Throws std::invalid_argument.
const FormatInfo& require_format(const std::string& name);

// The kernels of that name. Throws std::invalid_argument if they do not exist or do not work here.
const Kernels& require_kernels(const std::string& isa);

}  // namespace fivefold
