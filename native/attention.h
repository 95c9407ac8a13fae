// Attention over the cache: sharing it out, running the parts, merging them.
#pragma once

#include "state.h"

namespace fivefold {

// The plan for (group, row set), made if there is none yet.
int attention_plan(State& state, int group, int row_set, int queries);

// Fills in all plans for the run that begins.
void plan_attention(State& state);

// Refuses a node whose layer, heads or queries do not fit its cache group; its integers begin with the two.
void check_queries(const State& state, const Node& node);
void attention_check(State& state, Node& node);
int attention_units(const State& state, const Node& node);
void attention_unit(State& state, const Node& node, int unit, int thread);
// The merge of what one block of rows sees; none where units were not split.
int attention_families(const State& state, const Node& node);
void attention_family(State& state, const Node& node, int family, int thread);
void attention_store_check(State& state, Node& node);
void attention_store_run(State& state, const Node& node, int begin, int end);

}  // namespace fivefold
