"""Side drafters on runners: the model keeps its bits, the cache its entries; guesses are the reference's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fivefold.backends import NativeRunner, ReferenceRunner, drafting
from fivefold.core.batch import LOGITS, Commit, Float32, Span, Step
from fivefold.core.checkpoint import Checkpoint
from fivefold.core.drafter import DRAFTER, Drafter
from fivefold.core.errors import UnsupportedError
from fivefold.core.layout import PAGE_SIZE
from fivefold.executor import Settings
from fivefold.models import load_model
from fivefold.program import head_of, split_layers, with_drafter

PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]
ENTRIES = 256


def native(checkpoint: Checkpoint, drafter: Drafter | None = None, **more: Any) -> NativeRunner:
    model = load_model(checkpoint)
    model = split_layers(model) if more.pop("split", False) else model
    model = model if drafter is None else with_drafter(model, drafter.shape)
    settings = Settings("avx2", 2, more.pop("activations", "float"), more.pop("rows", 64))
    return NativeRunner(model, checkpoint, settings, more.pop("entries", ENTRIES), drafter=drafter)


def reference(checkpoint: Checkpoint, drafter: Drafter) -> ReferenceRunner:
    model = with_drafter(load_model(checkpoint), drafter.shape)
    return ReferenceRunner(model, checkpoint, ENTRIES, drafter=drafter)


def read(runner: Any, tokens: list[int], sequence: int | None = None, start: int = 0) -> tuple[int, Float32]:
    """A sequence with these tokens, and the logits of all of them."""
    sequence = runner.open() if sequence is None else sequence
    rows = np.arange(len(tokens), dtype=np.int32)
    logits = runner.run(Step((Span.causal(sequence, np.array(tokens, np.int32), start, rows),)))
    runner.commit([Commit(sequence, rows)])
    return sequence, logits


@pytest.fixture(params=["llama", "qwen2"])
def checkpoint(request: pytest.FixtureRequest, tiny: Any, save: Any) -> Checkpoint:
    shape = tiny(request.param, layers=3)
    made: Checkpoint = save(shape.metadata(), shape.arrays())
    return made


@pytest.fixture(params=["block", "serial"])
def drafter(
    request: pytest.FixtureRequest, checkpoint: Checkpoint, random_drafter: Any, monkeypatch: Any
) -> Drafter:
    monkeypatch.setattr(drafting, "GIVEN_UP", 0.0)  # random numbers are sure of nothing
    made: Drafter = random_drafter(load_model(checkpoint), request.param)
    return made


@pytest.mark.parametrize("activations", ["float", "int8"])
def test_the_models_logits_keep_their_bits(
    checkpoint: Checkpoint, drafter: Drafter, activations: str
) -> None:
    plain = read(native(checkpoint, activations=activations), PROMPT)[1]
    runner = native(checkpoint, drafter, activations=activations)
    sequence, logits = read(runner, PROMPT)
    np.testing.assert_array_equal(logits, plain)
    runner.draft([(sequence, 7, 3)])
    again = read(runner, [7, 9], sequence, len(PROMPT))[1]
    bare = native(checkpoint, activations=activations)
    expected = read(bare, [7, 9], read(bare, PROMPT)[0], len(PROMPT))[1]
    np.testing.assert_array_equal(again, expected)


def test_guesses_are_the_references(checkpoint: Checkpoint, drafter: Drafter) -> None:
    ours, theirs = native(checkpoint, drafter), reference(checkpoint, drafter)
    same = []
    for anchor in range(12):
        found = []
        for runner in (ours, theirs):
            first, _ = read(runner, PROMPT[: 4 + anchor % 8])
            second, _ = read(runner, PROMPT[3:])
            found.append(runner.draft([(first, anchor, 3), (second, anchor + 5, 2)]))
            runner.close(first)
            runner.close(second)
        assert [len(guesses) for guesses in found[0]] == [3, 2]
        assert {token for guesses in found[0] for token, _ in guesses} <= set(drafter.tokens.tolist())
        for one, other in zip(*found, strict=True):
            same.append([token for token, _ in one] == [token for token, _ in other])
            if same[-1]:
                np.testing.assert_allclose([p for _, p in one], [p for _, p in other], rtol=0.2)
    assert sum(same) >= 22, same  # native products round their rows to int8, and two tokens may be near


def test_logits_of_a_guess_are_near_the_references(checkpoint: Checkpoint, drafter: Drafter) -> None:
    seen: list[list[Float32]] = []
    for make in (native, reference):
        runner: Any = make(checkpoint, drafter)
        sequence, _ = read(runner, PROMPT)
        run, rows = runner.drafting._run, []

        def watched(batch: Any, run: Any = run, rows: list[Float32] = rows) -> Float32:
            found = run(batch)
            rows.append(found[0].copy())
            return found

        runner.drafting._run = watched
        runner.draft([(sequence, 7, 3)])
        seen.append(rows)
    for ours, theirs in zip(*seen, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0.02, atol=0.04)  # of 20; entries are float16 in one


def test_a_row_that_is_not_finite_ends_the_guesses(checkpoint: Checkpoint, drafter: Drafter) -> None:
    runner: Any = native(checkpoint, drafter)
    sequence, _ = read(runner, PROMPT)
    whole = runner.draft([(sequence, 7, 3)])[0]
    run, calls = runner.drafting._run, []

    def spoiled(batch: Any) -> list[Float32]:
        found = [part.copy() for part in run(batch)]
        calls.append(len(found[0]))
        if sum(calls) > 1:  # the second row, of a block or by itself
            found[0][min(1, len(found[0]) - 1), 4] = np.nan
        return found

    runner.drafting._run = spoiled
    assert runner.draft([(sequence, 7, 3)])[0] == whole[:1]
    runner.check_integrity()


def test_fewer_guesses_are_the_same_and_company_changes_none(
    checkpoint: Checkpoint, drafter: Drafter
) -> None:
    runner = native(checkpoint, drafter, rows=4)  # so that requests do not fit into one batch
    sequences = [read(runner, PROMPT[:4], start=0)[0] for _ in range(3)]
    for sequence, own in zip(sequences, ([2, 7], [1, 8], [2, 8]), strict=True):
        read(runner, own, sequence, 4)
    alone = [runner.draft([(sequence, 9, 3)])[0] for sequence in sequences]
    assert runner.draft([(sequence, 9, 3) for sequence in sequences]) == alone
    assert runner.draft([(sequence, 9, 2) for sequence in sequences]) == [one[:2] for one in alone]
    assert runner.draft([(sequences[0], 9, 8), (sequences[1], 9, 0)]) == [alone[0], []]
    assert runner.draft([]) == []


def test_guesses_one_after_the_other_end_where_they_are_unlikely(
    checkpoint: Checkpoint, random_drafter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = native(checkpoint, random_drafter(load_model(checkpoint), "serial"))
    sequence, _ = read(runner, PROMPT)
    monkeypatch.setattr(drafting, "GIVEN_UP", 0.0)
    (whole,) = runner.draft([(sequence, 7, 3)])
    together = np.cumprod([1.0, *(likely for _, likely in whole)])
    for count in (1, 2):
        monkeypatch.setattr(drafting, "GIVEN_UP", together[count - 1 : count + 1].mean())
        assert runner.draft([(sequence, 7, 3)]) == [whole[:count]]


def test_a_guess_leaves_the_cache_as_it_was(checkpoint: Checkpoint, drafter: Drafter) -> None:
    runner = native(checkpoint, drafter)
    sequence, _ = read(runner, PROMPT)
    assert runner.reserve(sequence, 40)
    before = runner.figures(), [part.copy() for part in runner.entries(sequence, DRAFTER)]
    wanted = runner.draft([(sequence, 7, 3)])
    runner.check_integrity()
    assert runner.figures() == before[0]
    for ours, theirs in zip(runner.entries(sequence, DRAFTER), before[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    fork = runner.fork(sequence)
    assert runner.draft([(fork, 7, 3)]) == wanted == runner.draft([(sequence, 7, 3)])
    runner.check_integrity()
    read(runner, [7, 9, 9], sequence, len(PROMPT))
    runner.truncate(sequence, len(PROMPT) - 1)
    assert runner.draft([(sequence, 7, 3)]) == [[]], "nothing is known of the last token until it runs again"
    read(runner, PROMPT[-1:], sequence, len(PROMPT) - 1)
    assert runner.draft([(sequence, 7, 3)]) == wanted
    runner.close(fork)
    runner.close(sequence)
    runner.check_integrity()
    assert runner.figures().used == 0


def test_a_shared_prefix_has_what_a_guess_needs(checkpoint: Checkpoint, drafter: Drafter) -> None:
    runner = native(checkpoint, drafter)
    tokens = [token for token in range(1, 41)]
    sequence, _ = read(runner, tokens)
    wanted = runner.draft([(sequence, 7, 3)])
    runner.publish(sequence, tokens)
    runner.close(sequence)
    other = runner.open()
    assert runner.attach(other, tokens) == 32
    read(runner, tokens[32:], other, 32)
    assert runner.draft([(other, 7, 3)]) == wanted
    runner.check_integrity()


def test_rows_that_are_not_kept_leave_nothing_to_guess_from(checkpoint: Checkpoint, drafter: Drafter) -> None:
    runner = native(checkpoint, drafter)
    sequence, _ = read(runner, PROMPT)
    wanted = runner.draft([(sequence, 7, 3)])
    span = Span.causal(sequence, np.array([7, 1, 2], np.int32), len(PROMPT), np.arange(3, dtype=np.int32))
    runner.run(Step((span,)))
    runner.commit([Commit(sequence, np.zeros(0, np.int32))])
    assert runner.draft([(sequence, 7, 3)]) == wanted


@pytest.mark.parametrize("split", [False, True])
def test_evictions_leave_the_drafters_entries(checkpoint: Checkpoint, drafter: Drafter, split: bool) -> None:
    runner = native(checkpoint, drafter, split=split)
    sequence, _ = read(runner, PROMPT)
    wanted = runner.draft([(sequence, 7, 3)])
    kept = {
        group.name: np.tile(np.array([0, 3, 11], np.int32), (len(group.layers), group.kv_heads, 1))
        for group in runner.cache.layout.groups
        if group.name != DRAFTER
    }
    runner.evict(sequence, kept)
    assert runner.length(sequence, DRAFTER) == len(PROMPT)
    assert runner.draft([(sequence, 7, 3)]) == wanted
    runner.check_integrity()
    read(runner, [7], sequence, len(PROMPT))
    assert runner.length(sequence, DRAFTER) == len(PROMPT) + 1
    assert len(runner.draft([(sequence, 9, 2)])[0]) == 2
    runner.check_integrity()


def test_one_with_all_tokens_shares_the_models_head(checkpoint: Checkpoint, random_drafter: Any) -> None:
    model = load_model(checkpoint)
    some = random_drafter(model, vocabulary=model.shape.vocabulary)
    every = replace(some, tokens=np.sort(some.tokens))
    every.require_fit(64, 3, model.shape.vocabulary)
    with pytest.raises(UnsupportedError, match="all tokens of the model in another order"):
        some.require_fit(64, 3, model.shape.vocabulary)
    assert "drafter.head" not in with_drafter(model, every.shape).programs[DRAFTER].weights
    assert "drafter.head" not in drafting.drafter_bytes(every, head_of(model))
    fewer = replace(every, shape=replace(every.shape, vocabulary=model.shape.vocabulary - 1),
                    tokens=every.tokens[:-1])  # fmt: skip
    found = []
    for drafter in (every, fewer):  # the second has rows of its own, all but the last
        runner = native(checkpoint, drafter)
        sequence, _ = read(runner, PROMPT)
        found.append([[token for token, _ in runner.draft([(sequence, n, 3)])[0]] for n in range(20)])
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", ["native", "reference"])
def test_one_alone_guesses_what_it_does_among_others(
    checkpoint: Checkpoint, drafter: Drafter, kind: str
) -> None:
    """Alone there is no step of the cache, where its pages have room: at all lengths of a page and more."""
    runner: Any = native(checkpoint, drafter) if kind == "native" else reference(checkpoint, drafter)
    other, _ = read(runner, PROMPT)
    sequence, looked = runner.open(), 0
    for length in range(PAGE_SIZE + 4):
        read(runner, [3 + length % 7], sequence, length)
        before = runner.figures()
        alone = runner.draft([(sequence, 5, 3)])[0]
        assert runner.figures() == before
        together = runner.draft([(sequence, 5, 3), (other, 6, 2)])[0]
        assert [token for token, _ in alone] == [token for token, _ in together] and len(alone) == 3
        np.testing.assert_allclose([p for _, p in alone], [p for _, p in together], rtol=1e-5)
        looked += runner.cache.ahead(sequence, DRAFTER, 3) is not None
        runner.check_integrity()
    assert PAGE_SIZE - 4 < looked < PAGE_SIZE + 4


def test_a_shared_page_is_not_written_ahead(checkpoint: Checkpoint, drafter: Drafter) -> None:
    runner = native(checkpoint, drafter)
    sequence, _ = read(runner, PROMPT)
    assert runner.cache.ahead(sequence, DRAFTER, 2) is not None
    other = runner.fork(sequence)
    assert runner.cache.ahead(sequence, DRAFTER, 2) is None
    runner.close(other)
    assert runner.cache.ahead(sequence, DRAFTER, 2) is not None
    assert runner.cache.ahead(sequence, DRAFTER, PAGE_SIZE) is None


def test_without_room_there_are_no_guesses(checkpoint: Checkpoint, drafter: Drafter) -> None:
    runner = native(checkpoint, drafter, entries=32)
    sequence, _ = read(runner, list(range(1, 32)))
    assert len(runner.draft([(sequence, 7, 1)])[0]) == 1
    assert runner.draft([(sequence, 7, 3)]) == [[]]
    runner.check_integrity()
    read(runner, [7], sequence, 31)


def test_a_runner_without_a_drafter_guesses_nothing(checkpoint: Checkpoint) -> None:
    runner = native(checkpoint)
    sequence, _ = read(runner, PROMPT)
    assert runner.draft([(sequence, 7, 3)]) == [[]]


def test_models_that_cannot_have_one_are_refused(checkpoint: Checkpoint, drafter: Drafter) -> None:
    model = with_drafter(load_model(checkpoint), drafter.shape)
    with pytest.raises(UnsupportedError, match="it has one already"):
        with_drafter(model, drafter.shape)
    with pytest.raises(UnsupportedError, match=r"rows of 64, the model of 32"):
        drafter.require_fit(32, 3, 512)
    with pytest.raises(UnsupportedError, match="a tap behind layer 1, the model has 1 layers"):
        drafter.require_fit(64, 1, 512)
    with pytest.raises(UnsupportedError, match="a row for token"):
        drafter.require_fit(64, 3, 2)


def test_the_drafter_program_gives_logits_and_what_the_next_row_is_told(
    checkpoint: Checkpoint, drafter: Drafter
) -> None:
    program = with_drafter(load_model(checkpoint), drafter.shape).programs[DRAFTER]
    assert program.row_sets == (LOGITS,)
    widths = [program.buffers[name].width for name in program.outputs]
    assert widths == ([40, 64] if drafter.shape.form == "serial" else [40])
