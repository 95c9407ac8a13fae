"""The plain decoder by itself: chunks, retries, how requests end, what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from fivefold.core.batch import LOGITS
from fivefold.core.decoder import Decision
from fivefold.core.errors import FivefoldError, InputError
from fivefold.core.request import Request, SamplingParams
from fivefold.decode import AutoregressiveDecoder, Stopping

V = 24
END = 23
CONTEXT = 64
PROMPT = [3, 1, 4, 1, 5, 9, 2, 6]
SEEDED = SamplingParams(max_tokens=17, seed=5)


def plain(sequence: int, prompt: Sequence[int], params: SamplingParams) -> AutoregressiveDecoder:
    return AutoregressiveDecoder.for_request(
        sequence, Request("r", tuple(prompt), params), V, end_tokens=[END], context=CONTEXT
    )


def test_one_row_is_left_to_run_when_all_is_cached() -> None:
    decoder = plain(0, PROMPT, SEEDED)
    assert decoder.resume(len(PROMPT)) == len(PROMPT) - 1
    span = decoder.propose(4)
    assert span is not None and span.tokens.tolist() == PROMPT[-1:]
    assert span.row_sets[LOGITS].tolist() == [0]


def test_a_failed_step_can_be_proposed_again() -> None:
    decoder = plain(0, PROMPT, SEEDED)
    assert decoder.propose(0) is None
    first, again = decoder.propose(8), decoder.propose(2)
    assert first is not None and again is not None
    assert again.tokens.tolist() == PROMPT[:2] and len(again.row_sets[LOGITS]) == 0
    with pytest.raises(ValueError, match="rows of logits"):
        decoder.decide(np.zeros((1, V), np.float32))
    assert decoder.decide(np.zeros((0, V), np.float32)).tokens == ()
    assert decoder.committed == 2


def test_unusable_logits_end_only_their_own_request() -> None:
    broken, sound = plain(0, PROMPT, SEEDED), plain(1, PROMPT, SEEDED)
    assert broken.propose(8) is not None and sound.propose(8) is not None
    with pytest.raises(FivefoldError, match="not finite: nan for token 0"):
        broken.decide(np.full((1, V), np.nan, np.float32))
    assert len(sound.decide(np.zeros((1, V), np.float32)).tokens) == 1


def after_prompt(params: SamplingParams, favourite: int, steps: int = 1) -> Decision:
    """The decision on the output token number `steps`, all of them `favourite` if it is allowed."""
    decoder, decision = plain(0, PROMPT, params), None
    logits = np.zeros((1, V), np.float32)
    logits[0, favourite] = 50
    for _ in range(steps):
        assert decoder.propose(100) is not None
        decision = decoder.decide(logits)
    assert decision is not None
    return decision


def test_how_requests_end() -> None:
    greedy = {"temperature": 0.0}
    end = after_prompt(SamplingParams(**greedy), END)
    assert (end.tokens, end.done, end.stop_token) == ((END,), "stop", None)
    stop = after_prompt(SamplingParams(**greedy, stop_token_ids=(4,)), 4)
    assert (stop.tokens, stop.done, stop.stop_token) == ((4,), "stop", 4)
    assert after_prompt(SamplingParams(**greedy, ignore_eos=True), END).done is None
    assert after_prompt(SamplingParams(**greedy, max_tokens=2), 4).done is None
    assert after_prompt(SamplingParams(**greedy, max_tokens=2), 4, 2).done == "length"
    assert after_prompt(SamplingParams(**greedy, max_tokens=1), END).done == "stop"
    assert after_prompt(SamplingParams(**greedy), 4, CONTEXT - len(PROMPT)).done == "length"
    held = after_prompt(SamplingParams(**greedy, min_tokens=1), END)
    assert held.tokens != (END,) and held.done is None
    assert after_prompt(SamplingParams(**greedy, min_tokens=1), END, 2).done == "stop"


def test_stopping_counts_from_one() -> None:
    rule = Stopping.of(SamplingParams(min_tokens=3, max_tokens=5, stop_token_ids=(4,)), [END], 10, 64)
    assert [rule.after(END, count) for count in (1, 2, 3)] == [None, None, "stop"]
    assert [rule.after(4, 3), rule.after(5, 4), rule.after(5, 5), rule.after(4, 5)] == [
        "stop",
        None,
        "length",
        "stop",
    ]
    assert Stopping.of(SamplingParams(max_tokens=100), [END], 10, 64).most == 54


def test_logprobs_come_with_the_tokens() -> None:
    assert after_prompt(SamplingParams(temperature=0), 4).logprobs == ()
    (logprob,) = after_prompt(SamplingParams(temperature=0, logprobs=2), 4).logprobs
    assert logprob.token == 4 and logprob.logprob == pytest.approx(0, abs=1e-9)
    assert [token for token, _ in logprob.top] == [4, 0]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [([], "empty"), ([1] * CONTEXT, "context"), ([1, V], f"token {V}"), ([-1], "token -1")],
)
def test_prompts_that_cannot_be_decoded(prompt: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plain(0, prompt, SEEDED)
