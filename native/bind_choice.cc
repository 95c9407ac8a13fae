// The Python functions that choose a token from logits, and that guess tokens by a table.
#include <nanobind/stl/pair.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cmath>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "bind.h"
#include "cpu.h"
#include "kernels.h"
#include "ngrams.h"
#include "sampling.h"

namespace nb = nanobind;

namespace fivefold {
namespace {

const Kernels& best_kernels() {
  static const Kernels* kernels = usable_kernels().back();
  return *kernels;
}

int64_t largest_logit(Array<float, 1> logits) {
  return best_kernels().largest_logit(logits.data(), logits.size());
}

int64_t draw(Array<float, 1> logits, float temperature, int64_t top_k, double top_p, double min_p,
             double uniform) {
  if (!(temperature > 0.0f && std::isfinite(temperature) && std::isfinite(1.0f / temperature)))
    throw std::invalid_argument("a draw needs a temperature above 0 that is finite and so is its inverse");
  if (!(uniform >= 0.0 && uniform < 1.0)) throw std::invalid_argument("a random number lies in [0, 1)");
  nb::gil_scoped_release release;
  static thread_local std::vector<float> weights;
  const Kernels& kernels = best_kernels();
  const int64_t largest = kernels.largest_logit(logits.data(), logits.size());
  if (largest < 0) throw std::invalid_argument("the logits have no largest number that is finite");
  return draw_token(kernels, logits.data(), logits.size(), largest,
                    {temperature, top_k, top_p, min_p, uniform}, weights);
}

using Tokens = std::vector<int64_t>;
using Shares = std::vector<double>;

std::tuple<Tokens, Shares, Shares> likeliest(Array<float, 2> logits, int64_t left_out) {
  const size_t rows = logits.shape(0), count = logits.shape(1);
  if (left_out < -1 || left_out >= int64_t(count)) throw std::invalid_argument("there is no such token");
  nb::gil_scoped_release release;
  static thread_local std::vector<float> weights;
  std::tuple<Tokens, Shares, Shares> found;
  auto& [tokens, others, all] = found;
  for (size_t row = 0; row < rows; ++row) {
    const float* here = logits.data() + row * count;
    const LikeliestToken one = likeliest_token(best_kernels(), here, count, left_out, weights);
    tokens.push_back(one.token);
    others.push_back(one.among_others);
    all.push_back(one.among_all);
  }
  return found;
}

std::pair<Tokens, Tokens> guesses(Array<uint32_t, 1> keys, Array<uint32_t, 1> values, int orders, int classes,
                                  Tokens last, int64_t most, double least) {
  if (keys.size() != values.size()) throw std::invalid_argument("each key has one value");
  if (orders < 1 || classes < 1) throw std::invalid_argument("a table has orders and classes");
  const NGrams table = {keys.data(), values.data(), keys.size(), orders, uint32_t(classes)};
  GuessedTokens guessed = guess_tokens(table, std::move(last), most, least);
  return {std::move(guessed.tokens), std::move(guessed.classes)};
}

}  // namespace

void bind_choice(nb::module_& m) {
  m.def("largest_logit", largest_logit, nb::arg("logits"));
  m.def("draw", draw, nb::arg("logits"), nb::arg("temperature"), nb::arg("top_k"), nb::arg("top_p"),
        nb::arg("min_p"), nb::arg("uniform"));
  m.def("likeliest_tokens", likeliest, nb::arg("logits"), nb::arg("left_out"));
  m.def("guess_tokens", guesses, nb::arg("keys"), nb::arg("values"), nb::arg("orders"), nb::arg("classes"),
        nb::arg("last"), nb::arg("most"), nb::arg("least"));
}

}  // namespace fivefold
