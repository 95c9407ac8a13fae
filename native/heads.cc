#include "heads.h"

#include <algorithm>

#include "linear.h"
#include "nodes.h"

namespace fivefold {
namespace {

void other_slots(const State& state, const Node& node) {
  for (int id : node.inputs)
    if (state.buffer(id).slot == state.buffer(node.outputs[0]).slot)
      refuse(node, "the output cannot take an input's place");
}

// As for one matrix: few enough rows that their activations stay in the second-level cache.
struct HeadGrid {
  HeadGrid(const State& state, const Node& node)
      : matrices(*state.weights[size_t(node.weights[0])].matrix),
        rows(state.rows(node.row_set)),
        tiles(int64_t(matrices.count()) * matrices.tiles()) {
    constexpr int kRowBlock = 256;
    const int64_t threads = state.pool->threads();
    row_blocks = (rows + kRowBlock - 1) / kRowBlock;
    row_block = row_blocks == 0 ? 0 : (rows + row_blocks - 1) / row_blocks;
    const int64_t work = int64_t(matrices.bytes()) * (1 + row_block / 4);
    const int64_t wanted = std::max(std::min(work / kLinearQuantum, 16 * threads), threads);
    ranges = int(std::min(wanted, tiles));
  }
  const Matrix& matrices;
  int rows;
  int64_t tiles;  // of all heads
  int row_block, row_blocks, ranges;
};

}  // namespace

void head_linear_check(State& state, Node& node) {
  same_rows(state, node);
  const Matrix& matrices = check_matrix(state, node);
  const int64_t heads = matrices.count();
  if (width_of(state, node.inputs[0]) != heads * matrices.columns())
    refuse(node, "the input's width is not the matrices' columns for each head");
  if (width_of(state, node.outputs[0]) != heads * matrices.rows())
    refuse(node, "the output's width is not the matrices' rows for each head");
  node.parts = matrices.count();
}

int head_linear_chunks(const State& state, const Node& node) {
  const HeadGrid grid(state, node);
  return grid.row_blocks * grid.ranges;
}

void head_linear_run(State& state, const Node& node, int chunk, int) {
  const HeadGrid grid(state, node);
  const int64_t of_head = grid.matrices.tiles(), range = chunk % grid.ranges;
  const int64_t begin = grid.tiles * range / grid.ranges, end = grid.tiles * (range + 1) / grid.ranges;
  for (int64_t tile = begin; tile < end;) {
    const int64_t head = tile / of_head, next = std::min(end, (head + 1) * of_head);
    LinearTask task = linear_task(state, node, int(head));
    task.x += size_t(head) * task.x_stride;
    task.y += size_t(head) * task.y_stride;
    task.x_stride *= size_t(node.parts);
    task.y_stride *= size_t(node.parts);
    task.row_begin = chunk / grid.ranges * grid.row_block;
    task.row_end = std::min(grid.rows, task.row_begin + grid.row_block);
    task.tile_begin = int(tile - head * of_head);
    task.tile_end = int(next - head * of_head);
    run_linear(state, node, task);
    tile = next;
  }
}

// integers: heads, the first number of each part, how many
void head_columns_check(State& state, Node& node) {
  same_rows(state, node);
  other_slots(state, node);
  const int64_t heads = node.integers[0], first = node.integers[1], count = node.integers[2];
  const int64_t width = width_of(state, node.inputs[0]);
  if (heads < 1 || width % heads != 0) refuse(node, "the input's width is not a part for each head");
  if (first < 0 || count < 1 || first + count > width / heads)
    refuse(node, "a part of a head has no such numbers");
  if (width_of(state, node.outputs[0]) != heads * count)
    refuse(node, "the output's width is not heads * count");
}

void head_columns_run(State& state, const Node& node, int begin, int end) {
  const int heads = node.integers[0], first = node.integers[1], count = node.integers[2];
  const size_t part = size_t(width_of(state, node.inputs[0]) / heads);
  const float* x = state.buffer_row(node.inputs[0], begin) + first;
  float* y = state.buffer_row(node.outputs[0], begin);
  for (int64_t i = int64_t(end - begin) * heads; i > 0; --i, x += part, y += count) std::copy_n(x, count, y);
}

// integers: heads
void head_join_check(State& state, Node& node) {
  same_rows(state, node);
  other_slots(state, node);
  const int heads = node.integers[0];
  if (heads < 1) refuse(node, "there must be a head");
  for (int id : node.inputs)
    if (width_of(state, id) % heads != 0) refuse(node, "an input's width is not a part for each head");
  if (int64_t(width_of(state, node.inputs[0])) + width_of(state, node.inputs[1]) !=
      width_of(state, node.outputs[0]))
    refuse(node, "the output's width is not that of both inputs");
}

void head_join_run(State& state, const Node& node, int begin, int end) {
  const int heads = node.integers[0];
  const int first = width_of(state, node.inputs[0]) / heads, second = width_of(state, node.inputs[1]) / heads;
  const float* a = state.buffer_row(node.inputs[0], begin);
  const float* b = state.buffer_row(node.inputs[1], begin);
  float* y = state.buffer_row(node.outputs[0], begin);
  for (int64_t i = int64_t(end - begin) * heads; i > 0; --i, a += first, b += second) {
    y = std::copy_n(a, first, y);
    y = std::copy_n(b, second, y);
  }
}

}  // namespace fivefold
