// The Python module. Only this file and `bind_choice.cc` know Python: they check shapes, keep owners alive,
// and let go of the interpreter's lock while work is done.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "bind.h"
#include "cpu.h"
#include "executor.h"
#include "measure.h"

namespace nb = nanobind;
using namespace fivefold;

namespace {

using Words = Array<int32_t, 1>;
using Result = nb::ndarray<nb::numpy, float>;

// A new numpy array of that shape, and where its numbers are to be written.
std::pair<Result, float*> new_array(std::initializer_list<size_t> shape) {
  size_t count = 1;
  for (size_t extent : shape) count *= extent;
  float* data = new float[std::max<size_t>(count, 1)];
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<float*>(p); });
  return {Result(data, shape, owner), data};
}

int same_size(std::initializer_list<size_t> sizes, const char* what) {
  for (size_t size : sizes)
    if (size != *sizes.begin()) throw std::invalid_argument(std::string(what) + " must have the same length");
  if (*sizes.begin() > (size_t(1) << 30)) throw std::invalid_argument(std::string(what) + " are too long");
  return int(*sizes.begin());
}

template <int D, class Number>
Array<Number, D> part(nb::handle item, const char* what) {
  Array<Number, D> array;
  if (!nb::try_cast(item, array, false))
    throw std::invalid_argument(std::string("a cache group's ") + what + " has the wrong type or shape");
  return array;
}

// One group's arrays, kept alive together with the pointers into them.
struct GroupArrays {
  Array<int32_t, 3> tables;
  Array<int32_t, 2> start, stop, write, mask_from;
  Array<uint64_t, 2> mask;

  GroupArguments arguments(nb::handle item, int rows, int expected_tables) {
    const nb::tuple group = nb::cast<nb::tuple>(item);
    if (group.size() != 6)
      throw std::invalid_argument("a cache group is (tables, start, stop, write, mask, mask_from)");
    tables = part<3, int32_t>(group[0], "tables");
    start = part<2, int32_t>(group[1], "start");
    stop = part<2, int32_t>(group[2], "stop");
    write = part<2, int32_t>(group[3], "write");
    const bool masked = !group[4].is_none();
    if (masked == group[5].is_none())
      throw std::invalid_argument("a cache group has both mask and mask_from, or neither");
    if (masked) {
      mask = part<2, uint64_t>(group[4], "mask");
      mask_from = part<2, int32_t>(group[5], "mask_from");
    }
    check(rows, expected_tables, masked);
    return {tables.data(),
            start.data(),
            stop.data(),
            write.data(),
            masked ? mask.data() : nullptr,
            masked ? mask_from.data() : nullptr,
            int(tables.shape(0)),
            int(tables.shape(2)),
            masked ? int(mask.shape(1)) : 0};
  }

 private:
  void check(int rows, int expected_tables, bool masked) const {
    if (tables.shape(1) != size_t(expected_tables))
      throw std::invalid_argument("a cache group of " + std::to_string(expected_tables) +
                                  " tables was given " + std::to_string(tables.shape(1)));
    for (const auto* array : {&start, &stop, &write, masked ? &mask_from : &write})
      if (array->shape(0) != size_t(rows) || array->shape(1) != size_t(expected_tables))
        throw std::invalid_argument(
            "a cache group's start, stop, write and mask_from must be (rows, tables)");
    for (size_t extent : {tables.shape(0), tables.shape(2), masked ? mask.shape(1) : 0})
      if (extent > size_t(std::numeric_limits<int>::max()))
        throw std::invalid_argument("a cache group's tables or mask are too long");
    if (masked && mask.shape(0) != size_t(rows))
      throw std::invalid_argument("a mask must have a line for each row");
  }
};

void run_executor(Executor& executor, const Words& tokens, const Words& positions, const Words& sequence,
                  const std::vector<Words>& row_sets, const nb::sequence& groups,
                  const std::vector<Array<float, 2>>& inputs,
                  const std::optional<std::pair<Words, Words>>& states) {
  RunArguments run;
  run.rows = same_size({tokens.size(), positions.size(), sequence.size()}, "tokens, positions and sequence");
  run.tokens = tokens.data();
  run.positions = positions.data();
  run.sequence = sequence.data();
  run.row_sets.push_back({nullptr, run.rows});
  for (const Words& set : row_sets) run.row_sets.push_back({set.data(), same_size({set.size()}, "row sets")});
  const size_t expected = executor.state().groups.size();
  std::vector<GroupArrays> arrays(expected);
  size_t count = 0;
  for (nb::handle item : groups) {
    if (count >= expected) throw std::invalid_argument("more cache groups were given than the program has");
    run.groups.push_back(arrays[count].arguments(item, run.rows, executor.state().groups[count].tables));
    ++count;
  }
  for (const auto& input : inputs)
    run.inputs.push_back({input.data(), int(input.shape(0)), int(input.shape(1))});
  if (states) {
    const auto& [read, write] = *states;
    same_size({write.size(), size_t(run.rows)}, "the rows and the slots of their states");
    run.states = {read.data(), write.data(), same_size({read.size()}, "slots of states")};
  }
  nb::gil_scoped_release release;
  std::lock_guard<std::mutex> lock(executor.mutex());
  executor.run(std::move(run));
}

