"""A whole answer, joined from a request's events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fivefold.core.request import FinishReason, Request, Timings, TokenEvent, TokenLogprob


@dataclass(frozen=True, slots=True)
class Generation:
    """A prompt's answer: its tokens (the one that ended it too), its text, why it ended, what it took."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    text: str
    logprobs: tuple[TokenLogprob, ...]
    finish_reason: FinishReason
    stop_reason: str | int | None
    timings: Timings


def joined(request: Request, events: Sequence[TokenEvent]) -> Generation:
    """All events of a request as one answer; the last one must have its finish reason."""
    last = events[-1]
    assert last.finish_reason is not None, "the request has not ended"
    assert last.timings is not None
    return Generation(
        request.prompt,
        tuple(token for event in events for token in event.tokens),
        "".join(event.text for event in events),
        tuple(entry for event in events for entry in event.logprobs),
        last.finish_reason,
        last.stop_reason,
        last.timings,
    )


def merged(events: Sequence[TokenEvent]) -> TokenEvent:
    """Consecutive events of one request as one event, with the last draft if nothing came after it."""
    if len(events) == 1:
        return events[0]
    last = events[-1]
    return TokenEvent(
        last.identity,
        tuple(token for event in events for token in event.tokens),
        "".join(event.text for event in events),
        tuple(entry for event in events for entry in event.logprobs),
        last.finish_reason,
        last.stop_reason,
        last.timings,
        last.error,
        last.draft,
    )
