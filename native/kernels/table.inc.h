// All kernel bodies, compiled for the instruction set of the including file, and the table of them.
//
// The including file defines FIVEFOLD_TABLE (the table's name) and FIVEFOLD_ISA (the name people see).

#define FIVEFOLD_KERNELS 1

#include <type_traits>

#include "kernels.h"
#include "simd.h"

// Functions and lambdas whose arrays live in registers only if they are a part of their caller.
#define FIVEFOLD_INLINED __attribute__((always_inline))
#define FIVEFOLD_INLINE FIVEFOLD_INLINED inline
// Functions whose loops need all registers for themselves.
#define FIVEFOLD_APART __attribute__((noinline))

#define FIVEFOLD_FORMAT_BODIES 1
#include "formats/list.h"

namespace fivefold {
namespace {

#include "kernels/math.inc.h"

#include "kernels/entries.inc.h"

#include "kernels/attention_tile.inc.h"
#include "kernels/attention_softmax.inc.h"

#include "kernels/attention.inc.h"
#include "kernels/attention_int8.inc.h"
#include "kernels/attention_merge.inc.h"
#include "kernels/elementwise.inc.h"
#include "kernels/linear.inc.h"
#include "kernels/linear_float.inc.h"
#include "kernels/norm.inc.h"
#include "kernels/observe.inc.h"
#include "kernels/peak.inc.h"
#include "kernels/quantize.inc.h"
#include "kernels/recurrent.inc.h"
#include "kernels/sampling.inc.h"

// Only formats with scales meet int8 activations.
template <class Format>
constexpr auto int8_kernel() -> void (*)(const LinearTask&) {
  if constexpr (Format::kBlock > 1)
    return linear_int8<Format>;
  else
    return nullptr;
}

template <class Format>
int tiles_together(int rows) {
  if constexpr (Format::kBlock > 1)
    return tiles_for<Format>(rows);
  else
    return kFloatTiles;
}

}  // namespace

// Of the linear kernels one for each format, in the order of FormatId.
#define FIVEFOLD_TOGETHER(Format) tiles_together<Format>,
#define FIVEFOLD_INT8(Format) int8_kernel<Format>(),
#define FIVEFOLD_FLOAT(Format) linear_float<Format>,
// Of those of the cache one for each format of entries, in the order of EntryId.
#define FIVEFOLD_STORE(Name) store_entry<Name##Entry>,
#define FIVEFOLD_READ(Name) read_entry<Name##Entry>,
#define FIVEFOLD_ATTENTION(Name) attention<Name##Entry>,
#define FIVEFOLD_KEY_SCORES(Name) key_scores<Name##Entry>,
const Kernels FIVEFOLD_TABLE = {
    FIVEFOLD_ISA,
    kWidth,
    quantize,
    {FIVEFOLD_FORMATS(FIVEFOLD_TOGETHER)},
    {FIVEFOLD_FORMATS(FIVEFOLD_INT8)},
    {FIVEFOLD_FORMATS(FIVEFOLD_FLOAT)},
    rms_norm,
    rope,
    gated,
    clamped_gated,
    weighted_sum,
    add,
    scale,
    soft_cap,
    convolve,
    unit_norm,
    delta_rule,
    {FIVEFOLD_ENTRIES(FIVEFOLD_STORE)},
    {FIVEFOLD_ENTRIES(FIVEFOLD_READ)},
    {FIVEFOLD_ENTRIES(FIVEFOLD_ATTENTION)},
    attention_merge,
    attention_finish,
    {FIVEFOLD_ENTRIES(FIVEFOLD_KEY_SCORES)},
    observe_scores,
    largest_logit,
    softmax_weights,
    read_sum,
    peak_float,
    peak_int8,
};

}  // namespace fivefold
