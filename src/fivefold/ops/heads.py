"""Ops on the parts of a row that belong to heads: a matrix for each, a cut out of each, two joined in each.

A row of width H * K is H parts of K numbers, one behind the other. `head_linear` multiplies each with a
matrix of its own: latent attention (arXiv 2405.04434) takes queries to the space of its cache that way, and
what attention gives back to heads. `head_columns` takes the same numbers of each part, `head_join` lays the
parts of two rows beside each other, head by head.
"""

from __future__ import annotations

import numpy as np

from fivefold.core.batch import Float32

from .op import Call, Cost, Op, Sizes, rowwise_cost


def _head_linear(call: Call) -> tuple[Float32, ...]:
    matrices = call.weight(0)  # (H, M, K)
    parts = call.inputs[0].reshape(-1, len(matrices), matrices.shape[2])
    y: Float32 = np.einsum("nhk,hmk->nhm", parts, matrices, optimize=True).astype(np.float32)
    return (y.reshape(len(parts), -1),)


def _head_linear_cost(sizes: Sizes) -> Cost:
    heads, outer, inner = sizes.weight_shapes[0]
    return Cost(2.0 * sizes.rows * heads * outer * inner, sum(sizes.weight_bytes), sizes.row_bytes())


def _head_columns(call: Call) -> tuple[Float32, ...]:
    (x,) = call.inputs
    first, count = call.integer("first"), call.integer("count")
    parts = x.reshape(len(x), call.integer("heads"), -1)
    return (np.ascontiguousarray(parts[:, :, first : first + count]).reshape(len(x), -1),)


def _head_join(call: Call) -> tuple[Float32, ...]:
    heads = call.integer("heads")
    parts = [x.reshape(len(x), heads, -1) for x in call.inputs]
    return (np.concatenate(parts, axis=2).reshape(len(parts[0]), -1),)


DECLARED = (
    Op(
        "head_linear", ("x",), ("y",), _head_linear, _head_linear_cost, weights=("matrices",),
        kernel="head_linear",
    ),
    Op(
        "head_columns", ("x",), ("y",), _head_columns, rowwise_cost(0),
        attributes=("heads", "first", "count"), kernel="head_columns", integers=("heads", "first", "count"),
    ),
    Op(
        "head_join", ("a", "b"), ("y",), _head_join, rowwise_cost(0), attributes=("heads",),
        kernel="head_join", integers=("heads",),
    ),
)  # fmt: skip
