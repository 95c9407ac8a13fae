"""Recurrent state per sequence: the gated delta rule (Yang et al., arXiv 2412.06464).

For each head the state S (value width x key width) goes, row by row of a sequence, through
S = decay * S; S = S + write * (v - S k) k^T; the output is S q. The state lives in a slot
of the sequence's own and stays between steps.
"""

from __future__ import annotations

import numpy as np

from fivefold.core.batch import Float32

from .op import Call, Cost, Op, Sizes


def _delta(call: Call) -> tuple[Float32, ...]:
    queries, keys, values, gates = call.inputs  # gates: decay then write, a number a head
    heads = gates.shape[1] // 2
    group = str(call.attributes["state"])
    out = np.zeros_like(values)
    for index, row in enumerate(int(r) for r in call.rows):
        slot = int(call.batch.states[group][call.batch.sequence[row]])
        state = call.state.array(group, call.layer, slot)  # (H, V, K), changed in place
        query, key = queries[index].reshape(heads, -1), keys[index].reshape(heads, -1)
        value = values[index].reshape(heads, -1)
        decay, write = gates[index, :heads], gates[index, heads:]
        state *= decay[:, None, None]
        error = value - np.einsum("hvk,hk->hv", state, key)
        state += write[:, None, None] * error[:, :, None] * key[:, None, :]
        out[index] = np.einsum("hvk,hk->hv", state, query).reshape(-1)
    return (out,)


def _cost(sizes: Sizes) -> Cost:
    heads = sizes.widths[3] // 2
    state = heads * (sizes.widths[1] // heads) * (sizes.widths[2] // heads)
    return Cost(8.0 * sizes.rows * state, 0.0, sizes.row_bytes(), 8.0 * state)


DECLARED = (
    Op(
        "delta_rule",
        ("q", "k", "v", "gates"),
        ("o",),
        _delta,
        _cost,
        attributes=("state",),
        sequence=True,
    ),
)
