"""Ops with a state for each sequence: a short convolution, and the gated delta rule.

The convolution looks at each column of the last rows by itself; its state are the rows before. In the delta
rule (Yang et al., arXiv 2412.06464) each head has a state S (value width x key width), which goes row by row
of a sequence through S = decay S; S = S + write (v - S k) k^T; the output is S q. Keys and queries are
brought to length 1 first, and queries divided by the root of their width. A batch says in which slots states
lie before and after rows; -1 before the first row is a state of zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fivefold.core.batch import Float32

from .elementwise import activate
from .op import Call, Cost, Op, Sizes

UNIT_EPS = 1e-6
"""Is added to the squared length of keys and queries."""


def _spans(call: Call) -> Iterator[tuple[int, list[int]]]:
    """The state before the first row, and the rows, of each sequence."""
    view = call.batch.states
    assert view is not None, "the batch names no states"
    rows = [int(row) for row in call.rows]
    assert rows == list(range(call.batch.rows)), "an op with states works on all rows"
    for number, read in enumerate(view.read):
        own = [row for row in rows if call.batch.sequence[row] == number]
        if own:
            yield int(read), own


def _state(call: Call, slot: int) -> Any:
    return call.cache.state.array(str(call.attributes["state"]), call.layer, slot)


def _keep(call: Call, row: int, state: Float32) -> None:
    """Leave the state after a row where the batch wants it."""
    assert call.batch.states is not None
    slot = int(call.batch.states.write[row])
    if slot >= 0:
        _state(call, slot)[:] = state


def _convolve(call: Call) -> tuple[Float32, ...]:
    (x,), weight = call.inputs, call.weight(0)
    weight = weight.reshape(x.shape[1], -1)  # (C, K), also where it lies as (C, 1, K)
    out = np.zeros_like(x)
    for slot, rows in _spans(call):
        before = np.zeros((weight.shape[1] - 1, x.shape[1]), np.float32)
        before = before if slot < 0 else _state(call, slot).copy()
        for row in rows:
            seen = np.concatenate([before, x[row : row + 1]])
            out[row] = np.einsum("kc,ck->c", seen.astype(np.float64), weight)
            before = seen[1:]
            _keep(call, row, before)
    return (activate(out, 0),)


def _gates(call: Call) -> tuple[Float32, ...]:
    a, b = (rows.astype(np.float64) for rows in call.inputs)
    rate, bias = call.weight(0).astype(np.float64), call.weight(1).astype(np.float64)
    if call.integer("logarithm"):
        rate = (-np.exp(rate)).astype(np.float32).astype(np.float64)  # as it is where files hold it itself
    with np.errstate(over="ignore"):
        decay = np.exp(rate * np.logaddexp(0.0, a + bias))
        write = 1.0 / (1.0 + np.exp(-b))
    return (np.concatenate([decay, write], axis=1).astype(np.float32),)


def _units(rows: Float32) -> Float32:
    """Vectors (..., K) of length 1."""
    squared = np.sum(np.square(rows, dtype=np.float64), axis=-1, keepdims=True)
    units: Float32 = (rows / np.sqrt(squared + UNIT_EPS)).astype(np.float32)
    return units


def _delta(call: Call) -> tuple[Float32, ...]:
    rows, gates = call.inputs  # queries, keys and values of all heads; decay then write, a number a head
    count, shared, heads = len(rows), call.integer("key_heads"), call.integer("value_heads")
    out = np.zeros((count, call.integer("output")), np.float32)
    keyed = (rows.shape[1] - out.shape[1]) // 2
    numbers = np.arange(heads) % shared if call.integer("tiled") else np.arange(heads) // (heads // shared)
    queries = _units(rows[:, :keyed].reshape(count, shared, -1))[:, numbers]
    queries = queries * np.float32(queries.shape[-1] ** -0.5)
    keys = _units(rows[:, keyed : 2 * keyed].reshape(count, shared, -1))[:, numbers]
    values = rows[:, 2 * keyed :].reshape(count, heads, -1)
    decay, write = gates[:, :heads], gates[:, heads:]
    for slot, own in _spans(call):
        state = np.zeros((heads, values.shape[-1], keys.shape[-1]), np.float32)
        state = state if slot < 0 else _state(call, slot).copy()  # (H, V, K)
        for row in own:
            state = state * decay[row][:, None, None]
            error = values[row] - np.einsum("hvk,hk->hv", state, keys[row])
            state = state + write[row][:, None, None] * error[:, :, None] * keys[row][:, None, :]
            out[row] = np.einsum("hvk,hk->hv", state, queries[row]).reshape(-1)
            _keep(call, row, state)
    return (out,)


def _state_cost(flops_per_number: float, numbers: float, sizes: Sizes) -> Cost:
    """Of a step of one sequence, whose state is read and written once."""
    return Cost(
        flops_per_number * sizes.rows * numbers, sum(sizes.weight_bytes), sizes.row_bytes(),
        8.0 * numbers if sizes.rows else 0.0,
    )  # fmt: skip


def _delta_cost(sizes: Sizes) -> Cost:
    shared = sizes.attributes["key_heads"]
    assert isinstance(shared, int)
    width = (sizes.widths[0] - sizes.output_width) // 2 // shared
    return _state_cost(7.0, float(width * sizes.output_width), sizes)


def _convolution_cost(sizes: Sizes) -> Cost:
    taps = np.prod(sizes.weight_shapes[0]) / sizes.output_width
    return _state_cost(2.0 * taps / (taps - 1), float((taps - 1) * sizes.output_width), sizes)


def _gates_cost(sizes: Sizes) -> Cost:
    return Cost(20.0 * sizes.rows * sizes.output_width, sum(sizes.weight_bytes), sizes.row_bytes())


DECLARED = (
    Op(
        "short_convolution",
        ("x",),
        ("y",),
        _convolve,
        _convolution_cost,
        weights=("weight",),
        attributes=("state",),
        kernel="short_convolution",
        sequence=True,
    ),
    Op(
        "delta_gates",
        ("a", "b"),
        ("gates",),
        _gates,
        _gates_cost,
        weights=("rate", "bias"),
        attributes=("logarithm",),
        kernel="delta_gates",
        integers=("logarithm",),
    ),
    Op(
        "delta_rule",
        ("qkv", "gates"),
        ("o",),
        _delta,
        _delta_cost,
        attributes=("state", "key_heads", "value_heads", "tiled", "output"),
        kernel="delta_rule",
        integers=("key_heads", "value_heads", "tiled"),
        sequence=True,
    ),
)
