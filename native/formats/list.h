// The list of number formats: the one place in C++ that a new format is named in, twice, beside its own
// header. Included for the names alone (formats.h), and with FIVEFOLD_FORMAT_BODIES for the formats too.
// No include guard: the second may follow the first.

#ifndef FIVEFOLD_FORMATS
#define FIVEFOLD_FORMATS(X) X(F32) X(F16) X(Bf16) X(Q8_0) X(Q4_0) X(Q4_1)
#endif

#ifdef FIVEFOLD_FORMAT_BODIES
#include "bf16.h"
#include "f16.h"
#include "f32.h"
#include "q4_0.h"
#include "q4_1.h"
#include "q8_0.h"
#endif
