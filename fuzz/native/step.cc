// The arguments of a step, as they come from Python: tokens, page tables, row maps, masks. Whatever they are,
// a step is refused before it touches memory, or runs, with the same bits on every instruction set.
#include <algorithm>
#include <stdexcept>

#include "executor.h"
#include "taken.h"

using namespace fivefold;

namespace {

constexpr int kMaxRows = 24, kPages = 5, kTokens = 9, kInput = 8;

// A small program with every kind of node that looks at a step's arguments.
struct Model {
  Model(const Kernels& kernels, std::shared_ptr<ThreadPool> pool, int tables, int heads_per_page,
        bool value_in_key, const char* entries)
      : tables(tables), executor(pool, kernels.isa, "int8", kMaxRows) {
    const int heads = tables * heads_per_page, key = 8, value = value_in_key ? 4 : 6, queries = 2 * heads;
    storage = std::make_shared<CacheStorage>(1, kPages, heads_per_page, kPageSize, key, value, value_in_key,
                                             entry_format(entries, value_in_key));
    const int set = executor.add_row_set();
    const int widths[] = {queries * key,   heads * key,     heads * value, key,
                          queries * value, queries * value, kInput,        queries * key};
    executor.add_slots(std::vector<int>(std::begin(widths), std::end(widths)));
    const int q = executor.add_buffer(0, widths[0], kAllRows),
              k = executor.add_buffer(1, widths[1], kAllRows);
    const int v = executor.add_buffer(2, widths[2], kAllRows), angles = executor.add_buffer(3, key, kAllRows);
    const int o = executor.add_buffer(4, widths[4], kAllRows), some = executor.add_buffer(5, widths[5], set);
    executor.add_input(executor.add_buffer(6, kInput, kAllRows));
    const int group = executor.add_group(storage, tables);
    const std::vector<float> frequencies = {1.0f, 0.5f, 0.25f, 0.125f};
    const int frequency = executor.add_vector(frequencies.data(), frequencies.size());
    for (const auto& [buffer, width] :
         {std::pair(q, widths[0]), std::pair(k, widths[1]), std::pair(v, widths[2])})
      executor.add_node("embed", {}, {buffer}, {table(width)}, {}, {}, -1, kAllRows);
    executor.add_node("rope_angles", {}, {angles}, {frequency}, {}, {1.0f}, -1, kAllRows);
    executor.add_node("rope", {q, angles}, {q}, {}, {queries, key, key, 0}, {}, -1, kAllRows);
    executor.add_node("attention_store", value_in_key ? std::vector<int>{k} : std::vector<int>{k, v}, {}, {},
                      {0}, {}, group, kAllRows);
    executor.add_node("attention", {q}, {o}, {}, {0, queries}, {0.35f, tables == 2 ? 5.0f : 0.0f}, group,
                      kAllRows);
    const int watched = executor.add_buffer(7, widths[7], set);
    executor.add_node("gather_rows", {q}, {watched}, {}, {}, {}, -1, set);
    executor.add_node("observe", {watched}, {}, {}, {0, queries, tables == 2 ? 1 : 0},
                      {0.35f, tables == 2 ? 5.0f : 0.0f}, group, set);
    executor.add_node("gather_rows", {o}, {some}, {}, {}, {}, -1, set);
    executor.add_node("scatter_add_rows", {o, some}, {o}, {}, {}, {}, -1, set);
    result = o;
    gathered = some;
  }

  // A table of embeddings; floats of everyday size.
  int table(int width) {
    auto stored = std::make_shared<std::vector<float>>(size_t(kTokens) * size_t(width));
    for (size_t i = 0; i < stored->size(); ++i)
      (*stored)[i] = float(int(i * 2654435761u >> 24) - 128) / 64.0f;
    const uint8_t* bytes = reinterpret_cast<const uint8_t*>(stored->data());
    return executor.add_table("f32", bytes, stored->size() * sizeof(float), kTokens, width, stored);
  }

  void forget() { std::memset(storage->entries(0, 0, 0), 0, storage->bytes()); }

