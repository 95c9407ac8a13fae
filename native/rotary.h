// What positions do to rows: the angles of rotary embedding, heads turned by them, rows that grow.
#pragma once

#include "state.h"

namespace fivefold {

void angles_check(State& state, Node& node);
void angles_run(State& state, const Node& node, int begin, int end);
void scale_by_position_check(State& state, Node& node);
void scale_by_position_run(State& state, const Node& node, int begin, int end);
void rope_check(State& state, Node& node);
void rope_run(State& state, const Node& node, int begin, int end);

}  // namespace fivefold
