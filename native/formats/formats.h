// The number formats weights may be stored in, as a table: what packing and the embedding need to know of
// each.
//
// A row is made from the format's own struct, which each header beside this one has:
//   kName, kBlock, kStoredBytes   name; numbers of a stored block (1, 32, 64 or 256), along the columns; its
//   bytes
// and if a block is one number
//   value(stored)                 the number
//   weights(packed)               for kernels, W of them, over kFactor if it has one; where it says kPairs,
//   two
//                                 columns of them, too, in less time
// or if it is more
//   kScales                       f16 numbers: 1 (d), or 2 (d, and a minimum or the scale of minima); 0 if
//                                 parts have floats of their own
//   kOffset                       what is taken off a code, or off what the code stands for
//   Codes                         how codes lie in packed tiles, and what they stand for: codes.h
//   Parts                         how what parts have of their own does: parts.h
//   read(block, scales, small, codes)   takes a stored block apart: f16 numbers, Parts::kRead bytes, a code
//   each
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "list.h"

namespace fivefold {

#define FIVEFOLD_FORMAT(Format) k##Format,
enum class FormatId : int { FIVEFOLD_FORMATS(FIVEFOLD_FORMAT) kCount };
#undef FIVEFOLD_FORMAT
constexpr int kFormats = int(FormatId::kCount);

struct FormatInfo {
  const char* name;
  FormatId id;
  int block;         // numbers in a block, along the columns
  int stored_bytes;  // bytes of a block in a file
  int packed_bytes;  // bytes of a block and row in a packed tile
  bool integer_dot;  // has a linear kernel with int8 activations
  float factor;      // a number is that times what the kernels take for it

  // Packs one tile: `rows` rows (the rest of `width` is zero) from `stored` rows `row_bytes` apart. Returns
  // whether all its numbers are finite.
  bool (*pack_tile)(const uint8_t* stored, size_t row_bytes, int rows, int width, int blocks, uint8_t* tile);
  // Decodes blocks of one stored row to floats.
  void (*decode)(const uint8_t* stored, int blocks, float* out);
};

// The row of that name, or null.
const FormatInfo* find_format(const std::string& name);
// All names, for messages.
std::string format_names();

}  // namespace fivefold
