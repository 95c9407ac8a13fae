// The kinds of node: what each takes, how it is checked when it is added, and how it runs.
#pragma once

#include <string>

#include "state.h"

namespace fivefold {

struct Arity {
  int least, most;
};

// Work in chunks that threads take one by one: how many there are in this run, and one of them.
struct Chunked {
  int (*count)(const State& state, const Node& node);
  void (*run)(State& state, const Node& node, int chunk, int thread);
};

struct KernelInfo {
  const char* name;
  Arity inputs, outputs, weights, integers, floats;
  bool needs_group;
  bool writes_cache;
  // Throws std::invalid_argument; may fill in what Node leaves open. The arities have been checked before.
  void (*check)(State& state, Node& node);
  // One of the two is there. By rows: rows [begin, end) of the node's row set, each on its own.
  void (*by_rows)(State& state, const Node& node, int begin, int end);
  // Or in chunks of its own; where a second phase is given, it starts when the first is complete.
  Chunked phases[2];
  bool recurrent = false;  // its first integers are the numbers of a state group and of a layer in it
};

// The row of that name, or null.
const KernelInfo* find_kernel(const std::string& name);
std::string kernel_names();

// int8 rows of a node's first input, each of its parts by itself, kept beside the buffer's slot.
size_t quantized_bytes(const State& state, const Node& node);  // of a row
void quantize_rows(State& state, const Node& node, int begin, int end);

inline int width_of(const State& state, int buffer) { return state.buffer(buffer).width; }

// A node's checks, with messages that name the kernel.
[[noreturn]] void refuse(const Node& node, const std::string& why);
void same_rows(State& state, Node& node);                             // of all buffers
void same_width(const State& state, const Node& node, int a, int b);  // of two buffers
void all_same_width(State& state, Node& node);                        // and the same rows
void needs_vector(const State& state, const Node& node, int weight, size_t size);

}  // namespace fivefold
