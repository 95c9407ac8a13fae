#include "sampling.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

namespace fivefold {
namespace {

constexpr int kBucketBits = 12;
constexpr size_t kBuckets = size_t(1) << kBucketBits;

// Floats as integers of the same order.
uint32_t order_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

size_t bucket_of(float x) { return order_of(x) >> (32 - kBucketBits); }

// One ranking for all filters: larger logits first, of equals the lower index.
struct Ranking {
  const float* logits;
  bool operator()(int64_t a, int64_t b) const {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  }
};

// Keeps the front of the ranking: tokens in buckets above `bucket`, and those of it that `kept` lists.
void keep_front(const float* logits, size_t count, size_t bucket, const std::vector<int64_t>& kept,
                std::vector<float>& weights) {
  std::vector<float> own(kept.size());
  for (size_t i = 0; i < kept.size(); ++i) own[i] = weights[size_t(kept[i])];
  for (size_t i = 0; i < count; ++i)
    if (bucket_of(logits[i]) <= bucket) weights[i] = 0.0f;
  for (size_t i = 0; i < kept.size(); ++i) weights[size_t(kept[i])] = own[i];
}

// The tokens of one bucket that have weight, best first.
std::vector<int64_t> ranked_bucket(const float* logits, size_t count, size_t bucket,
                                   const std::vector<float>& weights) {
  std::vector<int64_t> found;
  for (size_t i = 0; i < count; ++i)
    if (bucket_of(logits[i]) == bucket && weights[i] > 0.0f) found.push_back(int64_t(i));
  std::sort(found.begin(), found.end(), Ranking{logits});
  return found;
}

void keep_top_k(const float* logits, size_t count, size_t most, std::vector<float>& weights) {
  std::vector<uint32_t> sizes(kBuckets, 0);
  for (size_t i = 0; i < count; ++i) sizes[bucket_of(logits[i])] += weights[i] > 0.0f;
  size_t bucket = kBuckets, before = 0;
  while (bucket > 0 && before + sizes[bucket - 1] < most) before += sizes[--bucket];
  if (bucket == 0) return;  // there are not so many
  std::vector<int64_t> front = ranked_bucket(logits, count, bucket - 1, weights);
  front.resize(std::min(front.size(), most - before));
  keep_front(logits, count, bucket - 1, front, weights);
}

void keep_top_p(const float* logits, size_t count, double share, std::vector<float>& weights) {
  std::vector<double> masses(kBuckets, 0.0);
  for (size_t i = 0; i < count; ++i) masses[bucket_of(logits[i])] += double(weights[i]);
  double total = 0.0;
  for (size_t b = kBuckets; b > 0; --b) total += masses[b - 1];
  const double wanted = share * total;
  size_t bucket = kBuckets;
  double before = 0.0;
  while (bucket > 0 && before + masses[bucket - 1] < wanted) before += masses[--bucket];
  if (bucket == 0) return;
  std::vector<int64_t> front = ranked_bucket(logits, count, bucket - 1, weights);
  size_t kept = 0;
  while (kept < front.size() && (kept == 0 || before < wanted))
    before += double(weights[size_t(front[kept++])]);
  front.resize(kept);
  keep_front(logits, count, bucket - 1, front, weights);
}

double sum_of(const float* x, size_t count) {
  double part[4] = {};
  size_t i = 0;
  for (; i + 4 <= count; i += 4)
    for (size_t j = 0; j < 4; ++j) part[j] += double(x[i + j]);
  for (; i < count; ++i) part[0] += double(x[i]);
  return (part[0] + part[1]) + (part[2] + part[3]);
}

// The token at which the cumulative weight passes uniform * total.
int64_t invert(const std::vector<float>& weights, size_t count, double uniform) {
  constexpr size_t kBlock = 512;
  std::vector<double> sums((count + kBlock - 1) / kBlock);
  double total = 0.0;
  for (size_t b = 0; b < sums.size(); ++b) {
    const size_t first = b * kBlock;
    sums[b] = sum_of(weights.data() + first, std::min(count - first, kBlock));
    total += sums[b];
  }
  const double goal = uniform * total;
  double before = 0.0;
  size_t block = 0;
  while (block + 1 < sums.size() && before + sums[block] <= goal) before += sums[block++];
  int64_t last_with_weight = -1;
  for (; block < sums.size(); ++block)
    for (size_t i = block * kBlock; i < std::min(count, (block + 1) * kBlock); ++i) {
      if (weights[i] == 0.0f) continue;
      last_with_weight = int64_t(i);
      before += double(weights[i]);
      if (before > goal) return last_with_weight;
    }
  return last_with_weight;  // -1 if rounding went past the end of a block with nothing behind it
}

}  // namespace

int64_t draw_token(const Kernels& kernels, const float* logits, size_t count, int64_t largest,
                   const DrawRule& rule, std::vector<float>& weights) {
  weights.resize(count);
  kernels.softmax_weights(logits, logits[largest], 1.0f / rule.temperature, count, weights.data());
  if (rule.top_k > 0 && size_t(rule.top_k) < count) keep_top_k(logits, count, size_t(rule.top_k), weights);
  if (rule.min_p > 0.0)
    for (size_t i = 0; i < count; ++i)
      if (double(weights[i]) < rule.min_p) weights[i] = 0.0f;
  if (rule.top_p < 1.0) keep_top_p(logits, count, rule.top_p, weights);
  const int64_t token = invert(weights, count, rule.uniform);
  return token < 0 ? largest : token;
}

LikeliestToken likeliest_token(const Kernels& kernels, const float* logits, size_t count, int64_t left_out,
                               std::vector<float>& weights) {
  const size_t before = left_out < 0 ? count : size_t(left_out);
  const size_t after = left_out < 0 ? count : before + 1;  // tokens [0, before) and [after, count)
  const auto largest = [&](size_t first, size_t last) -> int64_t {
    if (first == last) return -2;
    const int64_t found = kernels.largest_logit(logits + first, last - first);
    return found < 0 ? found : int64_t(first) + found;
  };
  const int64_t low = largest(0, before), high = largest(after, count);
  if (low == -1 || high == -1 || (left_out >= 0 && largest(before, after) == -1)) return {-1, 0.0, 0.0};
  int64_t best = low < 0 ? high : low;
  if (low >= 0 && high >= 0 && logits[high] > logits[low]) best = high;
  if (best < 0) return {best, 0.0, 0.0};
  weights.resize(count);
  double total = 0.0;
  for (const auto& [first, last] : {std::pair(size_t(0), before), std::pair(after, count)}) {
    if (first == last) continue;
    kernels.softmax_weights(logits + first, logits[best], 1.0f, last - first, weights.data());
    total += sum_of(weights.data(), last - first);
  }
  const double other = left_out < 0 ? 0.0 : std::exp(double(logits[left_out]) - double(logits[best]));
  return {best, 1.0 / total, 1.0 / (total + other)};
}

}  // namespace fivefold
