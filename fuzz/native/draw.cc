// Choosing a token from arbitrary logits by arbitrary rules: always a token that can be chosen, and the same
// on every instruction set.
#include <cmath>
#include <stdexcept>

#include "sampling.h"
#include "taken.h"

using namespace fivefold;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<const Kernels*> all = usable_kernels();
  Taken taken(data, size);
  const size_t count = taken.one_in(8) ? size_t(taken.number<uint16_t>() % 3000) : size_t(taken.below(70));
  DrawRule rule;
  rule.temperature = std::fabs(taken.real());
  rule.top_k = taken.one_in(8) ? taken.number<int64_t>() : taken.index(80);
  rule.top_p = taken.one_in(2) ? double(taken.byte()) / 255.0 : double(taken.real());
  rule.min_p = taken.one_in(2) ? double(taken.byte()) / 255.0 : double(taken.real());
  rule.uniform = double(taken.number<uint16_t>()) / 65536.0;
  std::vector<float> logits(count), weights;
  const uint8_t shape = taken.byte();
  uint32_t noise = shape;
  for (float& one : logits) {
    noise = noise * 1664525u + 1013904223u;
    one = shape < 64    ? taken.real()
          : shape < 128 ? float(int32_t(noise) >> 28)
                        : float(int32_t(noise)) * 1e-8f;
  }
  if (!(rule.temperature > 0.0f && std::isfinite(rule.temperature) && std::isfinite(1.0f / rule.temperature)))
    return 0;  // the binding refuses it
  int64_t chosen = -1, largest = -1;
  const std::vector<size_t> chosen_ones = chosen_kernels(taken, all.size());
  for (const size_t k : chosen_ones) {
    const Kernels* kernels = all[k];
    const bool first = k == chosen_ones[0];
    const int64_t best = kernels->largest_logit(logits.data(), count);
    if (!first && best != largest) fault("instruction sets differ on the largest logit");
    largest = best;
    if (best < 0) continue;
    if (size_t(best) >= count || !std::isfinite(logits[size_t(best)])) fault("the largest logit is none");
    const int64_t token = draw_token(*kernels, logits.data(), count, best, rule, weights);
    if (token < 0 || size_t(token) >= count) fault("a token outside of the vocabulary was drawn");
    if (!(logits[size_t(token)] > -INFINITY)) fault("a token that was banned was drawn");
    if (rule.top_k == 1 && token != best) fault("top_k 1 is not the largest");
    if (!first && token != chosen) fault("instruction sets differ on the token");
    chosen = token;
  }
  return 0;
}
