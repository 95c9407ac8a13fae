// The logits that llama.cpp computes for given tokens: scripts/compare_llama_cpp.py builds and runs it.
//
//   llama_logits MODEL TOKENS LOGITS
//
// TOKENS is a file of int32, LOGITS gets float32, one row of the vocabulary for each token. The cache is kept
// in float32, so that what differs from a float32 reference is what the matrix products round.

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <vector>

#include "llama.h"

namespace {

std::vector<int32_t> read_tokens(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  const auto* first = reinterpret_cast<const int32_t*>(bytes.data());
  return {first, first + bytes.size() / sizeof(int32_t)};
}

int fail(const char* what) {
  std::fprintf(stderr, "llama_logits: %s\n", what);
  return 1;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) return fail("give MODEL TOKENS LOGITS");
  auto tokens = read_tokens(arguments[2]);
  const auto size = static_cast<uint32_t>(tokens.size());
  llama_backend_init();
  auto model_options = llama_model_default_params();
  model_options.n_gpu_layers = 0;
  llama_model* model = llama_model_load_from_file(arguments[1], model_options);
  if (model == nullptr) return fail("the model cannot be loaded");
  auto options = llama_context_default_params();
  options.n_ctx = size + 8;
  options.n_batch = size;
  options.n_ubatch = size;
  options.type_k = GGML_TYPE_F32;
  options.type_v = GGML_TYPE_F32;
  options.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  llama_context* context = llama_init_from_model(model, options);
  if (context == nullptr) return fail("no context");
  llama_batch batch = llama_batch_init(static_cast<int32_t>(size), 0, 1);
  for (uint32_t i = 0; i < size; ++i) {
    batch.token[i] = tokens[i];
    batch.pos[i] = static_cast<llama_pos>(i);
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = 1;
  }
  batch.n_tokens = static_cast<int32_t>(size);
  if (llama_decode(context, batch) != 0) return fail("llama_decode failed");
  const auto width = static_cast<size_t>(llama_vocab_n_tokens(llama_model_get_vocab(model)));
  std::ofstream file(arguments[3], std::ios::binary);
  for (uint32_t i = 0; i < size; ++i) {
    const float* row = llama_get_logits_ith(context, static_cast<int32_t>(i));
    file.write(reinterpret_cast<const char*>(row), static_cast<std::streamsize>(width * sizeof(float)));
  }
  return file ? 0 : fail("the logits cannot be written");
}
