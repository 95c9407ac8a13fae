// Runs a target where the compiler has no libFuzzer, with three of its options: files and folders are
// replayed; -runs=N, -max_total_time=SECONDS and -seed=S change what was replayed at random, without looking
// at coverage. The same seed over the same files shows the same fault again.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Input = std::vector<uint8_t>;

Input read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Input changed(Input input, const Input& other, std::mt19937_64& random) {
  const auto below = [&](size_t limit) { return size_t(random() % std::max<size_t>(limit, 1)); };
  for (size_t times = 1 + below(4); times > 0; --times) {
    const size_t at = below(input.size());
    switch (below(6)) {
      case 0:
        input.insert(input.begin() + long(at), uint8_t(random()));
        break;
      case 1:
        if (!input.empty()) input[at] = uint8_t(random());
        break;
      case 2:
        if (!input.empty()) input[at] ^= uint8_t(1u << below(8));
        break;
      case 3:
        if (!input.empty())
          input.erase(input.begin() + long(at),
                      input.begin() + long(std::min(input.size(), at + 1 + below(8))));
        break;
      case 4:
        if (!input.empty()) input[at] = uint8_t(below(2) ? 0xf0 + below(16) : below(4));
        break;
      default:
        input.insert(input.begin() + long(at), other.begin(), other.begin() + long(below(other.size() + 1)));
    }
  }
  if (input.size() > 2048) input.resize(2048);
  return input;
}

}  // namespace

int main(int count, char** words) {
  std::vector<Input> inputs;
  uint64_t runs = 0, seed = 1, done = 0;
  std::chrono::seconds seconds(1 << 30);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    if (word.rfind("-runs=", 0) == 0) runs = std::stoull(word.substr(6));
    if (word.rfind("-max_total_time=", 0) == 0) seconds = std::chrono::seconds(std::stoll(word.substr(16)));
    if (word.rfind("-seed=", 0) == 0) seed = std::stoull(word.substr(6));
    if (word.empty() || word[0] == '-') continue;
    if (!std::filesystem::is_directory(word)) {
      inputs.push_back(read(word));
      continue;
    }
    for (const auto& entry : std::filesystem::directory_iterator(word))
      if (entry.is_regular_file()) inputs.push_back(read(entry.path()));
  }
  for (const Input& input : inputs) LLVMFuzzerTestOneInput(input.data(), input.size());
  const size_t replayed = inputs.size();
  inputs.push_back({});
  std::mt19937_64 random(seed);
  for (; done < runs; ++done) {
    if (done % 1024 == 0 && std::chrono::steady_clock::now() - start > seconds) break;
    const Input input = changed(inputs[random() % inputs.size()], inputs[random() % inputs.size()], random);
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::fprintf(stderr, "stat::number_of_executed_units: %llu\n",
               static_cast<unsigned long long>(done + replayed));
  return 0;
}
