"""Shared pages on the real model: a sequence that shares has, bit for bit, the logits that it has alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fivefold.backends import NativeRunner
from fivefold.core.batch import Commit, Float32, Int32, Span, Step
from fivefold.engine import LoadOptions, load

PREFIX = 70
"""Two pages of 32 and a part of the third."""


@pytest.fixture(scope="module", params=["f16", "int8", "fp8"])
def runner(default_model: Path, request: pytest.FixtureRequest) -> NativeRunner:
    found = load(default_model, LoadOptions(entries=1024, cache_format=request.param)).runner
    assert isinstance(found, NativeRunner)
    return found


@pytest.fixture(scope="module")
def tokens(default_model: Path) -> Int32:
    vocabulary = load(default_model, LoadOptions(entries=32)).vocabulary
    text = (Path(__file__).parents[2] / "LICENSE").read_text()
    return np.array(vocabulary.encode(text)[:140], np.int32)


@pytest.fixture(scope="module")
def whole(runner: NativeRunner, tokens: Int32) -> Float32:
    """The logits of all tokens, alone."""
    return alone(runner, tokens, 0)


def run(runner: NativeRunner, work: dict[int, tuple[Int32, int]], commit: bool = True) -> dict[int, Float32]:
    """All logits of some rows of some sequences, in one step: the tokens, and where they begin."""
    spans = [
        Span.causal(number, rows, start, np.arange(len(rows), dtype=np.int32))
        for number, (rows, start) in work.items()
    ]
    logits = runner.run(Step(tuple(spans)))
    runner.commit(
        Commit(span.sequence, np.arange(len(span.tokens) if commit else 0, dtype=np.int32)) for span in spans
    )
    runner.check_integrity()
    ends = np.cumsum([len(span.tokens) for span in spans])
    return dict(zip(work, np.split(logits, ends[:-1]), strict=True))


def alone(runner: NativeRunner, tokens: Int32, start: int) -> Float32:
    """Logits of the rows from `start` on of a sequence that shares nothing."""
    number = runner.open()
    found = run(runner, {number: (tokens, 0)})[number][start:]
    runner.close(number)
    return found


def publish(runner: NativeRunner, tokens: Int32, salt: str) -> int:
    number = runner.open()
    assert runner.attach(number, tokens.tolist(), salt) == 0
    run(runner, {number: (tokens, 0)})
    runner.publish(number, tokens.tolist(), salt)
    return number


@pytest.mark.model
@pytest.mark.parametrize("same", [32, 64, 96, 1, 33, 50, 95])
def test_attached_whole_pages_and_parts_give_the_same_bits(
    runner: NativeRunner, tokens: Int32, whole: Float32, same: int
) -> None:
    """Both go on side by side in one step: the one whose pages they are, and the one that found them."""
    salt = f"attached {same}"
    first = publish(runner, tokens[:100], salt)
    other = np.concatenate([tokens[:same], tokens[115:]])
    second = runner.open()
    assert runner.attach(second, other.tolist(), salt) == same
    work = {first: (tokens[100:], 100), second: (other[same:], same)}
    found = run(runner, work)
    assert np.array_equal(found[second], alone(runner, other, same))
    assert np.array_equal(found[first], whole[100:])
    third = runner.open()
    assert runner.attach(third, tokens[:96].tolist(), salt) == 96
    again = run(runner, {third: (tokens[96:], 96)})[third]
    assert np.array_equal(again, whole[96:]), "what was published has not been written"
    for number in (first, second, third):
        runner.close(number)
    runner.check_integrity()


@pytest.mark.model
def test_forks_give_the_same_bits(runner: NativeRunner, tokens: Int32) -> None:
    """Three forks of one sequence, in the middle of a page, write side by side and one after the other."""
    first = runner.open()
    run(runner, {first: (tokens[:PREFIX], 0)})
    ways = {runner.cache.fork(first): tokens[100:120], runner.cache.fork(first): tokens[105:]}
    ways[first] = tokens[PREFIX:99]
    expected = {
        number: alone(runner, np.concatenate([tokens[:PREFIX], way]), PREFIX) for number, way in ways.items()
    }
    together = run(runner, {number: (way[:15], PREFIX) for number, way in ways.items()})
    for number, way in ways.items():
        rest = run(runner, {number: (way[15:], PREFIX + 15)})[number]
        assert np.array_equal(np.concatenate([together[number], rest]), expected[number])
    for number in ways:
        runner.close(number)


@pytest.mark.model
@pytest.mark.parametrize("length", [40, 64, 70])
def test_truncating_into_a_shared_page_gives_the_same_bits(
    runner: NativeRunner, tokens: Int32, whole: Float32, length: int
) -> None:
    salt = f"truncated {length}"
    first = publish(runner, tokens[:96], salt)
    runner.truncate(first, length)
    other = np.concatenate([tokens[:length], tokens[115:]])
    found = run(runner, {first: (other[length:], length)})[first]
    assert np.array_equal(found, alone(runner, other, length))
    second = runner.open()
    assert runner.attach(second, tokens.tolist(), salt) == 96
    assert np.array_equal(run(runner, {second: (tokens[96:], 96)})[second], whole[96:])
    runner.close(first)
    runner.close(second)


@pytest.mark.model
def test_eviction_in_one_fork_does_not_change_the_other(
    runner: NativeRunner, tokens: Int32, whole: Float32
) -> None:
    (group,) = (group.name for group in runner.cache.layout.groups)
    first = publish(runner, tokens[:PREFIX], "evicted")
    second = runner.cache.fork(first)
    kept = np.array([*range(4), *range(30, 40), *range(60, PREFIX)], np.int32)
    runner.cache.retain(second, group, 0, kept)
    runner.check_integrity()
    rest = tokens[PREFIX : PREFIX + 40]
    found = run(runner, {second: (rest, PREFIX), first: (rest, PREFIX)})
    expected = whole[PREFIX : PREFIX + 40]
    assert np.array_equal(found[first], expected)
    assert not np.array_equal(found[second], expected), "what was evicted is not seen"
    third = runner.open()
    assert runner.attach(third, tokens.tolist(), "evicted") == 64
    assert np.array_equal(run(runner, {third: (tokens[64:], 64)})[third], whole[64:])
    unshared = runner.open()
    run(runner, {unshared: (tokens[:PREFIX], 0)})
    runner.cache.retain(unshared, group, 0, kept)
    same = run(runner, {unshared: (rest, PREFIX)})[unshared]
    assert np.array_equal(found[second], same), "evicting from shared pages is evicting from one's own"
    for number in (first, second, third, unshared):
        runner.close(number)
    runner.check_integrity()
