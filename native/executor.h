// Replays a program: a list of nodes over buffers, for any number of rows up to a limit.
//
// Built once (weights, memory slots, buffers, nodes), then run step after step without allocating. The first
// run fixes the schedule: which nodes need their input quantized, which need all threads to meet before them.
#pragma once

#include <atomic>
#include <mutex>

#include "nodes.h"
#include "schedule.h"
#include "state.h"

namespace fivefold {

class Executor {
 public:
  // All of these throw std::invalid_argument with a sentence that says what does not fit.
  Executor(std::shared_ptr<ThreadPool> pool, const std::string& isa, const std::string& activations,
           int max_rows);

  int add_matrix(std::shared_ptr<Matrix> matrix);
  int add_vector(const float* values, size_t size);
  int add_table(const std::string& format, const uint8_t* stored, size_t bytes, int64_t rows, int64_t columns,
                std::shared_ptr<void> owner, Scales scales = {});
  int add_row_set();
  void add_slots(const std::vector<int>& widths);
  int add_buffer(int slot, int width, int row_set);
  int add_input(int buffer);
  int add_group(std::shared_ptr<CacheStorage> storage, int tables);
  int add_state(std::shared_ptr<StateStorage> storage);
  void add_node(const std::string& kernel, std::vector<int> inputs, std::vector<int> outputs,
                std::vector<int> weights, std::vector<int> integers, std::vector<float> floats, int group,
                int row_set);

  // Checks everything before any memory is touched. Pointers need to live until it returns.
  void run(RunArguments arguments);

  // A buffer's numbers after the last run. They are overwritten where a later node used the same slot.
  struct View {
    const float* data;
    int rows, width;
  };
  View buffer(int id) const;
  // What an observing node found in the last run; they are numbered in the order in which they were added.
  const Observation& observation(int number) const;

  void profile(bool enable) { profiling_ = enable; }
  // Seconds of each kernel since the start, while profiling.
  std::vector<std::pair<std::string, double>> timings() const;

  const State& state() const { return state_; }
  std::mutex& mutex() const { return mutex_; }

 private:
  // How far the threads are with one stage. They take chunks one by one, so a thread that gets no processor
  // holds nobody up.
  struct alignas(64) Progress {
    std::atomic<int> next{0};
    std::atomic<int> done{0};
    int chunks = 0;
  };

  void building() const;
  void schedule();
  int count_chunks(const Stage& stage) const;
  void run_stages(const std::vector<Stage>& stages, int thread);
  void run_chunk(const Stage& stage, int chunk, int chunks, int thread);
  void wait_for(const Progress& progress);

  State state_;
  std::vector<Stage> stages_;
  std::vector<Stage> single_stages_;  // every part alone, behind a barrier: for profiling
  std::vector<Progress> progress_;    // of each stage of this run
  Parking parking_;
  bool scheduled_ = false;
  bool profiling_ = false;
  double quantize_seconds_ = 0;
  mutable std::mutex mutex_;
};

// Throws std::invalid_argument unless every index in the arguments is in range.
void validate_run(const State& state, const RunArguments& arguments);

}  // namespace fivefold
