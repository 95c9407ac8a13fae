"""What the bench of eviction measures, against plain ways to find the same on a tiny model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fivefold.bench.eviction.answers import Answering
from fivefold.bench.eviction.evidence import Evidences
from fivefold.bench.eviction.measuring import Bench, measure_document, recall, true_mass
from fivefold.bench.eviction.prompts import AskedDocument, Prompt
from fivefold.bench.eviction.run import check_measured, measurable, opened
from fivefold.bench.quality import log_softmax
from fivefold.cache.eviction import POLICIES, Evidence
from fivefold.core.batch import OBSERVERS, Commit, Float32, Span, Step
from fivefold.core.errors import InputError, UnsupportedError
from fivefold.core.lookahead import LookaheadModule
from fivefold.engine import LoadedModel, LoadOptions, load
from fivefold.exercises import Question

TINY = Path(__file__).parents[1] / "engine" / "data" / "tiny.gguf"
BUDGETS = (64, 68)
NAMES = (*POLICIES, "snapkv-unpooled", "laq-unpooled")
RAGGED = {name for name, policy in POLICIES.items() if policy.ragged}


def random_module(hidden: int = 32) -> LookaheadModule:
    """Some rows and pairs."""
    draw = np.random.default_rng(5)
    pair = tuple(draw.standard_normal(shape).astype(np.float32) for shape in ((2, hidden), (hidden, 2)))
    rows = draw.standard_normal((3, hidden)).astype(np.float32)
    return LookaheadModule(rows, {"blk.0.attn_q.weight": (pair[0], pair[1])}, 4.0, 2)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load(TINY, LoadOptions(threads=1, entries=1)).with_lookahead(random_module())


def bench_of(loaded: LoadedModel, *names: str, budgets: tuple[int, ...] = BUDGETS) -> Bench:
    """A bench of these policies whose answers have 8 tokens at most."""
    policies, _ = measurable(loaded, names)
    made = opened(loaded, policies, budgets)
    return replace(made, answering=Answering(made.evicted, loaded.vocabulary, 8))


def document(loaded: LoadedModel, *lengths: int, answer: str | None = None, seed: int = 2) -> AskedDocument:
    """Prompts of random tokens that begin alike and differ in their last 40."""
    draw = np.random.default_rng(seed)
    vocabulary = loaded.vocabulary
    plain = [one for one in range(vocabulary.size) if not vocabulary.is_special(one)]
    first = draw.choice(plain, 100).tolist()
    prompts = []
    for number, length in enumerate(lengths):
        own = draw.choice(plain, 40).tolist()
        tokens = tuple(first[: length - 40] + own)
        prompts.append(Prompt(f"d.{number}", tokens, Question("?", answer, "", "quote")))
    return AskedDocument("d", "quote_2k", tuple(prompts))


def _never(said: list[str]) -> Callable[[str], bool]:
    """Nothing is right, and what was said is noted."""

    def right(text: str) -> bool:
        said.append(text)
        return False

    return right


def plain_logits(bench: Bench, sequence: int, tokens: list[int], start: int) -> Float32:
    """Logits (n, V) of tokens run one after the other."""
    rows = []
    for place, token in enumerate(tokens):
        span = Span.causal(sequence, np.array([token], np.int32), start + place)
        rows.append(bench.evicted.runner.run(Step((span,)))[0])
        bench.evicted.runner.commit([Commit(sequence, np.zeros(1, np.int32))])
    return np.stack(rows)


def test_every_policy_keeps_its_budget_and_the_oracle_most_of_the_mass(loaded: LoadedModel) -> None:
    bench = bench_of(loaded, *NAMES)
    free = bench.evicted.runner.figures().free
    for record in measure_document(bench, document(loaded, 90, 81)):
        assert set(record["policies"]) == set(NAMES)
        for budget in BUDGETS:
            at = {name: found[str(budget)] for name, found in record["policies"].items()}
            assert {one["kept"] for one in at.values()} == {budget}
            assert all(0 <= one["recall"] <= 1 and one["kl"] > 0 for one in at.values())
            even = [one["recall"] for name, one in at.items() if name not in RAGGED]
            assert at["oracle"]["recall"] == max(even)
    assert bench.evicted.runner.figures().free == free, "something was left in the cache"
    bench.evicted.runner.check_integrity()


def test_a_cache_that_keeps_everything_is_the_full_one(loaded: LoadedModel) -> None:
    bench = bench_of(loaded, *NAMES, budgets=(200,))
    for record in measure_document(bench, document(loaded, 85, answer="")):
        for found in record["policies"].values():
            one = found["200"]
            assert (one["kl"], one["agreement"], one["recall"]) == (0.0, 1.0, 1.0)
            assert one["right"] is True


def test_a_document_longer_than_the_context_is_left_out(loaded: LoadedModel) -> None:
    bench = bench_of(loaded, "window")
    (record,) = measure_document(bench, document(loaded, 100))
    assert (record["tokens"], record["answer_tokens"], record["policies"]) == (100, 0, {})
    bench.evicted.runner.check_integrity()
    assert bench.evicted.runner.figures().used == 0


def test_own_tables_change_nothing(loaded: LoadedModel) -> None:
    even = tuple(name for name in NAMES if name not in RAGGED)
    asked = document(loaded, 90)
    (alone,) = measure_document(bench_of(loaded, *even), asked)
    (beside,) = measure_document(bench_of(loaded, *NAMES), asked)
    assert {name: beside["policies"][name] for name in even} == alone["policies"]


def test_prompts_that_share_a_beginning_are_measured_as_if_alone(loaded: LoadedModel) -> None:
    names = ("snapkv", "laq", "lookahead", "kvzip", "adakv")
    asked = document(loaded, 90, 81)
    together = list(measure_document(bench_of(loaded, *names), asked))
    for prompt, record in zip(asked.prompts, together, strict=True):
        (alone,) = measure_document(bench_of(loaded, *names), replace(asked, prompts=(prompt,)))
        assert alone == record


@pytest.mark.parametrize(("name", "window"), [("snapkv", 32), ("h2o", 90), ("tova", 1)])
def test_windows_have_seen_what_one_span_of_them_sees(loaded: LoadedModel, name: str, window: int) -> None:
    bench = bench_of(loaded, name, "laq")
    tokens = np.array(document(loaded, 90).prompts[0].tokens, np.int32)
    read = bench.reader.read(bench.reader.beginning(tokens[:50]), 50, tokens)
    runner = bench.evicted.runner
    plain = runner.open()
    span = Span.causal(plain, tokens, 0)
    observing = {**span.row_sets, OBSERVERS: np.arange(90 - window, 90, dtype=np.int32)}
    logits = runner.run(Step((replace(span, row_sets=observing),)))
    runner.commit([Commit(plain, np.arange(90, dtype=np.int32))])
    assert np.array_equal(read.logits, logits[0])
    seen = Evidences(bench.evicted, read, np.zeros(0, np.float32)).importance(POLICIES[name], 16)
    assert seen is not None
    np.testing.assert_allclose(seen, bench.evicted.importance(plain), rtol=1e-5, atol=1e-7)


def test_kl_and_the_own_answer_are_those_of_steps_one_after_the_other(loaded: LoadedModel) -> None:
    bench = bench_of(loaded, "window")
    evicted, runner = bench.evicted, bench.evicted.runner
    for seed in range(4):
        tokens = np.array(document(loaded, 84, seed=seed).prompts[0].tokens, np.int32)
        read = bench.reader.read(bench.reader.beginning(tokens[:60]), 60, tokens)
        truth = bench.answering.truth(read.sequence, 84, read.logits)
        assert truth is not None
        chosen = POLICIES["window"].select(Evidence(evicted.layers, evicted.kv_heads, 84), 16)
        forks = [runner.fork(read.sequence) for _ in range(3)]
        for fork in forks[1:]:
            evicted.keep(fork, chosen)
        fed = list(truth.tokens)[: len(truth.logits)]
        full = log_softmax(plain_logits(bench, forks[0], fed, 84)[:, : loaded.vocabulary.size])
        ours = log_softmax(plain_logits(bench, forks[1], fed, 84)[:, : loaded.vocabulary.size])
        said: list[str] = []
        (found,) = bench.answering.fed(forks[2:], 84, truth, _never(said))
        assert found.kl == pytest.approx(float((np.exp(full) * (full - ours)).sum(axis=1).mean()))
        assert found.agreement == np.mean(full.argmax(axis=1) == ours.argmax(axis=1))
        fork = runner.fork(read.sequence)
        evicted.keep(fork, chosen)
        own = [truth.tokens[0]]
        while len(own) < 8:
            logits = plain_logits(bench, fork, own[-1:], 84 + len(own) - 1)
            token = int(logits[0, : loaded.vocabulary.size].argmax())
            if token in loaded.vocabulary.end_tokens:
                break
            own.append(token)
        assert said[-1] == bench.answering.text(own)


def test_learned_rows_see_what_they_see_behind_the_prompts_last_row(loaded: LoadedModel) -> None:
    from fivefold.engine.observing import with_learned_rows

    bench = bench_of(loaded, "lookahead")
    tokens = np.array(document(loaded, 84).prompts[0].tokens, np.int32)
    read = bench.reader.read(bench.reader.beginning(tokens[:60]), 60, tokens)
    evidences = Evidences(bench.evicted, read, np.zeros(0, np.float32), bench.module)
    seen = evidences.importance(POLICIES["lookahead"], 16)
    runner, module = bench.evicted.runner, random_module()
    plain = runner.open()
    runner.run(Step((with_learned_rows(Span.causal(plain, tokens, 0), module),)))
    runner.commit([Commit(plain, np.arange(84, dtype=np.int32))])
    assert seen is not None
    assert np.array_equal(seen, bench.evicted.importance(plain))


def test_recall_leaves_out_the_ends_and_is_a_mean_over_heads() -> None:
    importance = np.zeros((1, 4, 50), np.float32)
    importance[0, :, [0, 3, 18, 49]] = 100.0  # the ends: not counted
    importance[0, :, 18] = 0
    importance[0, 0, 10], importance[0, 1, 11] = 3.0, 1.0  # the first KV head's query heads
    importance[0, 2, 12], importance[0, 3, 13] = 1.0, 1.0
    mass = true_mass(importance, 2)
    slots = np.array([[[0, 10, 12], [10, 12, 49]]], np.int32)
    assert recall(mass, slots) == pytest.approx((3 / 4 + 1 / 2) / 2)


def test_what_cannot_be_measured_is_left_out_or_refused(loaded: LoadedModel) -> None:
    without = loaded.with_lookahead(None)
    found, notes = measurable(without, ())
    left = {"lookahead"}
    assert {policy.name for policy in found} == {*POLICIES, "snapkv-unpooled", "laq-unpooled"} - left
    assert sorted(note.split()[0] for note in notes) == sorted(left)
    with pytest.raises(UnsupportedError, match="no lookahead module"):
        measurable(without, ("lookahead",))


def test_an_answer_that_is_right_stays_so_where_nothing_is_evicted(loaded: LoadedModel) -> None:
    bench = bench_of(loaded, "window", budgets=(8, 200))
    (record,) = measure_document(bench, document(loaded, 84, answer="no such words"))
    judged: dict[str, Any] = record["policies"]["window"]
    assert record["right"] is False
    assert [one["right"] for one in judged.values()] == [None, None]


def test_a_policy_that_is_not_known_is_refused_by_the_option() -> None:
    check_measured("laq-unpooled")
    with pytest.raises(InputError, match="there is no eviction policy 'tova-unpooled'") as caught:
        check_measured("tova-unpooled")
    assert caught.value.where == "--policies"
    assert "snapkv-unpooled" in caught.value.remedy
