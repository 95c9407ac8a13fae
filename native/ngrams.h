// Guesses by a table of n-grams: a chain of the tokens that usually follow the end of a text.
//
// The rules are those of fivefold.core.ngrams, whose Python code is the reference.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fivefold {

struct NGrams {
  const uint32_t* keys;    // hashes of contexts, ascending
  const uint32_t* values;  // of each the token times `classes`, plus how sure it is
  size_t count;
  int orders;  // tokens of the longest context
  uint32_t classes;
};

struct GuessedTokens {
  std::vector<int64_t> tokens;
  std::vector<int64_t> classes;  // how sure the table is of each
};

// At most so many tokens, each the surest behind those before it. The chain ends where nothing is known, or
// where all of it together is right less often than `least`. `last` are the newest tokens of the text, in
// order.
GuessedTokens guess_tokens(const NGrams& table, std::vector<int64_t> last, int64_t most, double least);

}  // namespace fivefold