  int tables;
  std::shared_ptr<CacheStorage> storage;
  Executor executor;
  int result = 0, gathered = 0;
};

// Arrays of the shapes that the binding demands, with any numbers in them.
struct Arguments {
  Arguments(Taken& taken, int tables) {
    const int rows = taken.one_in(4) ? taken.below(kMaxRows + 4) : taken.below(6), sequences = taken.below(4);
    const int pages = taken.one_in(4) ? taken.below(40) : taken.below(4);
    const int slots = std::max(pages * kPageSize, 1);
    const bool masked = taken.one_in(3);
    const int words = taken.below(4);
    const size_t entries = size_t(rows) * size_t(tables);
    for (int i = 0; i < rows; ++i) {
      tokens.push_back(taken.index(kTokens));
      positions.push_back(taken.one_in(8) ? taken.number<int32_t>() : taken.byte());
      const int32_t own = sequences == 0 ? 0 : i * sequences / rows;
      sequence.push_back(taken.one_in(32) ? taken.index(sequences + 1) : own);
    }
    for (int i = 0; i < sequences * tables * pages; ++i)
      table.push_back(taken.one_in(16) ? -1 : taken.index(kPages));
    for (size_t i = 0; i < entries; ++i) {
      int32_t a = taken.one_in(64) ? taken.index(slots) : int(taken.number<uint16_t>()) % slots;
      int32_t b = taken.one_in(64) ? taken.index(slots) : int(taken.number<uint16_t>()) % (slots + 1);
      if (a > b && !taken.one_in(8)) std::swap(a, b);
      start.push_back(a);
      stop.push_back(b);
      write.push_back(taken.one_in(4)    ? -1
                      : taken.one_in(32) ? taken.index(slots)
                                         : int(taken.number<uint16_t>()) % slots);
      if (masked)
        mask_from.push_back(taken.one_in(16) ? taken.number<int32_t>()
                                             : int32_t(std::max<int64_t>(int64_t(b) - taken.below(100), 0)));
    }
    for (size_t i = 0; masked && i < size_t(rows) * size_t(words); ++i)
      mask.push_back(taken.number<uint64_t>());
    const int chosen = taken.below(rows + 2);
    for (int i = 0; i < chosen; ++i) set.push_back(taken.index(rows));
    const int input_rows = taken.one_in(32) ? taken.below(40) : rows;
    input.assign(size_t(input_rows) * kInput, 0.5f);
    run.rows = rows;
    run.tokens = tokens.data();
    run.positions = positions.data();
    run.sequence = sequence.data();
    run.row_sets = {{nullptr, rows}, {set.data(), chosen}};
    run.groups = {{table.data(), start.data(), stop.data(), write.data(), masked ? mask.data() : nullptr,
                   masked ? mask_from.data() : nullptr, sequences, pages, masked ? words : 0}};
    run.inputs = {{input.data(), input_rows, kInput}};
  }

  std::vector<int32_t> tokens, positions, sequence, set, table, start, stop, write, mask_from;
  std::vector<uint64_t> mask;
  std::vector<float> input;
  RunArguments run;
};

std::vector<std::unique_ptr<Model>> models_of(int threads, int tables, int heads, bool value_in_key,
                                              const char* entries) {
  auto pool = std::make_shared<ThreadPool>(threads);
  std::vector<std::unique_ptr<Model>> models;
  for (const Kernels* kernels : usable_kernels())
    models.push_back(std::make_unique<Model>(*kernels, pool, tables, heads, value_in_key, entries));
  return models;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // One table, two, values in the key; entries of every format; two threads, which split what is long.
  static std::vector<std::unique_ptr<Model>> all[] = {
      models_of(2, 1, 1, false, "f16"), models_of(1, 1, 2, false, "f16"), models_of(1, 2, 1, false, "int8"),
      models_of(1, 1, 1, true, "int8"), models_of(1, 1, 1, true, "bf16"), models_of(1, 2, 1, false, "fp8"),
      models_of(1, 2, 1, false, "f16")};
  Taken taken(data, size);
  const uint8_t kind = taken.byte();
  auto& models = all[kind < 2 ? 0 : 1 + kind % 6];
  const std::vector<size_t> chosen = chosen_kernels(taken, models.size());
  const Arguments arguments(taken, models[0]->tables);
  std::vector<float> first[3];
  int ran = 0;
  for (const size_t m : chosen) {
    Model& model = *models[m];
    model.forget();
    try {
      model.executor.run(arguments.run);
      ++ran;
    } catch (const std::invalid_argument&) {
      continue;
    }
    const auto compare = [&](int which, const float* data, size_t count) {
      if (m == chosen[0]) first[which].assign(data, data + count);
      if (count != first[which].size()) fault("a result has another size");
      same_bits(first[which].data(), data, count, "attention differs between instruction sets");
    };
    for (int which : {0, 1}) {
      const Executor::View view = model.executor.buffer(which == 0 ? model.result : model.gathered);
      compare(which, view.data, size_t(view.rows) * size_t(view.width));
    }
    const std::vector<float>& importance = model.executor.observation(0).importance;
    compare(2, importance.data(), importance.size());
  }
  if (ran != 0 && ran != int(chosen.size())) fault("a step is refused on one instruction set only");
  return 0;
}
