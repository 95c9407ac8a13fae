#include "attention.h"

#include <algorithm>
#include <tuple>

#include "nodes.h"
#include "visibility.h"

namespace fivefold {
namespace {

constexpr int kBlockRows = 16;
constexpr int kBlockQueries = 256;  // of a unit: so many share what a page is turned to, and stay in cache
constexpr int kSliceQueries = 8;  // of a row that is shared by threads: fewer would pay more for the turning
constexpr float kLog2E = 1.44269504088896341f;

// The pages that rows [begin, end) of a row set see in a table, as [first, last).
std::pair<int, int> page_range(const State& state, const AttentionPlan& plan, int table, int begin, int end) {
  const GroupArguments& view = state.run.groups[size_t(plan.group)];
  const int tables = state.groups[size_t(plan.group)].tables;
  int first = view.pages, last = 0;
  for (int i = begin; i < end; ++i) {
    const size_t at = size_t(state.row(plan.row_set, i)) * size_t(tables) + size_t(table);
    if (view.start[at] >= view.stop[at]) continue;
    first = std::min(first, view.start[at] / kPageSize);
    last = std::max(last, (view.stop[at] - 1) / kPageSize + 1);
  }
  return {std::min(first, last), last};
}

// Rows of a unit, for so many queries a row and KV head.
int block_rows(int queries) { return std::min(std::max(kBlockQueries / queries, 1), kBlockRows); }

int segments(int page_begin, int page_end) {
  return page_begin >= page_end ? 0 : (page_end - 1) / kSegmentPages - page_begin / kSegmentPages + 1;
}

void add_units(const State& state, AttentionPlan& plan, int begin, int end) {
  const Group& group = state.groups[size_t(plan.group)];
  AttentionUnit unit{begin, end, state.run.sequence[state.row(plan.row_set, begin)], 0, 0, 0, 0, 0};
  for (unit.head = 0; unit.head < group.heads(); ++unit.head) {
    const int table = unit.head / group.storage->heads_per_page();
    const auto [first, last] = page_range(state, plan, table, begin, end);
    for (int slice = 0; slice < plan.slices; ++slice) {
      std::tie(unit.query_begin, unit.query_end) = share(plan.queries, slice, plan.slices);
      const int first_unit = int(plan.units.size());
      unit.page_begin = first;
      do {
        const int next = (unit.page_begin / kSegmentPages + 1) * kSegmentPages;
        unit.page_end = plan.split ? std::min(last, next) : last;
        plan.units.push_back(unit);
        unit.page_begin = unit.page_end;
      } while (unit.page_begin < last);
      plan.families.push_back({first_unit, int(plan.units.size())});
    }
  }
}

// Blocks of rows of one sequence.
template <class Visit>
void each_block(const State& state, const AttentionPlan& plan, Visit visit) {
  const int rows = state.rows(plan.row_set);
  const auto sequence = [&](int i) { return state.run.sequence[state.row(plan.row_set, i)]; };
  for (int begin = 0; begin < rows;) {
    int end = begin + 1;
    while (end < rows && end - begin < plan.block_rows && sequence(end) == sequence(begin)) ++end;
    visit(begin, end);
    begin = end;
  }
}

// Where a thread's scratch memory keeps its parts, in floats.
struct Scratch {
  Scratch(const State& state, int thread, int queries, int key_width, int value_width) {
    float* start = reinterpret_cast<float*>(state.scratch[size_t(thread)].data());
    size_t used = 0;
    const auto take = [&](size_t count) {
      float* at = start == nullptr ? nullptr : start + used;  // there is none while its size is asked for
      used += (count + 15) / 16 * 16;
      return at;
    };
    kernel = take(attention_scratch(queries, key_width, value_width));
    scaled = take(size_t(queries) * key_width);
    for (int i = 0; i < 2; ++i) {
      maximum[i] = take(size_t(queries));
      total[i] = take(size_t(queries));
      output[i] = take(size_t(queries) * value_width);
    }
    visible = reinterpret_cast<uint32_t*>(take(size_t(kSegmentPages) * kBlockRows));
    bytes = used * sizeof(float);
  }
  float *kernel, *scaled, *maximum[2], *total[2], *output[2];
  uint32_t* visible;
  size_t bytes;
};

// One node's attention, as its units need it.
class Work {
 public:
  Work(State& state, const Node& node, int thread)
      : state_(state),
        node_(node),
        plan_(state.plans[size_t(node.plan)]),
        group_(state.groups[size_t(node.group)]),
        view_(state.run.groups[size_t(node.group)]),
        storage_(*group_.storage),
        queries_(plan_.queries),
        scratch_(state, thread, block_rows(queries_) * queries_, storage_.key_width(),
                 storage_.value_width()) {}

