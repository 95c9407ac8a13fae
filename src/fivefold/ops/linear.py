"""The matrix product."""

from __future__ import annotations

from fivefold.core.batch import Float32

from .op import Call, Cost, Op, Sizes


def _reference(call: Call) -> tuple[Float32, ...]:
    y: Float32 = call.inputs[0] @ call.weight(0).T  # (N, K) x (M, K)
    bias = call.weights[1]
    return (y if bias is None else y + bias,)


def _cost(sizes: Sizes) -> Cost:
    outer, inner = sizes.weight_shapes[0]
    return Cost(2.0 * sizes.rows * outer * inner, sum(sizes.weight_bytes), sizes.row_bytes())


DECLARED = (Op("linear", ("x",), ("y",), _reference, _cost, weights=("weight", "bias?"), kernel="linear"),)
