"""Rows under their own attention rule: trees, denoised blocks, bidirectional spans, commits of any rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fivefold.core.layout import CacheGroup, CacheLayout
from fivefold.program import Builder, Program

HIDDEN, HEADS, SIZE = 12, 2, 6
LAYOUT = CacheLayout((CacheGroup("main", (0,), 1, SIZE, SIZE, page_size=4),))


def program() -> Program:
    """One attention layer over given rows, without rotary positions."""
    record = Builder("toy", LAYOUT)
    x = record.input("x", HIDDEN)
    with record.layer(0):
        q = record.linear(x, record.weight("q", HEADS * SIZE, HIDDEN))
        k = record.linear(x, record.weight("k", SIZE, HIDDEN))
        v = record.linear(x, record.weight("v", SIZE, HIDDEN))
        o = record.attention(q, (k, v), group="main", heads=HEADS, scale=0.4)
    return record.build(o)


class Text:
    """A sequence and the rows that it should hold, as plain arrays."""

    def __init__(self, toy: Any, make_span: Any, attend: Any) -> None:
        self.toy, self.make_span, self.attend = toy, make_span, attend
        self.program = program()
        self.sequence = toy.cache.open()
        self.kept = np.zeros((0, HIDDEN), np.float32)
        self.length = 0

    def check(self, x: Any, positions: list[int], seen: Any, mask: Any = None, visible: Any = None) -> None:
        """Run rows x and compare with dense attention; seen (N, kept + N)."""
        whole = [(0, max(positions) + 1)] * len(positions) if visible is None else visible
        given = self.make_span(self.sequence, positions, whole, mask=mask, inputs={"x": x})
        found = self.toy.run(self.program, [given]).buffers[self.program.outputs[0]]
        weights, entries = self.toy.weights, np.concatenate([self.kept, x])
        queries = (x @ weights["q"].T).reshape(len(x), HEADS, SIZE)
        expected = self.attend(queries, entries @ weights["k"].T, entries @ weights["v"].T, seen, 0.4)
        np.testing.assert_allclose(found, expected.reshape(len(x), -1), rtol=2e-5, atol=2e-6)

    def causal(self, count: int) -> None:
        """Run and commit some causal rows."""
        x = self.toy.rows(count, HIDDEN)
        old = len(self.kept)
        seen = np.arange(old + count)[None, :] <= np.arange(old, old + count)[:, None]
        positions = list(range(self.length, self.length + count))
        self.check(x, positions, seen, visible=[(0, p + 1) for p in positions])
        self.keep(x, range(count), self.length + count)

    def keep(self, x: Any, rows: Any, length: int) -> None:
        self.toy.commit(self.sequence, list(rows))
        self.kept = np.concatenate([self.kept, x[list(rows)]])
        self.length = length
        assert self.toy.cache.length(self.sequence, "main") == len(self.kept)


@pytest.fixture
def text(world: Any, make_span: Any, attend: Any) -> Text:
    started = Text(world(LAYOUT), make_span, attend)
    started.causal(3)
    started.causal(4)
    return started


def test_a_draft_tree_and_a_commit_that_is_no_prefix(text: Text) -> None:
    old, x = len(text.kept), text.toy.rows(5, HIDDEN)
    tree = np.array(
        [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 0, 1, 0, 0], [1, 0, 1, 1, 0], [1, 1, 0, 0, 1]], bool
    )
    seen = np.concatenate([np.ones((5, old), bool), tree], axis=1)
    text.check(x, [7, 8, 8, 9, 9], seen, mask=tree)
    text.keep(x, [0, 2, 3], 10)
    text.causal(2)


def test_a_block_is_denoised_until_it_settles(text: Text) -> None:
    old = len(text.kept)
    seen = np.ones((4, old + 4), bool)
    free = text.toy.cache.page_free("main")
    for _ in range(3):
        text.check(text.toy.rows(4, HIDDEN), [7, 8, 9, 10], seen)
        text.keep(np.zeros((0, HIDDEN), np.float32), [], 7)
        assert text.toy.cache.page_free("main") == free
    x = text.toy.rows(4, HIDDEN)
    text.check(x, [7, 8, 9, 10], seen)
    text.keep(x, range(4), 11)
    text.causal(3)


def test_a_bidirectional_span_inside_causal_text(text: Text) -> None:
    old, x = len(text.kept), text.toy.rows(6, HIDDEN)
    inside = np.tril(np.ones((6, 6), bool))
    inside[1:5, 1:5] = True  # an image block: its rows see each other
    visible = [(0, 8), *[(0, 12)] * 4, (0, 13)]
    text.check(
        x, list(range(7, 13)), np.concatenate([np.ones((6, old), bool), inside], axis=1), visible=visible
    )
    text.keep(x, range(6), 13)
    text.causal(1)


def test_a_sliding_window_hides_the_old(text: Text) -> None:
    old, x = len(text.kept), text.toy.rows(2, HIDDEN)
    seen = np.zeros((2, old + 2), bool)
    seen[0, 5:8], seen[1, 6:9] = True, True
    text.check(x, [7, 8], seen, visible=[(5, 8), (6, 9)])


def test_trees_and_plain_rows_share_a_step(world: Any, make_span: Any, attend: Any) -> None:
    """A sequence with a mask does not change what its neighbour without one sees."""
    alone, together = world(LAYOUT), world(LAYOUT)
    x, tree = alone.rows(2, HIDDEN), np.array([[True, False], [False, True]])
    made = program()

    def plain(toy: Any) -> Any:
        return make_span(toy.cache.open(), [0, 1], [(0, 1), (0, 2)], inputs={"x": x})

    expected = alone.run(made, [plain(alone)]).buffers[made.outputs[0]]
    together.rows(2, HIDDEN)
    together.weights.update(alone.weights)
    masked = make_span(together.cache.open(), [0, 0], [(0, 1), (0, 1)], mask=tree, inputs={"x": x})
    found = together.run(made, [masked, plain(together)]).buffers[made.outputs[0]]
    np.testing.assert_array_equal(found[2:], expected)
