// A gate for a whole row, and the gates of the delta rule.
#pragma once

#include "state.h"

namespace fivefold {

void gate_rows_check(State& state, Node& node);
void gate_rows_run(State& state, const Node& node, int begin, int end);
void delta_gates_check(State& state, Node& node);
void delta_gates_run(State& state, const Node& node, int begin, int end);

}  // namespace fivefold
