"""A table of n-grams: behind the last few tokens, the one that a model wrote most often, and how sure it is.

It is made of what the model itself wrote, and guesses its tokens at no cost worth measuring: for a small
model a guess that is right one time in four and free beats one that is right two times in five and costs a
tenth of a step. What it guesses is verified by the model, so the table changes no token.

A context of one to `orders` tokens is known by a hash of 32 bits; two of them meet so seldom that it only
costs a guess. Static lookup decoding of llama.cpp keeps such counts too; here only contexts are kept that
know better than the shorter ones they end with.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .decoder import Likely
from .errors import InputError, UnsupportedError

UInt32 = npt.NDArray[np.uint32]

CLASSES = 32
"""How sure an entry is, in steps of equal width: 0 to 31."""

MOST_ORDERS = 8

_FACTOR = 0x9E3779B1
_MASK = 0xFFFFFFFF
_TRAIN = "make one for this model: fivefold train ngrams"


@dataclass(frozen=True, slots=True)
class NGramOrigin:
    """What a table was made for and of: `tokens` that the model wrote, and the `command`."""

    model: str = ""
    fingerprint: str = ""
    family: str = ""
    tokens: int = 0
    command: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class NGramTable:
    """Entries of one table; InputError if they do not fit each other.

    orders  tokens of the longest context.
    keys    (n,) hashes of contexts, ascending and each once.
    values  (n,) the token times CLASSES plus how sure it is.
    """

    orders: int
    keys: UInt32
    values: UInt32
    origin: NGramOrigin = field(default_factory=NGramOrigin)

    def __post_init__(self) -> None:
        _require(1 <= self.orders <= MOST_ORDERS, f"contexts of {self.orders} tokens")
        _require(self.keys.shape == self.values.shape and self.keys.ndim == 1, "keys and values do not fit")
        _require(bool((self.keys[1:] > self.keys[:-1]).all()), "its keys do not ascend")

    def lookup(self) -> Lookup:
        """What looks tokens up."""
        return Lookup(self)

    def require_fit(self, vocabulary: int, where: str = "") -> None:
        """UnsupportedError unless a model of so many tokens can have it."""
        most = int(self.values.max()) // CLASSES if len(self.values) else 0
        if most >= vocabulary:
            raise UnsupportedError(
                f"the table of n-grams guesses token {most}, the model has {vocabulary}", where=where,
                remedy=_TRAIN,
            )  # fmt: skip


class Lookup:
    """Looks up what follows some tokens: a search in sorted memory for each length of context.

    It judges tables, and is the reference of `native/ngrams.cc`, which guesses whole chains while decoding.
    """

    def __init__(self, table: NGramTable) -> None:
        self._orders = table.orders
        self._keys, self._values = (
            memoryview(np.ascontiguousarray(numbers))  # type: ignore[arg-type]
            for numbers in (table.keys, table.values)
        )

    def likeliest(self, last: Sequence[int]) -> Likely | None:
        """The surest of what is known behind the end of `last`, and the middle of its class; None if
        nothing is."""
        best, keys = -1, self._keys
        for key in hashes(last, self._orders):
            place = bisect_left(keys, key)
            if place < len(keys) and keys[place] == key:
                value = self._values[place]
                if value % CLASSES >= best % CLASSES or best < 0:
                    best = value
        if best < 0:
            return None
        token, sure = divmod(best, CLASSES)
        return token, (sure + 0.5) / CLASSES


def hashes(last: Sequence[int], orders: int) -> Iterator[int]:
    """Hashes of the contexts of one, two, ... tokens that `last` ends with."""
    key = 0
    for back in range(1, min(orders, len(last)) + 1):
        key = (key * _FACTOR + last[-back] + 1) & _MASK
        yield key


def hashed(contexts: npt.NDArray[np.integer]) -> UInt32:
    """The hashes of contexts (n, order)."""
    key = np.zeros(len(contexts), np.uint64)
    for back in range(contexts.shape[1]):
        key = (
            key * np.uint64(_FACTOR) + contexts[:, -1 - back].astype(np.uint64) + np.uint64(1)
        ) & np.uint64(_MASK)
    return key.astype(np.uint32)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise InputError(what, where="a table of n-grams", remedy=_TRAIN)
