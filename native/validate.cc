// The checks of a run's arguments: after them no kernel can read or write outside its memory.
#include <stdexcept>

#include "executor.h"

namespace fivefold {
namespace {

using Text = std::string;

[[noreturn]] void invalid(const Text& why) { throw std::invalid_argument(why); }

Text number(int64_t value) { return std::to_string(value); }

void check_row_sets(const State& state, const RunArguments& run) {
  if (int(run.row_sets.size()) != state.row_sets)
    invalid("the program has " + number(state.row_sets - 1) + " row sets besides all rows, but " +
            number(int64_t(run.row_sets.size()) - 1) + " were given");
  for (size_t s = 1; s < run.row_sets.size(); ++s) {
    const RowSet& set = run.row_sets[s];
    if (set.count > state.max_rows) invalid("row set " + number(int64_t(s)) + " has more than max_rows rows");
    for (int i = 0; i < set.count; ++i)
      if (set.rows[i] < 0 || set.rows[i] >= run.rows)
        invalid("row set " + number(int64_t(s)) + " names row " + number(set.rows[i]) + " of " +
                number(run.rows));
  }
}

void check_tokens(const State& state, const RunArguments& run) {
  for (const auto& node : state.nodes) {
    if (Text(node->kernel->name) != "embed") continue;
    const int limit = state.weights[size_t(node->weights[0])].table->rows;
    const RowSet& set = run.row_sets[size_t(node->row_set)];
    for (int i = 0; i < set.count; ++i) {
      const int row = set.rows == nullptr ? i : set.rows[i];
      if (run.tokens[row] < 0 || run.tokens[row] >= limit)
        invalid("token " + number(run.tokens[row]) + " in row " + number(row) +
                " is not below the vocabulary of " + number(limit));
    }
  }
}

void check_inputs(const State& state, const RunArguments& run) {
  if (run.inputs.size() != state.inputs.size())
    invalid("the program has " + number(int64_t(state.inputs.size())) + " inputs, but " +
            number(int64_t(run.inputs.size())) + " were given");
  for (size_t i = 0; i < run.inputs.size(); ++i) {
    const Buffer& buffer = state.buffer(state.inputs[i]);
    const int rows = run.row_sets[size_t(buffer.row_set)].count;
    if (run.inputs[i].rows != rows || run.inputs[i].width != buffer.width)
      invalid("input " + number(int64_t(i)) + " must be " + number(rows) + " x " + number(buffer.width) +
              ", not " + number(run.inputs[i].rows) + " x " + number(run.inputs[i].width));
  }
}

// For one group: every slot that a row sees or writes lies in a page that exists.
class GroupCheck {
 public:
  GroupCheck(const State& state, const RunArguments& run, size_t index)
      : run_(run),
        view_(run.groups[index]),
        group_(state.groups[index]),
        name_("cache group " + number(int64_t(index))) {}

  void check() {
    count_missing_pages();
    for (int row = 0; row < run_.rows; ++row) {
      const int sequence = run_.sequence[row];
      if (sequence < 0 || sequence >= view_.sequences)
        invalid(name_ + " has no tables for sequence " + number(sequence) + " of row " + number(row));
      for (int table = 0; table < group_.tables; ++table) check_row(row, sequence, table);
    }
  }

 private:
  // missing_[(sequence, table)][p]: pages before p that are -1.
  void count_missing_pages() {
    const int total = group_.storage->pages();
    const size_t tables = size_t(view_.sequences) * size_t(group_.tables);
    missing_.assign(tables * (size_t(view_.pages) + 1), 0);
    for (size_t t = 0; t < tables; ++t)
      for (int p = 0; p < view_.pages; ++p) {
        const int page = view_.tables[t * size_t(view_.pages) + size_t(p)];
        if (page < -1 || page >= total)
          invalid(name_ + ": page " + number(page) + " is not below " + number(total));
        const size_t at = t * (size_t(view_.pages) + 1) + size_t(p);
        missing_[at + 1] = missing_[at] + (page < 0);
      }
  }

  void check_range(int row, int sequence, int table, int64_t first, int64_t last, const char* verb) const {
    const Text what =
        name_ + ": row " + number(row) + " " + verb + " slots " + number(first) + " to " + number(last);
    if (first < 0 || last > int64_t(view_.pages) * kPageSize)
      invalid(what + ", but its table has " + number(view_.pages) + " pages");
    const size_t base =
        (size_t(sequence) * size_t(group_.tables) + size_t(table)) * (size_t(view_.pages) + 1);
    if (missing_[base + size_t((last - 1) / kPageSize) + 1] != missing_[base + size_t(first / kPageSize)])
      invalid(what + ", but its table has no page there");
  }

  void check_row(int row, int sequence, int table) const {
    const size_t at = size_t(row) * size_t(group_.tables) + size_t(table);
    const int start = view_.start[at], stop = view_.stop[at], write = view_.write[at];
    if (start < stop) check_range(row, sequence, table, start, stop, "sees");
    if (write >= 0) check_range(row, sequence, table, write, int64_t(write) + 1, "writes");
  }

  const RunArguments& run_;
  const GroupArguments& view_;
  const Group& group_;
  const Text name_;
  std::vector<int> missing_;
};

}  // namespace

void validate_run(const State& state, const RunArguments& run) {
  if (run.rows < 0 || run.rows > state.max_rows)
    invalid("a run of " + number(run.rows) + " rows is more than the executor's " + number(state.max_rows));
  check_row_sets(state, run);
  check_tokens(state, run);
  check_inputs(state, run);
  if (run.groups.size() != state.groups.size())
    invalid("the program has " + number(int64_t(state.groups.size())) + " cache groups, but " +
            number(int64_t(run.groups.size())) + " were given");
  for (size_t g = 0; g < run.groups.size(); ++g) GroupCheck(state, run, g).check();
  validate_states(state, run);
}

}  // namespace fivefold
