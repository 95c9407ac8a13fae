"""Figures of a load: rates over all of it, percentiles over its requests and over the gaps between chunks.

A chunk that carries several tokens counts once as a gap, so tokens for each chunk are told beside the gaps.
Requests that failed are counted as errors and are in no other figure.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from fivefold.core.errors import FivefoldError

from .load.plan import Plan
from .load.record import Load, Record
from .summary import percentiles


def steady_figures(plan: Plan, load: Load) -> dict[str, Any]:
    """One round of a closed or open loop. FivefoldError when no request was answered."""
    answered = [record for record in load.records if record.finished and not record.error]
    if not answered:
        raise FivefoldError(f"no request was answered: {_first_error(load.records)}", where=plan.base)
    took = max(record.ended for record in answered) - min(record.due for record in load.records)
    tokens = sum(record.tokens for record in answered)
    chunks = sum(len(record.chunks) for record in answered)
    return {
        "output_tokens_per_second": tokens / took,
        "requests_per_second": len(answered) / took,
        "ttft_seconds": percentiles([record.chunks[0] - record.due for record in answered]),
        "gap_seconds": percentiles([gap for record in answered for gap in gaps_within(record)]),
        "end_to_end_seconds": percentiles([record.ended - record.due for record in answered]),
        "tokens_per_chunk": tokens / chunks,
        "output_tokens": tokens,
        "prompt_tokens": statistics.median(record.prompt_tokens for record in answered),
        "requests": len(load.records),
        **_faults(plan, load, answered),
    }


def prefill_figures(plan: Plan, load: Load) -> dict[str, Any]:
    """One round in which a long prompt arrived: gaps while it was read, against those before.

    FivefoldError when the long prompt failed, or nobody streamed on either side of its arrival.
    """
    long = load.long
    assert long is not None
    if long.error or not long.chunks:
        raise FivefoldError(f"the long prompt was not answered: {long.error}", where=plan.base)
    streams = [record for record in load.records if not record.error]
    begun = max((record.chunks[0] for record in streams[: plan.clients] if record.chunks), default=0.0)
    first = long.chunks[0]
    without = [gap for record in streams for gap in gaps_within(record, begun, long.sent)]
    during = [gap for record in streams for gap in gaps_across(record, long.sent, first)]
    before, meanwhile = percentiles(without), percentiles(during)
    if before is None or meanwhile is None:
        raise FivefoldError(
            f"no tokens were streamed beside the long prompt: {_first_error(load.records)}", where=plan.base,
            remedy="give more --tokens or --clients",
        )  # fmt: skip
    return {
        "gap_seconds_without": before,
        "gap_seconds_during": meanwhile,
        "p99_ratio": meanwhile["p99"] / before["p99"] if before["p99"] else 0.0,
        "long_ttft_seconds": first - long.sent,
        "long_prompt_tokens": long.prompt_tokens,
        "chunks_per_second_without": chunk_rate(streams, begun, long.sent),
        "chunks_per_second_during": chunk_rate(streams, long.sent, first),
        "requests": len(load.records),
        **_faults(plan, load, streams),
    }


def chunk_rate(records: Sequence[Record], start: float, end: float) -> float:
    """Chunks a second of all requests together in the window."""
    came = sum(start < chunk <= end for record in records for chunk in record.chunks)
    return came / (end - start) if end > start else 0.0


def gaps_within(record: Record, start: float = 0.0, end: float = float("inf")) -> list[float]:
    """Seconds between consecutive chunks that both arrived in the window."""
    pairs = zip(record.chunks, record.chunks[1:], strict=False)
    return [later - earlier for earlier, later in pairs if start <= earlier and later <= end]


def gaps_across(record: Record, start: float, end: float) -> list[float]:
    """Seconds between consecutive chunks of which any part lies in the window, each gap in its whole length.

    A stream that was still waiting when the load ended has waited at least until the window's end.
    """
    pairs = zip(record.chunks, record.chunks[1:], strict=False)
    found = [later - earlier for earlier, later in pairs if later > start and earlier < end]
    if not record.finished and record.chunks and record.chunks[-1] < end:
        found.append(end - record.chunks[-1])
    return found


def _faults(plan: Plan, load: Load, answered: Sequence[Record]) -> dict[str, Any]:
    """What makes a round doubtful: failures, answers cut short, a busy generator, uncounted tokens."""
    return {
        "errors": sum(bool(record.error) for record in load.records),
        "first_error": _first_error(load.records),
        "short_answers": sum(record.finished and record.tokens < plan.tokens for record in answered),
        "tokens_counted": all(record.counted for record in answered if record.finished),
        "generator_processor_share": load.processor_share,
    }


def _first_error(records: Iterable[Record]) -> str:
    return next((record.error for record in records if record.error), "")