Result buffer_array(const Executor& executor, int id) {
  std::unique_lock<std::mutex> lock(executor.mutex(), std::try_to_lock);
  if (!lock.owns_lock()) throw std::invalid_argument("the executor is running");
  const Executor::View view = executor.buffer(id);
  auto [array, data] = new_array({size_t(view.rows), size_t(view.width)});
  std::copy_n(view.data, size_t(view.rows) * size_t(view.width), data);
  return array;
}

// What an observing node found: each sequence with its (heads, slots).
std::vector<std::pair<int, Result>> observation(const Executor& executor, int number) {
  std::unique_lock<std::mutex> lock(executor.mutex(), std::try_to_lock);
  if (!lock.owns_lock()) throw std::invalid_argument("the executor is running");
  const Observation& found = executor.observation(number);
  std::vector<std::pair<int, Result>> all;
  for (const ObservedView& view : found.views) {
    auto [array, data] = new_array({size_t(found.heads), size_t(view.pages) * kPageSize});
    std::copy_n(found.importance.data() + view.first, array.size(), data);
    all.emplace_back(view.sequence, array);
  }
  return all;
}

// The buffer itself: the next run writes over it.
Result buffer_view(nb::handle_t<Executor> self, int id) {
  const Executor& executor = nb::cast<const Executor&>(self);
  std::unique_lock<std::mutex> lock(executor.mutex(), std::try_to_lock);
  if (!lock.owns_lock()) throw std::invalid_argument("the executor is running");
  const Executor::View view = executor.buffer(id);
  return Result(const_cast<float*>(view.data), {size_t(view.rows), size_t(view.width)}, self);
}

// Scales as Python gives them, checked; none for None.
Scales scales_of(const std::optional<Array<float, 2>>& values, int block_rows, int block_columns,
                 int64_t rows, int64_t columns) {
  Scales scales;
  if (!values) return scales;
  scales.values.assign(values->data(), values->data() + values->size());
  scales.rows = block_rows;
  scales.columns = block_columns;
  scales.check(values->shape(0), values->shape(1), rows, columns);
  return scales;
}

int add_table(Executor& executor, const std::string& format, Array<uint8_t, 1> data, int64_t rows,
              int64_t columns, const std::optional<Array<float, 2>>& scales, int scale_rows,
              int scale_columns) {
  using Owned = Array<uint8_t, 1>;
  std::shared_ptr<void> owner(new Owned(data), [](void* p) {
    nb::gil_scoped_acquire acquire;
    delete static_cast<Owned*>(p);
  });
  return executor.add_table(format, data.data(), data.size(), rows, columns, std::move(owner),
                            scales_of(scales, scale_rows, scale_columns, rows, columns));
}

nb::dict report() {
  const CpuReport found = cpu_report();
  nb::dict result;
  result["vendor"] = found.vendor;
  result["brand"] = found.brand;
  for (const auto& [name, usable] : found.features) result[name.c_str()] = usable;
  return result;
}

double bandwidth(ThreadPool& pool, size_t bytes, double seconds) {
  nb::gil_scoped_release release;
  return read_bandwidth(pool, bytes, seconds);
}

double peak(ThreadPool& pool, const std::string& isa, const std::string& numbers, double seconds) {
  if (numbers != "int8" && numbers != "float")
    throw std::invalid_argument("numbers must be \"int8\" or \"float\"");
  const Kernels& kernels = require_kernels(isa);
  nb::gil_scoped_release release;
  return peak_rate(pool, kernels, numbers == "int8", seconds);
}

double clock_of_thread(double seconds) {
  nb::gil_scoped_release release;
  return clock_rate(seconds);
}

void copy_head_entries(CacheStorage& cache, int layer, int head, Words page_from, Words slot_from,
                       Words page_to, Words slot_to) {
  const auto sizes = {page_from.size(), slot_from.size(), page_to.size(), slot_to.size()};
  const size_t count = size_t(same_size(sizes, "pages and slots"));
  nb::gil_scoped_release release;
  cache.copy_head_entries(layer, head, page_from.data(), slot_from.data(), page_to.data(), slot_to.data(),
                          count);
}

