#include "gates.h"

#include <cmath>

#include "nodes.h"

namespace fivefold {
// y = x * sigmoid(gate), one gate for the row.
void gate_rows_check(State& state, Node& node) {
  same_rows(state, node);
  if (width_of(state, node.inputs[0]) != width_of(state, node.outputs[0])) refuse(node, "widths differ");
  if (width_of(state, node.inputs[1]) != 1) refuse(node, "a row has one gate");
}

void gate_rows_run(State& state, const Node& node, int begin, int end) {
  for (int row = begin; row < end; ++row) {
    const double gate = double(*state.buffer_row(node.inputs[1], row));
    state.kernels->scale(state.buffer_row(node.inputs[0], row), float(1.0 / (1.0 + std::exp(-gate))),
                         size_t(width_of(state, node.outputs[0])), state.buffer_row(node.outputs[0], row));
  }
}

// The gates of the delta rule: exp(rate * softplus(a + bias)) and sigmoid(b).

void delta_gates_check(State& state, Node& node) {
  same_rows(state, node);
  const int heads = state.buffer(node.inputs[0]).width;
  if (state.buffer(node.inputs[1]).width != heads || state.buffer(node.outputs[0]).width != 2 * heads)
    refuse(node, "takes two numbers for each head and gives two");
  for (int weight : node.weights) needs_vector(state, node, weight, size_t(heads));
  for (int id : node.inputs)
    if (state.buffer(id).slot == state.buffer(node.outputs[0]).slot)
      refuse(node, "the output cannot take an input's place");
  node.constants = state.weights[size_t(node.weights[0])].vector;
  if (node.integers[0] != 0)
    for (float& rate : node.constants) rate = float(-std::exp(double(rate)));
}

void delta_gates_run(State& state, const Node& node, int begin, int end) {
  const int heads = state.buffer(node.inputs[0]).width;
  const float* bias = state.vector(node.weights[1]);
  for (int row = begin; row < end; ++row) {
    const float* a = state.buffer_row(node.inputs[0], row);
    const float* b = state.buffer_row(node.inputs[1], row);
    float* out = state.buffer_row(node.outputs[0], row);
    for (int head = 0; head < heads; ++head) {
      const double x = double(a[head] + bias[head]);
      const double softplus = x > 20.0 ? x : std::log1p(std::exp(x));
      out[head] = float(std::exp(double(node.constants[size_t(head)]) * softplus));
      out[heads + head] = float(1.0 / (1.0 + std::exp(-double(b[head]))));
    }
  }
}

}  // namespace fivefold
