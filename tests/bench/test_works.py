"""Works and timelines: the same prompts for the same seed, and rates as they are counted by hand."""

from __future__ import annotations

import pytest

from fivefold.bench import Timeline, Work, alternate
from fivefold.core.errors import FivefoldError


def test_prompts_repeat_with_their_seed_and_stay_in_the_vocabulary() -> None:
    work = Work("batch", 8, 32, 4)
    prompts = work.prompts(300, 1)
    assert [len(prompt) for prompt in prompts] == [32] * 8
    assert all(0 <= token < 300 for prompt in prompts for token in prompt)
    assert prompts == work.prompts(300, 1) != work.prompts(300, 2)
    assert len({tuple(prompt[:4]) for prompt in prompts}) == 8


def test_a_prompt_has_at_least_one_token() -> None:
    assert [len(prompt) for prompt in Work("depth", 1, 0, 4).prompts(50, 0)] == [1]


def test_decode_counts_all_tokens_over_all_time() -> None:
    timeline = Timeline([0.5, 1.0, 2.0], [[1], [2], [3]])
    assert timeline.reading(Work("decode", 1, 1, 3)).rate == 1.5


def test_prefill_ends_with_the_first_token() -> None:
    timeline = Timeline([1.0, 4.0, 5.0], [[0], [1], [2]])
    assert timeline.reading(Work("prefill", 1, 100, 1)).rate == 25.0


def test_depth_leaves_out_the_reading() -> None:
    timeline = Timeline([10.0, 10.5, 11.0], [[1], [2], [3]])
    assert timeline.reading(Work("depth", 1, 5000, 2)).rate == 2.0


def test_batch_counts_while_all_write_and_over_everything() -> None:
    # The second request begins late; the first has ended when the second still writes alone.
    seconds = [1.0, 2.0, 3.0, 4.0, 6.0]
    written = [[1, 0], [2, 1], [3, 2], [4, 3], [4, 4]]
    reading = Timeline(seconds, written).reading(Work("batch", 2, 8, 4))
    assert reading.rate == (7 - 3) / (4.0 - 2.0)
    assert reading.whole == 8 / 6.0


def test_a_batch_that_never_writes_together_is_no_measurement() -> None:
    timeline = Timeline([1.0, 2.0, 3.0, 4.0], [[1, 0], [2, 0], [2, 1], [2, 2]])
    with pytest.raises(FivefoldError, match="--tokens"):
        timeline.reading(Work("batch", 2, 8, 2))


@pytest.mark.parametrize("timeline", [Timeline([], []), Timeline([1.0], [[1]])])
def test_too_few_tokens_are_an_error(timeline: Timeline) -> None:
    with pytest.raises(FivefoldError, match="fewer tokens"):
        timeline.reading(Work("decode", 1, 1, 2))


def test_sides_take_turns_and_the_first_turn_does_not_count() -> None:
    calls: list[str] = []

    def side(name: str, turn: int) -> int:
        calls.append(f"{name}{turn}")
        return turn * 10

    found = alternate({name: lambda turn, name=name: side(name, turn) for name in "ab"}, 3)
    assert calls == ["a0", "b0", "a1", "b1", "a2", "b2", "a3", "b3"]
    assert found == {"a": [10, 20, 30], "b": [10, 20, 30]}
