"""Attention over the paged cache: near a float64 model, and the same bits however the work is cut up."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from fivefold import _native
from fivefold.formats import ENTRY_FORMATS

ISAS = _native.isas()
FORMS = list(ENTRY_FORMATS)


@dataclass
class View:
    """One group's arrays."""

    tables: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    write: np.ndarray
    mask: np.ndarray | None = None
    mask_from: np.ndarray | None = None

    def rows(self, wanted) -> tuple:
        masks = (None, None) if self.mask is None else (self.mask[wanted], self.mask_from[wanted])
        per_row = (self.start[wanted], self.stop[wanted], self.write[wanted])
        return (self.tables, *(np.ascontiguousarray(a) for a in per_row), *masks)


@dataclass
class Setup:
    """Sizes of one attention: pages are taken in an order that is not ascending."""

    heads: int = 9
    kv_heads: int = 3
    key: int = 64
    value: int = 64
    tables: int = 1
    pages: int = 48
    soft_cap: float = 0.0
    value_in_key: bool = False
    sinks: bool = False
    scale: float = 0.125
    form: str = "f16"

    def build(self, lab, isa: str, threads: int, row_set: bool = False):
        engine = lab(isa, threads, max_rows=64)
        per_page = self.kv_heads // self.tables
        self.cache = _native.CacheStorage(
            2, self.pages, per_page, 32, self.key, self.value, self.value_in_key, self.form
        )
        group = engine.executor.add_group(self.cache, self.tables)
        some = engine.executor.add_row_set() if row_set else 0
        q = engine.input(self.heads * self.key, some)
        entry = [engine.input(self.kv_heads * self.key)]
        if not self.value_in_key:
            entry.append(engine.input(self.kv_heads * self.value))
        out = engine.buffer(self.heads * self.value, some)
        weights = [engine.vector(self.sink_values())] if self.sinks else []
        engine.node("attention_store", entry, [], integers=[1], group=group)
        engine.node(
            "attention",
            [q],
            [out],
            weights=weights,
            integers=[1, self.heads],
            floats=[self.scale, self.soft_cap],
            group=group,
            row_set=some,
        )
        return engine, out

    def sink_values(self) -> np.ndarray:
        return np.linspace(-2, 2, self.heads).astype(np.float32)

    def inputs(self, rows: int, seed: int = 0) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        widths = [self.heads * self.key, self.kv_heads * self.key]
        if not self.value_in_key:
            widths.append(self.kv_heads * self.value)
        return [rng.normal(0, 1, (rows, width)).astype(np.float32) for width in widths]

    def causal(self, rows: int, sequences: int = 1) -> tuple[View, np.ndarray]:
        """Rows of each sequence from slot 0 on, each seeing itself and all before, in every table."""
        each = rows // sequences
        count = -(-each // 32)
        order = np.random.default_rng(3).permutation(self.pages)[: sequences * self.tables * count]
        tables = np.full((sequences, self.tables, count + 1), -1, np.int32)
        tables[:, :, :count] = order.reshape(sequences, self.tables, count)
        slot = np.repeat((np.arange(rows) % each)[:, None], self.tables, axis=1).astype(np.int32)
        view = View(tables, np.zeros_like(slot), slot + 1, slot)
        return view, np.repeat(np.arange(sequences), each).astype(np.int32)


def model(
    setup: Setup, inputs: list[np.ndarray], view: View, sequence: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """float64 attention over entries as stored; those of a sequence are found by the slots they wrote.

    Beside it the deviation of an error: what rounding weights times scales of values to 255 steps gives.
    """
    form = ENTRY_FORMATS[setup.form]

    def stored(x: np.ndarray) -> np.ndarray:
        heads = x.reshape(len(x), setup.kv_heads, -1)
        ends = [setup.value] if setup.value_in_key else []
        parts = [form.read_back(part) for part in np.split(heads, ends, axis=2)]
        return np.concatenate(parts, axis=2).reshape(x.shape).astype(np.float64)

    q, k = inputs[0].astype(np.float64), stored(inputs[1])
    v = k if setup.value_in_key else stored(inputs[2])
    rows, share = len(q), setup.heads // setup.kv_heads
    out = np.zeros((rows, setup.heads, setup.value))
    deviation = np.zeros_like(out)
    for row in range(rows):
        for head in range(setup.heads):
            kv = head // share
            table = kv * setup.tables // setup.kv_heads
            slots = view.write[:, table]
            seen = (
                (sequence == sequence[row])
                & (slots >= view.start[row, table])
                & (slots < view.stop[row, table])
            )
            if view.mask is not None:
                offset = slots - view.mask_from[row, table]
                bits = [
                    o < 0
                    or (
                        o < 64 * view.mask.shape[1]
                        and view.mask[row, o // 64] >> np.uint64(o % 64) & np.uint64(1)
                    )
                    for o in offset.tolist()
                ]
                seen &= np.array(bits, bool)
            if not seen.any():
                continue
            keys = k[seen, kv * setup.key : (kv + 1) * setup.key]
            width = setup.key if setup.value_in_key else setup.value
            values = v[seen, kv * width : kv * width + setup.value]
            scores = keys @ q[row, head * setup.key : (head + 1) * setup.key] * setup.scale
            if setup.soft_cap:
                scores = setup.soft_cap * np.tanh(scores / setup.soft_cap)
            sink = setup.sink_values()[head] if setup.sinks else -np.inf
            peak = max(scores.max(), sink)
            weights = np.exp(scores - peak)
            total = weights.sum() + np.exp(sink - peak)
            out[row, head] = weights @ values / total
            scales = np.abs(values).max(axis=1) / 127
            for tile in np.unique(slots[seen] // 128):
                inside = slots[seen] // 128 == tile
                step = (weights * scales)[inside].max() / 255
                codes = values[inside] / np.where(scales > 0, scales, 1)[inside, None]
                deviation[row, head] += np.square(codes).sum(axis=0) * (step / total) ** 2 / 12
    return out.reshape(rows, -1), np.sqrt(deviation).reshape(rows, -1)


CASES = {
    "plain": Setup(),
    "odd": Setup(heads=4, kv_heads=2, key=20, value=12),
    "one head each": Setup(heads=3, kv_heads=3, key=16, value=40),
    "many per head": Setup(heads=8, kv_heads=1, key=32, value=32),
    "tables": Setup(tables=3, pages=60),
    "cap and sinks": Setup(soft_cap=5.0, sinks=True),
    "latent": Setup(heads=4, kv_heads=1, key=48, value=32, value_in_key=True),
    "latent odd": Setup(heads=5, kv_heads=1, key=21, value=13, value_in_key=True),
    "latent of many heads": Setup(heads=40, kv_heads=1, key=40, value=24, value_in_key=True),
    "latent as published": Setup(
        heads=18, kv_heads=1, key=576, value=512, value_in_key=True, scale=0.04, pages=6
    ),
    "bf16 latent": Setup(heads=4, kv_heads=1, key=48, value=32, value_in_key=True, form="bf16"),
    "bf16": Setup(form="bf16"),
    "int8": Setup(form="int8"),
    "int8 odd": Setup(heads=4, kv_heads=2, key=20, value=12, form="int8"),
    "int8 cap and sinks": Setup(soft_cap=5.0, sinks=True, form="int8"),
    "int8 long key": Setup(heads=2, kv_heads=1, key=640, value=40, form="int8"),
    "int8 latent": Setup(heads=4, kv_heads=1, key=48, value=32, value_in_key=True, form="int8"),
    "int8 tables": Setup(tables=3, pages=60, form="int8"),
    "int8 latent of many heads": Setup(
        heads=40, kv_heads=1, key=40, value=24, value_in_key=True, form="int8"
    ),
    "fp8": Setup(form="fp8"),
    "fp8 odd": Setup(heads=3, kv_heads=3, key=16, value=44, form="fp8"),
    "fp8 latent": Setup(heads=4, kv_heads=1, key=48, value=32, value_in_key=True, form="fp8"),
}


def run_in_pieces(setup, lab, isa, threads, inputs, view, sequence, sizes) -> np.ndarray:
    engine, out = setup.build(lab, isa, threads)
    results, first = [], 0
    for size in sizes:
        wanted = slice(first, first + size)
        pieces = [x[wanted] for x in inputs]
        engine.run(*pieces, sequence=sequence[wanted], groups=[view.rows(wanted)])
        results.append(engine.result(out))
        first += size
    assert first == len(inputs[0])
    return np.concatenate(results)


def near_the_model(setup, got, want) -> None:
    """int8 entries are multiplied in whole numbers: queries are rounded to 15 bits, and the weights of 128
    slots to 255 steps of the largest, so that the deviation of an error is known."""
    want, deviation = want
    near = 2e-5
    if setup.form == "int8" and not setup.value_in_key:
        near = 1e-4 * max(1.0, setup.key / 128)  # a longer key has larger scores
        share = (got - want) / np.maximum(deviation, near)
        assert np.abs(share).max() < 7
        assert np.sqrt(np.mean(np.square(share))) < 1.1
        return
    np.testing.assert_allclose(got, want, rtol=near, atol=near)


@pytest.mark.parametrize("name", CASES)
def test_near_the_model(lab, isa, name) -> None:
    setup = replace(CASES[name])  # a cache of its own, gone with the test
    inputs = setup.inputs(64)
    view, sequence = setup.causal(64)
    got = run_in_pieces(setup, lab, isa, 2, inputs, view, sequence, [64])
    near_the_model(setup, got, model(setup, inputs, view, sequence))


@pytest.mark.parametrize("name", CASES)
def test_the_same_bits_however_it_is_cut_up(lab, name) -> None:
    """All instruction sets, one or two threads, rows one by one or in chunks: bitwise the same."""
    setup = replace(CASES[name])  # a cache of its own, gone with the test
    inputs = setup.inputs(64)
    view, sequence = setup.causal(64)
    want = run_in_pieces(setup, lab, ISAS[0], 1, inputs, view, sequence, [64])
    for isa in ISAS:
        for threads, sizes in [(1, [1] * 64), (2, [64]), (2, [1, 2, 30, 31]), (2, [17, 16, 1, 30])]:
            got = run_in_pieces(setup, lab, isa, threads, inputs, view, sequence, sizes)
            np.testing.assert_array_equal(got.view(np.int32), want.view(np.int32))


@pytest.mark.parametrize("form", ["f16", "int8"])
def test_many_segments(lab, form) -> None:
    """1,300 slots lie in three segments: merged the same whether threads share them or not."""
    setup = Setup(heads=4, kv_heads=2, key=16, value=16, pages=48, form=form)
    inputs = setup.inputs(1300)
    view, sequence = setup.causal(1300)
    chunks = [64] * 20 + [20]
    want = run_in_pieces(setup, lab, ISAS[0], 1, inputs, view, sequence, chunks)
    near_the_model(setup, want, model(setup, inputs, view, sequence))
    for isa in ISAS:
        for sizes in ([64] * 20 + [1] * 20, [63] * 20 + [40]):
            got = run_in_pieces(setup, lab, isa, 2, inputs, view, sequence, sizes)
            np.testing.assert_array_equal(got.view(np.int32), want.view(np.int32))


@pytest.mark.parametrize("form", FORMS)
def test_many_heads_are_shared_by_threads(lab, form) -> None:
    """Two segments, and units that are parts of a row's heads: one thread has them all at once."""
    setup = Setup(heads=24, kv_heads=1, key=24, value=16, value_in_key=True, pages=24, form=form)
    inputs = setup.inputs(600)
    view, sequence = setup.causal(600)
    chunks = [64] * 9 + [24]
    want = run_in_pieces(setup, lab, ISAS[0], 1, inputs, view, sequence, chunks)
    for isa in ISAS:
        for threads, sizes in (2, [64] * 9 + [1] * 24), (4, [1] * 24 + [64] * 9), (1, [48] * 12 + [24]):
            got = run_in_pieces(setup, lab, isa, threads, inputs, view, sequence, sizes)
            np.testing.assert_array_equal(got.view(np.int32), want.view(np.int32))


def test_sequences_do_not_see_each_other(lab, isa) -> None:
    setup = Setup()
    inputs = setup.inputs(60)
    view, sequence = setup.causal(60, sequences=4)
    together = run_in_pieces(setup, lab, isa, 2, inputs, view, sequence, [60])
    near_the_model(setup, together, model(setup, inputs, view, sequence))
    one_by_one = run_in_pieces(setup, lab, isa, 1, inputs, view, sequence, [15, 15, 15, 15])
    np.testing.assert_array_equal(together, one_by_one)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tables", [1, 3])
def test_windows_masks_and_blind_rows(lab, isa, tables, form) -> None:
    setup = Setup(tables=tables, pages=30, form=form)
    inputs = setup.inputs(64)
    view, sequence = setup.causal(64)
    rng = np.random.default_rng(8)
    view.start = np.minimum(rng.integers(0, 50, view.start.shape), view.stop).astype(np.int32)
    view.start[5] = view.stop[5]  # sees nothing
    view.mask = rng.integers(0, 2**63, (64, 1), dtype=np.uint64)
    view.mask_from = rng.integers(-3, 70, view.start.shape).astype(np.int32)
    view.mask[7], view.mask_from[7] = 0, 0  # nothing by its mask
    want = model(setup, inputs, view, sequence)
    got = run_in_pieces(setup, lab, isa, 2, inputs, view, sequence, [64])
    near_the_model(setup, got, want)
    assert not got[5].any()
    assert not got[7].any()
    alone = run_in_pieces(setup, lab, isa, 1, inputs, view, sequence, [1] * 64)
    np.testing.assert_array_equal(got, alone)


@pytest.mark.parametrize("form", FORMS)
def test_entries_that_are_not_seen_do_not_matter(lab, isa, form) -> None:
    """Infinite and NaN numbers in unseen slots and unseen pages leave no trace."""
    setup = Setup(form=form)
    inputs = setup.inputs(40)
    view, sequence = setup.causal(40)
    view.start[:] = 3
    want = run_in_pieces(setup, lab, isa, 2, inputs, view, sequence, [40])
    for x in inputs[1:]:
        x[:3] = np.array([np.nan, np.inf, -np.inf])[:, None]
    got = run_in_pieces(setup, lab, isa, 2, inputs, view, sequence, [40])
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("form", FORMS)
def test_later_entries_do_not_matter_to_rows_beside_them(lab, isa, form) -> None:
    """Rows of one chunk, the last entry of which is no number: those before it never see it."""
    setup = Setup(form=form)
    inputs = setup.inputs(40)
    view, sequence = setup.causal(40)
    want = run_in_pieces(setup, lab, isa, 1, inputs, view, sequence, [40])
    for x in inputs[1:]:
        x[37:] = np.array([np.nan, np.inf, -np.inf])[:, None]
    got = run_in_pieces(setup, lab, isa, 1, inputs, view, sequence, [40])
    np.testing.assert_array_equal(got[:37], want[:37])
    assert np.isnan(got[37:]).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", [np.nan, np.inf])
def test_a_value_that_is_not_finite_shows_in_all_rows_that_see_it(lab, isa, form, what) -> None:
    """Its key is finite, so nothing but the value tells."""
    setup = Setup(form=form)
    inputs = setup.inputs(40)
    view, sequence = setup.causal(40)
    want = run_in_pieces(setup, lab, isa, 1, inputs, view, sequence, [40])
    inputs[2][20] = what
    got = run_in_pieces(setup, lab, isa, 1, inputs, view, sequence, [40])
    np.testing.assert_array_equal(got[:20], want[:20])
    assert not np.isfinite(got[20:]).any()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("width", [64, 12])
def test_a_hole_in_a_mask_hides_what_is_not_finite(lab, isa, form, width) -> None:
    """As a draft beside it does in a tree: rows that do not see it are as if it were any entry."""
    setup = Setup(form=form, value=width)
    inputs = setup.inputs(40)
    view, sequence = setup.causal(40)
    view.mask = np.full((40, 1), ~np.uint64(1 << 12), np.uint64)
    view.mask_from = np.zeros_like(view.start)
    want = run_in_pieces(setup, lab, isa, 1, inputs, view, sequence, [40])
    for x in inputs[1:]:
        x[12] = np.inf
    got = run_in_pieces(setup, lab, isa, 1, inputs, view, sequence, [40])
    np.testing.assert_array_equal(got, want)


def test_only_the_rows_of_a_row_set(lab, isa) -> None:
    setup = Setup()
    inputs = setup.inputs(50)
    view, sequence = setup.causal(50, sequences=2)
    engine, out = setup.build(lab, isa, 2, row_set=True)
    wanted = np.array([49, 3, 10, 24, 25], np.int32)
    engine.run(
        inputs[0][wanted],
        *inputs[1:],
        rows=50,
        sequence=sequence,
        groups=[view.rows(slice(None))],
        row_sets=[wanted],
    )
    whole = run_in_pieces(setup, lab, isa, 1, inputs, view, sequence, [50])
    np.testing.assert_array_equal(engine.result(out), whole[wanted])


@pytest.mark.parametrize("place", ["query", "key", "all keys", "value"])
@pytest.mark.parametrize("rows", [1, 32])
def test_what_is_not_finite_shows_in_the_result(lab, isa, place, rows) -> None:
    """NaN in a query, in a key that is seen, in all of them, or in a value; other sequences are as before."""
    setup = Setup()
    inputs = setup.inputs(2 * rows)
    view, sequence = setup.causal(2 * rows, sequences=2)
    want = run_in_pieces(setup, lab, isa, 2, inputs, view, sequence, [2 * rows])
    spoilt = {"query": [(0, rows - 1)], "key": [(1, 0)], "value": [(2, 0)]}.get(
        place, [(1, r) for r in range(rows)]
    )
    for which, row in spoilt:
        inputs[which][row, ::7] = np.nan
    got = run_in_pieces(setup, lab, isa, 2, inputs, view, sequence, [2 * rows])
    assert np.isnan(got[rows - 1]).any()
    np.testing.assert_array_equal(got[rows:], want[rows:])
