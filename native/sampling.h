// The choice of a token from logits, given its random number: top-k, min-p and top-p, then inversion of the
// cumulative distribution in the order of the vocabulary.
//
// The rules are those of fivefold.decode, whose numpy code is the reference; weights are float32 here, sums
// float64, so a choice can differ where a random number falls within rounding of a boundary.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"

namespace fivefold {

struct DrawRule {
  float temperature;  // above 0
  int64_t top_k;      // 0 or less: all
  double top_p;       // 1: all
  double min_p;       // 0: all
  double uniform;     // in [0, 1)
};

// `largest` is the index of the largest logit, which is finite. `weights` is scratch memory.
int64_t draw_token(const Kernels& kernels, const float* logits, size_t count, int64_t largest,
                   const DrawRule& rule, std::vector<float>& weights);

// The likeliest of all tokens but one, the first of equals, and its probability among these and among all.
struct LikeliestToken {
  int64_t token;  // -1 if a logit is NaN or plus infinity, -2 if all of these are minus infinity
  double among_others, among_all;
};

// `left_out` may be -1: then there is no such token. `weights` is scratch memory.
LikeliestToken likeliest_token(const Kernels& kernels, const float* logits, size_t count, int64_t left_out,
                               std::vector<float>& weights);

}  // namespace fivefold
