// The order of a program's work, as stages that threads take in chunks.
#pragma once

#include "nodes.h"
#include "state.h"

namespace fivefold {

// A node's work, or the quantization of its input.
struct Part {
  Node* node;
  int quantize;  // a buffer id, or -1
};

// One phase of a node in chunks; or, by rows, following nodes of one row set: a chunk is then a few rows,
// taken through all parts while they are in cache.
struct Stage {
  bool barrier;  // starts only when all stages before it are complete
  int row_set;   // of work by rows, or -1
  int phase;     // of work in chunks
  std::vector<Part> parts;
};

// `single`: every part alone, behind a barrier, for profiling. Allocates the memory for quantized rows.
std::vector<Stage> make_schedule(State& state, bool single);

}  // namespace fivefold
