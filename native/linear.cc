#include "linear.h"

#include <algorithm>
#include <tuple>

#include "nodes.h"

namespace fivefold {

const Matrix& check_matrix(State& state, Node& node) {
  const Matrix* matrix = state.weights[size_t(node.weights[0])].matrix.get();
  if (matrix == nullptr) refuse(node, "the weight is not a matrix");
  if (&matrix->kernels() != state.kernels)
    refuse(node, std::string("the matrix is packed for ") + matrix->kernels().isa + ", the executor runs " +
                     state.kernels->isa);
  if (!matrix->complete()) refuse(node, "not all matrices of the stack are packed");
  if (state.buffer(node.inputs[0]).slot == state.buffer(node.outputs[0]).slot)
    refuse(node, "the output cannot take the input's place");
  node.integer = state.integer_activations && matrix->format().integer_dot;
  return *matrix;
}

void linear_check(State& state, Node& node) {
  same_rows(state, node);
  const Matrix& matrix = check_matrix(state, node);
  if (matrix.count() != 1) refuse(node, "the weight is a stack of matrices");
  if (matrix.columns() != state.buffer(node.inputs[0]).width)
    refuse(node, "the input's width is not the matrix's columns");
  if (matrix.rows() != state.buffer(node.outputs[0]).width)
    refuse(node, "the output's width is not the matrix's rows");
  if (node.weights.size() > 1 && node.weights[1] >= 0)
    needs_vector(state, node, node.weights[1], size_t(matrix.rows()));
}

LinearTask linear_task(const State& state, const Node& node, int number) {
  const Matrix& matrix = *state.weights[size_t(node.weights[0])].matrix;
  const Buffer& x = state.buffer(node.inputs[0]);
  const float* biases = node.weights.size() > 1 ? state.vector(node.weights[1]) : nullptr;
  LinearTask task;
  task.weights = matrix.data(number);
  task.tile_bytes = matrix.tile_bytes();
  task.outputs = matrix.rows();
  task.columns = matrix.columns();
  task.scales = matrix.scales(number);
  task.scale_columns = matrix.scale_columns();
  task.bias = biases == nullptr ? nullptr : biases + size_t(number) * size_t(matrix.rows());
  task.x =
      node.integer ? state.slots[size_t(x.slot)].quantized.data() : reinterpret_cast<const uint8_t*>(x.data);
  task.x_stride = node.integer ? quantized_stride(task.columns) : size_t(task.columns) * sizeof(float);
  task.y = state.buffer(node.outputs[0]).data;
  task.y_stride = size_t(matrix.rows());
  return task;
}

void run_linear(const State& state, const Node& node, const LinearTask& task) {
  const size_t format = size_t(state.weights[size_t(node.weights[0])].matrix->format().id);
  (node.integer ? state.kernels->linear_int8[format] : state.kernels->linear_float[format])(task);
}

namespace {

// Chunks are a grid of row blocks and tile ranges. Row blocks are few enough rows that their activations stay
// in the second-level cache while the tiles pass. Each thread gets as many ranges as any other, of some ten
// microseconds at least, for each begins with nothing fetched. They are whole groups of the tiles that a
// kernel takes side by side, unless that gives one thread much more than its part.
struct LinearGrid {
  LinearGrid(const State& state, const Node& node)
      : matrix(*state.weights[size_t(node.weights[0])].matrix),
        rows(state.rows(node.row_set)),
        threads(state.pool->threads()) {
    row_block = matrix.tiles() >= 4 * threads ? 256 : 32;
    row_blocks = (rows + row_block - 1) / row_block;
    const auto together = state.kernels->tiles_together[size_t(matrix.format().id)];
    group = node.integer ? together(std::max(rows, 1)) : kFloatTiles;
    const int fair = (matrix.tiles() + threads - 1) / threads;
    while (group > 1 && most_of_a_thread() > fair + fair / 16) group = group == 4 ? 2 : 1;
    const int64_t work = int64_t(matrix.bytes()) * (1 + std::min(rows, row_block) / 4);
    const int64_t wanted = std::clamp<int64_t>(work / (4 * kLinearQuantum), 1, 16 * threads);
    ranges = int(std::min<int64_t>((wanted + threads - 1) / threads * threads, groups()));
  }
  int groups() const { return (matrix.tiles() + group - 1) / group; }
  int most_of_a_thread() const { return (groups() + threads - 1) / threads * group; }
  std::pair<int, int> range(int number) const {
    const auto [first, last] = share(groups(), number, ranges);
    return {first * group, std::min(last * group, matrix.tiles())};
  }
  const Matrix& matrix;
  int rows, threads, row_block, row_blocks, group, ranges;
};

}  // namespace

int linear_chunks(const State& state, const Node& node) {
  const LinearGrid grid(state, node);
  return grid.row_blocks * grid.ranges;
}

void linear_run(State& state, const Node& node, int chunk, int) {
  const LinearGrid grid(state, node);
  LinearTask task = linear_task(state, node, 0);
  task.row_begin = chunk / grid.ranges * grid.row_block;
  task.row_end = std::min(grid.rows, task.row_begin + grid.row_block);
  std::tie(task.tile_begin, task.tile_end) = grid.range(chunk % grid.ranges);
  run_linear(state, node, task);
}

}  // namespace fivefold
