#include "nodes.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "attention.h"
#include "experts.h"
#include "gates.h"
#include "heads.h"
#include "linear.h"
#include "observe.h"
#include "recurrent.h"
#include "rotary.h"

namespace fivefold {

void refuse(const Node& node, const std::string& why) {
  throw std::invalid_argument(std::string(node.kernel->name) + ": " + why);
}

void same_rows(State& state, Node& node) {
  const int row_set = state.buffer(node.outputs.empty() ? node.inputs[0] : node.outputs[0]).row_set;
  for (int id : node.inputs)
    if (state.buffer(id).row_set != row_set) refuse(node, "the buffers have different row sets");
  node.row_set = row_set;
}

void needs_vector(const State& state, const Node& node, int weight, size_t size) {
  const Weight& w = state.weights[size_t(weight)];
  if (w.vector.size() != size)
    refuse(node,
           "weight " + std::to_string(weight) + " must be a vector of " + std::to_string(size) + " numbers");
}

void same_width(const State& state, const Node& node, int a, int b) {
  const int width = state.buffer(a).width, other = state.buffer(b).width;
  if (width != other)
    refuse(node, "widths differ: " + std::to_string(width) + " and " + std::to_string(other));
}

void all_same_width(State& state, Node& node) {
  same_rows(state, node);
  for (int id : node.inputs) same_width(state, node, id, node.outputs[0]);
}

namespace {

// --- embed: rows of a table by token ---

void embed_check(State& state, Node& node) {
  const Table* table = state.weights[size_t(node.weights[0])].table.get();
  if (table == nullptr) refuse(node, "the weight is not a table");
  if (table->columns != width_of(state, node.outputs[0]))
    refuse(node, "the output's width is not the table's columns");
  node.row_set = state.buffer(node.outputs[0]).row_set;
}

void embed_run(State& state, const Node& node, int begin, int end) {
  const Table& table = *state.weights[size_t(node.weights[0])].table;
  for (int i = begin; i < end; ++i) {
    const size_t token = size_t(state.run.tokens[state.row(node.row_set, i)]);
    float* out = state.buffer_row(node.outputs[0], i);
    table.format->decode(table.stored + token * table.row_bytes, table.columns / table.format->block, out);
    if (table.scales.values.empty()) continue;
    const int columns = table.scales.columns, wide = table.scales.wide(table.columns);
    const float* scales = table.scales.values.data() + token / size_t(table.scales.rows) * size_t(wide);
    for (int k = 0; k < table.columns; ++k) out[k] *= scales[k / columns];
  }
}

// --- rms_norm: each row, or each of its equal parts ---

void norm_check(State& state, Node& node) {
  all_same_width(state, node);
  if (node.integers.empty()) node.integers.push_back(1);
  const int parts = node.integers[0];
  const int width = width_of(state, node.outputs[0]);
  if (parts < 1 || width % parts != 0)
    refuse(node, "a row cannot be split into " + std::to_string(parts) + " parts");
  needs_vector(state, node, node.weights[0], size_t(width / parts));
}

void norm_run(State& state, const Node& node, int begin, int end) {
  const int parts = node.integers[0];
  state.kernels->rms_norm(state.buffer_row(node.inputs[0], begin), state.vector(node.weights[0]),
                          node.floats[0], (end - begin) * parts, width_of(state, node.outputs[0]) / parts,
                          state.buffer_row(node.outputs[0], begin));
}

// --- number by number ---

size_t count_of(const State& state, const Node& node, int begin, int end) {
  return size_t(end - begin) * size_t(width_of(state, node.outputs[0]));
}

void gated_check(State& state, Node& node) {
  all_same_width(state, node);
  if (node.integers[0] < 0 || node.integers[0] > 3)
    refuse(node, "the activation must be 0 (silu), 1 (gelu by tanh), 2 (gelu) or 3 (sigmoid)");
}

void gated_run(State& state, const Node& node, int begin, int end) {
  state.kernels->gated(state.buffer_row(node.inputs[0], begin), state.buffer_row(node.inputs[1], begin),
                       count_of(state, node, begin, end), Activation(node.integers[0]),
                       state.buffer_row(node.outputs[0], begin));
}

void clamped_check(State& state, Node& node) {
  all_same_width(state, node);
  if (!(node.floats[1] > 0.0f)) refuse(node, "the limit must be positive");
}

void clamped_run(State& state, const Node& node, int begin, int end) {
  state.kernels->clamped_gated(state.buffer_row(node.inputs[0], begin),
                               state.buffer_row(node.inputs[1], begin), count_of(state, node, begin, end),
                               node.floats[0], node.floats[1], state.buffer_row(node.outputs[0], begin));
}

void add_run(State& state, const Node& node, int begin, int end) {
  state.kernels->add(state.buffer_row(node.inputs[0], begin), state.buffer_row(node.inputs[1], begin),
                     count_of(state, node, begin, end), state.buffer_row(node.outputs[0], begin));
}

void scale_run(State& state, const Node& node, int begin, int end) {
  state.kernels->scale(state.buffer_row(node.inputs[0], begin), node.floats[0],
                       count_of(state, node, begin, end), state.buffer_row(node.outputs[0], begin));
}

// y = x * a number of the file
void scale_by_check(State& state, Node& node) {
  all_same_width(state, node);
  needs_vector(state, node, node.weights[0], 1);
}

void scale_by_run(State& state, const Node& node, int begin, int end) {
  state.kernels->scale(state.buffer_row(node.inputs[0], begin), state.vector(node.weights[0])[0],
                       count_of(state, node, begin, end), state.buffer_row(node.outputs[0], begin));
}

void soft_cap_check(State& state, Node& node) {
  all_same_width(state, node);
  if (!(node.floats[0] > 0.0f)) refuse(node, "the cap must be positive");
}

void soft_cap_run(State& state, const Node& node, int begin, int end) {
  state.kernels->soft_cap(state.buffer_row(node.inputs[0], begin), node.floats[0],
                          count_of(state, node, begin, end), state.buffer_row(node.outputs[0], begin));
}

void copy_run(State& state, const Node& node, int begin, int end) {
  const float* x = state.buffer_row(node.inputs[0], begin);
  float* y = state.buffer_row(node.outputs[0], begin);
  if (x != y) std::copy_n(x, count_of(state, node, begin, end), y);
}

// --- between row sets ---

constexpr int kMovedRows = 64;  // rows of a chunk

int blocks_of(int rows) { return (rows + kMovedRows - 1) / kMovedRows; }

void gather_check(State& state, Node& node) {
  same_width(state, node, node.inputs[0], node.outputs[0]);
  if (state.buffer(node.inputs[0]).row_set != kAllRows) refuse(node, "the input must have all rows");
  if (state.buffer(node.inputs[0]).slot == state.buffer(node.outputs[0]).slot)
    refuse(node, "the output cannot take the input's place");
  node.row_set = state.buffer(node.outputs[0]).row_set;
}

int gather_chunks(const State& state, const Node& node) { return blocks_of(state.rows(node.row_set)); }

void gather_run(State& state, const Node& node, int chunk, int) {
  const int end = std::min(state.rows(node.row_set), (chunk + 1) * kMovedRows);
  for (int i = chunk * kMovedRows; i < end; ++i)
    std::copy_n(state.buffer_row(node.inputs[0], state.row(node.row_set, i)),
                width_of(state, node.outputs[0]), state.buffer_row(node.outputs[0], i));
}

void scatter_check(State& state, Node& node) {
  for (int id : node.inputs) same_width(state, node, id, node.outputs[0]);
  const Buffer& x = state.buffer(node.inputs[0]);
  const Buffer& y = state.buffer(node.inputs[1]);
  const Buffer& z = state.buffer(node.outputs[0]);
  if (x.row_set != kAllRows || z.row_set != kAllRows)
    refuse(node, "the first input and the output must have all rows");
  if (y.slot == z.slot) refuse(node, "the output cannot take the second input's place");
  node.row_set = y.row_set;
}

int scatter_chunks(const State& state, const Node&) { return blocks_of(state.rows(kAllRows)); }

// A chunk is a range of the output's rows; the set's rows are applied to it in order.
template <class Apply>
void scatter(State& state, const Node& node, int chunk, Apply apply) {
  const int width = width_of(state, node.outputs[0]);
  const int begin = chunk * kMovedRows;
  const int end = std::min(state.rows(kAllRows), begin + kMovedRows);
  const float* x = state.buffer_row(node.inputs[0], begin);
  float* z = state.buffer_row(node.outputs[0], begin);
  if (x != z) std::copy_n(x, size_t(end - begin) * size_t(width), z);
  for (int i = 0; i < state.rows(node.row_set); ++i) {
    const int row = state.row(node.row_set, i);
    if (row >= begin && row < end)
      apply(state.buffer_row(node.inputs[1], i), state.buffer_row(node.outputs[0], row), width);
  }
}

void scatter_run(State& state, const Node& node, int chunk, int) {
  scatter(state, node, chunk, [](const float* y, float* z, int width) { std::copy_n(y, width, z); });
}

void scatter_add_run(State& state, const Node& node, int chunk, int) {
  scatter(state, node, chunk,
          [&](const float* y, float* z, int width) { state.kernels->add(z, y, size_t(width), z); });
}

// --- the sequence kernels, see attention.cc ---

void store_check(State& state, Node& node) {
  same_rows(state, node);
  attention_store_check(state, node);
}

void attend_check(State& state, Node& node) {
  same_rows(state, node);
  attention_check(state, node);
}

void watch_check(State& state, Node& node) {
  same_rows(state, node);
  observe_check(state, node);
}

constexpr Arity kNone = {0, 0}, kOne = {1, 1}, kTwo = {2, 2};

constexpr KernelInfo rows_kernel(const char* name, Arity inputs, Arity weights, Arity integers, Arity floats,
                                 void (*check)(State&, Node&), void (*run)(State&, const Node&, int, int)) {
  return {name, inputs, kOne, weights, integers, floats, false, false, check, run, {}, false};
}

constexpr KernelInfo chunk_kernel(const char* name, Arity inputs, Arity weights, void (*check)(State&, Node&),
                                  Chunked work) {
  return {name, inputs, kOne, weights, kNone, kNone, false, false, check, nullptr, {work, {}}, false};
}

constexpr KernelInfo recurrent_kernel(const char* name, Arity inputs, Arity weights, Arity integers,
                                      void (*check)(State&, Node&), Chunked work) {
  return {name, inputs, kOne, weights, integers, kNone, false, false, check, nullptr, {work, {}}, true};
}

constexpr Chunked kUnits = {attention_units, attention_unit};
constexpr Chunked kFamilies = {attention_families, attention_family};

constexpr KernelInfo kKernels[] = {
    // name, inputs, weights, integers, floats
    rows_kernel("embed", kNone, kOne, kNone, kNone, embed_check, embed_run),
    rows_kernel("rms_norm", kOne, kOne, {0, 1}, kOne, norm_check, norm_run),
    chunk_kernel("linear", kOne, {1, 2}, linear_check, {linear_chunks, linear_run}),
    rows_kernel("rope_angles", kNone, {1, 2}, kNone, kOne, angles_check, angles_run),
    rows_kernel("scale_by_position", kOne, kNone, kNone, {2, 3}, scale_by_position_check,
                scale_by_position_run),
    rows_kernel("rope", kTwo, kNone, {4, 4}, kNone, rope_check, rope_run),
    {"attention_store",
     {1, 2},
     kNone,
     kNone,
     kOne,
     kNone,
     true,
     true,
     store_check,
     attention_store_run,
     {},
     false},
    {"attention",
     kOne,
     kOne,
     {0, 1},
     kTwo,
     kTwo,
     true,
     false,
     attend_check,
     nullptr,
     {kUnits, kFamilies},
     false},
    {"observe",
     kOne,
     kNone,
     {0, 1},
     {3, 3},
     kTwo,
     true,
     false,
     watch_check,
     nullptr,
     {{observe_units, observe_unit}, {}},
     false},
    rows_kernel("gated", kTwo, kNone, kOne, kNone, gated_check, gated_run),
    rows_kernel("clamped_gated", kTwo, kNone, kNone, kTwo, clamped_check, clamped_run),
    rows_kernel("route", kOne, {0, 2}, {6, 6}, kOne, route_check, route_run),
    rows_kernel("expert_inputs", kTwo, kNone, kNone, kNone, expert_inputs_check, expert_inputs_run),
    {"expert_linear",
     kTwo,
     kOne,
     {1, 2},
     kNone,
     kNone,
     false,
     false,
     expert_check,
     nullptr,
     {{expert_groupings, group_experts}, {expert_chunks, expert_run}},
     false},
    rows_kernel("expert_sum", kTwo, kNone, {0, 1}, kNone, expert_sum_check, expert_sum_run),
    chunk_kernel("head_linear", kOne, kOne, head_linear_check, {head_linear_chunks, head_linear_run}),
    rows_kernel("head_columns", kOne, kNone, {3, 3}, kNone, head_columns_check, head_columns_run),
    rows_kernel("head_join", kTwo, kNone, kOne, kNone, head_join_check, head_join_run),
    rows_kernel("add", kTwo, kNone, kNone, kNone, all_same_width, add_run),
    rows_kernel("scale", kOne, kNone, kNone, kOne, all_same_width, scale_run),
    rows_kernel("scale_by", kOne, kOne, kNone, kNone, scale_by_check, scale_by_run),
    rows_kernel("soft_cap", kOne, kNone, kNone, kOne, soft_cap_check, soft_cap_run),
    chunk_kernel("gather_rows", kOne, kNone, gather_check, {gather_chunks, gather_run}),
    chunk_kernel("scatter_rows", kTwo, kNone, scatter_check, {scatter_chunks, scatter_run}),
    chunk_kernel("scatter_add_rows", kTwo, kNone, scatter_check, {scatter_chunks, scatter_add_run}),
    rows_kernel("gate_rows", kTwo, kNone, kNone, kNone, gate_rows_check, gate_rows_run),
    rows_kernel("delta_gates", kTwo, kTwo, kOne, kNone, delta_gates_check, delta_gates_run),
    recurrent_kernel("short_convolution", kOne, kOne, kTwo, convolution_check,
                     {convolution_chunks, convolution_run}),
    recurrent_kernel("delta_rule", kTwo, kNone, {5, 5}, delta_check, {delta_chunks, delta_run}),
    rows_kernel("copy", kOne, kNone, kNone, kNone, all_same_width, copy_run),
};

}  // namespace

const KernelInfo* find_kernel(const std::string& name) {
  for (const KernelInfo& info : kKernels)
    if (name == info.name) return &info;
  return nullptr;
}

std::string kernel_names() {
  std::string names;
  for (const KernelInfo& info : kKernels) names += (names.empty() ? "" : ", ") + std::string(info.name);
  return names;
}

size_t quantized_bytes(const State& state, const Node& node) {
  return quantized_stride(state.buffer(node.inputs[0]).width / node.parts) * size_t(node.parts);
}

void quantize_rows(State& state, const Node& node, int begin, int end) {
  const Buffer& x = state.buffer(node.inputs[0]);
  state.kernels->quantize(
      state.buffer_row(node.inputs[0], begin), (end - begin) * node.parts, x.width / node.parts,
      state.slots[size_t(x.slot)].quantized.data() + size_t(begin) * quantized_bytes(state, node));
}

}  // namespace fivefold
