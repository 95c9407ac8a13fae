#include "recurrent.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "nodes.h"
#include "state.h"

namespace fivefold {
namespace {

constexpr int kConvolvedColumns = 512;  // of a chunk
constexpr int kMostTaps = 16;
constexpr int kNormedRows = 16;  // whose keys and queries a thread holds at a time
constexpr int kWidestKey = 512;
constexpr float kUnitNorm = 1e-6f;
constexpr double kMostNumbers = 0x1p46;

[[noreturn]] void invalid(const std::string& why) { throw std::invalid_argument(why); }

// The state of a node: its first integers are the numbers of the group and of the layer in it.
const StateStorage& storage_of(const State& state, const Node& node) {
  return *state.states[size_t(node.integers[0])];
}

float* state_of(const State& state, const Node& node, int slot) {
  return storage_of(state, node).state(node.integers[1], slot);
}

// The checks that all recurrent nodes share; `size` is that of a state.
void check_state(State& state, Node& node, size_t size) {
  same_rows(state, node);
  if (node.row_set != kAllRows) refuse(node, "works on all rows only");
  const int group = node.integers[0], layer = node.integers[1];
  if (group < 0 || size_t(group) >= state.states.size())
    refuse(node, "no state group " + std::to_string(group));
  const StateStorage& storage = *state.states[size_t(group)];
  if (layer < 0 || layer >= storage.layers())
    refuse(node, "the state group has no layer " + std::to_string(layer));
  if (storage.size() != size)
    refuse(node,
           "needs states of " + std::to_string(size) + " numbers, not " + std::to_string(storage.size()));
  for (const auto& other : state.nodes)
    if (other->kernel->recurrent && other->integers[0] == group && other->integers[1] == layer)
      refuse(node, "another node has this state");
}

void apart(const State& state, const Node& node) {
  for (int id : node.inputs)
    if (state.buffer(id).slot == state.buffer(node.outputs[0]).slot)
      refuse(node, "the output cannot take an input's place");
}

}  // namespace

StateStorage::StateStorage(int layers, int slots, int64_t size)
    : layers_(layers), slots_(slots), size_(size_t(size)) {
  if (layers < 1 || slots < 1 || size < 1) invalid("states need at least one layer, slot and number");
  if (double(layers) * slots * double(size) > kMostNumbers)
    invalid("states of this size do not fit into any memory");
  memory_ = Memory(size_t(layers) * size_t(slots) * size_ * sizeof(float));
}

void StateStorage::copy(int from, int to) {
  for (int slot : {from, to})
    if (slot < 0 || slot >= slots_) invalid("no state slot " + std::to_string(slot));
  if (from != to) std::copy_n(state(0, from), size_t(layers_) * size_, state(0, to));
}

void validate_states(const State& state, const RunArguments& run) {
  if (state.states.empty()) return;
  if (run.states.read == nullptr) invalid("the program has states, and no slots were given");
  int slots = state.states[0]->slots();
  for (const auto& storage : state.states) slots = std::min(slots, storage->slots());
  std::vector<int> owner(size_t(slots), -1);
  const auto claim = [&](int slot, int sequence) {
    if (slot < -1 || slot >= slots)
      invalid("state slot " + std::to_string(slot) + " is not below " + std::to_string(slots));
    if (slot < 0) return;
    if (owner[size_t(slot)] >= 0 && owner[size_t(slot)] != sequence)
      invalid("two sequences have state slot " + std::to_string(slot));
    owner[size_t(slot)] = sequence;
  };
  for (int row = 0; row < run.rows; ++row) {
    const int sequence = run.sequence[row];
    if (sequence < 0 || sequence >= run.states.sequences)
      invalid("no state for sequence " + std::to_string(sequence) + " of row " + std::to_string(row));
    if (row > 0 && sequence < run.sequence[row - 1]) invalid("rows of a sequence do not lie together");
    claim(run.states.write[row], sequence);
    const bool last = row + 1 == run.rows || run.sequence[row + 1] != sequence;
    if (!last) continue;
    claim(run.states.read[sequence], sequence);
    if (run.states.write[row] < 0) invalid("the last row of a sequence leaves its state nowhere");
  }
}

void plan_states(State& state) {
  if (state.states.empty()) return;
  const RunArguments& run = state.run;
  state.segments.clear();
  state.spans.clear();
  for (int begin = 0; begin < run.rows;) {
    const int sequence = run.sequence[begin], first = int(state.segments.size());
    int from = run.states.read[sequence], end = begin;
    for (; end < run.rows && run.sequence[end] == sequence; ++end) {
      const int to = run.states.write[end];
      if (to < 0) continue;
      state.segments.push_back({begin, end + 1, from, to});
      begin = end + 1;
      from = to;
    }
    begin = end;
    state.spans.push_back({first, int(state.segments.size())});
  }
}

// --- short convolution: each column by itself, over the last rows ---

void convolution_check(State& state, Node& node) {
  apart(state, node);
  const size_t width = size_t(state.buffer(node.outputs[0]).width);
  if (size_t(state.buffer(node.inputs[0]).width) != width) refuse(node, "widths differ");
  const std::vector<float>& weights = state.weights[size_t(node.weights[0])].vector;
  const size_t taps = weights.size() / width;
  if (taps < 2 || taps > size_t(kMostTaps) || weights.size() != taps * width)
    refuse(node, "the weight must have 2 to " + std::to_string(kMostTaps) + " numbers a column");
  check_state(state, node, (taps - 1) * width);
  node.constants.resize(weights.size());
  for (size_t column = 0; column < width; ++column)
    for (size_t tap = 0; tap < taps; ++tap)
      node.constants[tap * width + column] = weights[column * taps + tap];
}

namespace {

int convolution_blocks(const State& state, const Node& node) {
  return (state.buffer(node.outputs[0]).width + kConvolvedColumns - 1) / kConvolvedColumns;
}

}  // namespace

int convolution_chunks(const State& state, const Node& node) {
  return int(state.spans.size()) * convolution_blocks(state, node);
}

void convolution_run(State& state, const Node& node, int chunk, int) {
  static const float zeros[kConvolvedColumns] = {};
  const int blocks = convolution_blocks(state, node);
  const auto [first, last] = state.spans[size_t(chunk / blocks)];
  const size_t width = size_t(state.buffer(node.outputs[0]).width);
  const size_t at = size_t(chunk % blocks) * kConvolvedColumns;
  const size_t count = std::min(width - at, size_t(kConvolvedColumns));
  const int taps = int(node.constants.size() / width), kept = taps - 1;
  const float* rows[kMostTaps];
  for (int s = first; s < last; ++s) {
    const StateSegment& segment = state.segments[size_t(s)];
    const float* from = segment.from < 0 ? nullptr : state_of(state, node, segment.from) + at;
    float* to = state_of(state, node, segment.to) + at;
    const auto input = [&](int row) -> const float* {  // also of the rows before the first one
      if (row >= segment.begin) return state.buffer_row(node.inputs[0], row) + at;
      return from == nullptr ? zeros : from + size_t(row - segment.begin + kept) * width;
    };
    for (int row = segment.begin; row < segment.end; ++row) {
      for (int tap = 0; tap < taps; ++tap) rows[tap] = input(row - kept + tap);
      state.kernels->convolve(rows, node.constants.data() + at, width, taps, count,
                              state.buffer_row(node.outputs[0], row) + at);
    }
    for (int i = 0; i < kept; ++i)  // upwards, for `to` may be `from`
      std::copy_n(input(segment.end - kept + i), count, to + size_t(i) * width);
  }
}

// --- gated delta rule: each head by itself ---

namespace {

// Sizes of a node: heads of keys and values, and the widths of one.
struct DeltaSizes {
  DeltaSizes(const State& state, const Node& node)
      : key_heads(node.integers[2]), value_heads(node.integers[3]), tiled(node.integers[4] != 0) {
    const int values = state.buffer(node.outputs[0]).width;
    key_width = (state.buffer(node.inputs[0]).width - values) / (2 * key_heads);
    value_width = values / value_heads;
  }
  // The head of keys for a head of values.
  int shared(int head) const { return tiled ? head % key_heads : head / (value_heads / key_heads); }

