// The kernels for x86-64 with AVX-512 (F, BW, VL, DQ) and VNNI.
#define FIVEFOLD_AVX512 1
#define FIVEFOLD_TABLE kAvx512Kernels
#define FIVEFOLD_ISA "avx512"
#include "kernels/table.inc.h"
