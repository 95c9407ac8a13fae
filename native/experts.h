// Mixture of experts: the choice for each row, rows grouped by expert, and the matrix of each.
#pragma once

#include "state.h"

namespace fivefold {

constexpr int kMostExperts = 1024;

void route_check(State& state, Node& node);
void route_run(State& state, const Node& node, int begin, int end);

void expert_check(State& state, Node& node);
// First phase, for all nodes of one choice: which rows each expert has.
int expert_groupings(const State& state, const Node& node);
void group_experts(State& state, const Node& node, int chunk, int thread);
// Second phase: the tiles of all experts that have rows, one behind the other, in chunks of equal work.
int expert_chunks(const State& state, const Node& node);
void expert_run(State& state, const Node& node, int chunk, int thread);

void expert_inputs_check(State& state, Node& node);
void expert_inputs_run(State& state, const Node& node, int begin, int end);
void expert_sum_check(State& state, Node& node);
void expert_sum_run(State& state, const Node& node, int begin, int end);

}  // namespace fivefold
