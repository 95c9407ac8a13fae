#include "ngrams.h"

#include <algorithm>

namespace fivefold {
namespace {

constexpr uint32_t kFactor = 0x9E3779B1u;

// The first place with a key of at least this one. Hashes lie evenly, so it is looked for where it should be:
// a few cache lines in place of one for each halving.
const uint32_t* place_of(const NGrams& table, uint32_t key) {
  if (table.count == 0) return table.keys;
  const double each = double(table.count) / 4294967296.0, end = double(table.count - 1);
  const double near = std::min(key * each, end);
  const double step = (double(key) - double(table.keys[size_t(near)])) * each;
  size_t low = size_t(std::clamp(near + step, 0.0, end)), high = low;
  for (size_t far = 4; low > 0 && table.keys[low] >= key; far *= 2) low -= std::min(low, far);
  for (size_t far = 4; high < table.count && table.keys[high] < key; far *= 2)
    high += std::min(table.count - high, far);
  return std::lower_bound(table.keys + low, table.keys + high, key);
}

// The value of the surest context that `last` ends with, of equals the longest; whether there is any.
bool surest(const NGrams& table, const std::vector<int64_t>& last, uint32_t& value) {
  uint32_t key = 0;
  bool found = false;
  const size_t orders = std::min(size_t(table.orders), last.size());
  for (size_t back = 1; back <= orders; ++back) {
    key = key * kFactor + uint32_t(last[last.size() - back]) + 1u;
    const uint32_t* place = place_of(table, key);
    if (place == table.keys + table.count || *place != key) continue;
    const uint32_t here = table.values[place - table.keys];
    if (found && here % table.classes < value % table.classes) continue;
    value = here;
    found = true;
  }
  return found;
}

}  // namespace

GuessedTokens guess_tokens(const NGrams& table, std::vector<int64_t> last, int64_t most, double least) {
  GuessedTokens guessed;
  double together = 1.0;
  uint32_t value = 0;
  while (int64_t(guessed.tokens.size()) < most && surest(table, last, value)) {
    const uint32_t sure = value % table.classes;
    together *= (sure + 0.5) / table.classes;
    if (together < least) break;
    guessed.tokens.push_back(value / table.classes);
    guessed.classes.push_back(sure);
    last.push_back(value / table.classes);
  }
  return guessed;
}

}  // namespace fivefold
