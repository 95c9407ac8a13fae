// The kernels, as one table of function pointers for each instruction set.
//
// All tables give the same bits: a kernel works lane by lane in a fixed order, fuses a multiply-add only
// where it says so, and never lets the number of rows or threads change the order of a sum. Kernels know no
// threads: they take ranges. Nothing inline here has external linkage, so that no wide instruction reaches
// general code.
#pragma once

#include <cstddef>
#include <cstdint>

#include "entries.h"
#include "formats/formats.h"

namespace fivefold {

constexpr int kQuantBlock = 32;
constexpr int kFloatTiles = 4;  // tiles that linear_float takes side by side

// In an anonymous namespace: each translation unit has its own copy, see above.
namespace {

// 32 columns of a row quantized to int8: a number is scale * code.
struct QuantizedBlock {
  int8_t codes[kQuantBlock];
  float scale;
  int16_t half_sums[2];     // the codes of each half, added
  float scaled_sum;         // scale * the sum of all codes
  int32_t offset_sum;       // -8 * that sum: a smaller step of offsets no format has
  int32_t half_offsets[2];  // -16 * the sums of the halves: what E2M1's codes are above their numbers
};

constexpr size_t quantized_stride(int columns) {
  return (sizeof(QuantizedBlock) * size_t(columns / kQuantBlock) + 63) / 64 * 64;
}

constexpr int kTilePages = 4;  // whose scores attention has at a time
constexpr int kTileSlots = kTilePages * kPageSize;

// Floats of scratch memory that the attention kernel wants: a page, the scores of a tile, queries as codes.
constexpr size_t attention_scratch(int queries, int key_width, int value_width) {
  return size_t(kPageSize) * size_t(key_width + value_width) + size_t(queries + 5) * kTileSlots +
         size_t(queries) * size_t(key_width / 2 + 2);
}

}  // namespace

// y[r][m] for rows [row_begin, row_end) and tiles [tile_begin, tile_end) of a packed matrix.
struct LinearTask {
  const uint8_t* weights;
  size_t tile_bytes;
  int outputs;          // M
  int columns;          // K
  const float* bias;    // or null
  const float* scales;  // factors of outputs [tile][segment][W], or null
  int scale_columns;    // of a segment; all of them with int8 activations
  const uint8_t* x;     // float rows, or quantized rows
  size_t x_stride;      // bytes
  float* y;
  size_t y_stride;  // floats
  int row_begin, row_end;
  int tile_begin, tile_end;
  // Where the rows lie, for rows that lie apart: row i is row x_rows[i] of x, and row y_rows[i] of y.
  const int32_t* x_rows = nullptr;
  const int32_t* y_rows = nullptr;
};

enum class RopeStyle : int { kHalf = 0, kAdjacent = 1 };
enum class Activation : int { kSilu = 0, kGeluTanh = 1, kGelu = 2, kSigmoid = 3 };

struct RopeTask {
  const float* x;       // [rows][heads * head_size]
  const float* angles;  // [rows][rotary]: cosines, then sines
  float* y;             // may be x
  int rows, heads, head_size, rotary;
  RopeStyle style;
};

// Up to kSegmentPages pages of one KV head against a block of queries. Scores are in units of log 2: weights
// are powers of two.
struct AttentionSegment {
  const uint8_t* entries;  // the head's part of page 0
  size_t page_stride;      // bytes
  const int32_t* pages;
  int first_page;  // the number of the first among those of its sequence
  int page_count;
  int key_width, value_width;
  bool value_in_key;
  float soft_cap;           // in units of log 2, 0: none
  int rows, group;          // queries: rows * group
  const uint32_t* visible;  // [page][row], one bit a slot
  const float* queries;     // [row * group + head][key_width], scaled, for scores in units of log 2
  float* maximum;           // [query]: set here
  float* total;             // [query]
  float* output;            // [query][value_width]
  float* scratch;           // attention_scratch() floats
};

// The scores of some queries for the keys of one page.
struct KeyScoresTask {
  const uint8_t* page;  // the head's part of it
  int key_width, value_width;
  bool value_in_key;
  const float* queries;  // [query][key_width], scaled
  int count;
  float* keys;    // scratch memory, key_width * kPageSize
  float* scores;  // of the page's first slot, of the first query
  size_t stride;  // floats from one query's scores to the next one's
};

// A query's scores in units of log 2, minus infinity where it does not see: its softmax weights are added to
// the importance of the slots, or the larger of both is kept. The scores are used up.
struct ObserveTask {
  float* scores;
  size_t count;       // a multiple of kPageSize
  const float* sink;  // one more score, without a slot, or null
  bool peak;
  float* importance;
};

constexpr int kStateColumns = 16;  // of a head's values that lie together in a recurrent state

// Rows of one sequence through those columns of one head's state, row by row: S = decay S;
// S = S + k (write (v - k S)); o = q S. Row r of values, gates and output lies r strides further on.
struct DeltaTask {
  const float* keys;     // [rows][key_width]
  const float* queries;  // [rows][key_width]
  const float* values;
  const float* decays;
  const float* writes;
  float* output;
  size_t value_stride, gate_stride, output_stride;
  int rows, key_width;  // the width is a multiple of 4
  const float* from;    // [key_width][kStateColumns], the state before the first row
  float* to;            // and after the last one; may be `from`
};

struct Kernels {
  const char* isa;
  int width;  // rows of a packed tile

