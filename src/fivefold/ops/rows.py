"""Moving rows between row sets: take a subset, put a subset back, add a subset in.

In all three the subset's buffer lives on its row set and the other on all rows. A given input
(embeddings, another Program's hidden state) is a buffer on a row set and enters by `scatter_rows`.
"""

from __future__ import annotations

from fivefold.core.batch import Float32

from .op import Call, Op, rowwise_cost


def _subset(call: Call) -> Float32:
    return call.batch.row_sets[str(call.attributes["row_set"])]  # type: ignore[return-value]


def _gather(call: Call) -> tuple[Float32, ...]:
    return (call.inputs[0][_subset(call)],)


def _scatter(call: Call) -> tuple[Float32, ...]:
    y = call.inputs[0].copy()
    y[_subset(call)] = call.inputs[1]
    return (y,)


def _scatter_add(call: Call) -> tuple[Float32, ...]:
    y = call.inputs[0].copy()
    y[_subset(call)] += call.inputs[1]
    return (y,)


DECLARED = (
    Op(
        "gather_rows", ("x",), ("y",), _gather, rowwise_cost(0), attributes=("row_set",), kernel="gather_rows"
    ),
    Op(
        "scatter_rows",
        ("x", "y"),
        ("z",),
        _scatter,
        rowwise_cost(0),
        attributes=("row_set",),
        kernel="scatter_rows",
        in_place=True,
    ),
    Op(
        "scatter_add_rows",
        ("x", "y"),
        ("z",),
        _scatter_add,
        rowwise_cost(1),
        attributes=("row_set",),
        kernel="scatter_add_rows",
        in_place=True,
    ),
)
