#include "columns.h"

#include <algorithm>

#include "nodes.h"

namespace fivefold {

// integers: the first column, and the one after the last
void columns_check(State& state, Node& node) {
  same_rows(state, node);
  const int start = node.integers[0], stop = node.integers[1];
  if (start < 0 || stop <= start || stop > state.buffer(node.inputs[0]).width)
    refuse(node, "there are no such columns");
  if (state.buffer(node.outputs[0]).width != stop - start)
    refuse(node, "the output's width is not the columns'");
  if (state.buffer(node.inputs[0]).slot == state.buffer(node.outputs[0]).slot)
    refuse(node, "the output cannot take the input's place");
}

void columns_run(State& state, const Node& node, int begin, int end) {
  const int start = node.integers[0], count = node.integers[1] - start;
  for (int i = begin; i < end; ++i)
    std::copy_n(state.buffer_row(node.inputs[0], i) + start, count, state.buffer_row(node.outputs[0], i));
}

}  // namespace fivefold
