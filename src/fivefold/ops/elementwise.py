"""Ops on single numbers of a row: sums, scales, caps, gated activations."""

from __future__ import annotations

import math

import numpy as np

from fivefold.core.batch import Float32

from .op import Call, Op, rowwise_cost

ACTIVATIONS = ("silu", "gelu_tanh", "gelu", "sigmoid")
"""Names of the activation codes 0, 1, 2, 3."""


def activate(x: Float32, code: int) -> Float32:
    """The activation of that code, in float64 inside."""
    wide = x.astype(np.float64)
    with np.errstate(over="ignore"):
        if code == 0:
            y = wide / (1.0 + np.exp(-wide))
        elif code == 1:
            y = 0.5 * wide * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (wide + 0.044715 * wide**3)))
        elif code == ACTIVATIONS.index("gelu"):
            y = 0.5 * wide * (1.0 + np.vectorize(math.erf)(wide / math.sqrt(2.0)))
        else:
            y = 1.0 / (1.0 + np.exp(-wide))
    return y.astype(np.float32)


def _gated(call: Call) -> tuple[Float32, ...]:
    gate, up = call.inputs
    return (activate(gate, call.integer("activation")) * up,)


def _clamped_gated(call: Call) -> tuple[Float32, ...]:
    limit, alpha = np.float32(call.number("limit")), call.number("alpha")
    gate = np.minimum(call.inputs[0], limit).astype(np.float64)
    up = np.clip(call.inputs[1], -limit, limit)
    with np.errstate(over="ignore"):
        shared = (gate / (1.0 + np.exp(-alpha * gate))).astype(np.float32)
    return (shared * (up + np.float32(1.0)),)


def _add(call: Call) -> tuple[Float32, ...]:
    return (call.inputs[0] + call.inputs[1],)


def _scale(call: Call) -> tuple[Float32, ...]:
    return (call.inputs[0] * np.float32(call.number("factor")),)


def _scale_by(call: Call) -> tuple[Float32, ...]:
    return (call.inputs[0] * call.weight(0),)


def _soft_cap(call: Call) -> tuple[Float32, ...]:
    cap = np.float32(call.number("cap"))
    return (cap * np.tanh(call.inputs[0] / cap),)


def _copy(call: Call) -> tuple[Float32, ...]:
    return (call.inputs[0].copy(),)


def _gate_rows(call: Call) -> tuple[Float32, ...]:
    return (activate(call.inputs[1], ACTIVATIONS.index("sigmoid")) * call.inputs[0],)


DECLARED = (
    Op(
        "gated",
        ("gate", "up"),
        ("y",),
        _gated,
        rowwise_cost(6),
        attributes=("activation",),
        kernel="gated",
        integers=("activation",),
    ),
    Op(  # of GPT-OSS (openai/gpt-oss, gpt_oss/torch/model.py): gate sigmoid(alpha gate) (up + 1), both held
        "clamped_gated",
        ("gate", "up"),
        ("y",),
        _clamped_gated,
        rowwise_cost(9),
        attributes=("alpha", "limit"),
        kernel="clamped_gated",
        floats=("alpha", "limit"),
    ),
    Op("add", ("a", "b"), ("y",), _add, rowwise_cost(1), kernel="add"),
    Op(
        "scale",
        ("x",),
        ("y",),
        _scale,
        rowwise_cost(1),
        attributes=("factor",),
        kernel="scale",
        floats=("factor",),
    ),
    Op(  # by a number that the file has: a weight (1,)
        "scale_by",
        ("x",),
        ("y",),
        _scale_by,
        rowwise_cost(1),
        weights=("factor",),
        kernel="scale_by",
    ),
    Op(
        "soft_cap",
        ("x",),
        ("y",),
        _soft_cap,
        rowwise_cost(8),
        attributes=("cap",),
        kernel="soft_cap",
        floats=("cap",),
    ),
    Op("copy", ("x",), ("y",), _copy, rowwise_cost(0), kernel="copy"),
    Op("gate_rows", ("x", "gate"), ("y",), _gate_rows, rowwise_cost(1), kernel="gate_rows"),
)
