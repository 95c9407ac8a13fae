// The description of a program, as it comes from Python: slots, buffers, weights, nodes and their numbers.
// Whatever is said, it is refused or can be run.
#include <iterator>
#include <new>
#include <stdexcept>

#include "executor.h"
#include "taken.h"

using namespace fivefold;

namespace {

constexpr int kMaxRows = 5, kTokens = 4, kPages = 2;
const char* const kNames[] = {"embed",         "rms_norm",
                              "linear",        "rope_angles",
                              "rope",          "attention_store",
                              "attention",     "gated",
                              "add",           "scale",
                              "soft_cap",      "gather_rows",
                              "scatter_rows",  "scatter_add_rows",
                              "copy",          "none such",
                              "clamped_gated", "route",
                              "expert_linear", "expert_sum",
                              "head_linear",   "head_columns",
                              "head_join",     "gate_rows",
                              "delta_gates",   "scale_by",
                              "expert_inputs", "scale_by_position",
                              "observe"};
const int kWidths[] = {32, 32, 32, 64, 16, 8, 1, 2, 96, 33};

const char* const kEntries[] = {"f16", "bf16", "int8", "fp8", "none such"};

int width_of(Taken& taken) { return taken.one_in(24) ? taken.number<int32_t>() : kWidths[taken.below(10)]; }

std::vector<int> some(Taken& taken, int most, int limit) {
  std::vector<int> found;
  for (int count = taken.below(most + 1); count > 0; --count) found.push_back(taken.index(limit));
  return found;
}

void add_weights(Taken& taken, Executor& executor, const std::shared_ptr<ThreadPool>& pool, const char* isa) {
  static const std::vector<uint8_t> stored(size_t(1) << 16, 1);
  for (int i = taken.below(5); i > 0; --i) {
    const int rows = width_of(taken), columns = width_of(taken);
    const char* format = taken.one_in(2) ? "f32" : "q8_0";
    const double rows_bytes = format[0] == 'f' ? 4.0 * columns : columns / 32 * 34.0,
                 bytes = rows * rows_bytes;
    const size_t size = bytes < 0 || bytes > double(stored.size()) ? stored.size() : size_t(bytes);
    const int kind = taken.below(4);
    if (kind == 3) {
      auto stack = std::make_shared<Matrix>(isa, format, 1 + taken.below(3), rows, columns);
      while (!stack->complete() && !taken.one_in(24)) stack->pack(*pool, stored.data(), size);
      executor.add_matrix(std::move(stack));
    } else if (kind == 0)
      executor.add_matrix(std::make_shared<Matrix>(*pool, isa, format, stored.data(), size, rows, columns));
    else if (kind == 1)
      executor.add_table(format, stored.data(), size, rows, columns, nullptr);
    else
      executor.add_vector(reinterpret_cast<const float*>(stored.data()),
                          size_t(rows < 0 || rows > 4096 ? 1 : rows));
  }
}

void add_group(Taken& taken, Executor& executor) {
  const int layers = taken.one_in(24) ? taken.number<int32_t>() : 1 + taken.below(2);
  const int pages = taken.one_in(24) ? taken.number<int32_t>() : kPages;
  const int heads = taken.one_in(24) ? taken.number<int32_t>() : 1 + taken.below(2);
  const int key = taken.one_in(24) ? taken.number<int32_t>() : kWidths[taken.below(10)];
  const int value = taken.one_in(24) ? taken.number<int32_t>() : kWidths[taken.below(10)];
  const int page_size = taken.one_in(64) ? taken.byte() : kPageSize;
  const bool value_in_key = taken.one_in(4);
  auto storage = std::make_shared<CacheStorage>(layers, pages, heads, page_size, key, value, value_in_key,
                                                entry_format(kEntries[taken.below(5)], value_in_key));
  if (storage->bytes() > (size_t(1) << 24)) throw std::bad_alloc();  // so much is not to be written over
  std::vector<float> k(size_t(storage->key_width())), v(size_t(storage -> value_width()));
  const int32_t places[] = {taken.index(pages), taken.index(kPageSize), taken.index(pages),
                            taken.index(kPageSize)};
  try {
    storage->write_entry(taken.index(layers), places[0], taken.index(heads), places[1], k.data(), v.data());
    storage->read_entry(taken.index(layers), places[2], taken.index(heads), places[3], k.data(), v.data());
    storage->copy_entries(places, places + 1, places + 2, places + 3, 1);
  } catch (const std::invalid_argument&) {
  }
  executor.add_group(storage, taken.one_in(24) ? taken.number<int32_t>() : 1 + taken.below(2));
}

void run(Taken& taken, Executor& executor) {
  const int rows = taken.below(kMaxRows + 1);
  const State& state = executor.state();
  std::vector<int32_t> tokens(size_t(rows), taken.below(kTokens)), positions(size_t(rows), 3),
      zeros(size_t(rows), 0);
  RunArguments arguments;
  arguments.rows = rows;
  arguments.tokens = tokens.data();
  arguments.positions = positions.data();
  arguments.sequence = zeros.data();
  arguments.row_sets.push_back({nullptr, rows});
  for (int set = 1; set < state.row_sets; ++set)
    arguments.row_sets.push_back({zeros.data(), rows == 0 ? 0 : taken.below(rows + 1)});
  size_t tables = 1;
  for (const Group& group : state.groups) tables = std::max(tables, size_t(group.tables));
  std::vector<int32_t> table(tables, taken.index(kPages)), first(tables * size_t(rows), 0);
  std::vector<int32_t> last(tables * size_t(rows), 1 + taken.below(kPageSize));
  for (size_t group = 0; group < state.groups.size(); ++group)
    arguments.groups.push_back(
        {table.data(), first.data(), last.data(), first.data(), nullptr, nullptr, 1, 1, 0});
  std::vector<std::vector<float>> inputs;
  for (int id : state.inputs) {
    const Buffer& buffer = state.buffer(id);
    const int held = buffer.row_set < int(arguments.row_sets.size())
                         ? arguments.row_sets[size_t(buffer.row_set)].count
                         : 0;
    inputs.emplace_back(size_t(held) * size_t(buffer.width), taken.real());
    arguments.inputs.push_back({inputs.back().data(), held, buffer.width});
  }
  executor.run(std::move(arguments));
  for (size_t id = 0; id < state.buffers.size(); ++id) executor.buffer(int(id));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto pool = std::make_shared<ThreadPool>(1);
  static const std::vector<const Kernels*> all = usable_kernels();
  Taken taken(data, size);
  const char* isa = all[size_t(taken.below(int(all.size())))]->isa;
  try {
    Executor executor(pool, isa, taken.one_in(2) ? "float" : "int8", kMaxRows);
    for (int i = taken.below(3); i > 0; --i) executor.add_row_set();
    std::vector<int> widths;
    for (int i = taken.below(6); i > 0; --i) widths.push_back(width_of(taken));
    for (int width : widths)
      if (width > (1 << 20) && width <= (1 << 27))
        return 0;  // memory for it there may be, but not for all runs
    executor.add_slots(widths);
    const int slots = int(widths.size());
    for (int i = taken.below(8); i > 0; --i) {
      const int slot = taken.index(slots);
      const int width =
          slot >= 0 && slot < slots && !taken.one_in(8) ? widths[size_t(slot)] : width_of(taken);
      executor.add_buffer(slot, width, taken.index(executor.state().row_sets));
    }
    add_weights(taken, executor, pool, isa);
    for (int i = taken.below(3); i > 0; --i) add_group(taken, executor);
    const int buffers = int(executor.state().buffers.size()), weights = int(executor.state().weights.size());
    for (int i = taken.below(3); i > 0; --i) executor.add_input(taken.index(buffers));
    for (int i = 1 + taken.below(6); i > 0; --i) {
      const char* name = kNames[taken.below(int(std::size(kNames)))];
      const std::vector<int> inputs = some(taken, 2, buffers), outputs = some(taken, 1, buffers);
      const std::vector<int> of = some(taken, 2, weights), integers = some(taken, 6, 33);
      std::vector<float> floats;
      for (int count = taken.below(3); count > 0; --count) floats.push_back(taken.real());
      try {
        executor.add_node(name, inputs, outputs, of, integers, floats,
                          taken.index(int(executor.state().groups.size())),
                          taken.index(executor.state().row_sets));
      } catch (const std::invalid_argument&) {
      }
    }
    run(taken, executor);
  } catch (const std::invalid_argument&) {
  } catch (const std::bad_alloc&) {
  }
  return 0;
}