  void (*quantize)(const float* x, int rows, int columns, uint8_t* out);
  // Tiles that linear_int8 takes side by side for so many rows, from 1 on: ranges of them are best multiples.
  int (*tiles_together[kFormats])(int rows);
  void (*linear_int8[kFormats])(const LinearTask& task);
  void (*linear_float[kFormats])(const LinearTask& task);
  void (*rms_norm)(const float* x, const float* weight, float eps, int rows, int columns, float* y);
  void (*rope)(const RopeTask& task);
  void (*gated)(const float* gate, const float* up, size_t count, Activation activation, float* y);
  // gate / (1 + exp(-alpha gate)) * (up + 1), the gate at most the limit, up within it on both sides.
  void (*clamped_gated)(const float* gate, const float* up, size_t count, float alpha, float limit, float* y);
  // The sum of `count` rows, one behind the other, each times its weight.
  void (*weighted_sum)(const float* x, const float* weights, int count, int width, float* y);
  void (*add)(const float* a, const float* b, size_t count, float* y);
  void (*scale)(const float* x, float factor, size_t count, float* y);
  void (*soft_cap)(const float* x, float cap, size_t count, float* y);

  // silu of the sum over `taps` of rows[j][i] * weights[j * stride + i], in the order of j.
  void (*convolve)(const float* const* rows, const float* weights, size_t stride, int taps, size_t count,
                   float* y);
  // y = x / sqrt(sum(x^2) + eps) * factor
  void (*unit_norm)(const float* x, float eps, float factor, int columns, float* y);
  void (*delta_rule)(const DeltaTask& task);

  // Of these one for each format of entries.
  // Stores one entry: key to column `slot` of a page's K^T, value to row `slot`. Null: the value is the first
  // `value_width` numbers of the key.
  void (*store_entry[kEntryFormats])(const float* key, const float* value, int key_width, int value_width,
                                     int slot, uint8_t* page);
  void (*read_entry[kEntryFormats])(const uint8_t* page, int key_width, int value_width, int slot, float* key,
                                    float* value);
  void (*attention[kEntryFormats])(const AttentionSegment& segment);
  // (maximum, total, output) of a query becomes that of both parts, the given part being the later one.
  void (*attention_merge)(float* maximum, float* total, float* output, float part_maximum, float part_total,
                          const float* part_output, int width);
  // y = output / total, with one more score that has no value if `sink` is given (in units of log 2, too);
  // zeros if nothing was seen.
  void (*attention_finish)(float maximum, float total, const float* output, const float* sink, int width,
                           float* y);
  void (*key_scores[kEntryFormats])(const KeyScoresTask& task);
  void (*observe_scores)(const ObserveTask& task);

  // The first index of the largest number; -1 if any is NaN or plus infinity, -2 if all are minus infinity.
  int64_t (*largest_logit)(const float* x, size_t count);
  // y = exp((x - largest) * factor), for x of at most `largest`.
  void (*softmax_weights)(const float* x, float largest, float factor, size_t count, float* y);

  // A sum over memory that reads every byte once, in four streams side by side, for measuring bandwidth.
  uint64_t (*read_sum)(const uint64_t* data, size_t count);
  // The most products that the instruction set makes, for measuring; return how many were made.
  uint64_t (*peak_float)(size_t count, float seed, float* sink);
  uint64_t (*peak_int8)(size_t count, int32_t seed, float* sink);
};

constexpr int kSegmentPages = 16;

extern const Kernels kPortableKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#elif defined(__aarch64__)
extern const Kernels kNeonKernels;
extern const Kernels kDotprodKernels;
#endif

}  // namespace fivefold
