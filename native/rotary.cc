#include "rotary.h"

#include <cmath>

#include "nodes.h"

namespace fivefold {
void angles_check(State& state, Node& node) {
  const size_t pairs = state.weights[size_t(node.weights[0])].vector.size();
  if (pairs == 0 || size_t(width_of(state, node.outputs[0])) != 2 * pairs)
    refuse(node, "the output's width is not twice the number of frequencies");
  if (node.weights.size() > 1 && node.weights[1] >= 0) needs_vector(state, node, node.weights[1], pairs);
  node.row_set = state.buffer(node.outputs[0]).row_set;
}

void angles_run(State& state, const Node& node, int begin, int end) {
  const float* frequencies = state.vector(node.weights[0]);
  const float* factors = node.weights.size() > 1 ? state.vector(node.weights[1]) : nullptr;
  const int pairs = width_of(state, node.outputs[0]) / 2;
  const float factor = node.floats[0];
  for (int i = begin; i < end; ++i) {
    const double position = double(state.run.positions[state.row(node.row_set, i)]);
    float* out = state.buffer_row(node.outputs[0], i);
    for (int p = 0; p < pairs; ++p) {
      const float frequency = factors == nullptr ? frequencies[p] : frequencies[p] / factors[p];
      const double angle = position * double(frequency);
      out[p] = float(std::cos(angle)) * factor;
      out[pairs + p] = float(std::sin(angle)) * factor;
    }
  }
}

// y = x * (1 + beta * log(1 + floor((position + shift) / length)))
void scale_by_position_check(State& state, Node& node) {
  all_same_width(state, node);
  if (!(node.floats[1] >= 1.0f)) refuse(node, "the length must be at least 1");
}

void scale_by_position_run(State& state, const Node& node, int begin, int end) {
  const size_t width = size_t(width_of(state, node.outputs[0]));
  for (int i = begin; i < end; ++i) {
    const double position = state.run.positions[state.row(node.row_set, i)];
    const double shift = node.floats.size() > 2 ? double(node.floats[2]) : 0.0;
    const double turns = std::floor((position + shift) / double(node.floats[1]));
    const float factor = float(1.0 + double(node.floats[0]) * std::log(1.0 + turns));
    state.kernels->scale(state.buffer_row(node.inputs[0], i), factor, width,
                         state.buffer_row(node.outputs[0], i));
  }
}

void rope_check(State& state, Node& node) {
  same_rows(state, node);
  same_width(state, node, node.inputs[0], node.outputs[0]);
  const int64_t heads = node.integers[0], head_size = node.integers[1], rotary = node.integers[2];
  const int style = node.integers[3];
  if (heads < 1 || head_size < 1 || heads * head_size != width_of(state, node.outputs[0]))
    refuse(node, "the width is not heads * head size");
  if (rotary < 2 || rotary % 2 != 0 || rotary > head_size)
    refuse(node, "rotary must be even, from 2 to the head size");
  if (width_of(state, node.inputs[1]) != rotary) refuse(node, "the angles' width is not the rotary width");
  if (state.buffer(node.inputs[1]).slot == state.buffer(node.outputs[0]).slot)
    refuse(node, "the output cannot take the angles' place");
  if (style != 0 && style != 1) refuse(node, "the style must be 0 (halves) or 1 (adjacent pairs)");
}

void rope_run(State& state, const Node& node, int begin, int end) {
  RopeTask task;
  task.x = state.buffer_row(node.inputs[0], begin);
  task.angles = state.buffer_row(node.inputs[1], begin);
  task.y = state.buffer_row(node.outputs[0], begin);
  task.rows = end - begin;
  task.heads = node.integers[0];
  task.head_size = node.integers[1];
  task.rotary = node.integers[2];
  task.style = RopeStyle(node.integers[3]);
  state.kernels->rope(task);
}

}  // namespace fivefold
