"""What a step costs where layers have a window or chunks, counted row by row."""

from __future__ import annotations

import pytest

from fivefold.core.layout import CacheGroup, CacheLayout
from fivefold.formats import ENTRY_FORMATS
from fivefold.plan import step_cost
from fivefold.program import Builder, Program

WIDTH = 8


def attention_alone(window: int | None, chunk: int | None = None) -> Program:
    layout = CacheLayout((CacheGroup("kv", (0,), 1, WIDTH, WIDTH, window=window, chunk=chunk),))
    record = Builder("main", layout)
    q = record.input("q", WIDTH)
    with record.layer(0):
        return record.build(record.attention(q, (), group="kv", heads=1, scale=1.0))


@pytest.mark.parametrize("window", [None, 1, 4, 5, 100])
@pytest.mark.parametrize(
    ("rows", "depth"), [(1, 0), (1, 3), (1, 4), (1, 40), (3, 2), (9, 0), (6, 30), (100, 0)]
)
def test_rows_meet_what_is_in_the_window(window: int | None, rows: int, depth: int) -> None:
    seen = [
        {p for p in range(row + 1) if window is None or p > row - window}
        for row in range(depth, depth + rows)
    ]
    cost = step_cost(attention_alone(window), {}, rows, depth)
    assert cost.flops == 4 * WIDTH * sum(map(len, seen))
    assert cost.cache_bytes == len(set().union(*seen)) * ENTRY_FORMATS["f16"].number_bytes * 2 * WIDTH


@pytest.mark.parametrize("chunk", [1, 4, 5, 100])
@pytest.mark.parametrize(("rows", "depth"), [(1, 0), (1, 3), (1, 4), (3, 2), (9, 0), (6, 30), (100, 7)])
def test_rows_meet_what_is_in_their_chunk(chunk: int, rows: int, depth: int) -> None:
    seen = [{p for p in range(row + 1) if p // chunk == row // chunk} for row in range(depth, depth + rows)]
    cost = step_cost(attention_alone(None, chunk), {}, rows, depth)
    assert cost.flops == 4 * WIDTH * sum(map(len, seen))
    assert cost.cache_bytes == len(set().union(*seen)) * ENTRY_FORMATS["f16"].number_bytes * 2 * WIDTH
