"""A cut out of each row: the numbers from one column to another."""

from __future__ import annotations

from fivefold.core.batch import Float32

from .op import Call, Op, rowwise_cost


def _columns(call: Call) -> tuple[Float32, ...]:
    start, stop = call.integer("start"), call.integer("stop")
    return (call.inputs[0][:, start:stop].copy(),)


DECLARED = (
    Op(
        "columns",
        ("x",),
        ("y",),
        _columns,
        rowwise_cost(0),
        attributes=("start", "stop"),
        kernel="columns",
        integers=("start", "stop"),
    ),
)