// The first entries of a table with these pages: keys (count, key width), values (count, value width).
nb::tuple read_entries(const CacheStorage& cache, int layer, int head, Words pages, int count) {
  if (count < 0 || size_t(count) > pages.size() * size_t(kPageSize))
    throw std::invalid_argument("these pages do not hold so many entries");
  const size_t key = size_t(cache.key_width()), value = size_t(cache.value_width());
  auto [keys, k] = new_array({size_t(count), key});
  auto [values, v] = new_array({size_t(count), value});
  for (int i = 0; i < count; ++i, k += key, v += value)
    cache.read_entry(layer, pages.data()[i / kPageSize], head, i % kPageSize, k, v);
  return nb::make_tuple(keys, values);
}

void bind_cache(nb::module_& m) {
  nb::class_<CacheStorage>(m, "CacheStorage", "Keys and values of one cache group, in pages.")
      .def(
          "__init__",
          [](CacheStorage* self, int layers, int pages, int heads_per_page, int page_size, int key_width,
             int value_width, bool value_in_key, const std::string& format) {
            new (self) CacheStorage(layers, pages, heads_per_page, page_size, key_width, value_width,
                                    value_in_key, entry_format(format, value_in_key));
          },
          nb::arg("layers"), nb::arg("pages"), nb::arg("heads_per_page"), nb::arg("page_size") = kPageSize,
          nb::arg("key_width"), nb::arg("value_width"), nb::arg("value_in_key") = false,
          nb::arg("format") = "f16")
      .def_prop_ro("bytes", &CacheStorage::bytes)
      .def(
          "copy_entries",
          [](CacheStorage& cache, Words page_from, Words slot_from, Words page_to, Words slot_to) {
            const auto sizes = {page_from.size(), slot_from.size(), page_to.size(), slot_to.size()};
            const size_t count = size_t(same_size(sizes, "pages and slots"));
            nb::gil_scoped_release release;
            cache.copy_entries(page_from.data(), slot_from.data(), page_to.data(), slot_to.data(), count);
          },
          nb::arg("page_from"), nb::arg("slot_from"), nb::arg("page_to"), nb::arg("slot_to"))
      .def("copy_head_entries", copy_head_entries, nb::arg("layer"), nb::arg("head"), nb::arg("page_from"),
           nb::arg("slot_from"), nb::arg("page_to"), nb::arg("slot_to"))
      .def("read_entries", read_entries, nb::arg("layer"), nb::arg("head"), nb::arg("pages"),
           nb::arg("count"))
      .def(
          "read_entry",
          [](const CacheStorage& cache, int layer, int page, int head, int slot) {
            auto [key, key_data] = new_array({size_t(cache.key_width())});
            auto [value, value_data] = new_array({size_t(cache.value_width())});
            cache.read_entry(layer, page, head, slot, key_data, value_data);
            return nb::make_tuple(key, value);
          },
          nb::arg("layer"), nb::arg("page"), nb::arg("head"), nb::arg("slot"))
      .def(
          "write_entry",
          [](CacheStorage& cache, int layer, int page, int head, int slot, Array<float, 1> k,
             Array<float, 1> v) {
            if (k.size() != size_t(cache.key_width()) || v.size() != size_t(cache.value_width()))
              throw std::invalid_argument("a key or value has the wrong width");
            cache.write_entry(layer, page, head, slot, k.data(), v.data());
          },
          nb::arg("layer"), nb::arg("page"), nb::arg("head"), nb::arg("slot"), nb::arg("k"), nb::arg("v"));
}

void bind_states(nb::module_& m) {
  nb::class_<StateStorage>(m, "StateStorage", "Recurrent states of one group, in slots.")
      .def(nb::init<int, int, int64_t>(), nb::arg("layers"), nb::arg("slots"), nb::arg("size"))
      .def_prop_ro("bytes", &StateStorage::bytes)
      .def("copy", &StateStorage::copy, nb::arg("source"), nb::arg("target"));
}

