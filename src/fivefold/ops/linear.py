"""Matrix products: the plain one, and a low-rank one for adapters on a subset of rows."""

from __future__ import annotations

import numpy as np

from fivefold.core.batch import Float32

from .op import Call, Cost, Op, Sizes


def _reference(call: Call) -> tuple[Float32, ...]:
    y: Float32 = call.inputs[0] @ call.weight(0).T  # (N, K) x (M, K)
    bias = call.weights[1]
    return (y if bias is None else y + bias,)


def _cost(sizes: Sizes) -> Cost:
    outer, inner = sizes.weight_shapes[0]
    return Cost(2.0 * sizes.rows * outer * inner, sum(sizes.weight_bytes), sizes.row_bytes())


def _low_rank(call: Call) -> tuple[Float32, ...]:
    down, up = call.weight(0), call.weight(1)  # (R, K), (M, R)
    y: Float32 = np.matmul(call.inputs[0] @ down.T, up.T, dtype=np.float32)
    return (y,)


def _low_rank_cost(sizes: Sizes) -> Cost:
    flops = sum(2.0 * sizes.rows * shape[0] * shape[1] for shape in sizes.weight_shapes)
    return Cost(flops, sum(sizes.weight_bytes), sizes.row_bytes())


DECLARED = (
    Op("linear", ("x",), ("y",), _reference, _cost, weights=("weight", "bias?"), kernel="linear"),
    Op("low_rank", ("x",), ("y",), _low_rank, _low_rank_cost, weights=("down", "up")),
)
