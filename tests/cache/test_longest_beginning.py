"""What attach finds is the longest common beginning with what was published, and nothing more: a property.

A list of all that was published says what must be found while there is room for everything. Under pressure a
second list says what is left: whatever was given up is a leaf, so what remains is closed downwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SALTS = ("", "a")
TEXTS = st.lists(st.integers(0, 1), max_size=14)
WORKS = st.lists(st.tuples(TEXTS, st.sampled_from(SALTS)), min_size=1, max_size=12)
MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def alike(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Tokens that both begin with."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
                min(len(one), len(other)))  # fmt: skip


def whole_pages(tokens: list[int], size: int) -> list[tuple[int, ...]]:
    """All beginnings of whole pages."""
    return [tuple(tokens[:end]) for end in range(size, len(tokens) + 1, size)]


@MANY
@given(works=WORKS, size=st.sampled_from([1, 2, 3, 4]))
def test_everything_published_is_found(make_book: Callable[..., Any], works: Any, size: int) -> None:
    book = make_book(200, (("kv", 1, size), ("wide", 2, size)))
    published: dict[str, set[tuple[int, ...]]] = {salt: set() for salt in SALTS}
    for tokens, salt in works:
        longest = max((alike(tuple(tokens), known) for known in published[salt]), default=0)
        number = book.open(salt)
        assert book.attach(number, tokens) == longest
        if tokens[longest:]:
            book.extend(number, tokens[longest:])
        book.publish(number)
        published[salt].update(whole_pages(tokens, size))
        if len(tokens) % 2:
            book.close(number)
        book.check_all()
    for salt in SALTS:
        assert set(book.alive(salt)) == published[salt]


@MANY
@given(works=WORKS, pages=st.integers(14, 22))
def test_what_was_not_given_up_is_found(make_book: Callable[..., Any], works: Any, pages: int) -> None:
    """With pages of one token; the model gives up the leaf that was left longest ago."""
    book = make_book(pages, (("kv", 1, 1),))
    left: dict[tuple[str, tuple[int, ...]], int] = {}
    for now, (tokens, salt) in enumerate(works):
        number = book.open(salt)
        longest = max((alike(tuple(tokens), known) for own, known in left if own == salt), default=0)
        assert book.attach(number, tokens) == longest
        used = {(salt, begin) for begin in whole_pages(tokens[:longest], 1)}
        _give_up(left, used, len(tokens) - longest - (pages - len(left)))
        if tokens[longest:]:
            book.extend(number, tokens[longest:])
        book.publish(number)
        book.close(number)
        left.update({(salt, begin): now for begin in whole_pages(tokens, 1)})
        for one in SALTS:
            assert set(book.alive(one)) == {known for own, known in left if own == one}
        book.check_all()


def _give_up(left: dict[tuple[str, tuple[int, ...]], int], used: set[Any], count: int) -> None:
    for _ in range(count):
        inner = {(salt, tokens[:-1]) for salt, tokens in left}
        leaves = [(time, key) for key, time in left.items() if key not in used and key not in inner]
        del left[min(leaves)[1]]