void bind_executor(nb::module_& m) {
  nb::class_<Executor>(m, "Executor", "A program as a list of nodes, replayed once a step.")
      .def(nb::init<std::shared_ptr<ThreadPool>, const std::string&, const std::string&, int>(),
           nb::arg("pool"), nb::arg("isa"), nb::arg("activations"), nb::arg("max_rows"))
      .def("add_matrix", &Executor::add_matrix, nb::arg("matrix"))
      .def(
          "add_vector",
          [](Executor& e, Array<float, 1> values) { return e.add_vector(values.data(), values.size()); },
          nb::arg("values"))
      .def("add_table", add_table, nb::arg("format"), nb::arg("data"), nb::arg("rows"), nb::arg("columns"),
           nb::arg("scales") = nb::none(), nb::arg("scale_rows") = 0, nb::arg("scale_columns") = 0)
      .def("add_row_set", &Executor::add_row_set)
      .def("add_slots", &Executor::add_slots, nb::arg("widths"))
      .def("add_buffer", &Executor::add_buffer, nb::arg("slot"), nb::arg("width"), nb::arg("row_set"))
      .def("add_input", &Executor::add_input, nb::arg("buffer"))
      .def("add_group", &Executor::add_group, nb::arg("storage"), nb::arg("tables"))
      .def("add_state", &Executor::add_state, nb::arg("storage"))
      .def("add_node", &Executor::add_node, nb::arg("kernel"), nb::arg("inputs"), nb::arg("outputs"),
           nb::arg("weights"), nb::arg("integers"), nb::arg("floats"), nb::arg("group") = -1,
           nb::arg("row_set") = 0)
      .def("run", run_executor, nb::arg("tokens"), nb::arg("positions"), nb::arg("sequence"),
           nb::arg("row_sets"), nb::arg("groups"), nb::arg("inputs"), nb::arg("states") = nb::none())
      .def("buffer", buffer_array, nb::arg("buffer"))
      .def("view", buffer_view, nb::arg("buffer"))
      .def("observation", observation, nb::arg("number"))
      .def("profile", &Executor::profile, nb::arg("enable"))
      .def("timings", &Executor::timings);
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "The compiled core of fivefold.";
  m.def("isas", [] {
    std::vector<std::string> names;
    for (const Kernels* kernels : usable_kernels()) names.push_back(kernels->isa);
    return names;
  });
  m.def("cpu_report", report);
  bind_choice(m);
  m.def("read_bandwidth", bandwidth, nb::arg("pool"), nb::arg("bytes"), nb::arg("seconds"));
  m.def("peak_rate", peak, nb::arg("pool"), nb::arg("isa"), nb::arg("numbers"), nb::arg("seconds"));
  m.def("clock_rate", clock_of_thread, nb::arg("seconds"));
  nb::class_<ThreadPool>(m, "ThreadPool", "Threads that replay steps together; the caller is one of them.")
      .def(nb::init<int>(), nb::arg("threads"))
      .def_prop_ro("threads", &ThreadPool::threads);
  nb::class_<Matrix>(m, "Matrix", "A weight repacked for the kernels of one instruction set.")
      .def(
          "__init__",
          [](Matrix* self, ThreadPool& pool, const std::string& isa, const std::string& format,
             Array<uint8_t, 1> data, int64_t rows, int64_t columns,
             const std::optional<Array<float, 2>>& scales, int scale_rows, int scale_columns) {
            const Scales given = scales_of(scales, scale_rows, scale_columns, rows, columns);
            nb::gil_scoped_release release;
            new (self) Matrix(pool, isa, format, data.data(), data.size(), rows, columns, given);
          },
          nb::arg("pool"), nb::arg("isa"), nb::arg("format"), nb::arg("data"), nb::arg("rows"),
          nb::arg("columns"), nb::arg("scales") = nb::none(), nb::arg("scale_rows") = 0,
          nb::arg("scale_columns") = 0)
      .def_static(
          "stack",
          [](const std::string& isa, const std::string& format, int64_t count, int64_t rows,
             int64_t columns) { return std::make_shared<Matrix>(isa, format, count, rows, columns); },
          nb::arg("isa"), nb::arg("format"), nb::arg("count"), nb::arg("rows"), nb::arg("columns"))
      .def(
          "pack",
          [](Matrix& self, ThreadPool& pool, Array<uint8_t, 1> data,
             const std::optional<Array<float, 2>>& scales, int scale_rows, int scale_columns) {
            const Scales given = scales_of(scales, scale_rows, scale_columns, self.rows(), self.columns());
            nb::gil_scoped_release release;
            self.pack(pool, data.data(), data.size(), given);
          },
          nb::arg("pool"), nb::arg("data"), nb::arg("scales") = nb::none(), nb::arg("scale_rows") = 0,
          nb::arg("scale_columns") = 0)
      .def_prop_ro("count", &Matrix::count)
      .def_prop_ro("bytes", &Matrix::bytes)
      .def_prop_ro("finite", &Matrix::finite)
      .def_prop_ro("rows", &Matrix::rows)
      .def_prop_ro("columns", &Matrix::columns);
  bind_cache(m);
  bind_states(m);
  bind_executor(m);
}
