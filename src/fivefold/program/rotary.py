"""Inverse frequencies of rotary embeddings and their scaled variants, as families need them.

Plain: Su et al., arXiv 2104.09864. Linear: positions divided by a factor. YaRN: Peng et al.,
arXiv 2309.00071. llama3: the rule of Meta's Llama 3.1 release, as Hugging Face configs name it.
Proportional: a share of the pairs turns, as if all did, and the others stand still (Gemma 4).
Each returns (rotary / 2,) float32, and YaRN also a magnitude for cosines and sines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fivefold.core.batch import Float32

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """A scaled variant: kind "none", "linear", "yarn", "llama3" or "proportional", and its numbers."""

    kind: str = "none"
    factor: float = 1.0
    original_context: int = 0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    low_frequency: float = 1.0
    high_frequency: float = 4.0
    attention_factor: float | None = None
    truncate: bool = True  # YaRN: the ramp begins and ends at whole dimensions
    share: float = 1.0  # proportional: of the pairs that turn


def inverse_frequencies(base: float, rotary: int, scaling: RopeScaling) -> tuple[Float32, float]:
    """Inverse frequencies of `rotary` dimensions, and the magnitude of cosines and sines."""
    plain: Float64 = base ** (-np.arange(0, rotary, 2, dtype=np.float64) / rotary)
    if scaling.kind == "linear":
        return (plain / scaling.factor).astype(np.float32), 1.0
    if scaling.kind == "proportional":
        turning = np.arange(len(plain)) < int(scaling.share * rotary // 2)
        return (plain / scaling.factor * turning).astype(np.float32), 1.0
    if scaling.kind == "yarn":
        factor = scaling.attention_factor
        magnitude = 0.1 * math.log(scaling.factor) + 1.0 if factor is None else factor
        return _yarn(plain, base, rotary, scaling).astype(np.float32), magnitude
    if scaling.kind == "llama3":
        return _llama3(plain, scaling).astype(np.float32), 1.0
    return plain.astype(np.float32), 1.0


def _yarn(plain: Float64, base: float, rotary: int, scaling: RopeScaling) -> Float64:
    """Long wavelengths are interpolated, short ones kept, with a ramp between."""

    def dimension(rotations: float) -> float:
        return rotary * math.log(scaling.original_context / (rotations * 2 * math.pi)) / (2 * math.log(base))

    # What lies outside of all dimensions is not rounded: it may be too large for an integer.
    low = min(max(dimension(scaling.beta_fast), 0.0), float(rotary))
    high = max(min(dimension(scaling.beta_slow), float(rotary - 1)), -1.0)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    ramp = np.clip((np.arange(len(plain)) - low) / max(high - low, 0.001), 0.0, 1.0)
    result: Float64 = plain / scaling.factor * ramp + plain * (1.0 - ramp)
    return result


def _llama3(plain: Float64, scaling: RopeScaling) -> Float64:
    """Wavelengths above one bound are divided by the factor, below another kept, smooth between."""
    wavelength = 2 * math.pi / plain
    turns = scaling.original_context / wavelength
    if scaling.low_frequency == scaling.high_frequency:  # nothing lies between
        smooth = (turns >= scaling.low_frequency).astype(np.float64)
    else:
        with np.errstate(over="ignore"):  # bounds that nearly meet: the clip takes what is endless
            smooth = (turns - scaling.low_frequency) / (scaling.high_frequency - scaling.low_frequency)
        smooth = np.clip(smooth, 0.0, 1.0)
    result: Float64 = (1.0 - smooth) * plain / scaling.factor + smooth * plain
    return result
