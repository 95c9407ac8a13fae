"""What one rendering of a chat template may use: steps, seconds of processor time, and bytes of text.

A template comes from a stranger, so nothing that it makes is taken on trust. Every value that an operator,
a call or a filter has made is shown to the meter: a text, and a list written out with all that it holds as
often as it occurs, may be a few megabytes longer than what the caller gave, and all of them together
some more. So no value can be large, and the guards of single operations need to look one step ahead only.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from sys import getsizeof
from typing import Any

from jinja2.exceptions import SecurityError

MOST_STEPS = 2_000_000
MOST_SECONDS = 0.6
SECONDS_A_BYTE = 1e-6
"""What is added for each byte that the caller gave."""
MOST_BYTES, TIMES_GIVEN = 4 << 20, 4
"""One value: so many bytes, and so many times what the caller gave."""
MOST_BYTES_IN_ALL, TIMES_GIVEN_IN_ALL = 32 << 20, 32
MOST_DEPTH = 200
MOST_ITEMS = 100_000

_HEAD = 64
"""Bytes of a text beside its characters."""
_ITEMS: type = type({}.items())
_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), _ITEMS)
_CONTAINERS = (list, tuple, dict, set, frozenset, *_VIEWS)


class Meter:
    """The bounds of one rendering of what the caller has `given`, and what is left of them."""

    def __init__(self, given: Any = None) -> None:
        self.most = self._left = 1 << 62
        self._deadline = float("inf")
        self._known: dict[int, tuple[Any, int]] = {}
        self._steps = 0
        size = self.weigh(given)
        self.most = MOST_BYTES + TIMES_GIVEN * size
        self._left = MOST_BYTES_IN_ALL + TIMES_GIVEN_IN_ALL * size
        self._deadline = time.thread_time() + MOST_SECONDS + SECONDS_A_BYTE * size

    def step(self) -> None:
        """Count one loop turn, call or operation; SecurityError when there were too many, or time is up."""
        self._steps += 1
        if self._steps > MOST_STEPS or (self._steps % 8 == 0 and time.thread_time() > self._deadline):
            raise SecurityError("it runs for too long")

    def admit(self, value: Any) -> Any:
        """The value, which the template has made; SecurityError if it is too large, or time is up."""
        self.step()
        size = self.weigh(value)
        if isinstance(value, str):
            self._charge(size)
        self.check(size)
        return value

    def check(self, size: float) -> None:
        """SecurityError if one value of so many bytes would be too large."""
        if size > self.most:
            raise SecurityError("it makes too long a text")
        if size > 4096 and time.thread_time() > self._deadline:
            raise SecurityError("it runs for too long")

    def weigh(self, value: Any, depth: int = 0) -> int:
        """Bytes of a value, about, each part as often as it occurs; charges for new containers."""
        if isinstance(value, str):
            return size_of(value)
        if not isinstance(value, _CONTAINERS):
            return 3 * getsizeof(value)
        known = self._known.get(id(value))
        if known is not None:
            return known[1]
        if depth > MOST_DEPTH:
            raise SecurityError("it nests lists too deeply")
        size = getsizeof(value)
        own = size
        for part in _parts(value):
            weight = self.weigh(part, depth + 1)
            own += weight if isinstance(part, str) else 0
            size += weight
            self.check(size)
        self._charge(own)
        self._known[id(value)] = value, size  # the reference keeps the number from being used again
        return size

    def listed(self, items: Iterable[Any], most: int = MOST_ITEMS) -> list[Any]:
        """The items as a list; SecurityError if there are more."""
        found = list(islice(items, most + 1))
        if len(found) > most:
            raise SecurityError(f"it makes a list of more than {most}")
        return found

    def turns(self, items: Iterable[Any]) -> Iterator[Any]:
        """The same items, each of them a step."""
        for item in items:
            self.step()
            yield item

    def joined(self, parts: Iterable[Any]) -> str:
        """The parts as one text, measured before it is made."""
        texts: list[str] = []
        size = 0
        for part in parts:
            text = str(part)
            size += size_of(text) - _HEAD
            if size > self.most:
                raise SecurityError("its text grows too long")
            texts.append(text)
        return str(self.admit("".join(texts)))

    def _charge(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise SecurityError("its texts grow too long")


def size_of(text: str) -> int:
    """Bytes of a text in memory, at most about."""
    return _HEAD + (len(text) if text.isascii() else 4 * len(text))


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return chain(value.keys(), value.values())
    both: Iterable[Any] = value
    return chain.from_iterable(both) if isinstance(value, _ITEMS) else both
