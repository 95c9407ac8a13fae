"""Guesses change how many tokens a round brings, and nothing else: not one token, probability or ending."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from guessed import Truth

from fivefold.core.batch import LOGITS, Float32, Span
from fivefold.core.decoder import Decision, Decoder, Guessing
from fivefold.core.errors import FivefoldError
from fivefold.core.request import Request, SamplingParams, TokenLogprob
from fivefold.decode import AutoregressiveDecoder, SpeculativeDecoder
from fivefold.decode.guesses import SOURCES, Guess, Source
from fivefold.decode.speculative import MOST_GUESSES

V = 24
END = 23
CONTEXT = 96
PROMPT = (3, 1, 4, 1, 5, 9, 2, 6, 5, 3)


def logits_after(tokens: Sequence[int]) -> Float32:
    """(V,) logits by the last tokens."""
    key = zlib.crc32(repr(tuple(tokens)).encode())
    return np.random.default_rng(key).normal(size=V).astype(np.float32) * 2


def plain(params: SamplingParams, prompt: Sequence[int] = PROMPT) -> AutoregressiveDecoder:
    return AutoregressiveDecoder.for_request(0, Request("r", tuple(prompt), params), V, [END], CONTEXT)


@dataclass
class Told:
    """All that a request was told, and how."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    end: tuple[str | None, int | None] = (None, None)
    rounds: list[Decision] = field(default_factory=list)

    @property
    def answer(self) -> object:
        return self.tokens, self.logprobs, self.end


def rows_of(span: Span, cached: Sequence[int], reach: int = 3) -> Float32:
    """(n, V) logits of the span's rows that want some, by so many last tokens."""
    assert span.positions.tolist() == list(range(len(cached), len(cached) + len(span.tokens)))
    assert span.mask is None and (span.visible[:, 1] == span.positions + 1).all()
    text = [*cached, *span.tokens.tolist()]
    wanted = span.row_sets[LOGITS]
    rows = [logits_after(text[: len(cached) + 1 + int(row)][-reach:]) for row in wanted]
    return np.array(rows, np.float32).reshape(-1, V)


def drive(decoder: Decoder, seed: int = 0, most: int = 9, lost: float = 0.0, reach: int = 3) -> Told:
    """Steps under random limits; the cache may be lost between two of them."""
    dice, told, cached = random.Random(seed), Told(), list[int]()
    while True:
        if dice.random() < lost:
            del cached[decoder.resume(dice.randrange(len(cached) + 1)) :]
        limit = dice.randrange(1, most + 1)
        if dice.random() < 0.2:
            decoder.propose(dice.randrange(1, most + 1))  # a step that fails and is tried again
        span = decoder.propose(limit)
        assert span is not None and 0 < len(span.tokens) <= limit
        decision = decoder.decide(rows_of(span, cached, reach))
        kept = decision.commit.rows.tolist()
        assert kept == list(range(len(kept))), "a beginning stays, so that a recurrent state can be kept too"
        assert span.draft or len(kept) == len(span.tokens)
        cached += span.tokens[: len(kept)].tolist()
        assert cached == list(decoder.tokens[: decoder.committed])
        told.tokens += decision.tokens
        told.logprobs += decision.logprobs
        told.rounds.append(decision)
        if decision.done is not None:
            told.end = (decision.done, decision.stop_token)
            return told


WAYS = {
    "greedy": SamplingParams(max_tokens=40, temperature=0.0, ignore_eos=True),
    "sampled": SamplingParams(max_tokens=40, seed=5, temperature=0.9, logprobs=2, ignore_eos=True),
    "filtered": SamplingParams(max_tokens=40, seed=6, top_p=0.8, top_k=9, min_p=0.02, logprobs=0),
    "penalties": SamplingParams(
        max_tokens=40, temperature=0.0, repetition_penalty=1.2, presence_penalty=0.3, frequency_penalty=0.4,
        logprobs=1, ignore_eos=True,
    ),
    "sampled penalties": SamplingParams(max_tokens=40, seed=9, frequency_penalty=0.9, repetition_penalty=0.8),
    "bias": SamplingParams(max_tokens=30, seed=2, logit_bias={7: 3.0, 8: -100.0}),
    "least": SamplingParams(max_tokens=60, min_tokens=25, temperature=0.0, logit_bias={END: 9.0}),
    "stop token": SamplingParams(max_tokens=60, seed=3, stop_token_ids=(11, 17), min_tokens=4),
    "one": SamplingParams(max_tokens=1, temperature=0.0),
    "two": SamplingParams(max_tokens=2, temperature=0.0, ignore_eos=True),
    "context": SamplingParams(seed=8, ignore_eos=True),
}  # fmt: skip


