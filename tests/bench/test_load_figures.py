"""Figures of loads that are made by hand, so that each is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fivefold.bench.load.plan import LongPrompt, Plan
from fivefold.bench.load.record import Load, Record
from fivefold.bench.load_figures import (
    chunk_rate,
    gaps_across,
    gaps_within,
    prefill_figures,
    steady_figures,
)
from fivefold.core.errors import FivefoldError

PLAN = Plan("http://x", "m", "chat", clients=2, requests=2, words=8, tokens=4)


def record(due: float, chunks: list[float], **more: object) -> Record:
    """An answer that came in these chunks, of a token each."""
    made = Record(due, due, chunks[-1] if chunks else due, chunks, len(chunks), 8, True, True)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def test_rates_and_percentiles_of_a_steady_load() -> None:
    first = record(0.0, [1.0, 1.5, 2.0, 3.0])
    second = record(0.5, [2.5, 3.0, 3.5, 4.0])
    figures = steady_figures(PLAN, Load([first, second], 0.1))
    assert figures["output_tokens_per_second"] == 8 / 4.0
    assert figures["requests_per_second"] == 2 / 4.0
    assert figures["ttft_seconds"]["p50"] == pytest.approx(1.5)
    assert figures["end_to_end_seconds"]["p99"] == pytest.approx(3.0 + 0.99 * 0.5)
    assert figures["gap_seconds"]["p50"] == 0.5
    assert figures["gap_seconds"]["p99"] == pytest.approx(0.5 + 0.5 * 0.95)
    assert (figures["tokens_per_chunk"], figures["prompt_tokens"], figures["errors"]) == (1.0, 8, 0)
    assert figures["tokens_counted"] is True
    assert figures["short_answers"] == 0


def test_an_open_loop_counts_from_when_requests_were_due() -> None:
    late = record(1.0, [2.0, 2.1, 2.2, 2.3], sent=1.8)
    figures = steady_figures(PLAN, Load([late], 0.0))
    assert figures["ttft_seconds"]["p50"] == pytest.approx(1.0)


def test_a_chunk_of_several_tokens_is_one_gap() -> None:
    figures = steady_figures(PLAN, Load([record(0.0, [1.0, 2.0], tokens=8)], 0.0))
    assert figures["tokens_per_chunk"] == 4.0
    assert figures["gap_seconds"]["p50"] == 1.0
    assert figures["output_tokens_per_second"] == 4.0


def test_failures_are_counted_and_left_out() -> None:
    good, bad = record(0.0, [1.0, 2.0, 3.0, 4.0]), record(0.0, [9.0], error="no room", finished=False)
    short = record(0.0, [1.0, 4.0])
    figures = steady_figures(PLAN, Load([bad, good, short], 0.5))
    assert (figures["errors"], figures["first_error"], figures["requests"]) == (1, "no room", 3)
    assert figures["output_tokens"] == 6
    assert figures["short_answers"] == 1
    assert figures["generator_processor_share"] == 0.5
    with pytest.raises(FivefoldError, match="no request was answered: no room"):
        steady_figures(PLAN, Load([bad], 0.0))


def test_one_token_answers_have_no_gaps() -> None:
    assert steady_figures(PLAN, Load([record(0.0, [1.0])], 0.0))["gap_seconds"] is None


def test_gaps_in_a_window_and_across_it() -> None:
    stream = record(0.0, [1.0, 2.0, 4.0, 7.0, 11.0])
    assert gaps_within(stream) == [1.0, 2.0, 3.0, 4.0]
    assert gaps_within(stream, 1.5, 7.0) == [2.0, 3.0]
    assert gaps_across(stream, 4.5, 7.5) == [3.0, 4.0]
    assert chunk_rate([stream, stream], 1.0, 7.0) == 1.0
    # The load ended while it waited: it has waited at least until then.
    assert gaps_across(record(0.0, [1.0, 2.0], finished=False), 3.0, 9.0) == [7.0]
    assert gaps_across(record(0.0, [1.0, 2.0]), 3.0, 9.0) == []


def streams(during: list[float]) -> list[Record]:
    """Two streams with gaps of 0.1 s until second 2, and these chunks after."""
    before = [0.1 * place for place in range(1, 21)]
    return [record(0.0, [*before, *during], finished=False) for _ in range(2)]


LONG = replace(PLAN, long=LongPrompt(100, 1.0))


def test_a_long_prompt_that_stretches_the_gaps() -> None:
    slow = [2.0 + 0.3 * place for place in range(1, 20)]
    load = Load(streams(slow), 0.0, record(2.0, [5.0, 5.1], prompt_tokens=103))
    figures = prefill_figures(LONG, load)
    assert figures["gap_seconds_without"]["p99"] == pytest.approx(0.1)
    assert figures["gap_seconds_during"]["p99"] == pytest.approx(0.3)
    assert figures["p99_ratio"] == pytest.approx(3.0)
    assert (figures["long_ttft_seconds"], figures["long_prompt_tokens"]) == (3.0, 103)
    assert figures["chunks_per_second_without"] == pytest.approx(20.0, rel=0.06)
    assert figures["chunks_per_second_during"] == pytest.approx(2 / 0.3, rel=0.11)


def test_a_server_that_stops_all_streams_cannot_hide_it() -> None:
    load = Load(streams([]), 0.0, record(2.0, [5.0, 5.1]))
    figures = prefill_figures(LONG, load)
    assert figures["gap_seconds_during"]["p50"] == pytest.approx(3.0)
    assert figures["p99_ratio"] == pytest.approx(30.0)


def test_a_long_prompt_that_failed_or_met_nobody_is_an_error() -> None:
    with pytest.raises(FivefoldError, match="too long"):
        prefill_figures(LONG, Load(streams([]), 0.0, record(2.0, [], error="too long")))
    with pytest.raises(FivefoldError, match="no tokens were streamed"):
        prefill_figures(LONG, Load([record(0.0, [], error="down")], 0.0, record(2.0, [3.0])))
