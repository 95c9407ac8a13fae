// The kernels for any machine.
#define FIVEFOLD_TABLE kPortableKernels
#define FIVEFOLD_ISA "portable"
#include "kernels/table.inc.h"