  // A unit's states into the scratch memory (index 0), segment by segment.
  void run(const AttentionUnit& unit) {
    const int count = unit.queries();
    scale_queries(unit);
    bool first = true;
    for (int page = unit.page_begin; page < unit.page_end || first;) {
      const int next = std::min(unit.page_end, (page / kSegmentPages + 1) * kSegmentPages);
      run_segment(unit, page, std::max(page, next), first ? 0 : 1);
      if (!first)
        for (int q = 0; q < count; ++q) merge(q, scratch_.maximum[1][q], scratch_.total[1][q], output(1, q));
      first = false;
      page = std::max(page + 1, next);
    }
  }

  void merge(int q, float maximum, float total, const float* part) {
    state_.kernels->attention_merge(scratch_.maximum[0] + q, scratch_.total[0] + q, output(0, q), maximum,
                                    total, part, storage_.value_width());
  }

  void finish(const AttentionUnit& unit) {
    const float* sinks = node_.weights.empty() ? nullptr : state_.vector(node_.weights[0]);
    const int count = unit.queries(), of_row = unit.query_end - unit.query_begin;
    for (int q = 0; q < count; ++q) {
      const int head = unit.head * queries_ + unit.query_begin + q % of_row;
      const float sink = sinks == nullptr ? 0.0f : sinks[head] * kLog2E;
      float* y = state_.buffer_row(node_.outputs[0], unit.row_begin + q / of_row);
      state_.kernels->attention_finish(scratch_.maximum[0][q], scratch_.total[0][q], output(0, q),
                                       sinks == nullptr ? nullptr : &sink, storage_.value_width(),
                                       y + size_t(head) * storage_.value_width());
    }
  }

  // Copies of a unit's states, for the merge by whichever thread. One record a query: maximum, total, output.
  size_t record() const { return size_t(storage_.value_width()) + 2; }
  float* part(size_t unit) const {
    return reinterpret_cast<float*>(state_.partial.data()) + unit * plan_.unit_queries() * record();
  }
  void save(const AttentionUnit& unit, float* to) {
    const int count = unit.queries();
    for (int q = 0; q < count; ++q, to += record()) {
      to[0] = scratch_.maximum[0][q];
      to[1] = scratch_.total[0][q];
      std::copy_n(output(0, q), storage_.value_width(), to + 2);
    }
  }

  void merge_family(const AttentionFamily& family) {
    const AttentionUnit& unit = plan_.units[size_t(family.first_unit)];
    const int count = unit.queries();
    for (int q = 0; q < count; ++q) {
      for (int u = family.first_unit; u < family.last_unit; ++u) {
        const float* from = part(size_t(u)) + size_t(q) * record();
        if (u == family.first_unit) {
          scratch_.maximum[0][q] = from[0];
          scratch_.total[0][q] = from[1];
          std::copy_n(from + 2, storage_.value_width(), output(0, q));
        } else {
          merge(q, from[0], from[1], from + 2);
        }
      }
    }
    finish(unit);
  }

 private:
  float* output(int which, int q) const {
    return scratch_.output[which] + size_t(q) * storage_.value_width();
  }

  void scale_queries(const AttentionUnit& unit) {
    const size_t key = size_t(storage_.key_width());
    const size_t width = size_t(unit.query_end - unit.query_begin) * key;
    const size_t first = (size_t(unit.head) * size_t(queries_) + size_t(unit.query_begin)) * key;
    for (int row = unit.row_begin; row < unit.row_end; ++row)
      state_.kernels->scale(state_.buffer_row(node_.inputs[0], row) + first, node_.floats[0] * kLog2E, width,
                            scratch_.scaled + size_t(row - unit.row_begin) * width);
  }

