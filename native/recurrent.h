// Recurrent states: their memory, and the ops that read and write them, which are the short convolution and
// the gated delta rule.
//
// A run says for each sequence in which slot the state before its first row lies (-1: it is all zeros), and
// for each row in which slot the state after it is to be left (-1: nowhere). So a span goes on in place, or
// leaves the state of each row where a commit can choose.
#pragma once

#include "memory.h"

namespace fivefold {

struct Node;
struct RunArguments;
struct State;

// States of one group, [slot][layer][size] floats. What they mean is known to the kernels alone.
class StateStorage {
 public:
  // Throws std::invalid_argument if a size is out of range.
  StateStorage(int layers, int slots, int64_t size);

  int layers() const { return layers_; }
  int slots() const { return slots_; }
  size_t size() const { return size_; }
  size_t bytes() const { return memory_.size(); }
  float* state(int layer, int slot) const {
    return reinterpret_cast<float*>(memory_.data()) +
           (size_t(slot) * size_t(layers_) + size_t(layer)) * size_;
  }
  // All layers of a slot become those of another. Throws std::invalid_argument if there is no such slot.
  void copy(int from, int to);

 private:
  int layers_, slots_;
  size_t size_;
  Memory memory_;
};

// Rows of a sequence between two states that lie in slots; `from` may be -1.
struct StateSegment {
  int begin, end;
  int from, to;
};

// Throws std::invalid_argument unless the slots exist, and no sequence writes where another reads or writes.
void validate_states(const State& state, const RunArguments& run);
// Fills in the segments of the run that begins.
void plan_states(State& state);

void convolution_check(State& state, Node& node);
int convolution_chunks(const State& state, const Node& node);
void convolution_run(State& state, const Node& node, int chunk, int thread);
void delta_check(State& state, Node& node);
int delta_chunks(const State& state, const Node& node);
void delta_run(State& state, const Node& node, int chunk, int thread);

}  // namespace fivefold
