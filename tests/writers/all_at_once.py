"""Requests of a test, all at once in one engine."""

from __future__ import annotations

from collections.abc import Sequence

from fivefold.core.request import Request
from fivefold.engine import Engine


def write_all(engine: Engine, asked: Sequence[Request]) -> dict[str, list[int]]:
    """The tokens of each by its identity; nothing fails, and the cache is whole after each step."""
    for request in asked:
        engine.submit(request)
    tokens: dict[str, list[int]] = {request.identity: [] for request in asked}
    while engine.busy:
        for event in engine.step():
            assert event.error is None
            tokens[event.identity] += event.tokens
        engine.check_integrity()
    return tokens
