// All kernel bodies, compiled for the instruction set of the including file, and the table of them.
//
// The including file defines FIVEFOLD_TABLE (the table's name) and FIVEFOLD_ISA (the name people see).

#define FIVEFOLD_KERNELS 1

#include "kernels.h"
#include "simd.h"

#include "formats/bf16.h"
#include "formats/f16.h"
#include "formats/f32.h"
#include "formats/q4_0.h"
#include "formats/q4_1.h"
#include "formats/q8_0.h"

namespace fivefold {
namespace {

#include "kernels/math.inc.h"

#include "kernels/attention.inc.h"
#include "kernels/elementwise.inc.h"
#include "kernels/linear.inc.h"
#include "kernels/norm.inc.h"
#include "kernels/quantize.inc.h"

}  // namespace

// In the order of FormatId.
const Kernels FIVEFOLD_TABLE = {
    FIVEFOLD_ISA,
    kWidth,
    quantize,
    {nullptr, nullptr, nullptr, linear_int8<Q8_0>, linear_int8<Q4_0>, linear_int8<Q4_1>},
    {linear_float<F32>, linear_float<F16>, linear_float<Bf16>, linear_float<Q8_0>, linear_float<Q4_0>,
     linear_float<Q4_1>},
    rms_norm,
    rope,
    gated,
    add,
    scale,
    soft_cap,
    store_entry,
    attention,
    attention_merge,
    attention_finish,
    read_sum,
};

}  // namespace fivefold
