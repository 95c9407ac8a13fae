"""Rounds: each measures every side once, one after the other, so that a drift of the machine meets all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

Name = TypeVar("Name")
Result = TypeVar("Result")


def alternate(sides: Mapping[Name, Callable[[int], Result]], rounds: int) -> dict[Name, list[Result]]:
    """One warm-up, which is turn 0 and does not count, and `rounds` measured turns of all sides.

    Each side is called with the turn's number, from which all sides can take the same random numbers.
    """
    results: dict[Name, list[Result]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, measure in sides.items():
            result = measure(turn)
            if turn:
                results[name].append(result)
    return results
