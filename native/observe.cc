#include "observe.h"

#include <algorithm>
#include <limits>

#include "attention.h"
#include "nodes.h"
#include "visibility.h"

namespace fivefold {
namespace {

constexpr int kBlockRows = 16;  // rows that share the turning of a page's keys to floats
constexpr float kLog2E = 1.44269504088896341f;

size_t scratch_floats(const State& state, const Node& node, int pages) {
  const size_t key = size_t(state.groups[size_t(node.group)].storage->key_width());
  return key * kPageSize + kBlockRows * key + kBlockRows * size_t(pages) * kPageSize;
}

// One unit's work: the rows of a sequence, one query head.
class Observing {
 public:
  Observing(State& state, const Node& node, const ObservationUnit& unit, int thread)
      : state_(state),
        node_(node),
        unit_(unit),
        observation_(state.observations[size_t(node.observation)]),
        view_(state.run.groups[size_t(node.group)]),
        group_(state.groups[size_t(node.group)]),
        storage_(*group_.storage),
        observed_(observation_.views[size_t(unit.view)]),
        slots_(size_t(observed_.pages) * kPageSize) {
    const int kv_head = unit.head / (observation_.heads / group_.heads());
    inner_ = kv_head % storage_.heads_per_page();
    table_ = kv_head / storage_.heads_per_page();
    const size_t key = size_t(storage_.key_width());
    keys_ = reinterpret_cast<float*>(state.observing[size_t(thread)].data());
    queries_ = keys_ + key * kPageSize;
    scores_ = queries_ + kBlockRows * key;
  }

  void run() {
    for (int begin = unit_.row_begin; begin < unit_.row_end; begin += kBlockRows) {
      const int rows = std::min(kBlockRows, unit_.row_end - begin);
      scale_queries(begin, rows);
      for (int page = 0; page < observed_.pages; ++page) score_page(begin, rows, page);
      add_weights(rows);
    }
  }

 private:
  void scale_queries(int begin, int rows) {
    const size_t key = size_t(storage_.key_width());
    for (int i = 0; i < rows; ++i)
      state_.kernels->scale(state_.buffer_row(node_.inputs[0], begin + i) + size_t(unit_.head) * key,
                            node_.floats[0] * kLog2E, key, queries_ + size_t(i) * key);
  }

  void score_page(int begin, int rows, int page) {
    uint32_t bits[kBlockRows], any = 0;
    for (int i = 0; i < rows; ++i) {
      bits[i] = visible_bits(view_, group_.tables, state_.row(node_.row_set, begin + i), table_, page);
      any |= bits[i];
    }
    float* scores = scores_ + size_t(page) * kPageSize;
    if (any != 0) {
      const int number = view_.tables[(size_t(observed_.sequence) * size_t(group_.tables) + size_t(table_)) *
                                          size_t(view_.pages) +
                                      size_t(page)];
      state_.kernels->key_scores[int(storage_.format())](
          {storage_.entries(node_.integers[0], number, inner_), storage_.key_width(), storage_.value_width(),
           storage_.value_in_key(), queries_, rows, keys_, scores, slots_});
    }
    for (int i = 0; i < rows; ++i) {
      float* own = scores + size_t(i) * slots_;
      if (node_.floats[1] != 0.0f && bits[i] != 0)
        state_.kernels->soft_cap(own, node_.floats[1] * kLog2E, kPageSize, own);
      for (int slot = 0; bits[i] != 0xffffffffu && slot < kPageSize; ++slot)
        if ((bits[i] >> slot & 1) == 0) own[slot] = -std::numeric_limits<float>::infinity();
    }
  }

  void add_weights(int rows) {
    const float* sinks = node_.weights.empty() ? nullptr : state_.vector(node_.weights[0]);
    const float sink = sinks == nullptr ? 0.0f : sinks[unit_.head] * kLog2E;
    float* importance = observation_.importance.data() + observed_.first + size_t(unit_.head) * slots_;
    for (int i = 0; i < rows; ++i)
      state_.kernels->observe_scores({scores_ + size_t(i) * slots_, slots_,
                                      sinks == nullptr ? nullptr : &sink, node_.integers[2] != 0,
                                      importance});
  }

  State& state_;
  const Node& node_;
  const ObservationUnit& unit_;
  Observation& observation_;
  const GroupArguments& view_;
  const Group& group_;
  const CacheStorage& storage_;
  const ObservedView& observed_;
  size_t slots_;
  int inner_, table_;
  float *keys_, *queries_, *scores_;
};

// The pages up to the last slot that a row of [begin, end) sees in any table.
int pages_seen(const State& state, const Node& node, int begin, int end) {
  const GroupArguments& view = state.run.groups[size_t(node.group)];
  const size_t tables = size_t(state.groups[size_t(node.group)].tables);
  int last = 0;
  for (int i = begin; i < end; ++i)
    for (size_t table = 0; table < tables; ++table) {
      const size_t at = size_t(state.row(node.row_set, i)) * tables + table;
      if (view.start[at] < view.stop[at]) last = std::max(last, view.stop[at]);
    }
  return (last + kPageSize - 1) / kPageSize;
}

}  // namespace

void observe_check(State& state, Node& node) {
  check_queries(state, node);
  const int heads = node.integers[1];
  if (!node.weights.empty() && node.weights[0] >= 0)
    needs_vector(state, node, node.weights[0], size_t(heads));
  node.observation = int(state.observations.size());
  state.observations.push_back({heads, {}, {}, {}});
}

void plan_observations(State& state) {
  if (state.observations.empty()) return;
  size_t floats = 0;
  for (const auto& node : state.nodes) {
    if (node->observation < 0) continue;
    Observation& observation = state.observations[size_t(node->observation)];
    observation.units.clear();
    observation.views.clear();
    size_t size = 0;
    const int rows = state.rows(node->row_set);
    const auto sequence = [&](int i) { return state.run.sequence[state.row(node->row_set, i)]; };
    for (int begin = 0, end; begin < rows; begin = end) {
      for (end = begin + 1; end < rows && sequence(end) == sequence(begin); ++end) {
      }
      const int pages = pages_seen(state, *node, begin, end);
      const int view = int(observation.views.size());
      observation.views.push_back({sequence(begin), pages, size});
      size += size_t(observation.heads) * size_t(pages) * kPageSize;
      floats = std::max(floats, scratch_floats(state, *node, pages));
      for (int head = 0; head < observation.heads; ++head)
        observation.units.push_back({begin, end, view, head});
    }
    observation.importance.assign(size, 0.0f);
  }
  state.observing.resize(size_t(state.pool->threads()));
  for (Memory& memory : state.observing)
    if (memory.size() < floats * sizeof(float)) memory = Memory(floats * sizeof(float));
}

int observe_units(const State& state, const Node& node) {
  return int(state.observations[size_t(node.observation)].units.size());
}

void observe_unit(State& state, const Node& node, int unit, int thread) {
  const Observation& observation = state.observations[size_t(node.observation)];
  Observing(state, node, observation.units[size_t(unit)], thread).run();
}

}  // namespace fivefold
