"""What observing rows find: the weights of attention, whatever the layout, and the same bits on any machine.

Values that are unit vectors make attention's output its weights: each slot has a column of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from fivefold import _native
from fivefold.formats import ENTRY_FORMATS

ISAS = _native.isas()
ROWS = 48


@dataclass
class Watched:
    """One attention and the observing node beside it, over a cache of two layers."""

    heads: int = 6
    kv_heads: int = 2
    key: int = 40
    tables: int = 1
    soft_cap: float = 0.0
    sinks: bool = False
    form: str = "f16"
    peak: bool = False

    def run(self, lab, isa: str, threads: int, observers: list[int], view: tuple, sequence: np.ndarray):
        """Attention (rows, heads, ROWS), and what was observed by sequence (heads, slots)."""
        engine = lab(isa, threads, max_rows=64)
        cache = _native.CacheStorage(2, 8, self.kv_heads // self.tables, 32, self.key, ROWS, False, self.form)
        group = engine.executor.add_group(cache, self.tables)
        some = engine.executor.add_row_set()
        q = engine.input(self.heads * self.key, 0)
        entry = [engine.input(self.kv_heads * self.key), engine.input(self.kv_heads * ROWS)]
        out, picked = engine.buffer(self.heads * ROWS, 0), engine.buffer(self.heads * self.key, some)
        sinks = np.linspace(-1, 1, self.heads).astype(np.float32)
        weights = [engine.vector(sinks)] if self.sinks else []
        floats = [0.2, self.soft_cap]
        engine.node("attention_store", entry, [], integers=[1], group=group)
        engine.node(
            "attention", [q], [out], weights=weights, integers=[1, self.heads], floats=floats, group=group
        )
        engine.node("gather_rows", [q], [picked], row_set=some)
        integers = [1, self.heads, int(self.peak)]
        engine.node(
            "observe",
            [picked],
            [],
            weights=weights,
            integers=integers,
            floats=floats,
            group=group,
            row_set=some,
        )
        rng = np.random.default_rng(4)
        queries, keys = (
            rng.normal(0, 1, (ROWS, n * self.key)).astype(np.float32) for n in (self.heads, self.kv_heads)
        )
        values = np.tile(np.eye(ROWS, dtype=np.float32), (1, self.kv_heads))
        tokens = np.zeros(ROWS, np.int32)
        engine.executor.run(
            tokens, tokens, sequence, [np.array(observers, np.int32)], [view], [queries, keys, values]
        )
        attended = engine.executor.buffer(out).reshape(ROWS, self.heads, ROWS)
        return attended, dict(engine.executor.observation(0))


def two_sequences(tables: int, first: int = 0) -> tuple[tuple, np.ndarray]:
    """24 rows each in scattered pages; rows see from slot `first` of theirs to their own."""
    numbers = np.full((2, tables, 2), -1, np.int32)
    numbers[:, :, 0] = np.array([5, 2, 7, 0])[: 2 * tables].reshape(2, tables)
    slot = np.repeat((np.arange(ROWS) % 24)[:, None], tables, axis=1).astype(np.int32)
    start = np.minimum(np.full_like(slot, first), slot)
    return (numbers, start, slot + 1, slot, None, None), np.repeat(np.arange(2), 24).astype(np.int32)


def paid(
    attended: np.ndarray, observers: list[int], sequence: np.ndarray, peak: bool
) -> dict[int, np.ndarray]:
    """The same from attention itself: (heads, 32), slots of each sequence being its rows."""
    found = {}
    for number in {int(sequence[row]) for row in observers}:
        rows = [row for row in observers if sequence[row] == number]
        of_rows = attended[rows][:, :, number * 24 : number * 24 + 24]
        total = of_rows.max(axis=0) if peak else of_rows.sum(axis=0)
        found[number] = np.pad(total, ((0, 0), (0, 8)))
    return found


CASES = {
    "plain": Watched(),
    "tables": Watched(tables=2),
    "capped": Watched(soft_cap=1.5),
    "sinks": Watched(sinks=True),
    "odd": Watched(heads=9, kv_heads=3, key=7),
    "one head": Watched(heads=5, kv_heads=1, key=64),
    "peak": Watched(peak=True),
    **{form: Watched(form=form) for form in ENTRY_FORMATS},
}
OBSERVERS = {"few": [3, 22, 23], "both": [5, 20, 21, 22, 23, 30, 47], "all": list(range(ROWS))}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("which", OBSERVERS)
def test_what_is_observed_is_the_attention_that_was_paid(lab, name: str, which: str) -> None:
    case, observers = CASES[name], OBSERVERS[which]
    view, sequence = two_sequences(case.tables, first=3)
    attended, found = case.run(lab, ISAS[-1], 2, observers, view, sequence)
    expected = paid(attended, observers, sequence, case.peak)
    assert found.keys() == expected.keys()
    rough = case.form in {"int8", "fp8"}  # there attention itself rounds weights and queries
    for number, importance in found.items():
        np.testing.assert_allclose(
            importance, expected[number], atol=0.02 * len(observers) if rough else 1e-5
        )


@pytest.mark.parametrize("name", CASES)
def test_instruction_sets_and_threads_give_the_same_bits(lab, name: str) -> None:
    case = CASES[name]
    view, sequence = two_sequences(case.tables)
    results = [
        case.run(lab, isa, threads, OBSERVERS["all"], view, sequence)[1] for isa in ISAS for threads in (1, 3)
    ]
    for found in results[1:]:
        for number, importance in found.items():
            np.testing.assert_array_equal(importance, results[0][number])


def test_a_sequence_is_observed_by_its_own_rows_alone(lab) -> None:
    case = CASES["plain"]
    view, sequence = two_sequences(1)
    _, both = case.run(lab, ISAS[-1], 2, [20, 21, 44], view, sequence)
    _, one = case.run(lab, ISAS[-1], 2, [20, 21], view, sequence)
    assert set(one) == {0}
    np.testing.assert_array_equal(both[0], one[0])


def test_what_a_mask_hides_is_paid_nothing(lab) -> None:
    case = CASES["plain"]
    (numbers, start, stop, write, *_), sequence = two_sequences(1)
    mask = np.full((ROWS, 1), (1 << 24) - 1 - (1 << 6), np.uint64)
    view = (numbers, start, stop, write, mask, np.zeros_like(start))
    attended, found = case.run(lab, ISAS[-1], 2, [20, 23], view, sequence)
    assert (found[0][:, 6] == 0).all()
    np.testing.assert_allclose(found[0], paid(attended, [20, 23], sequence, False)[0], atol=1e-5)


def test_no_observers_find_nothing(lab) -> None:
    view, sequence = two_sequences(1)
    assert CASES["plain"].run(lab, ISAS[-1], 2, [], view, sequence)[1] == {}


def test_a_node_that_does_not_fit_its_cache_is_refused(lab) -> None:
    engine = lab(ISAS[-1], 1, max_rows=64)
    group = engine.executor.add_group(_native.CacheStorage(2, 8, 2, 32, 40, 16, False, "f16"), 1)
    q = engine.input(6 * 40, 0)
    for integers, what in (([2, 6, 0], "no such layer"), ([1, 5, 0], "do not fit"), ([1, 4, 0], "width")):
        with pytest.raises(ValueError, match=what):
            engine.node("observe", [q], [], integers=integers, floats=[0.2, 0.0], group=group)
