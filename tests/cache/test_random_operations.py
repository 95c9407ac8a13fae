"""Random operations on a cache that is always short of pages, each compared with a model in plain Python.

Few tokens and short pages make prefixes collide all the time. What is checked, besides the entries themselves
(see conftest.py): what attach finds against the tree's own nodes, that an operation for which there is
no room changes nothing, and that rows for which pages are reserved always find room.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fivefold.cache import OutOfPagesError
from fivefold.core.errors import InputError

LONGEST = 26
MOST = 9
GROUPS: dict[str, tuple[tuple[Any, ...], ...]] = {
    "one group": (("kv", 1, 4),),
    "two groups": (("kv", 1, 4), ("wide", 2, 4)),
    "windows": (("kv", 1, 4), ("near", 1, 4, 5), ("heads", 2, 4, 3)),
    "windows alone": (("kv", 1, 4, 6),),
    "layers and heads": (("kv", 1, 4, None, 2, 2), ("wide", 2, 4, None, 2)),
}
PAGES = {"windows": {"kv": 22, "near": 15, "heads": 28}, "windows alone": {"kv": 18}}
"""Fewer than the others have, so that what windows have let go of is needed."""


class Storm:
    """A book and dice."""

    def __init__(self, book: Any, make_tree: Callable[..., Any], seed: int) -> None:
        self.book, self.tree, self.dice = book, make_tree, random.Random(seed)
        self.windows = any(group.window is not None for group in book.layout.groups)
        self.counts: Counter[str] = Counter()
        self.operations: dict[Callable[[], None], int] = {
            self.admit: 18, self.extend: 40, self.publish: 14, self.fork: 4, self.truncate: 6,
            self.retain: 2, self.evict: 4, self.reserve: 4, self.cancel: 6, self.preempt: 3, self.resume: 3,
        }  # fmt: skip

    def run(self, count: int, whole_every: int) -> None:
        chosen, weights = list(self.operations), list(self.operations.values())
        for number in range(count):
            (operation,) = self.dice.choices(chosen, weights)
            if self.book.known or operation == self.admit:
                operation()
            if number % whole_every == 0:
                self.book.check_all()
        self.book.check_all()
        assert not self.book.cache.figures().used < 0

    def prompt(self) -> list[int]:
        return [int(self.dice.random() < 0.25) for _ in range(self.dice.randint(1, 18))]

    def any(self) -> int:
        return self.dice.choice(list(self.book.known))

    def admit(self) -> None:
        if len(self.book.known) >= MOST:
            self.book.close(self.any())
        self.begin(self.book.open(self.dice.choice(["", "", "a", "b"])), self.prompt())

    def begin(self, number: int, prompt: list[int]) -> None:
        """Attach and reserve, as the engine does it; both or nothing."""
        salt = self.book.known[number].salt
        alike = [_alike(prompt, tokens) for tokens in self.book.alive(salt)]
        whole = self.book.whole_pages(salt, prompt)
        found = self.book.attach(number, prompt)
        longest = max(alike, default=0)
        assert whole <= found <= longest
        assert self.windows or whole == longest // 4 * 4
        self.counts["too little for the windows"] += found < longest // 4 * 4
        self.counts["attached whole"] += found >= 4 and found % 4 == 0
        self.counts["attached part"] += found % 4 > 0
        if found == len(prompt):
            self.book.truncate(number, found - 1)
        if self.reserved(number, len(prompt) + 1):
            self.work({number: self.book.chain(number, prompt[len(self.book.known[number].tokens) :])})
        else:
            self.book.truncate(number, 0)

    def reserved(self, number: int, entries: int) -> bool:
        before, nodes = self.book.cache.figures(), self.nodes()
        if self.book.reserve(number, entries):
            return True
        self.counts["no room to reserve"] += 1
        assert (self.book.cache.figures(), self.nodes()) == (before, nodes), "a refusal changes nothing"
        return False

    def nodes(self) -> int:
        count: int = self.book.cache._tree.nodes
        return count

    def extend(self) -> None:
        many = self.dice.randint(1, min(3, len(self.book.known)))
        self.work({number: self.rows(number) for number in self.dice.sample(list(self.book.known), many)})

    def rows(self, number: int) -> Any:
        if self.dice.random() < 0.15:
            return self.tree(number, self.book.next_position(number), self.dice, 3)
        tokens = [int(self.dice.random() < 0.25) for _ in range(self.dice.randint(1, 6))]
        stay = list(range(len(tokens)))
        kind = self.dice.random()
        if kind < 0.1:
            stay = sorted(self.dice.sample(stay, self.dice.randint(0, len(stay))))
        elif kind < 0.35:
            del stay[self.dice.randint(0, len(stay)) :]
        return self.book.chain(number, tokens, stay)

    def work(self, work: dict[int, Any]) -> None:
        """A step; when there is no room, somebody gives everything back."""
        known = [(self.book.known[number], len(rows.tokens)) for number, rows in work.items()]
        promised = not self.windows and all(
            len(table) + rows <= one.promised for one, rows in known for table in one.tables.values()
        )
        before, nodes = self.book.cache.figures(), self.nodes()
        try:
            self.book.run(work)
        except OutOfPagesError:
            assert not promised, "reserved rows find no room"
            changed = (self.book.cache.figures(), self.nodes()) != (before, nodes)
            assert self.windows or not changed, "a refusal changes nothing"
            for number in self.book.known if self.windows else ():
                self.book.check(number)
            self.counts["no room for a step"] += 1
            self.book.truncate(self.any(), 0)
            return
        self.counts["rows"] += sum(rows for _, rows in known)
        for number in work:
            if self.book.next_position(number) > LONGEST:
                self.dice.choice([self.book.close, lambda one: self.shorten(one, 6)])(number)

    def publish(self) -> None:
        number, nodes = self.any(), self.nodes()
        before = self.book.pages(number)
        self.book.publish(number)
        self.counts["published"] += self.nodes() - nodes
        self.counts["twins"] += self.book.pages(number) != before

    def fork(self) -> None:
        if len(self.book.known) < MOST:
            self.book.fork(self.any())

    def truncate(self) -> None:
        number = self.any()
        self.shorten(number, self.dice.randint(0, self.book.next_position(number)))

    def shorten(self, number: int, position: int) -> None:
        """Back to the end of an entry, where the next row comes; a page before the end at least can be had,
        whatever windows have let go of, unless there was an eviction."""
        entries = self.book.known[number].entries
        position = max((one + 1 for one, _ in entries if one < position), default=0)
        if 0 < position < self.book.cache._sequences[number].floor:
            with pytest.raises(InputError, match="is gone"):
                self.book.truncate(number, position)
            self.counts["too far back"] += 1
            self.book.check(number)
        else:
            self.book.truncate(number, position)

    def retain(self) -> None:
        number = self.any()
        key = self.dice.choice(list(self.book.known[number].tables))
        length = self.book.cache.length(number, *key)
        slots = sorted(self.dice.sample(range(length), self.dice.randint(0, length)))
        try:
            self.book.retain(number, key, slots)
        except OutOfPagesError:
            self.counts["no room to evict"] += 1
            self.book.check(number)

    def evict(self) -> None:
        """Any slots of each layer and head of some groups; nobody but the sequence's own pages is touched."""
        number, nodes = self.any(), self.nodes()
        groups = [group for group in self.book.layout.groups if group.window is None]
        some = self.dice.sample(groups, self.dice.randint(min(1, len(groups)), len(groups)))
        kept = {group.name: self.chosen(number, group) for group in some}
        before = self.book.cache.figures()
        try:
            self.book.evict(number, kept)
        except OutOfPagesError:
            self.counts["no room to evict"] += 1
            assert (self.book.cache.figures(), self.nodes()) == (before, nodes), "a refusal changes nothing"
            self.book.check(number)
            return
        self.counts["evicted"] += 1
        self.counts["dropped"] += nodes - self.nodes()
        self.shared(number)

    def chosen(self, number: int, group: Any) -> Any:
        lengths = [self.book.cache.length(number, group.name, place) for place in range(group.tables)]
        counts = [self.dice.randint(0, length) for length in lengths]
        slots = [
            [sorted(self.dice.sample(range(length), count)) for _ in group.layers]
            for length, count in zip(lengths, counts, strict=True)
            for _ in range(group.heads_per_page)
        ]
        ragged = [np.array(each, np.int32).reshape(len(group.layers), -1) for each in slots]
        return np.stack(ragged, axis=1) if group.tables == 1 else ragged

    def shared(self, number: int) -> None:
        """Whoever else is there has what he had."""
        for other in self.dice.sample(list(self.book.known), min(2, len(self.book.known))):
            self.book.check(other)
        assert not self.book.cache._sequences[number].nodes

    def reserve(self) -> None:
        number = self.any()
        lengths = map(len, self.book.known[number].tables.values())
        self.reserved(number, max(lengths) + self.dice.randint(1, 10))

    def cancel(self) -> None:
        self.book.close(self.any())

    def preempt(self) -> None:
        self.book.truncate(self.any(), 0)

    def resume(self) -> None:
        """A sequence that has nothing begins again; under any salt."""
        empty = [n for n, known in self.book.known.items() if not known.entries and not self.book.pages(n)]
        for number in empty:
            self.book.truncate(number, 0)
            self.book.known[number].salt = self.dice.choice(["", "a", "b"])
            self.begin(number, self.prompt())


