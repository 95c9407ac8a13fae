// A cut out of each row.
#pragma once

#include "state.h"

namespace fivefold {

void columns_check(State& state, Node& node);
void columns_run(State& state, const Node& node, int begin, int end);

}  // namespace fivefold
