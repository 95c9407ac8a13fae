"""Token embedding: a row of a table for each token id."""

from __future__ import annotations

from fivefold.core.batch import Float32

from .op import Call, Cost, Op, Sizes


def _reference(call: Call) -> tuple[Float32, ...]:
    return (call.weight(0)[call.batch.tokens[call.rows]],)  # (N, D)


def _cost(sizes: Sizes) -> Cost:
    table_rows = sizes.weight_shapes[0][0]
    return Cost(weight_bytes=sizes.weight_bytes[0] / table_rows * sizes.rows, row_bytes=sizes.row_bytes())


DECLARED = (Op("embed", (), ("rows",), _reference, _cost, weights=("table",), kernel="embed"),)