  void run_segment(const AttentionUnit& unit, int page_begin, int page_end, int which) {
    const int heads = storage_.heads_per_page();
    const int table = unit.head / heads;
    const int rows = unit.row_end - unit.row_begin;
    for (int page = page_begin; page < page_end; ++page)
      for (int i = 0; i < rows; ++i)
        scratch_.visible[(page - page_begin) * rows + i] =
            visible_bits(view_, group_.tables, state_.row(plan_.row_set, unit.row_begin + i), table, page);
    AttentionSegment segment;
    segment.entries = storage_.entries(node_.integers[0], 0, unit.head % heads);
    segment.page_stride = storage_.page_stride();
    segment.pages = view_.tables + (size_t(unit.sequence) * group_.tables + table) * view_.pages + page_begin;
    segment.first_page = page_begin;
    segment.page_count = page_end - page_begin;
    segment.key_width = storage_.key_width();
    segment.value_width = storage_.value_width();
    segment.value_in_key = storage_.value_in_key();
    segment.soft_cap = node_.floats[1] * kLog2E;
    segment.rows = rows;
    segment.group = unit.query_end - unit.query_begin;
    segment.visible = scratch_.visible;
    segment.queries = scratch_.scaled;
    segment.maximum = scratch_.maximum[which];
    segment.total = scratch_.total[which];
    segment.output = scratch_.output[which];
    segment.scratch = scratch_.kernel;
    state_.kernels->attention[int(storage_.format())](segment);
  }