@pytest.mark.parametrize("lost", [0.0, 0.1], ids=["kept", "preempted"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("way", WAYS)
def test_tokens_are_those_of_the_plain_decoder(way: str, share: float, lost: float) -> None:
    expected = drive(plain(WAYS[way]))
    for seed in range(4):
        truth = Truth([*PROMPT, *expected.tokens], share, V, seed)
        found = drive(SpeculativeDecoder(plain(WAYS[way]), {"truth": truth}), seed, lost=lost)
        assert found.answer == expected.answer
        if share == 0.0:
            assert sum(one.accepted for one in found.rounds) == 0
    if share == 1.0 and way not in ("one", "two"):
        assert len(found.rounds) < len(expected.rounds)


@pytest.mark.parametrize("way", WAYS)
def test_so_are_they_with_the_sources_that_there_are(way: str) -> None:
    expected = drive(plain(WAYS[way]))
    found = drive(SpeculativeDecoder(plain(WAYS[way])), 3, most=16, lost=0.05)
    assert found.answer == expected.answer


def test_repeated_text_is_guessed() -> None:
    """The model is a table by the last token, so a greedy text runs in circles."""
    params = SamplingParams(max_tokens=80, temperature=0.0, ignore_eos=True)
    expected = drive(plain(params), most=1, reach=1)
    decoder = SpeculativeDecoder(plain(params))
    found = drive(decoder, most=100, reach=1)
    assert found.answer == expected.answer
    assert len(found.rounds) * 2 < 80


@pytest.mark.parametrize("guesses", [1, 3, 7])
def test_who_guesses_right_gets_one_token_more_than_guesses(guesses: int) -> None:
    params = SamplingParams(max_tokens=1 + 6 * (guesses + 1), temperature=0.0, ignore_eos=True)
    expected = drive(plain(params))
    decoder = SpeculativeDecoder(plain(params), {"truth": Truth([*PROMPT, *expected.tokens], 1.0, V)})
    cached: list[int] = []
    brought = []
    while len(decoder.tokens) < len(PROMPT) + len(expected.tokens):
        span = decoder.propose(len(PROMPT) if not cached else guesses + 1)
        assert span is not None
        decision = decoder.decide(rows_of(span, cached))
        cached += span.tokens[: len(decision.commit.rows)].tolist()
        brought.append((len(decision.tokens), decision.guessed, decision.accepted))
    assert brought == [(1, 0, 0), *[(guesses + 1, guesses, guesses)] * 6]


class Constant(Source):
    """Always the same guesses."""

    def __init__(self, *tokens: int) -> None:
        self._tokens = tokens

    def extend(self, tokens: Sequence[int]) -> None:
        """Nothing to learn."""

    def guess(self, most: int) -> Guess:
        return Guess(self._tokens[:most], tuple(range(min(most, len(self._tokens)))))

    def prior(self, number: int) -> float:
        return 0.5


@pytest.mark.parametrize("guess", [(0, 0), (3, 5), (6, 1)])
def test_the_distribution_is_the_models_own(guess: tuple[int, int]) -> None:
    """Two tokens of 6,000 answers against the softmax itself: chi-square over all 64 pairs."""
    size, count = 8, 6000
    table = (np.random.default_rng(4).normal(size=(size, size)) * 0.6).astype(np.float32)
    shares = np.exp(table.astype(np.float64) / 0.8)
    shares /= shares.sum(axis=1, keepdims=True)
    found = np.zeros((size, size))
    accepted = 0
    for seed in range(count):
        request = Request("r", (2,), SamplingParams(max_tokens=3, temperature=0.8, seed=seed))
        decoder = SpeculativeDecoder(
            AutoregressiveDecoder.for_request(0, request, size, [], 64), {"one": Constant(*guess)}
        )
        tokens: list[int] = []
        while len(tokens) < 2:
            span = decoder.propose(3)
            assert span is not None
            decision = decoder.decide(table[span.tokens[span.row_sets[LOGITS]]])
            tokens += decision.tokens
            accepted += decision.accepted
        found[tokens[0], tokens[1]] += 1
    expected = count * shares[2][:, None] * shares
    statistic = float(((found - expected) ** 2 / expected).sum())
    assert accepted > 0.05 * count
    assert expected.min() > 5
    assert statistic < 112.3, "the 0.9999 quantile of chi-square with 63 degrees of freedom"


def test_logits_that_fail_behind_right_guesses_fail_when_their_turn_comes() -> None:
    expected = drive(plain(WAYS["greedy"])).tokens
    decoder = SpeculativeDecoder(plain(WAYS["greedy"]), {"truth": Truth([*PROMPT, *expected], 1.0, V)})
    first = decoder.propose(len(PROMPT))
    assert first is not None
    decoder.decide(rows_of(first, []))
    span = decoder.propose(5)
    assert span is not None
    rows = rows_of(span, PROMPT)
    rows[2] = np.nan
    decision = decoder.decide(rows)
    assert decision.tokens == tuple(expected[1:3]) and decision.done is None
    assert decoder.committed == len(decoder.tokens) - 1 == len(PROMPT) + 2
    again = decoder.propose(1)
    assert again is not None and again.tokens.tolist() == [expected[2]]
    with pytest.raises(FivefoldError, match="not finite"):
        decoder.decide(np.full((1, V), np.nan, np.float32))


def through_prompt(decoder: SpeculativeDecoder) -> list[int]:
    """The prompt is read; what is in the cache."""
    span = decoder.propose(100)
    assert span is not None
    decoder.decide(rows_of(span, []))
    return list(PROMPT)


def test_worth_says_how_often_guesses_are_right() -> None:
    truth = drive(plain(WAYS["context"])).tokens
    for share, least, most in ((1.0, 0.85, 1.0), (0.5, 0.2, 0.75), (0.0, 0.0, 0.3)):
        decoder = SpeculativeDecoder(plain(WAYS["context"]), {"truth": Truth([*PROMPT, *truth], share, V, 7)})
        assert isinstance(decoder, Guessing)
        assert decoder.worth == () and decoder.wanted == 0, "the prompt comes first"
        cached = through_prompt(decoder)
        for _ in range(12):
            worth = list(decoder.worth)
            assert worth == sorted(worth, reverse=True) and len(worth) <= MOST_GUESSES
            span = decoder.propose(4)
            assert span is not None
            decision = decoder.decide(rows_of(span, cached))
            cached += span.tokens[: len(decision.commit.rows)].tolist()
        assert least <= (decoder.worth or (0.0,))[0] <= most, share


def test_guesses_are_judged_though_no_row_is_spent_on_them() -> None:
    truth = drive(plain(WAYS["context"])).tokens
    decoder = SpeculativeDecoder(plain(WAYS["context"]), {"truth": Truth([*PROMPT, *truth], 0.0, V)})
    cached = through_prompt(decoder)
    before = decoder.worth[0]
    for _ in range(6):
        assert decoder.worth  # asked for, and not worth a row
        span = decoder.propose(1)
        assert span is not None and len(span.tokens) == 1 and not span.draft
        decision = decoder.decide(rows_of(span, cached))
        assert (decision.guessed, decision.accepted) == (0, 0)
        cached += span.tokens.tolist()
    assert decoder.worth[0] < before / 2


def test_guesses_that_nobody_asks_for_are_not_made() -> None:
    class Asked(Truth):
        asked = 0

        def guess(self, most: int) -> Guess:
            Asked.asked += 1
            return super().guess(most)

    truth = drive(plain(WAYS["context"])).tokens
    decoder = SpeculativeDecoder(plain(WAYS["context"]), {"truth": Asked([*PROMPT, *truth], 1.0, V)})
    cached = through_prompt(decoder)
    asked = Asked.asked
    for _ in range(6):
        span = decoder.propose(1)
        assert span is not None
        decoder.decide(rows_of(span, cached))
        cached += span.tokens.tolist()
    assert Asked.asked == asked
    assert list(decoder.tokens) == [*PROMPT, *truth][: len(decoder.tokens)]


def test_no_guess_is_made_for_what_cannot_come() -> None:
    """Each row may bring a token, and there is room for three."""
    params = SamplingParams(max_tokens=4, temperature=0.0, ignore_eos=True)
    truth = drive(plain(WAYS["greedy"])).tokens
    decoder = SpeculativeDecoder(plain(params), {"truth": Truth([*PROMPT, *truth], 1.0, V)})
    cached = through_prompt(decoder)
    span = decoder.propose(100)
    assert span is not None and len(span.tokens) == 3 == len(decoder.worth) + 1
    decision = decoder.decide(rows_of(span, cached))
    assert decision.done == "length" and decision.tokens == tuple(truth[1:4])
    assert decoder.worth == () and decoder.hoped == ()


def test_guesses_that_are_offered_hold_for_one_step() -> None:
    truth = drive(plain(WAYS["context"])).tokens
    decoder = SpeculativeDecoder(plain(WAYS["context"]), {"offered": SOURCES["offered"]()})
    cached = through_prompt(decoder)
    assert decoder.wanted == len(decoder.hoped) > 0 and decoder.worth == ()
    decoder.offer([(token, 0.6) for token in truth[1:4]])
    assert decoder.worth == pytest.approx([0.65, 0.65**2, 0.65**3])
    assert len(decoder.worth) == 3 and decoder.wanted == 0
    span, again = decoder.propose(3), decoder.propose(10)
    assert span is not None and span.tokens.tolist() == truth[:3]
    assert again is not None and again.tokens.tolist() == truth[:4] and again.draft
    decision = decoder.decide(rows_of(again, cached))
    assert decision.tokens == tuple(truth[1:5]) and (decision.guessed, decision.accepted) == (3, 3)
    assert decoder.worth == () and decoder.wanted > 0
    decoder.offer([(0, 0.01)])
    assert len(decoder.worth) == 1 and decoder.worth[0] < 0.1, "of another class, and not likely"


def test_another_draft_is_hoped_to_be_worth_what_drafts_were() -> None:
    decoder = SpeculativeDecoder(plain(WAYS["context"]), {"offered": SOURCES["offered"]()})
    cached = through_prompt(decoder)
    first = list(decoder.hoped)
    assert first[:3] == [0.5, 0.25, 0.125]
    for likely, better in ((0.95, True), (0.05, False)):
        for _ in range(4):
            assert decoder.wanted > 0
            decoder.offer([(V, likely)] * 2)  # no token of the vocabulary: it is never right
            span = decoder.propose(1)
            assert span is not None
            cached += span.tokens[: len(decoder.decide(rows_of(span, cached)).commit.rows)].tolist()
        hoped = list(decoder.hoped)
        assert hoped == sorted(hoped, reverse=True) and (hoped[0] > first[0]) == better
        first = hoped


def test_of_two_sources_the_one_that_promises_more_is_used() -> None:
    truth = drive(plain(WAYS["context"])).tokens
    sources = {"truth": Truth([*PROMPT, *truth], 1.0, V), "one": Constant(0, 0, 0)}
    decoder = SpeculativeDecoder(plain(WAYS["context"]), sources)
    through_prompt(decoder)
    assert len(decoder.worth) > 3
    span = decoder.propose(3)
    assert span is not None and span.tokens.tolist() == truth[:3]