  int key_heads, value_heads, key_width, value_width;
  bool tiled;
};

}  // namespace

void delta_check(State& state, Node& node) {
  apart(state, node);
  const int key_heads = node.integers[2], value_heads = node.integers[3];
  if (key_heads < 1 || value_heads < 1 || value_heads % key_heads != 0)
    refuse(node, "heads of keys must divide those of values");
  if (node.integers[4] != 0 && node.integers[4] != 1) refuse(node, "tiled must be 0 or 1");
  const DeltaSizes sizes(state, node);
  const int64_t values = state.buffer(node.outputs[0]).width;
  const int64_t width = 2 * int64_t(key_heads) * sizes.key_width + values;
  if (int64_t(value_heads) * sizes.value_width != values || width != state.buffer(node.inputs[0]).width)
    refuse(node, "the widths are not those of heads");
  if (state.buffer(node.inputs[1]).width != 2 * value_heads) refuse(node, "gates must be two for each head");
  if (sizes.value_width % kStateColumns != 0 || sizes.value_width < 1)
    refuse(node, "the width of a value must be a multiple of " + std::to_string(kStateColumns));
  if (sizes.key_width < 4 || sizes.key_width % 4 != 0 || sizes.key_width > kWidestKey)
    refuse(node, "the width of a key must be a multiple of 4, at most " + std::to_string(kWidestKey));
  check_state(state, node, size_t(values) * size_t(sizes.key_width));
}

int delta_chunks(const State& state, const Node& node) { return int(state.spans.size()) * node.integers[3]; }

namespace {

// Rows [begin, end) of one head, of which a thread holds the keys and queries.
void delta_rows(State& state, const Node& node, const DeltaSizes& sizes, int head, int begin, int end,
                const float* from, float* to) {
  alignas(64) float keys[kNormedRows * kWidestKey], queries[kNormedRows * kWidestKey];
  const int width = sizes.key_width, group = sizes.shared(head);
  const float scale = 1.0f / std::sqrt(float(width));
  for (int row = begin; row < end; ++row) {
    const float* query = state.buffer_row(node.inputs[0], row) + size_t(group) * size_t(width);
    const size_t at = size_t(row - begin) * size_t(width);
    state.kernels->unit_norm(query, kUnitNorm, scale, width, queries + at);
    state.kernels->unit_norm(query + size_t(sizes.key_heads) * size_t(width), kUnitNorm, 1.0f, width,
                             keys + at);
  }
  DeltaTask task;
  task.keys = keys;
  task.queries = queries;
  task.decays = state.buffer_row(node.inputs[1], begin) + head;
  task.writes = task.decays + sizes.value_heads;
  task.value_stride = size_t(state.buffer(node.inputs[0]).width);
  task.gate_stride = size_t(2) * size_t(sizes.value_heads);
  task.output_stride = size_t(state.buffer(node.outputs[0]).width);
  task.rows = end - begin;
  task.key_width = width;
  const size_t own = size_t(head) * size_t(sizes.value_width);
  const float* values =
      state.buffer_row(node.inputs[0], begin) + 2 * size_t(sizes.key_heads) * size_t(width) + own;
  float* output = state.buffer_row(node.outputs[0], begin) + own;
  for (int column = 0; column < sizes.value_width; column += kStateColumns) {
    task.values = values + column;
    task.output = output + column;
    task.from = from + size_t(column) * size_t(width);
    task.to = to + size_t(column) * size_t(width);
    state.kernels->delta_rule(task);
  }
}

}  // namespace

void delta_run(State& state, const Node& node, int chunk, int) {
  const DeltaSizes sizes(state, node);
  const int head = chunk % sizes.value_heads;
  const auto [first, last] = state.spans[size_t(chunk / sizes.value_heads)];
  const size_t size = size_t(sizes.value_width) * size_t(sizes.key_width);  // [column / 16][key][16]
  for (int s = first; s < last; ++s) {
    const StateSegment& segment = state.segments[size_t(s)];
    float* to = state_of(state, node, segment.to) + size_t(head) * size;
    const float* from = to;
    if (segment.from < 0)
      std::fill_n(to, size, 0.0f);
    else
      from = state_of(state, node, segment.from) + size_t(head) * size;
    for (int row = segment.begin; row < segment.end; row += kNormedRows) {
      delta_rows(state, node, sizes, head, row, std::min(segment.end, row + kNormedRows), from, to);
      from = to;
    }
  }
}

}  // namespace fivefold