  State& state_;
  const Node& node_;
  const AttentionPlan& plan_;
  const Group& group_;
  const GroupArguments& view_;
  const CacheStorage& storage_;
  int queries_;  // query heads of a KV head
  Scratch scratch_;
};

}  // namespace

int attention_plan(State& state, int group, int row_set, int queries) {
  for (size_t i = 0; i < state.plans.size(); ++i) {
    const AttentionPlan& known = state.plans[i];
    if (known.group == group && known.row_set == row_set && known.queries == queries) return int(i);
  }
  AttentionPlan plan;
  plan.group = group;
  plan.row_set = row_set;
  plan.queries = queries;
  state.plans.push_back(std::move(plan));
  return int(state.plans.size()) - 1;
}

void plan_attention(State& state) {
  const int threads = state.pool->threads();
  for (AttentionPlan& plan : state.plans) {
    plan.units.clear();
    plan.families.clear();
    plan.block_rows = block_rows(plan.queries);
    int blocks = 0, longest = 0, most = 0;
    int64_t largest = 0, total = 0;  // work of a unit and of all, in pages times rows
    const int tables = state.groups[size_t(plan.group)].tables;
    const int heads = state.groups[size_t(plan.group)].heads();
    each_block(state, plan, [&](int begin, int end) {
      ++blocks;
      most = std::max(most, end - begin);
      for (int table = 0; table < tables; ++table) {
        const auto [first, last] = page_range(state, plan, table, begin, end);
        longest = std::max(longest, segments(first, last));
        const int64_t work = int64_t(last - first) * (end - begin);
        largest = std::max(largest, work);
        total += work * (heads / tables);
      }
    });
    // Few units, or one that would keep a thread busy when the others are through.
    const bool uneven = int64_t(blocks) * heads < 4 * threads || 4 * threads * largest > total;
    plan.split = threads > 1 && longest > 1 && uneven;
    plan.slices = 1;
    if (threads > 1 && uneven) {  // not even the segments are many: fewer rows a unit, then fewer queries
      const int64_t units = std::max<int64_t>(int64_t(blocks) * heads * std::max(longest, 1), 1);
      const int wanted = int((2 * threads + units - 1) / units), parts = std::min(wanted, std::max(most, 1));
      plan.block_rows = std::max((most + parts - 1) / parts, 1);
      plan.slices = std::min((wanted + parts - 1) / parts, std::max(plan.queries / kSliceQueries, 1));
    }
    each_block(state, plan, [&](int begin, int end) { add_units(state, plan, begin, end); });
  }
  size_t floats = 0;
  for (const auto& node : state.nodes) {
    if (node->plan < 0 || !state.plans[size_t(node->plan)].split) continue;
    const AttentionPlan& plan = state.plans[size_t(node->plan)];
    const size_t record = size_t(state.groups[size_t(node->group)].storage->value_width()) + 2;
    floats = std::max(floats, plan.units.size() * plan.unit_queries() * record);
  }
  if (floats * sizeof(float) > state.partial.size()) state.partial = Memory(2 * floats * sizeof(float));
}

void check_queries(const State& state, const Node& node) {
  const Group& group = state.groups[size_t(node.group)];
  const int heads = node.integers[1];
  if (node.integers[0] < 0 || node.integers[0] >= group.storage->layers())
    refuse(node, "the cache has no such layer");
  if (heads < 1 || heads % group.heads() != 0)
    refuse(node, std::to_string(heads) + " heads do not fit " + std::to_string(group.heads()) + " KV heads");
  if (state.buffer(node.inputs[0]).width != int64_t(heads) * group.storage->key_width())
    refuse(node, "the input's width is not heads * key width");
}

void attention_check(State& state, Node& node) {
  check_queries(state, node);
  const Group& group = state.groups[size_t(node.group)];
  const Buffer& q = state.buffer(node.inputs[0]);
  const Buffer& o = state.buffer(node.outputs[0]);
  const int heads = node.integers[1];
  if (o.width != int64_t(heads) * group.storage->value_width())
    refuse(node, "the output's width is not heads * value width");
  if (q.slot == o.slot) refuse(node, "the output cannot take the input's place");
  if (!node.weights.empty() && node.weights[0] >= 0 &&
      state.weights[size_t(node.weights[0])].vector.size() != size_t(heads))
    refuse(node, "sinks must be a vector of one number a head");
  const int queries = heads / group.heads();
  node.plan = attention_plan(state, node.group, q.row_set, queries);
  const Scratch size(state, 0, block_rows(queries) * queries, group.storage->key_width(),
                     group.storage->value_width());
  for (Memory& scratch : state.scratch)
    if (scratch.size() < size.bytes) scratch = Memory(size.bytes);
}

int attention_units(const State& state, const Node& node) {
  return int(state.plans[size_t(node.plan)].units.size());
}

void attention_unit(State& state, const Node& node, int index, int thread) {
  const AttentionPlan& plan = state.plans[size_t(node.plan)];
  const AttentionUnit& unit = plan.units[size_t(index)];
  Work work(state, node, thread);
  work.run(unit);
  if (plan.split)
    work.save(unit, work.part(size_t(index)));
  else
    work.finish(unit);
}

int attention_families(const State& state, const Node& node) {
  const AttentionPlan& plan = state.plans[size_t(node.plan)];
  return plan.split ? int(plan.families.size()) : 0;
}

void attention_family(State& state, const Node& node, int family, int thread) {
  Work(state, node, thread).merge_family(state.plans[size_t(node.plan)].families[size_t(family)]);
}

void attention_store_check(State& state, Node& node) {
  const Group& group = state.groups[size_t(node.group)];
  if (node.integers[0] < 0 || node.integers[0] >= group.storage->layers())
    refuse(node, "the cache has no such layer");
  if (state.buffer(node.inputs[0]).width != int64_t(group.heads()) * group.storage->key_width())
    refuse(node, "the key's width is not KV heads * key width");
  if (group.storage->value_in_key()) {
    if (node.inputs.size() != 1)
      refuse(node, "this cache has its values in the key, so there is no second input");
    return;
  }
  if (node.inputs.size() != 2) refuse(node, "a key and a value are needed");
  if (state.buffer(node.inputs[1]).width != int64_t(group.heads()) * group.storage->value_width())
    refuse(node, "the value's width is not KV heads * value width");
}

void attention_store_run(State& state, const Node& node, int begin, int end) {
  const Group& group = state.groups[size_t(node.group)];
  const GroupArguments& view = state.run.groups[size_t(node.group)];
  const CacheStorage& storage = *group.storage;
  const auto store_entry = state.kernels->store_entry[int(storage.format())];
  for (int i = begin; i < end; ++i) {
    const int row = state.row(node.row_set, i);
    const float* key = state.buffer_row(node.inputs[0], i);
    const float* value = storage.value_in_key() ? nullptr : state.buffer_row(node.inputs[1], i);
    for (int head = 0; head < group.heads(); ++head) {
      const int table = head / storage.heads_per_page();
      const int slot = view.write[size_t(row) * group.tables + table];
      if (slot < 0) continue;
      const size_t sequence = size_t(state.run.sequence[row]);
      const int page = view.tables[(sequence * group.tables + table) * view.pages + slot / kPageSize];
      store_entry(key + size_t(head) * storage.key_width(),
                  value == nullptr ? nullptr : value + size_t(head) * storage.value_width(),
                  storage.key_width(), storage.value_width(), slot % kPageSize,
                  storage.entries(node.integers[0], page, head % storage.heads_per_page()));
    }
  }
}

}  // namespace fivefold
