#include "experts.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "linear.h"
#include "nodes.h"

namespace fivefold {
namespace {

enum Scoring { kSoftmax = 0, kSoftmaxOfChosen = 1, kSigmoid = 2, kSigmoidOfChosen = 3 };

// A route node's attributes, in the order of their declaration.
struct Choice {
  explicit Choice(const Node& node)
      : chosen(node.integers[0]),
        scoring(node.integers[1]),
        normalise(node.integers[2]),
        groups(node.integers[3]),
        groups_chosen(node.integers[4]),
        group_best(node.integers[5]),
        factor(node.floats[0]) {}
  int chosen, scoring, normalise, groups, groups_chosen, group_best;
  float factor;
};

constexpr float kLowest = -std::numeric_limits<float>::infinity();
constexpr double kLeastSum = 1e-20;  // of scores, before they are divided by it

// The places of the largest numbers, the largest first, of equals the first; those that are none come last.
void pick(const float* values, int count, int wanted, int* places) {
  bool taken[kMostExperts] = {};
  for (int p = 0; p < wanted; ++p) {
    int best = -1;
    for (int i = 0; i < count; ++i) {
      if (taken[i]) continue;
      if (best < 0 || values[i] > values[best] || (std::isnan(values[best]) && !std::isnan(values[i])))
        best = i;
    }
    taken[best] = true;
    places[p] = best;
  }
}

// Experts of groups that are not among the best get keys as low as can be.
void keep_best_groups(const Choice& choice, int experts, float* keys) {
  const int size = experts / choice.groups;
  float totals[kMostExperts];
  for (int g = 0; g < choice.groups; ++g) {
    int best[2] = {};
    pick(keys + g * size, size, choice.group_best, best);
    totals[g] = keys[g * size + best[0]];
    if (choice.group_best == 2) totals[g] += keys[g * size + best[1]];
  }
  int kept[kMostExperts];
  pick(totals, choice.groups, choice.groups_chosen, kept);
  std::sort(kept, kept + choice.groups_chosen);
  for (int g = 0, k = 0; g < choice.groups; ++g) {
    if (k < choice.groups_chosen && kept[k] == g)
      ++k;
    else
      std::fill_n(keys + g * size, size, kLowest);
  }
}

// Scores, or for a softmax of the chosen what they stand in proportion to. Gives whether all are numbers.
bool score(const float* logits, int experts, int scoring, double* scores) {
  bool numbers = true;
  float peak = logits[0];
  for (int e = 0; e < experts; ++e) {
    numbers &= !std::isnan(logits[e]);
    peak = std::max(peak, logits[e]);
  }
  double sum = 0.0;
  for (int e = 0; e < experts; ++e) {
    scores[e] = scoring >= kSigmoid ? 1.0 / (1.0 + std::exp(-double(logits[e])))
                                    : std::exp(double(logits[e]) - double(peak));
    sum += scores[e];
  }
  if (scoring == kSoftmax)
    for (int e = 0; e < experts; ++e) scores[e] /= sum;
  return numbers;
}

// Numbers of each expert, or null: `bias` counts for the choice alone, `scales` for the weights alone.
struct PerExpert {
  const float *bias, *scales;
};

void route_row(const Choice& choice, const float* logits, const PerExpert& own, int experts, float* out) {
  double scores[kMostExperts];
  float keys[kMostExperts];
  int best[kMostExperts];
  const bool numbers = score(logits, experts, choice.scoring, scores);
  const bool by_logit = choice.scoring == kSoftmaxOfChosen || choice.scoring == kSigmoidOfChosen;
  for (int e = 0; e < experts; ++e) {
    keys[e] = by_logit ? logits[e] : float(scores[e]);
    if (own.bias != nullptr) keys[e] += own.bias[e];
  }
  if (choice.groups > 1) keep_best_groups(choice, experts, keys);
  pick(keys, experts, choice.chosen, best);
  double sum = 0.0;
  for (int p = 0; p < choice.chosen; ++p) sum += scores[best[p]];
  const bool divided = choice.normalise != 0 || choice.scoring == kSoftmaxOfChosen;
  for (int p = 0; p < choice.chosen; ++p) {
    double weight = divided ? scores[best[p]] / (sum + kLeastSum) : scores[best[p]];
    weight *= double(choice.factor);
    if (own.scales != nullptr) weight *= double(own.scales[best[p]]);
    out[p] = float(best[p]);
    out[choice.chosen + p] = numbers ? float(weight) : std::numeric_limits<float>::quiet_NaN();
  }
}

int experts_of_row(const State& state, int route) { return state.buffer(route).width / 2; }

}  // namespace

void route_check(State& state, Node& node) {
  same_rows(state, node);
  const Choice choice(node);
  const int experts = state.buffer(node.inputs[0]).width;
  if (experts > kMostExperts) refuse(node, "there are more than 1024 experts");
  if (choice.chosen < 1 || choice.chosen > experts) refuse(node, "more experts are chosen than there are");
  if (state.buffer(node.outputs[0]).width != 2 * choice.chosen)
    refuse(node, "the output's width is not twice the number of chosen experts");
  if (choice.scoring < kSoftmax || choice.scoring > kSigmoidOfChosen)
    refuse(node,
           "the scoring must be 0 (softmax), 1 (softmax of the chosen) or 2 (sigmoid), or 3 (of the chosen)");
  if (choice.groups < 1 || experts % choice.groups != 0) refuse(node, "the experts do not make equal groups");
  const int size = experts / choice.groups;
  if (choice.group_best < 1 || choice.group_best > std::min(2, size))
    refuse(node, "a group counts by its best or its two best");
  if (choice.groups_chosen < 1 || choice.groups_chosen > choice.groups)
    refuse(node, "more groups are chosen than there are");
  if (choice.groups > 1 && choice.groups_chosen * size < choice.chosen)
    refuse(node, "the chosen groups have fewer experts than are chosen");
  if (state.buffer(node.inputs[0]).slot == state.buffer(node.outputs[0]).slot)
    refuse(node, "the output cannot take the input's place");
  for (int weight : node.weights)
    if (weight >= 0) needs_vector(state, node, weight, size_t(experts));
}

void route_run(State& state, const Node& node, int begin, int end) {
  const Choice choice(node);
  const int experts = state.buffer(node.inputs[0]).width;
  const auto vector = [&](size_t at) {
    return at < node.weights.size() ? state.vector(node.weights[at]) : nullptr;
  };
  const PerExpert own = {vector(0), vector(1)};
  for (int i = begin; i < end; ++i)
    route_row(choice, state.buffer_row(node.inputs[0], i), own, experts,
              state.buffer_row(node.outputs[0], i));
}

void expert_check(State& state, Node& node) {
  same_rows(state, node);
  const Matrix& matrix = check_matrix(state, node);
  const int chosen = experts_of_row(state, node.inputs[1]), width = state.buffer(node.inputs[0]).width;
  if (state.buffer(node.inputs[1]).width % 2 != 0 || matrix.count() > kMostExperts)
    refuse(node, "the second input is no choice of experts");
  if (width != matrix.columns() && int64_t(width) != int64_t(chosen) * matrix.columns())
    refuse(node, "the input's width is neither the matrices' columns nor that for each expert of a row");
  if (int64_t(state.buffer(node.outputs[0]).width) != int64_t(chosen) * matrix.rows())
    refuse(node, "the output's width is not the matrices' rows for each expert of a row");
  if (state.buffer(node.inputs[1]).slot == state.buffer(node.outputs[0]).slot)
    refuse(node, "the output cannot take the choice's place");
  if (node.weights.size() > 1 && node.weights[1] >= 0)
    needs_vector(state, node, node.weights[1], size_t(matrix.count()) * size_t(matrix.rows()));
  if (int64_t(state.max_rows) * chosen > (int64_t(1) << 30)) refuse(node, "there are too many rows");
  node.parts = width == matrix.columns() ? 1 : chosen;
  auto& known = state.groupings;
  const auto same = [&](const Grouping& g) {
    return g.route == node.inputs[1] && g.experts == matrix.count();
  };
  auto found = std::find_if(known.begin(), known.end(), same);
  if (found == known.end()) {
    Grouping grouping;
    grouping.route = node.inputs[1];
    grouping.experts = matrix.count();
    const size_t pairs = size_t(state.max_rows) * size_t(chosen);
    const size_t touched = std::min(pairs, size_t(matrix.count()));
    for (auto* list : {&grouping.rows, &grouping.places}) list->resize(pairs);
    grouping.numbers.resize(touched);
    grouping.first.resize(touched + 1);
    grouping.work.resize(touched + 1);
    grouping.next.resize(size_t(matrix.count()) + 1);
    found = known.insert(known.end(), std::move(grouping));
  }
  node.grouping = int(found - known.begin());
}

int expert_groupings(const State&, const Node&) { return 1; }

void group_experts(State& state, const Node& node, int, int) {
  Grouping& group = state.groupings[size_t(node.grouping)];
  const int chosen = experts_of_row(state, group.route), rows = state.rows(node.row_set);
  const auto expert_of = [&](int row, int place) {  // one more than there are for what is none
    const float number = state.buffer_row(group.route, row)[place];
    return number >= 0.0f && number < float(group.experts) ? int(number) : group.experts;
  };
  std::fill(group.next.begin(), group.next.end(), 0);
  for (int row = 0; row < rows; ++row)
    for (int place = 0; place < chosen; ++place) ++group.next[size_t(expert_of(row, place))];
  group.touched = group.pairs = 0;
  group.work[0] = 0;
  for (int e = 0; e <= group.experts; ++e) {
    const int count = group.next[size_t(e)];
    group.next[size_t(e)] = group.pairs;
    if (count == 0 || e == group.experts) continue;
    const size_t at = size_t(group.touched++);
    group.numbers[at] = e;
    group.first[at] = group.pairs;
    group.work[at + 1] = group.work[at] + 4 + count;  // to stream a tile takes as long as to multiply 4 rows
    group.pairs += count;
  }
  if (group.touched > 0) group.first[size_t(group.touched)] = group.pairs;
  for (int row = 0; row < rows; ++row)
    for (int place = 0; place < chosen; ++place) {
      const size_t at = size_t(group.next[size_t(expert_of(row, place))]++);
      group.rows[at] = row;
      group.places[at] = row * chosen + place;
    }
}

// A number that is known before experts are chosen: as if each pair had an expert of its own.
int expert_chunks(const State& state, const Node& node) {
  const Matrix& matrix = *state.weights[size_t(node.weights[0])].matrix;
  const int64_t pairs = int64_t(state.rows(node.row_set)) * experts_of_row(state, node.inputs[1]);
  const int64_t touched = std::min<int64_t>(pairs, matrix.count());
  const int64_t work = int64_t(matrix.bytes()) / matrix.count() * (touched + pairs / 4);
  const int64_t threads = state.pool->threads();
  const int64_t wanted = std::max(std::min(work / kLinearQuantum, 16 * threads), threads);
  return int(std::min(wanted, touched * matrix.tiles()));
}

void expert_run(State& state, const Node& node, int chunk, int) {
  constexpr int kRowBlock = 256;
  const Matrix& matrix = *state.weights[size_t(node.weights[0])].matrix;
  const Grouping& group = state.groupings[size_t(node.grouping)];
  const int64_t tiles = matrix.tiles(), count = expert_chunks(state, node);
  const int64_t all = group.work[size_t(group.touched)] * tiles;
  const int64_t begin = all * chunk / count, end = all * (chunk + 1) / count;
  const auto last = group.work.begin() + group.touched;
  const auto after = std::upper_bound(group.work.begin(), last, begin / tiles);
  for (size_t s = size_t(std::max<int64_t>(after - group.work.begin() - 1, 0)); s < size_t(group.touched);
       ++s) {
    const int64_t base = group.work[s] * tiles, tile = group.work[s + 1] - group.work[s];
    if (base >= end) break;
    LinearTask task = linear_task(state, node, group.numbers[s]);
    task.tile_begin = int(std::min((std::max<int64_t>(begin - base, 0) + tile - 1) / tile, tiles));
    task.tile_end = int(std::min((end - base + tile - 1) / tile, tiles));
    if (task.tile_begin >= task.tile_end) continue;
    task.x_rows = node.parts == 1 ? group.rows.data() : group.places.data();
    task.y_rows = group.places.data();
    for (int row = group.first[s]; row < group.first[s + 1]; row += kRowBlock) {
      task.row_begin = row;
      task.row_end = std::min(group.first[s + 1], row + kRowBlock);
      run_linear(state, node, task);
    }
  }
  if (chunk > 0) return;
  const int every = state.rows(node.row_set) * experts_of_row(state, node.inputs[1]);
  float* y = state.buffer(node.outputs[0]).data;
  for (int i = group.pairs; i < every; ++i)  // an expert that is none
    std::fill_n(y + size_t(group.places[size_t(i)]) * size_t(matrix.rows()), matrix.rows(),
                std::numeric_limits<float>::quiet_NaN());
}

void expert_inputs_check(State& state, Node& node) {
  same_rows(state, node);
  const int chosen = experts_of_row(state, node.inputs[1]), width = state.buffer(node.inputs[0]).width;
  if (state.buffer(node.inputs[1]).width % 2 != 0) refuse(node, "the second input is no choice of experts");
  if (int64_t(state.buffer(node.outputs[0]).width) != int64_t(chosen) * width)
    refuse(node, "the output's width is not the input's for each expert of a row");
  for (int id : node.inputs)
    if (state.buffer(id).slot == state.buffer(node.outputs[0]).slot)
      refuse(node, "the output cannot take an input's place");
}

void expert_inputs_run(State& state, const Node& node, int begin, int end) {
  const int chosen = experts_of_row(state, node.inputs[1]);
  const size_t width = size_t(state.buffer(node.inputs[0]).width);
  for (int i = begin; i < end; ++i)
    for (int place = 0; place < chosen; ++place)
      state.kernels->scale(state.buffer_row(node.inputs[0], i),
                           state.buffer_row(node.inputs[1], i)[chosen + place], width,
                           state.buffer_row(node.outputs[0], i) + size_t(place) * width);
}

void expert_sum_check(State& state, Node& node) {
  same_rows(state, node);
  const int chosen = experts_of_row(state, node.inputs[1]), width = state.buffer(node.outputs[0]).width;
  if (state.buffer(node.inputs[1]).width % 2 != 0) refuse(node, "the second input is no choice of experts");
  if (int64_t(state.buffer(node.inputs[0]).width) != int64_t(chosen) * width)
    refuse(node, "the input's width is not the output's for each expert of a row");
  for (int id : node.inputs)
    if (state.buffer(id).slot == state.buffer(node.outputs[0]).slot)
      refuse(node, "the output cannot take an input's place");
}

void expert_sum_run(State& state, const Node& node, int begin, int end) {
  const int chosen = experts_of_row(state, node.inputs[1]);
  const bool weighted = node.integers.empty() || node.integers[0] != 0;
  const std::vector<float> ones(weighted ? 0 : size_t(chosen), 1.0f);
  for (int i = begin; i < end; ++i)
    state.kernels->weighted_sum(state.buffer_row(node.inputs[0], i),
                                weighted ? state.buffer_row(node.inputs[1], i) + chosen : ones.data(), chosen,
                                state.buffer(node.outputs[0]).width, state.buffer_row(node.outputs[0], i));
}

}  // namespace fivefold
