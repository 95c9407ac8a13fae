// The list of number formats: the one place in C++ that a new format is named in, twice, beside its own
// header. Included for the names alone (formats.h), and with FIVEFOLD_FORMAT_BODIES for the formats too.
// No include guard: the second may follow the first.

#ifndef FIVEFOLD_FORMATS
#define FIVEFOLD_FORMATS(X) \
  X(F32)                    \
  X(F16)                    \
  X(Bf16)                   \
  X(F8_E4m3)                \
  X(Q8_0)                   \
  X(Q4_0)                   \
  X(Q4_1) X(Q5_0) X(Q5_1) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) X(Iq4_Nl) X(Iq4_Xs) X(Mxfp4) X(Nvfp4)
#endif

#ifdef FIVEFOLD_FORMAT_BODIES
#include "bf16.h"
#include "f16.h"
#include "f32.h"
#include "f8_e4m3.h"
#include "iq4_nl.h"
#include "iq4_xs.h"
#include "mxfp4.h"
#include "nvfp4.h"
#include "q2_k.h"
#include "q3_k.h"
#include "q4_0.h"
#include "q4_1.h"
#include "q4_k.h"
#include "q5_0.h"
#include "q5_1.h"
#include "q5_k.h"
#include "q6_k.h"
#include "q8_0.h"
#endif
