// Products of rows with matrices: one for all rows here, those of experts in experts.h.
#pragma once

#include "state.h"

namespace fivefold {

constexpr int64_t kLinearQuantum = 96
                                   << 10;  // work of a chunk, as bytes that are streamed: some microseconds

// The node's matrices, which must be packed for the executor's kernels. Decides on int8 activations.
const Matrix& check_matrix(State& state, Node& node);

// What to do with one of the node's matrices, but for the rows and tiles.
LinearTask linear_task(const State& state, const Node& node, int number);
void run_linear(const State& state, const Node& node, const LinearTask& task);

void linear_check(State& state, Node& node);
int linear_chunks(const State& state, const Node& node);
void linear_run(State& state, const Node& node, int chunk, int thread);

}  // namespace fivefold
