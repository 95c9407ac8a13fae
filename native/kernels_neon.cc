// The kernels for ARMv8-a: NEON without dot products.
#define FIVEFOLD_NEON 1
#define FIVEFOLD_TABLE kNeonKernels
#define FIVEFOLD_ISA "neon"
#include "kernels/table.inc.h"
