#include "executor.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <stdexcept>

#include "attention.h"
#include "observe.h"

namespace fivefold {
namespace {

constexpr int kWidest = 1 << 27;  // numbers of a row: products of it with rows of a chunk fit an int
constexpr int kMostHeads = 1 << 20;
constexpr int kChunkRows = 8;  // at most: few enough that a row is in cache when the next part wants it

[[noreturn]] void invalid(const std::string& why) { throw std::invalid_argument(why); }

void check_id(int id, size_t count, const char* what) {
  if (id < 0 || size_t(id) >= count) invalid(std::string("no ") + what + " " + std::to_string(id));
}

void check_count(const Node& node, size_t count, Arity arity, const char* what) {
  if (int(count) < arity.least || int(count) > arity.most)
    refuse(node, "takes " + std::to_string(arity.least) +
                     (arity.most == arity.least ? "" : " to " + std::to_string(arity.most)) + " " + what +
                     ", not " + std::to_string(count));
}

}  // namespace

Executor::Executor(std::shared_ptr<ThreadPool> pool, const std::string& isa, const std::string& activations,
                   int max_rows) {
  if (!pool) invalid("an executor needs a thread pool");
  if (activations != "int8" && activations != "float") invalid("activations must be \"int8\" or \"float\"");
  if (max_rows < 1 || max_rows > (1 << 20)) invalid("max_rows is out of range");
  state_.kernels = &require_kernels(isa);
  state_.scratch.resize(size_t(pool->threads()));
  state_.pool = std::move(pool);
  state_.integer_activations = activations == "int8";
  state_.max_rows = max_rows;
}

void Executor::building() const {
  if (scheduled_) invalid("an executor cannot be added to after its first run");
}

int Executor::add_matrix(std::shared_ptr<Matrix> matrix) {
  building();
  if (!matrix) invalid("no matrix given");
  state_.weights.push_back({std::move(matrix), {}, nullptr});
  return int(state_.weights.size()) - 1;
}

int Executor::add_vector(const float* values, size_t size) {
  building();
  state_.weights.push_back({nullptr, std::vector<float>(values, values + size), nullptr});
  return int(state_.weights.size()) - 1;
}

int Executor::add_table(const std::string& format, const uint8_t* stored, size_t bytes, int64_t rows,
                        int64_t columns, std::shared_ptr<void> owner, Scales scales) {
  building();
  const FormatInfo& info = require_format(format);
  const size_t row_bytes = stored_row_bytes(info, bytes, rows, columns);
  auto table = std::make_unique<Table>(
      Table{&info, stored, row_bytes, int(rows), int(columns), std::move(owner), std::move(scales)});
  state_.weights.push_back({nullptr, {}, std::move(table)});
  return int(state_.weights.size()) - 1;
}

int Executor::add_row_set() {
  building();
  return state_.row_sets++;
}

void Executor::add_slots(const std::vector<int>& widths) {
  building();
  for (int width : widths) {
    if (width < 1 || width > kWidest)
      invalid("a slot must be from 1 to " + std::to_string(kWidest) + " wide");
    Slot slot;
    slot.memory = Memory(size_t(width) * size_t(state_.max_rows) * sizeof(float));
    slot.width = width;
    state_.slots.push_back(std::move(slot));
  }
}

int Executor::add_buffer(int slot, int width, int row_set) {
  building();
  check_id(slot, state_.slots.size(), "slot");
  check_id(row_set, size_t(state_.row_sets), "row set");
  const Slot& memory = state_.slots[size_t(slot)];
  if (width < 1 || width > memory.width)
    invalid("a buffer of width " + std::to_string(width) + " does not fit slot " + std::to_string(slot) +
            " of width " + std::to_string(memory.width));
  state_.buffers.push_back({slot, width, row_set, reinterpret_cast<float*>(memory.memory.data())});
  return int(state_.buffers.size()) - 1;
}

int Executor::add_input(int buffer) {
  building();
  check_id(buffer, state_.buffers.size(), "buffer");
  state_.inputs.push_back(buffer);
  return int(state_.inputs.size()) - 1;
}

int Executor::add_group(std::shared_ptr<CacheStorage> storage, int tables) {
  building();
  if (!storage) invalid("no cache given");
  if (tables < 1) invalid("a cache group has at least one table");
  if (int64_t(tables) * storage->heads_per_page() > kMostHeads) invalid("a cache group has too many heads");
  state_.groups.push_back({std::move(storage), tables});
  return int(state_.groups.size()) - 1;
}

int Executor::add_state(std::shared_ptr<StateStorage> storage) {
  building();
  if (!storage) invalid("no states given");
  state_.states.push_back(std::move(storage));
  return int(state_.states.size()) - 1;
}

void Executor::add_node(const std::string& kernel, std::vector<int> inputs, std::vector<int> outputs,
                        std::vector<int> weights, std::vector<int> integers, std::vector<float> floats,
                        int group, int row_set) {
  building();
  const KernelInfo* info = find_kernel(kernel);
  if (info == nullptr) invalid("no native kernel named '" + kernel + "'; there are " + kernel_names());
  auto node = std::make_unique<Node>();
  *node = {info,
           std::move(inputs),
           std::move(outputs),
           std::move(weights),
           std::move(integers),
           std::move(floats),
           group,
           row_set};
  check_count(*node, node->inputs.size(), info->inputs, "inputs");
  check_count(*node, node->outputs.size(), info->outputs, "outputs");
  check_count(*node, node->weights.size(), info->weights, "weights");
  check_count(*node, node->integers.size(), info->integers, "integers");
  check_count(*node, node->floats.size(), info->floats, "floats");
  std::set<int> row_sets = {kAllRows};
  for (const auto* ids : {&node->inputs, &node->outputs})
    for (int id : *ids) {
      check_id(id, state_.buffers.size(), "buffer");
      row_sets.insert(state_.buffer(id).row_set);
    }
  for (size_t i = 0; i < node->weights.size(); ++i)
    if (int(i) < info->weights.least || node->weights[i] != -1)
      check_id(node->weights[i], state_.weights.size(), "weight");
  if (info->needs_group) check_id(group, state_.groups.size(), "cache group");
  if (row_sets.count(row_set) == 0)
    refuse(*node, "none of its buffers has row set " + std::to_string(row_set));
  for (int in : node->inputs)
    for (int out : node->outputs) {
      const Buffer& x = state_.buffer(in);
      const Buffer& y = state_.buffer(out);
      if (x.slot == y.slot && (x.width != y.width || x.row_set != y.row_set))
        refuse(*node, "an output can only take the place of an input of the same shape");
    }
  info->check(state_, *node);
  state_.nodes.push_back(std::move(node));
}

void Executor::schedule() {
  if (scheduled_) return;
  stages_ = make_schedule(state_, false);
  single_stages_ = make_schedule(state_, true);
  progress_ = std::vector<Progress>(std::max(stages_.size(), single_stages_.size()));
  scheduled_ = true;
}

int Executor::count_chunks(const Stage& stage) const {
  if (stage.row_set >= 0) {
    const int rows = state_.rows(stage.row_set);
    return std::max((rows + kChunkRows - 1) / kChunkRows, std::min(rows, state_.pool->threads()));
  }
  const Node& node = *stage.parts[0].node;
  return node.kernel->phases[stage.phase].count(state_, node);
}

void Executor::run_chunk(const Stage& stage, int chunk, int chunks, int thread) {
  if (stage.row_set < 0) {
    const Node& node = *stage.parts[0].node;
    node.kernel->phases[stage.phase].run(state_, node, chunk, thread);
    return;
  }
  const auto [begin, end] = share(state_.rows(stage.row_set), chunk, chunks);
  for (const Part& part : stage.parts) {
    if (part.quantize >= 0)
      quantize_rows(state_, *part.node, begin, end);
    else
      part.node->kernel->by_rows(state_, *part.node, begin, end);
  }
}

void Executor::wait_for(const Progress& progress) {
  parking_.wait([&] { return progress.done.load() == progress.chunks; });
}

void Executor::run_stages(const std::vector<Stage>& stages, int thread) {
  size_t complete = 0;  // stages before this one are
  for (size_t s = 0; s < stages.size(); ++s) {
    const auto start = std::chrono::steady_clock::now();
    if (stages[s].barrier)
      for (; complete < s; ++complete) wait_for(progress_[complete]);
    Progress& progress = progress_[s];
    while (progress.next.load(std::memory_order_relaxed) < progress.chunks) {
      const int chunk = progress.next.fetch_add(1, std::memory_order_relaxed);
      if (chunk >= progress.chunks) break;
      run_chunk(stages[s], chunk, progress.chunks, thread);
      if (progress.done.fetch_add(1) + 1 == progress.chunks) parking_.notify();
    }
    if (!profiling_ || thread != 0) continue;
    wait_for(progress);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const Part& part = stages[s].parts[0];
    (part.quantize >= 0 ? quantize_seconds_ : part.node->seconds) += seconds;
  }
}

void Executor::run(RunArguments arguments) {
  validate_run(state_, arguments);
  schedule();
  state_.run = std::move(arguments);
  for (size_t i = 0; i < state_.inputs.size(); ++i) {
    const InputArguments& input = state_.run.inputs[i];
    std::copy_n(input.data, size_t(input.rows) * size_t(input.width), state_.buffer(state_.inputs[i]).data);
  }
  plan_attention(state_);
  plan_states(state_);
  plan_observations(state_);
  const std::vector<Stage>& stages = profiling_ ? single_stages_ : stages_;
  for (size_t s = 0; s < stages.size(); ++s) {
    progress_[s].next.store(0, std::memory_order_relaxed);
    progress_[s].done.store(0, std::memory_order_relaxed);
    progress_[s].chunks = count_chunks(stages[s]);
  }
  state_.pool->run([&](int thread) { run_stages(stages, thread); });
}

Executor::View Executor::buffer(int id) const {
  check_id(id, state_.buffers.size(), "buffer");
  const Buffer& buffer = state_.buffer(id);
  const int rows = state_.run.row_sets.empty() ? 0 : state_.rows(buffer.row_set);
  return {buffer.data, rows, buffer.width};
}

const Observation& Executor::observation(int number) const {
  check_id(number, state_.observations.size(), "observing node");
  return state_.observations[size_t(number)];
}

std::vector<std::pair<std::string, double>> Executor::timings() const {
  std::vector<std::pair<std::string, double>> result = {{"quantize", quantize_seconds_}};
  for (const auto& node : state_.nodes) {
    const auto same = [&](const auto& entry) { return entry.first == node->kernel->name; };
    const auto found = std::find_if(result.begin(), result.end(), same);
    if (found == result.end())
      result.push_back({node->kernel->name, node->seconds});
    else
      found->second += node->seconds;
  }
  return result;
}

}  // namespace fivefold
