// The parts of a row that belong to heads: a matrix for each, a cut out of each, two rows joined head by
// head.
#pragma once

#include "state.h"

namespace fivefold {

void head_linear_check(State& state, Node& node);
// The tiles of all heads, one behind the other, in chunks of equal work, for each block of rows.
int head_linear_chunks(const State& state, const Node& node);
void head_linear_run(State& state, const Node& node, int chunk, int thread);

void head_columns_check(State& state, Node& node);
void head_columns_run(State& state, const Node& node, int begin, int end);

void head_join_check(State& state, Node& node);
void head_join_run(State& state, const Node& node, int begin, int end);

}  // namespace fivefold
