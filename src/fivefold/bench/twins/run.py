"""The comparison of decision 16: a setting from the validation, quality on the test once, then time.

All of it is greedy. Quality is of all records of the test, sixteen at once, which changes no token; time is
of some of them, one at a time and both twins in turn, and then of many at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from fivefold.bench.compare import BANDWIDTH_SECONDS, Comparison, work_cost
from fivefold.bench.report import model_figures, subject_figures
from fivefold.bench.rounds import alternate
from fivefold.bench.summary import ratio, spread
from fivefold.bench.work import Work
from fivefold.core.errors import InputError
from fivefold.decode.guesses.offered import Offered
from fivefold.decode.guesses.repeats import Repeats
from fivefold.engine import LoadedModel
from fivefold.executor import read_bandwidth
from fivefold.files import model_fingerprint

from .questions import Question
from .scores import MARGIN, Float64, Score, difference, f1, rates_ratio, score
from .writing import Answer, Tokens, Way, Writer, bits

TOKENS, BLOCKS, GUESSED, BOTH = "autoregressive", "blocks", "speculative", "blocks, speculative"
FILLED = frozenset({Offered.name})
"""The source of guesses of a decoder of blocks beside a model; `FILLED_OR_REPEATED`: of repetition too."""
FILLED_OR_REPEATED = FILLED | {Repeats.name}
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
LEAST_BITS, LEAST_RATIO = 1.0, 1.3
TOGETHER = 16
"""Requests at once where only texts are wanted."""


@dataclass(frozen=True, slots=True)
class Compared:
    """How much is measured: records of the validation for the setting, of the test for time, rounds, and
    numbers of requests at once, and tokens of an answer at most: as many as the longest record has."""

    chosen_on: int = 400
    timed: int = 200
    rounds: int = 3
    batches: tuple[int, ...] = (4, 16, 32)
    thresholds: tuple[float, ...] = THRESHOLDS
    most: int = 256


@dataclass(frozen=True, slots=True)
class Twins:
    """Both models, loaded: one that tells the next token, and one that fills blocks: by itself, or by a side
    drafter beside the very weights of the first, which check what it fills."""

    autoregressive: LoadedModel
    blocks: LoadedModel

    def __post_init__(self) -> None:
        plain, drafter = self.autoregressive, self.blocks.drafter
        if plain.model.diffusion is not None or plain.drafter is not None:
            raise InputError("the first twin writes token by token", where="the twins",
                             remedy="give them in this order, the first loaded without drafter")  # fmt: skip
        if self.blocks.model.diffusion is None and (drafter is None or drafter.shape.form != "block"):
            raise InputError(
                "the second twin writes by diffusion, or has a drafter that fills blocks", where="the twins",
                remedy="train a drafter beside the first: fivefold train drafter; or name another model",
            )  # fmt: skip
        if drafter is not None and drafter.origin.fingerprint != model_fingerprint(
            plain.model, plain.checkpoint
        ):
            raise InputError("the second twin's drafter is of another model than the first",
                             where="the twins", remedy="give the model that it stands beside")  # fmt: skip
        if self.autoregressive.vocabulary.size != self.blocks.vocabulary.size:
            raise InputError("the twins have different vocabularies", where="the twins",
                             remedy="train both from one corpus")  # fmt: skip

    @property
    def checked(self) -> bool:
        """Whether blocks are checked, and so change no token."""
        return self.blocks.model.diffusion is None

    def ways(self, denoiser: str) -> dict[str, Way]:
        """All ways to write, by name; those with guesses write what the first does."""
        found = {TOKENS: Way(self.autoregressive, "autoregressive")}
        if self.checked:
            found[BLOCKS] = Way(self.blocks, "speculative", guesses=FILLED)
        else:
            found[BLOCKS] = Way(self.blocks, "diffusion", denoiser)
        found[GUESSED] = Way(self.autoregressive, "speculative")
        if self.checked:
            found[BOTH] = Way(self.blocks, "speculative", guesses=FILLED_OR_REPEATED)
        return found

    def prompts(self, questions: Sequence[Question]) -> list[Tokens]:
        """What is given, as tokens."""
        return [tuple(self.autoregressive.vocabulary.encode(one.given)) for one in questions]


def measure_twins(
    twins: Twins, validation: Sequence[Question], test: Sequence[Question], asked: Compared
) -> dict[str, Any]:
    """All figures under the keys of docs/bench.md."""
    settings = twins.autoregressive.settings
    size = int(work_cost(twins.autoregressive, Work("decode", 1, 1, 1)).weight_bytes)
    memory = partial(read_bandwidth, settings.threads, size, BANDWIDTH_SECONDS)
    bandwidths = [memory()]
    chosen = _chosen(twins, validation[: asked.chosen_on], asked)
    ways = twins.ways(chosen["denoiser"])
    quality = _quality(ways, twins.prompts(test), test, asked.most)
    bandwidths.append(memory())
    prompts = twins.prompts(test[: asked.timed])
    alone = _alone(ways, prompts, asked)
    batches = {str(count): _together(ways, prompts, count, asked) for count in asked.batches}
    bandwidths.append(memory())
    told = subject_figures(twins.autoregressive, Comparison((), tuple(bandwidths), {}, {}))
    verdict = {
        "hard_enough": quality["bits"] >= LEAST_BITS, "equal": quality["equal"],
        "faster": alone["ratio"]["low"] > LEAST_RATIO,
    }  # fmt: skip
    return {
        "work": "twins", **told, "blocks": _other(twins), "chosen": chosen,
        "test": quality, "alone": alone, "together": batches,
        "verdict": verdict | {"holds": all(verdict.values())},
    }  # fmt: skip


def _other(twins: Twins) -> dict[str, Any]:
    """What tells the second twin: its file, or what stands beside the first."""
    drafter = twins.blocks.drafter
    told: dict[str, Any] = model_figures(twins.blocks.checkpoint.path)
    if drafter is not None:
        shape, origin = drafter.shape, drafter.origin
        told["drafter"] = {
            "layers": shape.layers, "slots": shape.slots, "taps": list(shape.taps), "tokens": origin.tokens,
            "steps": origin.steps, "seed": origin.seed, "fingerprint": origin.fingerprint,
        }  # fmt: skip
    return told


def _chosen(twins: Twins, questions: Sequence[Question], asked: Compared) -> dict[str, Any]:
    """The setting with the fewest passes that is no worse than the other twin, or the best one. None where
    blocks are checked."""
    if twins.checked:
        return {"denoiser": "", "records": 0, "settings": {}}
    prompts = twins.prompts(questions)
    plain = _tried(twins.ways("")[TOKENS], prompts, questions, asked.most)
    found: dict[str, dict[str, float]] = {}
    for threshold in asked.thresholds:
        denoiser = f"confidence_threshold:threshold={threshold:g}"
        found[denoiser] = _tried(twins.ways(denoiser)[BLOCKS], prompts, questions, asked.most)
    good = [name for name, one in found.items() if one["f1"] >= plain["f1"]]
    chosen = (
        min(good, key=lambda name: found[name]["passes"])
        if good
        else max(found, key=lambda name: found[name]["f1"])
    )
    return {"denoiser": chosen, "records": len(questions), TOKENS: plain, "settings": found}


def _tried(way: Way, prompts: Sequence[Tokens], questions: Sequence[Question], most: int) -> dict[str, float]:
    """F1, and passes and tokens of all records."""
    with Writer(way, most) as writer:
        answers = [writer.one(prompt) for prompt in prompts]
    scores = [score(question, answer) for question, answer in zip(questions, answers, strict=True)]
    passes, tokens = sum(one.passes for one in answers), sum(len(one.tokens) for one in answers)
    return {"f1": round(f1(scores), 4), "passes": passes, "tokens": tokens,
            "tokens_a_pass": round(tokens / passes, 3)}  # fmt: skip


def _quality(
    ways: Mapping[str, Way], prompts: Sequence[Tokens], test: Sequence[Question], most: int
) -> dict[str, Any]:
    judge = ways[TOKENS].loaded
    end = judge.vocabulary.end_tokens[0]
    real = [(*judge.vocabulary.encode(one.written), end) for one in test]
    told: dict[str, Any] = {"records": len(test), "sources": len({one.source for one in test})}
    told["bits"] = _bits_a_token(judge, prompts, real)
    scores: dict[str, list[Score]] = {}
    written: dict[str, list[Tokens]] = {}
    for name in (TOKENS, BLOCKS):
        with Writer(ways[name], most, TOGETHER) as writer:
            answers, _ = writer.all(prompts)
        written[name] = [one.tokens for one in answers]
        scores[name] = [score(question, one) for question, one in zip(test, answers, strict=True)]
        told[name] = {
            "f1": round(f1(scores[name]), 4),
            "whole": round(float(np.mean([one.whole for one in scores[name]])), 4),
            "bits": _bits_a_token(judge, prompts, written[name]),
            "tokens": sum(map(len, written[name])),
        }  # fmt: skip
    told["identical"] = sum(one == other for one, other in zip(written[TOKENS], written[BLOCKS], strict=True))
    gap = difference(scores[BLOCKS], scores[TOKENS])
    told["difference"] = {name: round(value, 4) for name, value in asdict(gap).items()}
    holds = {
        "fields": gap.low > -MARGIN, "whole": told[BLOCKS]["whole"] >= told[TOKENS]["whole"] - MARGIN,
        "likely": told[BLOCKS]["bits"] <= told["bits"],
    }  # fmt: skip
    return {**told, "holds": holds, "equal": all(holds.values())}


def _bits_a_token(judge: LoadedModel, prompts: Sequence[Tokens], texts: Sequence[Tokens]) -> float:
    total = sum(bits(judge, prompt, text) for prompt, text in zip(prompts, texts, strict=True))
    return round(total / sum(map(len, texts)), 4)


def _alone(ways: Mapping[str, Way], prompts: Sequence[Tokens], asked: Compared) -> dict[str, Any]:
    """One request at a time, all ways in turn for each record; a warm-up before. `identical` are the records
    that all ways but that of a diffusion model have completed alike, in all rounds."""
    same = {name for name, way in ways.items() if way.decoding != "diffusion"}
    rounds, names = asked.rounds, list(ways)
    found: dict[str, list[list[Answer]]] = {name: [[] for _ in prompts] for name in names}
    with ExitStack() as stack:
        writers = {name: stack.enter_context(Writer(way, asked.most)) for name, way in ways.items()}
        for turn in range(rounds + 1):
            for number, prompt in enumerate(prompts):
                first = (turn + number) % len(names)
                for name in names[first:] + names[:first]:
                    answer = writers[name].one(prompt)
                    if turn:
                        found[name][number].append(answer)
    tokens = {name: _sums(each, "tokens") for name, each in found.items()}
    seconds = {name: _sums(each, "seconds") for name, each in found.items()}
    passes = {name: _sums(each, "passes").sum() for name, each in found.items()}
    sides = {
        name: {"tokens_a_second": round(float(tokens[name].sum() / seconds[name].sum()), 2),
               "records_a_second": round(len(prompts) * rounds / float(seconds[name].sum()), 3),
               "tokens_a_pass": ratio(float(tokens[name].sum()), float(passes[name]))}
        for name in names
    }  # fmt: skip
    gap = rates_ratio((tokens[BLOCKS], tokens[TOKENS]), (seconds[BLOCKS], seconds[TOKENS]))
    ones = np.full(len(prompts), float(rounds))
    whole = rates_ratio((ones, ones), (seconds[BLOCKS], seconds[TOKENS]))
    written = [{one.tokens for name in same for one in found[name][number]} for number in range(len(prompts))]
    identical = sum(len(each) == 1 for each in written)
    return {
        "records": len(prompts), "rounds": rounds, "sides": sides, "identical": identical,
        "ratio": {name: round(value, 3) for name, value in asdict(gap).items()},
        "records_ratio": {name: round(value, 3) for name, value in asdict(whole).items()},
    }  # fmt: skip


def _sums(each: Sequence[Sequence[Answer]], what: str) -> Float64:
    """(records,): tokens, seconds or passes of all rounds."""

    def one(answer: Answer) -> float:
        return float(len(answer.tokens) if what == "tokens" else getattr(answer, what))

    return np.array([sum(map(one, answers)) for answers in each], np.float64)


def _together(
    ways: Mapping[str, Way], prompts: Sequence[Tokens], count: int, asked: Compared
) -> dict[str, Any]:
    """Tokens a second of all ways, so many requests at once, the next beginning where one ends."""

    def rate(way: Way, turn: int) -> float:
        del turn
        with Writer(way, asked.most, count) as writer:
            answers, seconds = writer.all(prompts)
        return sum(len(one.tokens) for one in answers) / seconds

    found = alternate({name: partial(rate, way) for name, way in ways.items()}, asked.rounds)
    medians = {name: float(np.median(rates)) for name, rates in found.items()}
    return {"sides": {name: spread(rates) for name, rates in found.items()},
            "ratio": ratio(medians[BLOCKS], medians[TOKENS])}  # fmt: skip
