"""Mixture of experts: choosing experts for each row, and a matrix per chosen expert.

`route` gives, for each row, the chosen experts and their weights side by side in one row:
(N, 2k), numbers of experts first. `expert_linear` multiplies each row by the matrices of its k
experts, (N, k*M); `expert_sum` adds them up by weight. Rows are independent, so the grouping of rows
by expert is the executor's business and not visible here.
"""

from __future__ import annotations

import numpy as np

from fivefold.core.batch import Float32

from .op import Call, Cost, Op, Sizes, rowwise_cost


def _route(call: Call) -> tuple[Float32, ...]:
    (logits,) = call.inputs  # (N, E)
    count = call.integer("chosen")
    best = np.argsort(-logits, axis=1, kind="stable")[:, :count]
    picked = np.take_along_axis(logits, best, axis=1).astype(np.float64)
    weights = np.exp(picked - picked.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return (np.concatenate([best.astype(np.float32), weights.astype(np.float32)], axis=1),)


def _expert_linear(call: Call) -> tuple[Float32, ...]:
    x, route = call.inputs
    matrices = call.weight(0)  # (E, M, K)
    count = route.shape[1] // 2
    parts = x.reshape(len(x), -1, matrices.shape[2])  # one part for all experts, or one for each
    out = np.zeros((len(x), count, matrices.shape[1]), np.float32)
    for row in range(len(x)):
        for place in range(count):
            part = parts[row, min(place, parts.shape[1] - 1)]
            out[row, place] = matrices[int(route[row, place])] @ part
    return (out.reshape(len(x), -1),)


def _expert_sum(call: Call) -> tuple[Float32, ...]:
    x, route = call.inputs
    count = route.shape[1] // 2
    return (np.einsum("nkm,nk->nm", x.reshape(len(x), count, -1), route[:, count:]).astype(np.float32),)


def _expert_cost(sizes: Sizes) -> Cost:
    experts, outer, inner = sizes.weight_shapes[0]
    chosen = sizes.output_width // outer
    touched = experts * (1.0 - (1.0 - chosen / experts) ** sizes.rows)  # expected, rows independent
    bytes_read = sizes.weight_bytes[0] / experts * touched
    return Cost(2.0 * sizes.rows * chosen * outer * inner, bytes_read, sizes.row_bytes())


DECLARED = (
    Op("route", ("logits",), ("route",), _route, rowwise_cost(4), attributes=("chosen",)),
    Op("expert_linear", ("x", "route"), ("y",), _expert_linear, _expert_cost, weights=("matrices",)),
    Op("expert_sum", ("x", "route"), ("y",), _expert_sum, rowwise_cost(2)),
)
