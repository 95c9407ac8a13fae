// Observing: how much attention the rows of a row set pay to each slot of their sequence, by query head.
#pragma once

#include "state.h"

namespace fivefold {

void observe_check(State& state, Node& node);
// Makes room for what the run that begins will find.
void plan_observations(State& state);
int observe_units(const State& state, const Node& node);
void observe_unit(State& state, const Node& node, int unit, int thread);

}  // namespace fivefold
