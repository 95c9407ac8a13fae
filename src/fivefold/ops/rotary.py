"""Rotary position embedding (Su et al., arXiv 2104.09864).

`rope_angles` turns positions into cosines and sines once a step; `rope` applies them in each layer.
`scale_by_position` multiplies rows by 1 + beta * log(1 + floor((position + shift) / length)), as Llama 4
scales queries beyond the length it was trained on; a rotation passes the factor on, so the angles can be
scaled instead.
`style` 0 pairs element i with i + rotary/2 (Hugging Face), 1 pairs neighbours (as GGUF stores the
Llama family). Scaled variants change only `inverse_frequency` and `magnitude`, which the family
computes.
"""

from __future__ import annotations

import numpy as np

from fivefold.core.batch import Float32

from .op import Call, Op, rowwise_cost


def _angles(call: Call) -> tuple[Float32, ...]:
    frequency = call.weight(0)
    factors = call.weights[1]
    if factors is not None:
        frequency = frequency / factors
    positions = call.batch.positions[call.rows].astype(np.float64)
    angle = positions[:, None] * frequency.astype(np.float64)  # (N, P)
    both = np.concatenate([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    return (both * np.float32(call.number("magnitude")),)


def _scale_by_position(call: Call) -> tuple[Float32, ...]:
    positions = call.batch.positions[call.rows].astype(np.float64)
    turns = np.floor((positions + call.number("shift")) / call.number("length"))
    factors = (1.0 + call.number("beta") * np.log(1.0 + turns)).astype(np.float32)
    return (call.inputs[0] * factors[:, None],)


def _rope(call: Call) -> tuple[Float32, ...]:
    x, angles = call.inputs
    heads, rotary = call.integer("heads"), call.integer("rotary")
    parts = x.reshape(len(x), heads, -1)
    half = rotary // 2
    cos, sin = angles[:, None, :half], angles[:, None, half:]
    y = parts.copy()
    first, second = (slice(0, half), slice(half, rotary)), (slice(0, rotary, 2), slice(1, rotary, 2))
    low, high = second if call.attributes["style"] else first
    y[..., low] = parts[..., low] * cos - parts[..., high] * sin
    y[..., high] = parts[..., low] * sin + parts[..., high] * cos
    return (y.reshape(x.shape),)


DECLARED = (
    Op(
        "rope_angles",
        (),
        ("angles",),
        _angles,
        rowwise_cost(20),
        weights=("inverse_frequency", "factors?"),
        attributes=("magnitude",),
        kernel="rope_angles",
        floats=("magnitude",),
        positional=True,
    ),
    Op(
        "scale_by_position",
        ("x",),
        ("y",),
        _scale_by_position,
        rowwise_cost(1),
        attributes=("beta", "length", "shift"),
        kernel="scale_by_position",
        floats=("beta", "length", "shift"),
        positional=True,
    ),
    Op(
        "rope",
        ("x", "angles"),
        ("y",),
        _rope,
        rowwise_cost(3),
        attributes=("heads", "head_size", "rotary", "style"),
        kernel="rope",
        integers=("heads", "head_size", "rotary", "style"),
    ),
)
