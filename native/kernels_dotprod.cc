// The kernels for ARMv8.2-a with NEON's dot products.
#define FIVEFOLD_NEON 1
#define FIVEFOLD_DOTPROD 1
#define FIVEFOLD_TABLE kDotprodKernels
#define FIVEFOLD_ISA "dotprod"
#include "kernels/table.inc.h"