def _alike(one: list[int], other: tuple[int, ...]) -> int:
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _finish(storm: Storm) -> None:
    """Everything happened, and all pages come back."""
    rare = ["too little for the windows", "too far back"] if storm.windows else ["no room to evict"]
    for kind in ("attached whole", "attached part", "no room to reserve", "no room for a step", "published",
                 "twins", "evicted", *rare):  # fmt: skip
        assert storm.counts[kind] > 3, f"{kind} hardly ever happened"
    for number in list(storm.book.known):
        storm.book.close(number)
    storm.book.check_all()
    figures = storm.book.cache.figures()
    assert figures.used == 0
    most = min(figures.longest, 22 * 4)
    assert storm.book.cache.reserve(storm.book.cache.open(), most)
    assert storm.nodes() == 0 or storm.windows
    storm.book.cache.check_integrity()


@pytest.mark.parametrize("groups", GROUPS)
def test_ten_thousand_operations(make_book: Any, make_tree: Any, groups: str) -> None:
    storm = Storm(make_book(PAGES.get(groups, 22), GROUPS[groups]), make_tree, seed=7)
    storm.run(10_000, whole_every=4 if storm.windows else 1)
    _finish(storm)


@pytest.mark.soak
@pytest.mark.parametrize("groups", GROUPS)
def test_half_a_million_operations(make_book: Any, make_tree: Any, groups: str) -> None:
    """Five times half a million; the short test is the same with a look at everything all the time."""
    began = time.perf_counter()
    storm = Storm(make_book(PAGES.get(groups, 22), GROUPS[groups]), make_tree, seed=11)
    storm.run(500_000, whole_every=50)
    _finish(storm)
    print(f"\n500,000 operations in {time.perf_counter() - began:.0f} s: {dict(storm.counts)}")
