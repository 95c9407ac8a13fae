// What the files that know Python share.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

namespace fivefold {

// A numpy array of so many axes that is read where it lies.
template <class Number, int D>
using Array = nanobind::ndarray<const Number, nanobind::ndim<D>, nanobind::c_contig, nanobind::device::cpu>;

// The functions that choose tokens and guess them.
void bind_choice(nanobind::module_& m);

}  // namespace fivefold
