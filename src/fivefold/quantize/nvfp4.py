"""Quantizing to nvfp4: the tensor's factor, and the scales of its parts.

A number is factor * scale * code. `round` takes NVIDIA's definitions: the factor is the largest magnitude
over 6 * 448 (ModelOpt's `weight_scale_2`), a part's scale its largest over 6, and codes are rounded to the
nearest.

`sweep` looks for the scale of least weighted squared error among the codes around the rounding's, or all 126.
Where a part's largest number is best held at 4 rather than 6 (four over six, arXiv 2512.02010) the sweep
finds that, and all else that helps. Its factor is the smallest power of two under which a scale of a quarter
of the largest magnitude still fits, so the part with the largest number has all its choices. A power of two
costs nothing that could be measured, since scales are floats (docs/quantize.md has figures), and makes every
product with it exact: all readers agree on the numbers, whether they multiply by the factor or divide by its
reciprocal, in bfloat16 too.
"""

from __future__ import annotations

import numpy as np

from fivefold.core.checkpoint import Bytes, Float32
from fivefold.core.errors import FivefoldError
from fivefold.formats import e2m1, e4m3, format_of, nvfp4
from fivefold.quantize.choice import ALL_CODES, Choice
from fivefold.quantize.e2m1_error import BlockErrors
from fivefold.quantize.pieces import LARGE_PIECE, PIECE, magnitude, packed
from fivefold.quantize.weights import block_weights, for_rows

_SMALLEST = float(np.finfo(np.float32).tiny)
_WHOLE_PART = float(nvfp4.LARGEST)
_MOST = e2m1.LARGEST * e4m3.MOST
_QUARTER = 4.0 * float(e4m3.LARGEST)


def tensor_factor(values: Float32, choice: Choice) -> float:
    """What a tensor (M, K) is divided by before its parts are quantized, a float32; 1.0 if it is all zero.

    Never subnormal: quotients would be off. FivefoldError where there may be no factor and needs to be one.
    """
    if values.size == 0:
        return 1.0
    largest = max(magnitude(values), choice.largest)
    if choice.factor == "one" and largest > _MOST:
        raise FivefoldError(
            f"a magnitude of {largest:g} is more than nvfp4 without a factor can hold ({_WHOLE_PART:g})",
            where="nvfp4", remedy="keep this tensor, or choose q8_0 for it",
        )  # fmt: skip
    if largest == 0.0 or choice.factor == "one":
        return 1.0
    room = _WHOLE_PART if choice.method == "round" else _QUARTER
    if choice.method == "round" and choice.factor == "own":
        return float(max(np.float32(largest) / np.float32(room), np.float32(_SMALLEST)))
    mantissa, exponent = np.frexp(largest / room)  # of doubles: exact where it matters
    power = int(exponent) - (1 if mantissa == 0.5 else 0)
    return float(np.ldexp(1.0, max(power, -126)))


def rounded(values: Float32, factor: float) -> Bytes:
    """A matrix (M, K) as stored blocks by the format's own rounding."""
    form = format_of("nvfp4")
    return packed(values, form, LARGE_PIECE, lambda rows: form.pack(rows / np.float32(factor)))


def swept(values: Float32, factor: float, window: int, importance: Float32 | None) -> Bytes:
    """A matrix (M, K) as stored blocks, with the scales that a sweep finds."""
    weights = block_weights(importance, nvfp4.PART)

    def best(rows: Float32) -> Bytes:
        parts = (rows / np.float32(factor)).reshape(-1, nvfp4.PART)
        scales = best_scales(parts, window, for_rows(weights, len(rows)))
        return nvfp4.join(scales, nvfp4.codes_for(parts, e4m3.VALUES[scales]))

    return packed(values, format_of("nvfp4"), PIECE, best)


def best_scales(parts: Float32, window: int, weights: Float32 | None) -> Bytes:
    """The E4M3 codes (n,) under which parts (n, 16) have the least error, weights being (16, n) or None.

    Of equal errors the one nearest to the rounding's is taken, and of two equally near the smaller. A part of
    zeros has the code 0.
    """
    magnitudes = np.ascontiguousarray(np.abs(parts).T)
    largest = magnitudes.max(axis=0)
    start = np.maximum(e4m3.nearest(largest / e2m1.LARGEST), 1).astype(np.int32)
    errors = BlockErrors(magnitudes, weights)
    best = start.copy()
    least = errors.under(e4m3.VALUES[start])
    if window < ALL_CODES:
        steps = [sign * step for step in range(1, window + 1) for sign in (-1, 1)]
        for step in steps:
            codes = np.clip(start + step, 1, ALL_CODES)
            found = errors.under(e4m3.VALUES[codes])
            better = found < least
            best[better], least[better] = codes[better], found[better]
    else:
        for code in range(1, ALL_CODES + 1):
            found = errors.under(e4m3.VALUES[code])
            nearer = np.abs(code - start) < np.abs(best - start)
            better = (found < least) | ((found == least) & nearer)
            best[better], least[better] = code, found[better]
    return np.where(largest > 0, best, 0).astype(np.uint8)
