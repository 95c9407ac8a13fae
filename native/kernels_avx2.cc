// The kernels for x86-64 with AVX2, FMA and F16C.
#define FIVEFOLD_AVX2 1
#define FIVEFOLD_TABLE kAvx2Kernels
#define FIVEFOLD_ISA "avx2"
#include "kernels/table.inc.h"
