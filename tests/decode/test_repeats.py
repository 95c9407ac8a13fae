"""The index of repetitions against a search of the whole text, token by token."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from fivefold.decode.guesses import SOURCES
from fivefold.decode.guesses.repeats import LONGEST, SIZES, Repeats


def common(text: Sequence[int], place: int) -> int:
    """Tokens before a place that are those of the end."""
    count = 0
    while count < min(place, LONGEST) and text[place - count - 1] == text[-count - 1]:
        count += 1
    return count


def latest(text: Sequence[int]) -> int | None:
    """The last place behind the longest of the ends that are looked up."""
    for size in SIZES:
        end = text[len(text) - size :]
        places = [place for place in range(size, len(text)) if text[place - size : place] == end]
        if len(text) >= size and places:
            return places[-1]
    return None


def searched(text: Sequence[int]) -> tuple[int, int] | None:
    """The match at the end of a text, found by searching at each of its tokens."""
    place: int | None = None
    for end in range(1, len(text) + 1):
        part = text[:end]
        going_on = place + 1 if place is not None and text[place] == text[end - 1] else None
        new = latest(part)
        place = going_on
        if new is not None and (going_on is None or common(part, new) >= common(part, going_on)):
            place = new
    return None if place is None else (place, common(text, place))


TEXTS = st.lists(st.integers(0, 3), max_size=60)


@given(TEXTS, st.lists(st.integers(1, 9), max_size=8))
def test_the_index_finds_what_a_search_finds(text: list[int], cuts: list[int]) -> None:
    source, first = Repeats(), 0
    for cut in [*cuts, len(text)]:
        source.extend(text[first : first + cut])
        first += cut
        assert source.match == searched(text[:first])


@given(TEXTS, st.integers(0, 12))
def test_guesses_go_on_as_the_match_did(text: list[int], most: int) -> None:
    source = Repeats()
    source.extend(text)
    guess = source.guess(most)
    assert source.guess(most) == guess
    if source.match is None:
        assert guess.tokens == ()
        return
    place, length = source.match
    assert len(guess.tokens) == len(guess.classes) == most
    whole = [*text, *guess.tokens]
    assert list(guess.tokens) == whole[place : place + most], "one that overlaps the end goes on in circles"
    assert list(guess.classes) == [min(length + step, LONGEST) for step in range(most)]


def test_a_copied_text_is_followed_through_parts_that_occur_again() -> None:
    """Each record has the same frame; what is in it comes from the first copy, not from the last frame."""
    frame = [1, 2, 3, 4, 5, 6]
    records = [[*frame, 100 + number, 200 + number] for number in range(5)]
    source = Repeats()
    source.extend([token for record in records for token in record])
    source.extend(records[0])
    for record in records[1:4]:
        for token in record:
            assert source.guess(1).tokens == (token,)
            source.extend([token])


def test_longer_matches_are_trusted_more() -> None:
    source = SOURCES["repeats"]()
    rates = [source.prior(number) for number in range(2, LONGEST + 1)]
    assert rates == sorted(rates) and 0 < rates[0] < rates[-1] < 1
