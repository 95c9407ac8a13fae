"""A table of n-grams from conversations: counts, how far they can be trusted, and what is worth keeping.

How sure an entry is, is measured and not taken from its count: the conversations are parted, a table of all
other parts guesses the tokens of each, and how often guesses of one kind were right (by the length of the
context, how often it came, and the share of its commonest token) is what such an entry is worth. Kept is
what is surer than all that is known of the context's end; so a longer context is there only where it helps.
Tokens that were given are contexts too, and never what is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fivefold.core.batch import Int32
from fivefold.core.errors import InputError
from fivefold.core.ngrams import CLASSES, NGramOrigin, NGramTable, UInt32, hashed

PARTS = 4
"""Parts of the conversations by which entries are judged."""

_TIMES = np.array([1, 2, 3, 4, 6, 9, 17, 65])
_SHARES = 6
_KINDS = len(_TIMES) * _SHARES


@dataclass(frozen=True, slots=True)
class Written:
    """A conversation: its tokens (T,), the first `given` of which the model did not write."""

    tokens: Int32
    given: int


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """What followed contexts of one length: their hashes, ascending, the commonest token behind each, of what
    kind that guess is, and the first of the places behind it."""

    keys: UInt32
    tokens: Int32
    kinds: Int32
    places: np.ndarray


@dataclass(frozen=True, slots=True)
class Places:
    """All places where the model wrote a token.

    tokens  (P,) what it wrote; `parts` (P,) of the conversations.
    keys    for each length of context (P,) hashes, and where there is such a context (P,).
    """

    tokens: Int32
    parts: Int32
    keys: tuple[tuple[UInt32, np.ndarray], ...]

    @staticmethod
    def of(conversations: Sequence[Written], orders: int) -> Places:
        """Those of conversations; InputError if the model wrote nothing in them."""
        if not any(len(one.tokens) > one.given for one in conversations):
            raise InputError("the model wrote nothing", where="conversations", remedy="write some first")
        text = np.concatenate([one.tokens for one in conversations]).astype(np.int64)
        lengths = np.array([len(one.tokens) for one in conversations])
        ends = np.cumsum(lengths)
        starts = ends - lengths
        found = [np.arange(start + one.given, start + len(one.tokens))
                 for start, one in zip(starts, conversations, strict=True)]  # fmt: skip
        places = np.concatenate(found)
        counts = [len(part) for part in found]
        before = places - np.repeat(starts, counts)
        keys = []
        for order in range(1, orders + 1):
            contexts = text[np.maximum(places[:, None] - np.arange(order, 0, -1), 0)]
            keys.append((hashed(contexts), before >= order))
        parts = np.repeat(np.arange(len(conversations)) % PARTS, counts)
        return Places(text[places].astype(np.int32), parts.astype(np.int32), tuple(keys))


def ngram_table(
    conversations: Sequence[Written], orders: int, least: float, once: int = 2,
    origin: NGramOrigin | None = None,
) -> NGramTable:  # fmt: skip
    """The table of these conversations; entries that are right less often than `least` are left out, and so
    are contexts of more than `once` tokens that came but once."""
    places = Places.of(conversations, orders)
    worth = _judged(places, orders)
    every = np.ones(len(places.tokens), bool)
    kept: list[tuple[UInt32, Int32, np.ndarray]] = []
    for order in range(orders):
        counted = _counted(places, order, every)
        sure = np.minimum((worth[order][counted.kinds] * CLASSES).astype(np.int64), CLASSES - 1)
        known = _known(places, counted, kept)
        good = (worth[order][counted.kinds] >= least) & (sure > known)
        if order >= once:
            good &= counted.kinds >= _SHARES
        kept.append((counted.keys[good], counted.tokens[good], sure[good]))
    keys, first = np.unique(np.concatenate([keys for keys, _, _ in kept]), return_index=True)
    tokens = np.concatenate([tokens for _, tokens, _ in kept])[first].astype(np.uint32)
    sure = np.concatenate([sure for _, _, sure in kept])[first].astype(np.uint32)
    return NGramTable(orders, keys, tokens * np.uint32(CLASSES) + sure, origin or NGramOrigin())


def _counted(places: Places, order: int, chosen: np.ndarray) -> Counted:
    """What followed at the chosen places."""
    keys, there = places.keys[order]
    at = np.flatnonzero(chosen & there)
    both = keys[at].astype(np.uint64) << np.uint64(32) | places.tokens[at].astype(np.uint64)
    pairs, examples, counts = np.unique(both, return_index=True, return_counts=True)
    contexts = (pairs >> np.uint64(32)).astype(np.uint32)
    best = np.lexsort((-counts, contexts))  # the commonest token of each context first
    contexts, counts = contexts[best], counts[best]
    firsts = np.flatnonzero(np.r_[True, contexts[1:] != contexts[:-1]])
    totals = np.add.reduceat(counts, firsts)
    tokens = (pairs[best][firsts] & np.uint64(0xFFFFFFFF)).astype(np.int32)
    times = np.searchsorted(_TIMES, totals, side="right") - 1
    shares = np.minimum((counts[firsts] / totals * (_SHARES - 1)).astype(np.int64), _SHARES - 1)
    kinds = (times * _SHARES + shares).astype(np.int32)
    return Counted(contexts[firsts], tokens, kinds, at[np.minimum.reduceat(examples[best], firsts)])


def _judged(places: Places, orders: int) -> list[np.ndarray]:
    """For each length of context how often a guess of each kind is right, (kinds,)."""
    worth = []
    for order in range(orders):
        tried, right = np.zeros(_KINDS), np.zeros(_KINDS)
        for part in range(PARTS):
            apart = places.parts == part
            if apart.all() or not apart.any():
                continue
            counted = _counted(places, order, ~apart)
            keys, there = places.keys[order]
            mine = apart & there
            found, at = _found(counted.keys, keys[mine])
            kinds = counted.kinds[at[found]]
            tried += np.bincount(kinds, minlength=_KINDS)
            hit = counted.tokens[at[found]] == places.tokens[mine][found]
            right += np.bincount(kinds[hit], minlength=_KINDS)
        worth.append((right + 0.2) / (tried + 2.0))
    return worth


def _known(places: Places, counted: Counted, kept: Sequence[tuple[UInt32, Int32, np.ndarray]]) -> np.ndarray:
    """How sure the kept entries are behind the ends of these contexts; -1 where there is none."""
    best = np.full(len(counted.keys), -1)
    for shorter, (known, _, sure) in enumerate(kept):
        found, place = _found(known, places.keys[shorter][0][counted.places])
        best[found] = np.maximum(best[found], sure[place[found]])
    return best


def _found(sorted_keys: UInt32, keys: UInt32) -> tuple[np.ndarray, np.ndarray]:
    """Which keys are there, and at which place each would be."""
    if not len(sorted_keys):
        return np.zeros(len(keys), bool), np.zeros(len(keys), np.int64)
    at = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    return sorted_keys[at] == keys, at
