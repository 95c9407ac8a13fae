// What an executor is made of, and what one run adds to it. Shared by the files that build, check and run
// nodes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cache.h"
#include "kernels.h"
#include "matrix.h"
#include "memory.h"
#include "recurrent.h"
#include "thread_pool.h"

namespace fivefold {

constexpr int kAllRows = 0;  // the row set of all rows

// Rows of numbers in a memory slot: one row for each row of its row set, tightly packed.
struct Buffer {
  int slot;
  int width;
  int row_set;
  float* data;
};

struct Slot {
  Memory memory;
  Memory quantized;  // int8 rows of the buffer that was quantized last, if a node wants them
  int width;
};

// Rows as they are stored in a file, looked up one at a time. Not a copy: `owner` keeps the bytes.
struct Table {
  const FormatInfo* format;
  const uint8_t* stored;
  size_t row_bytes;
  int rows, columns;
  std::shared_ptr<void> owner;
  Scales scales;
};

// Exactly one of the three is there.
struct Weight {
  std::shared_ptr<Matrix> matrix;
  std::vector<float> vector;
  std::unique_ptr<Table> table;
};

struct Group {
  std::shared_ptr<CacheStorage> storage;
  int tables;
  int heads() const { return tables * storage->heads_per_page(); }
};

struct State;
struct KernelInfo;

struct Node {
  const KernelInfo* kernel;
  std::vector<int> inputs, outputs, weights, integers;
  std::vector<float> floats;
  int group;
  int row_set;                     // whose rows the work is shared by
  int plan = -1;                   // attention: index into State::plans
  bool integer = false;            // linear: int8 activations
  int grouping = -1;               // of rows by expert: index into State::groupings
  int observation = -1;            // observe: index into State::observations
  int parts = 1;                   // of a row of the first input, each multiplied by itself
  double seconds = 0;              // accumulated while profiling
  std::vector<float> constants{};  // what its check makes of a weight
};

// The pairs of a row and one of its experts, in the order of experts, of one run.
struct Grouping {
  int route;                     // a buffer
  int experts;                   // in all
  int touched = 0;               // those with rows
  int pairs = 0;                 // with an expert that there is; the others stand behind them
  std::vector<int32_t> rows;     // of each pair
  std::vector<int32_t> places;   // of each pair: row * experts of a row + place
  std::vector<int32_t> numbers;  // [touched] of experts
  std::vector<int32_t> first;    // [touched + 1] the first pair of each
  std::vector<int64_t> work;     // [touched + 1] what a tile of all before it takes
  std::vector<int32_t> next;     // [experts + 1] while pairs are put in order
};

// A group's view for one run; shapes as in core/batch.py.
struct GroupArguments {
  const int32_t* tables;  // (sequences, tables, pages)
  const int32_t* start;   // (rows, tables), as are stop, write and mask_from
  const int32_t* stop;
  const int32_t* write;
  const uint64_t* mask;  // (rows, words), or null
  const int32_t* mask_from;
  int sequences, pages, mask_words;
};

struct RowSet {
  const int32_t* rows;  // indices into the run's rows; null: all of them, in order
  int count;
};

struct InputArguments {
  const float* data;
  int rows, width;
};

// Where states lie before and after rows, see recurrent.h.
struct StateArguments {
  const int32_t* read = nullptr;   // (sequences)
  const int32_t* write = nullptr;  // (rows)
  int sequences = 0;
};

struct RunArguments {
  int rows = 0;
  const int32_t* tokens = nullptr;
  const int32_t* positions = nullptr;
  const int32_t* sequence = nullptr;
  std::vector<RowSet> row_sets;  // [0] is all rows
  std::vector<GroupArguments> groups;
  std::vector<InputArguments> inputs;
  StateArguments states;
};

// A block of rows of one sequence, some or all query heads of one KV head, and a range of the sequence's
// pages.
struct AttentionUnit {
  int row_begin, row_end;  // in the row set
  int sequence;
  int head;
  int query_begin, query_end;  // of those that share the KV head
  int page_begin, page_end;
  int queries() const { return (row_end - row_begin) * (query_end - query_begin); }
};

// Units that together are all that a block of rows sees.
struct AttentionFamily {
  int first_unit, last_unit;
};

// Who computes which part of an attention in this run. The parts do not depend on the number of threads.
struct AttentionPlan {
  int group;
  int row_set;
  int queries = 1;     // query heads of a KV head
  int block_rows = 1;  // of a unit of this step, at most
  int slices = 1;      // of the queries of a row
  bool split = false;  // units are single segments, to be merged after all are there
  std::vector<AttentionUnit> units;
  std::vector<AttentionFamily> families;
  size_t unit_queries() const { return size_t(block_rows) * size_t(queries); }
};

// Rows of one sequence that observe, and one of their query heads.
struct ObservationUnit {
  int row_begin, row_end;  // in the row set
  int view;                // index into Observation::views
  int head;
};

// What was observed of one sequence: [head][pages * kPageSize] numbers from `first` on.
struct ObservedView {
  int sequence;
  int pages;
  size_t first;
};

// What an observing node found out in a run.
struct Observation {
  int heads;
  std::vector<ObservationUnit> units;
  std::vector<ObservedView> views;
  std::vector<float> importance;
};

struct State {
  std::shared_ptr<ThreadPool> pool;
  const Kernels* kernels = nullptr;
  bool integer_activations = true;
  int max_rows = 0;

  std::vector<Weight> weights;
  std::vector<Slot> slots;
  std::vector<Buffer> buffers;
  std::vector<int> inputs;  // buffer ids
  std::vector<Group> groups;
  std::vector<std::shared_ptr<StateStorage>> states;
  std::vector<std::unique_ptr<Node>> nodes;
  int row_sets = 1;

  std::vector<AttentionPlan> plans;
  std::vector<Grouping> groupings;
  std::vector<StateSegment> segments;      // of all sequences of a run, in order
  std::vector<std::pair<int, int>> spans;  // the segments of each of its sequences, as [first, last)
  std::vector<Memory> scratch;             // of each thread, for attention
  Memory partial;                          // unmerged attention
  std::vector<Observation> observations;
  std::vector<Memory> observing;  // scratch memory of each thread
  RunArguments run;               // of the run that is under way, or the last one (then without its pointers)

  int rows(int row_set) const { return run.row_sets[size_t(row_set)].count; }
  int row(int row_set, int index) const {
    const RowSet& set = run.row_sets[size_t(row_set)];
    return set.rows == nullptr ? index : set.rows[index];
  }
  const Buffer& buffer(int id) const { return buffers[size_t(id)]; }
  float* buffer_row(int id, int row) const {
    return buffer(id).data + size_t(row) * size_t(buffer(id).width);
  }
  const float* vector(int id) const { return id < 0 ? nullptr : weights[size_t(id)].vector.data(); }
};

}  // namespace fivefold
