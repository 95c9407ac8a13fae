#include "schedule.h"

#include <algorithm>
#include <array>
#include <map>

namespace fivefold {
namespace {

// What a part reads and writes, as numbers: slots, their quantized rows, caches, and unmerged attention. With
// each the width of its rows there: rows of different widths in one slot lie across each other.
struct Uses {
  std::map<int, int> reads, writes;
};

// Whether something is in both; if `by_rows`, only what has other widths there, for equal widths keep to
// their rows.
bool meet(const std::map<int, int>& a, const std::map<int, int>& b, bool by_rows) {
  return std::any_of(a.begin(), a.end(), [&](const auto& use) {
    const auto other = b.find(use.first);
    return other != b.end() && (!by_rows || other->second != use.second);
  });
}

bool conflict(const Uses& a, const Uses& b, bool by_rows) {
  return meet(a.writes, b.writes, by_rows) || meet(a.writes, b.reads, by_rows) ||
         meet(a.reads, b.writes, by_rows);
}

// A stage needs no barrier unless one of its parts is in conflict with a stage since the last barrier. Parts
// of one stage by rows may be in conflict over rows of one width: each row is in one chunk, which goes
// through them in order.
class Scheduler {
 public:
  Scheduler(State& state, bool single) : state_(state), single_(single), versions_(state.slots.size(), 0) {
    quantized_.assign(state.slots.size(), {-1, -1, -1});
  }

  std::vector<Stage> run() {
    for (const auto& node : state_.nodes) {
      if (node->integer) quantize(*node);
      add(*node);
    }
    return std::move(stages_);
  }

 private:
  int slot_of(int buffer) const { return state_.buffer(buffer).slot; }
  int width_of(int buffer) const { return state_.buffer(buffer).width; }
  int quantized_of(int buffer) const { return int(state_.slots.size()) + slot_of(buffer); }
  int cache_of(int group) const { return 2 * int(state_.slots.size()) + group; }
  int grouping_of(int number) const { return cache_of(int(state_.groups.size())) + number; }
  static constexpr int kPartial = -1;

  // Quantizes a linear's input, unless that has been done since the input was written.
  void quantize(Node& node) {
    const int buffer = node.inputs[0];
    const size_t slot = size_t(slot_of(buffer));
    const std::array<int, 3> wanted = {buffer, versions_[slot], node.parts};
    if (quantized_[slot] == wanted) return;
    quantized_[slot] = wanted;
    const size_t row = quantized_bytes(state_, node), bytes = row * size_t(state_.max_rows);
    if (state_.slots[slot].quantized.size() < bytes) state_.slots[slot].quantized = Memory(bytes);
    Uses uses;
    uses.reads[slot_of(buffer)] = width_of(buffer);
    uses.writes[quantized_of(buffer)] = int(row);
    place({&node, buffer}, node.row_set, 0, uses);
  }

  // Groups the rows by expert, unless that has been done since the experts were chosen. What is written then
  // is read in place of the choice.
  void group(Node& node) {
    const int route = node.inputs[1];
    const size_t number = size_t(node.grouping);
    if (grouped_.size() <= number) grouped_.resize(number + 1, -1);
    const int version = versions_[size_t(slot_of(route))];
    if (grouped_[number] == version) return;
    grouped_[number] = version;
    Uses uses;
    uses.reads[slot_of(route)] = width_of(route);
    uses.writes[grouping_of(node.grouping)] = 0;
    place({&node, -1}, -1, 0, uses);
  }

  void add(Node& node) {
    Uses uses;
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const int id = node.inputs[i];
      if (i == 0 && node.integer)
        uses.reads[quantized_of(id)] = int(quantized_bytes(state_, node));
      else if (i == 1 && node.grouping >= 0)
        uses.reads[grouping_of(node.grouping)] = 0;
      else
        uses.reads[slot_of(id)] = width_of(id);
    }
    if (node.grouping >= 0) group(node);
    for (int id : node.outputs) {
      uses.writes[slot_of(id)] = width_of(id);
      ++versions_[size_t(slot_of(id))];
    }
    if (node.kernel->needs_group)
      (node.kernel->writes_cache ? uses.writes : uses.reads)[cache_of(node.group)] = 0;
    if (node.plan >= 0) uses.writes[kPartial] = 0;
    if (node.kernel->by_rows != nullptr) {
      place({&node, -1}, node.row_set, 0, uses);
      return;
    }
    for (int phase = node.grouping >= 0 ? 1 : 0; phase < 2; ++phase)
      if (node.kernel->phases[phase].run != nullptr) place({&node, -1}, -1, phase, uses);
  }

  void place(Part part, int row_set, int phase, const Uses& uses) {
    const bool joins = !single_ && row_set >= 0 && !stages_.empty() && stages_.back().row_set == row_set;
    const int last = int(stages_.size()) - 1;
    bool barrier = single_;
    for (const auto& [stage, other] : since_barrier_)
      if (conflict(uses, other, joins && stage == last)) barrier = true;
    if (barrier || !joins) {
      if (barrier) since_barrier_.clear();
      stages_.push_back({barrier, row_set, phase, {}});
    }
    stages_.back().parts.push_back(part);
    since_barrier_.push_back({int(stages_.size()) - 1, uses});
  }

  State& state_;
  const bool single_;
  std::vector<int> versions_;                  // of each slot: how often it has been written
  std::vector<std::array<int, 3>> quantized_;  // of each slot: which buffer, at which version, in which parts
  std::vector<int> grouped_;                   // of each grouping: at which version of its choice
  std::vector<std::pair<int, Uses>> since_barrier_;
  std::vector<Stage> stages_;
};

}  // namespace

std::vector<Stage> make_schedule(State& state, bool single) { return Scheduler(state, single).run(); }

}  // namespace fivefold
