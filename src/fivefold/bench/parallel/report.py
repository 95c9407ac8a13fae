"""The figures of parallel decoding under the keys of docs/bench.md, and as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fivefold.bench.report import machine_line
from fivefold.bench.summary import ratio, spread
from fivefold.core.request import Decoding

if TYPE_CHECKING:
    from .run import Answer

PLAIN: Decoding = "autoregressive"
GUESSED: Decoding = "speculative"
DRAWS = 2000


def rows_figures(found: Mapping[int, Sequence[float]]) -> dict[str, Any]:
    """Seconds of a step by its rows, and over that of one row."""
    one = float(np.median(found[1]))
    return {
        str(rows): {**spread(seconds, 6), "over_one": round(float(np.median(seconds)) / one, 3)}
        for rows, seconds in found.items()
    }


def domain_figures(pairs: Sequence[Mapping[str, Answer]]) -> dict[str, Any]:
    """Both ways over all prompts: rates, their ratio with a 95 % interval over prompts, what guesses did."""
    counts = np.array([len(pair[PLAIN].tokens) - 1 for pair in pairs], np.float64)
    seconds = {
        way: np.array([pair[way].timings.decode_seconds for pair in pairs], np.float64)
        for way in (PLAIN, GUESSED)
    }
    drawn = np.random.default_rng(0).integers(0, len(pairs), (DRAWS, len(pairs)))
    ratios = seconds[PLAIN][drawn].sum(axis=1) / seconds[GUESSED][drawn].sum(axis=1)
    timings = [pair[GUESSED].timings for pair in pairs]
    same = sum(pair[PLAIN].tokens == pair[GUESSED].tokens for pair in pairs)
    tokens, rounds = sum(one.output_tokens for one in timings), sum(one.rounds for one in timings)
    return {
        "prompts": len(pairs), "identical": same, "tokens": int(tokens),
        **{way: round(float(counts.sum() / seconds[way].sum()), 2) for way in seconds},
        "speedup": round(float(seconds[PLAIN].sum() / seconds[GUESSED].sum()), 3),
        "low": round(float(np.quantile(ratios, 0.025)), 3),
        "high": round(float(np.quantile(ratios, 0.975)), 3),
        "tokens_a_round": ratio(tokens, rounds), "places": _places([pair[GUESSED] for pair in pairs]),
    }  # fmt: skip


def _places(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """For each place behind the last token: guesses that were run there, and the share that was right."""
    most = max((len(answer.figures.guessed_by_place) for answer in answers), default=0)
    guessed, accepted = np.zeros(most, int), np.zeros(most, int)
    for answer in answers:
        for into, found in ((guessed, answer.figures.guessed_by_place),
                            (accepted, answer.figures.accepted_by_place)):  # fmt: skip
            into[: len(found)] += np.array(found, int)
    return [
        {"guessed": int(all_of), "accepted": int(right), "share": ratio(int(right), int(all_of))}
        for all_of, right in zip(guessed, accepted, strict=True)
    ]


def peer_figures(found: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The rates of all sides, and ours with guesses over each."""
    ours = float(np.median(found[GUESSED]))
    return {
        name: {**spread(rates), "speculative_over": ratio(ours, float(np.median(rates)))}
        for name, rates in found.items()
    }


def batch_figures(requests: int, found: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Many requests at once, both ways."""
    medians = {way: float(np.median(rates)) for way, rates in found.items()}
    return {
        "requests": requests, "sides": {way: spread(rates) for way, rates in found.items()},
        "speedup": ratio(medians[GUESSED], medians[PLAIN]),
    }  # fmt: skip


def parallel_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """The figures for people."""
    yield machine_line(answer)
    over = ", ".join(f"{rows}: {found['over_one']:.2f}" for rows, found in answer["rows"].items())
    yield f"a step of so many rows, over that of one: {over}"
    for name, one in {**answer["domains"], "general, sampled": answer["sampled"]}.items():
        shares = ", ".join(
            "-" if each["share"] is None else f"{each['share']:.2f}" for each in one["places"][:8]
        )
        yield (
            f"{name:<17} {one[PLAIN]:.1f} to {one[GUESSED]:.1f} tokens/s, {one['speedup']:.2f} "
            f"[{one['low']:.2f}, {one['high']:.2f}]; {one['tokens_a_round']} tokens a round, right by place "
            f"{shares or '-'}; {one['identical']} of {one['prompts']} answers identical"
        )
    if "chi_square" in answer:
        one = answer["chi_square"]
        guessed, right = (sum(each[name] for each in one["prompts"]) for name in ("guessed", "right"))
        yield (
            f"sampled by other seeds: chi-square {one['statistic']:.1f} of {one['degrees']} degrees, p "
            f"{one['chance']:.3f}; {len(one['prompts'])} prompts, {one['draws']} draws each way, "
            f"{right} of {guessed} guesses right"
        )
    for name, side in answer.get("peers", {}).items():
        over = side["speculative_over"]
        yield f"beside peers  {name:<24} {side['median']:.1f} tokens/s; speculative over it {over}"
    batch = answer["batch"]
    yield (
        f"{batch['requests']} requests at once  {batch['sides'][PLAIN]['median']:.1f} to "
        f"{batch['sides'][GUESSED]['median']:.1f} tokens/s, {batch['speedup']}"
    )
