// A small vector wrapper: F (float lanes), I (int32 lanes), Bytes (four bytes for each lane), kWidth lanes.
//
// Each translation unit of kernels gets its own copy in an anonymous namespace, chosen by what the compiler
// may use there, so that no wide instruction can leak into code that runs everywhere. Every operation is
// lane by lane or has one fixed order, so that all wrappers give the same bits.
#pragma once

#if defined(FIVEFOLD_AVX512)
#include "simd/avx512.h"
#elif defined(FIVEFOLD_AVX2)
#include "simd/avx2.h"
#elif defined(FIVEFOLD_NEON)
#include "simd/neon.h"
#else
#include "simd/portable.h"
#endif

namespace fivefold {
namespace {

// The reductions of several vectors; a wrapper that does four of them faster together has an overload.
template <int N>
inline void reduce_max(const F (&a)[N], float* out) {
  for (int i = 0; i < N; ++i) out[i] = reduce_max(a[i]);
}
template <int N>
inline void reduce_int(const I (&a)[N], int32_t* out) {
  for (int i = 0; i < N; ++i) out[i] = reduce_int(a[i]);
}

}  // namespace
}  // namespace fivefold
