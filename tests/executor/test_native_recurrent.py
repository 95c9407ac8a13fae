"""Short convolution and gated delta rule: near the reference, and the same bits however rows are cut,
whatever runs beside them, on every instruction set and number of threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from fivefold import _native
from fivefold.cache import PagedCache
from fivefold.core.batch import Batch, Commit, Float32, Span, StateView, Step
from fivefold.core.checkpoint import Tensor
from fivefold.core.errors import FivefoldError
from fivefold.core.layout import CacheLayout, StateGroup
from fivefold.executor import NativeCache, NativeExecutor, Settings
from fivefold.formats import FORMATS
from fivefold.program import Builder, Program, ReferenceCache, ReferenceExecutor

ISAS = _native.isas()
ROWS = 45
SHARED, HEADS, KEY, VALUE, TAPS = 2, 4, 12, 32, 4
WIDTH = 2 * SHARED * KEY + HEADS * VALUE


def program(tiled: int = 0, logarithm: int = 1) -> Program:
    """Two layers of the same ops, so that states of layers are told apart."""
    layout = CacheLayout(
        (),
        (StateGroup("rows", (0, 1), (TAPS - 1, WIDTH)), StateGroup("delta", (0, 1), (HEADS, VALUE, KEY))),
    )
    record = Builder("delta", layout)
    x, a, b = record.input("x", WIDTH), record.input("a", HEADS), record.input("b", HEADS)
    outputs = []
    for layer in (0, 1):
        with record.layer(layer):
            weights = (record.weight(f"rate{layer}", HEADS), record.weight(f"bias{layer}", HEADS))
            gates = record.node("delta_gates", (a, b), 2 * HEADS, weights, logarithm=logarithm)
            taps = record.weight(f"taps{layer}", WIDTH, TAPS)
            seen = record.node("short_convolution", (x,), WIDTH, (taps,), state="rows")
            o = record.node(
                "delta_rule", (seen, gates), HEADS * VALUE, state="delta", key_heads=SHARED,
                value_heads=HEADS, tiled=tiled, output=HEADS * VALUE,
            )  # fmt: skip
            outputs += [seen, gates, o]
    return record.build(*outputs)


def weights_of(made: Program) -> dict[str, Float32]:
    random = np.random.default_rng(2)
    return {
        name: random.normal(0.0, 0.5, weight.shape).astype(np.float32)
        for name, weight in made.weights.items()
    }


def rows_of(seed: int, count: int = ROWS) -> dict[str, Float32]:
    random = np.random.default_rng(seed)
    widths = {"x": WIDTH, "a": HEADS, "b": HEADS}
    return {n: random.normal(0.0, 1.5, (count, width)).astype(np.float32) for n, width in widths.items()}


class Machine:
    """An executor of a Program, with its cache."""

    def __init__(self, made: Program, isa: str = "", threads: int = 1, slots: int = 24) -> None:
        self.made = made
        weights = weights_of(made)
        self.executor: Any
        if isa:
            storage: Any = NativeCache(made.layout, {}, slots=slots)
            tensors = {
                name: Tensor(name, "f32", values.shape, FORMATS["f32"].pack(values.reshape(-1)))
                for name, values in weights.items()
            }
            settings = Settings(isa, threads, "float", 64)
            self.executor = NativeExecutor(made, tensors.__getitem__, storage, settings)
        else:
            storage = ReferenceCache(made.layout, 0, slots=slots)
            self.executor = ReferenceExecutor(made, weights.__getitem__, storage)
        self.cache = PagedCache(made.layout, {}, storage, slots=slots)

    def step(
        self, parts: Sequence[tuple[int, dict[str, Float32], int, int]], draft: bool = False
    ) -> list[Any]:
        """Outputs of rows [first, last) of some sequences, side by side."""
        spans = []
        for sequence, rows, first, last in parts:
            plain = Span.causal(sequence, np.zeros(last - first, np.int32), first)
            given = {name: values[first:last] for name, values in rows.items()}
            spans.append(
                Span(sequence, plain.tokens, plain.positions, plain.visible, inputs=given, draft=draft)
            )
        found = self.executor.run(self.cache.prepare(Step(tuple(spans)))).buffers
        ends = np.cumsum([last - first for _, _, first, last in parts])
        cut = [np.split(found[name], ends[:-1]) for name in self.made.outputs]
        return [[one[place] for one in cut] for place in range(len(parts))]

    def commit(self, sequence: int, count: int) -> None:
        self.cache.commit([Commit(sequence, np.arange(count, dtype=np.int32))])
        self.cache.check_integrity()

    def read(self, rows: dict[str, Float32], cuts: Sequence[int]) -> list[Any]:
        """The outputs of all rows of one sequence, in chunks."""
        sequence, first, parts = self.cache.open(), 0, []
        for count in cuts:
            parts.append(self.step([(sequence, rows, first, first + count)])[0])
            self.commit(sequence, count)
            first += count
        self.cache.close(sequence)
        return [np.concatenate([part[i] for part in parts]) for i in range(len(self.made.outputs))]


def same(ours: list[Any], theirs: list[Any]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a.view(np.int32), b.view(np.int32))


@pytest.mark.parametrize(("tiled", "logarithm"), [(0, 1), (1, 0)])
def test_the_kernels_are_near_the_reference(tiled: int, logarithm: int) -> None:
    made, rows = program(tiled, logarithm), rows_of(1)
    if not logarithm:
        rows["a"] = np.abs(rows["a"])
    expected = Machine(made).read(rows, [ROWS])
    for isa in ISAS:
        for ours, theirs in zip(Machine(made, isa).read(rows, [20, 25]), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5 * np.abs(theirs).max())


def test_bits_are_the_same_for_any_cut_instruction_set_and_threads() -> None:
    made, rows = program(), rows_of(3)
    expected = Machine(made, ISAS[0]).read(rows, [ROWS])
    for isa in ISAS:
        for threads, cuts in ((2, [ROWS]), (1, [1] * ROWS), (2, [1, 2, 3, 16, 17, 6]), (1, [33, 12])):
            same(Machine(made, isa, threads).read(rows, cuts), expected)


def test_sequences_side_by_side_have_what_they_have_alone() -> None:
    made, texts = program(), [rows_of(seed) for seed in (4, 5, 6)]
    for isa in ISAS[-1:]:
        alone = [Machine(made, isa).read(rows, [ROWS]) for rows in texts]
        both = Machine(made, isa, 2)
        numbers = [both.cache.open() for _ in texts]
        at = [0, 0, 0]
        found: list[list[Any]] = [[], [], []]
        for counts in ((3, 1, 16), (1, 9, 1), (13, 0, 4), (1, 20, 18)):
            chosen = [i for i, count in enumerate(counts) if count]
            parts = [(numbers[i], texts[i], at[i], at[i] + counts[i]) for i in chosen]
            for i, part in zip(chosen, both.step(parts), strict=True):
                found[i].append(part)
                both.commit(numbers[i], counts[i])
                at[i] += counts[i]
        for i, parts in enumerate(found):
            same(
                [np.concatenate(one) for one in zip(*parts, strict=True)], [one[: at[i]] for one in alone[i]]
            )


@pytest.mark.parametrize("kind", ["reference", *ISAS[-1:]])
@pytest.mark.parametrize("kept", [0, 1, 3, 5])
def test_after_a_draft_goes_on_from_the_last_row_that_was_kept(kind: str, kept: int) -> None:
    """Five rows are drafted, of which the first agree with the text; the text goes on behind those."""
    made, text, other = program(), rows_of(7, 20), rows_of(8, 20)
    isa = "" if kind == "reference" else kind
    expected = Machine(made, isa).read(text, [20])
    machine = Machine(made, isa, slots=6)
    number = machine.cache.open()
    machine.step([(number, text, 0, 9)])
    machine.commit(number, 9)
    drafted = {name: np.concatenate([text[name][: 9 + kept], other[name][9 + kept :]]) for name in text}
    found = machine.step([(number, drafted, 9, 14)], draft=True)[0]
    machine.commit(number, kept)
    same([one[:kept] for one in found], [one[9 : 9 + kept] for one in expected])
    rest = machine.step([(number, text, 9 + kept, 20)])[0]
    same(rest, [one[9 + kept :] for one in expected])


def test_a_fork_goes_its_own_way() -> None:
    made, text, other = program(), rows_of(9, 12), rows_of(10, 12)
    machine = Machine(made, ISAS[-1])
    expected = Machine(made, ISAS[-1]).read(text, [12])
    first = machine.cache.open()
    machine.step([(first, text, 0, 7)])
    machine.commit(first, 7)
    second = machine.cache.fork(first)
    machine.step([(second, other, 7, 12)])
    same(machine.step([(first, text, 7, 12)])[0], [one[7:] for one in expected])


@pytest.mark.parametrize(
    ("read", "write", "why"),
    [
        ([0, 1], [0, -1, 9], "slot 9 is not below 4"),
        ([-2, 1], [0, -1, 1], "slot -2 is not below 4"),
        ([0, 1], [0, -1, 0], "two sequences have state slot 0"),
        ([0, 0], [1, -1, 2], "two sequences have state slot 0"),
        ([0, 1], [0, 1, -1], "leaves its state nowhere"),
        ([0], [0, -1, 1], "no state for sequence 1"),
        (None, None, "no slots were given"),
    ],
)  # fmt: skip
def test_states_that_cannot_be_are_refused(read: Any, write: Any, why: str) -> None:
    made, rows = program(), rows_of(1, 3)
    machine = Machine(made, ISAS[0], slots=4)
    places = np.zeros(3, np.int32)
    view = None if read is None else StateView(np.array(read, np.int32), np.array(write, np.int32))
    batch = Batch(places, places, np.array([0, 1, 1], np.int32), {}, {}, view, rows)
    with pytest.raises(FivefoldError, match=why):
        machine.executor.run(batch)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"integers": [0, 2, 1, 1, 0]}, "has no layer 2"),
        ({"integers": [1, 0, 1, 1, 0]}, "no state group 1"),
        ({"integers": [0, 0, 1, 3, 0]}, "not those of heads|must be two"),
        ({"integers": [0, 0, 2, 1, 0]}, "must divide"),
        ({"integers": [0, 0, 1, 1, 2]}, "tiled must be"),
        ({"key": 6}, "multiple of 4"),
        ({"value": 8}, "multiple of 16"),
        ({"size": 63}, "needs states of"),
        ({"gates": 3}, "two for each head"),
    ],
)
def test_nodes_that_cannot_be_are_refused(lab: Any, change: dict[str, Any], why: str) -> None:
    key, value = change.get("key", 4), change.get("value", 16)
    engine = lab(ISAS[0])
    engine.executor.add_state(_native.StateStorage(2, 2, change.get("size", key * value)))
    inputs = [engine.input(2 * key + value), engine.input(change.get("gates", 2))]
    with pytest.raises(ValueError, match=why):
        engine.node(
            "delta_rule", inputs, [engine.buffer(value)], integers=change.get("integers", [0, 0, 1, 1, 0])
        )


def test_row_gates(lab: Any, run_node: Any) -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 12)
    for isa in ISAS:
        gate = np.array([[-90.0], [2.0]], np.float32)
        got = run_node(lab(isa), "gate_rows", [x, gate], 12)
        np.testing.assert_allclose(got, x / (1 + np.exp(-gate.astype(np.float64))), rtol=1e-6, atol=1e-30)
