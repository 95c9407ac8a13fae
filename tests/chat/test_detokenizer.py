"""The streaming detokenizer against its plain definition: decode everything, then cut."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fivefold.chat import StreamDecoder


class Pieces:
    """A vocabulary of given byte strings; token 0 is special."""

    bos = None
    end_tokens = (0,)
    add_bos = False

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = [b"<end>", *pieces]
        self.size = len(self.pieces)

    def encode(self, text: str | bytes, *, special: bool = False, add_bos: bool | None = None) -> list[int]:
        raise NotImplementedError

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        parts = (self.pieces[token] for token in ids if not (skip_special and token == 0))
        return b"".join(parts).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        return self.pieces[token]

    def is_special(self, token: int) -> bool:
        return token == 0

    def token_id(self, text: str) -> int | None:
        raise NotImplementedError


def cut(text: str, stop: tuple[str, ...], include: bool) -> tuple[str, str | None]:
    """The text up to the first place where a stop string is complete; the longest one there counts."""
    for end in range(1, len(text) + 1):
        matched = [each for each in stop if text[:end].endswith(each)]
        if matched:
            longest = max(matched, key=len)
            return text[: end if include else end - len(longest)], longest
    return text, None


def stream(
    pieces: list[bytes], stop: tuple[str, ...] = (), include: bool = False
) -> tuple[list[str], str | None]:
    decoder = StreamDecoder(Pieces(pieces), stop, include)
    shown = [decoder.push(token) for token in range(1, len(pieces) + 1)]
    return [*shown, decoder.finish()], decoder.matched


TEXT = st.text("ab€😀\n", max_size=12)
STOPS = st.lists(st.text("ab€\n", min_size=1, max_size=4), max_size=3).map(tuple)


@given(
    data=st.one_of(TEXT.map(str.encode), st.binary(max_size=16)),
    stop=STOPS,
    include=st.booleans(),
    cuts=st.data(),
)
def test_deltas_joined_are_the_text_cut_at_the_stop(
    data: bytes, stop: tuple[str, ...], include: bool, cuts: st.DataObject
) -> None:
    places = cuts.draw(st.lists(st.integers(0, len(data)), max_size=8).map(sorted))
    borders = [0, *places, len(data)]
    pieces = [data[start:end] for start, end in pairwise(borders)]
    shown, matched = stream(pieces, stop, include)
    assert ("".join(shown), matched) == cut(data.decode("utf-8", "replace"), stop, include)


@given(data=TEXT, stop=STOPS)
def test_nothing_is_held_back_without_reason(data: str, stop: tuple[str, ...]) -> None:
    """After each character, what is not shown begins a stop string."""
    decoder = StreamDecoder(Pieces([character.encode() for character in data]), stop)
    shown = ""
    for index in range(len(data)):
        shown += decoder.push(index + 1)
        if decoder.matched is None:
            held = data[len(shown) : index + 1]
            assert held == "" or any(each.startswith(held) and each != held for each in stop)


def test_a_character_comes_whole() -> None:
    shown, _ = stream([b"a\xe2", b"\x82", b"\xac!"])
    assert shown == ["a", "", "€!", ""]


def test_an_incomplete_character_ends_as_a_replacement() -> None:
    assert stream([b"a\xf0\x9f"]) == (["a", "\ufffd"], None)


def test_a_stop_string_over_three_tokens() -> None:
    assert stream([b"xEN", b"", b"D", b"more"], ("END",)) == (["x", "", "", "", ""], "END")
    assert stream([b"xEN", b"Dmore"], ("END",), True) == (["x", "END", ""], "END")


def test_a_stop_string_that_did_not_come_is_shown_at_the_end() -> None:
    assert stream([b"xEN"], ("END",)) == (["x", "EN"], None)


def test_the_first_complete_stop_counts_however_tokens_are_cut() -> None:
    stop = ("xabc", "ab")
    assert stream([b"xabc"], stop) == (["x", ""], "ab")
    assert "".join(stream([b"x", b"a", b"b", b"c"], stop)[0]) == "x"


def test_special_tokens_have_no_text() -> None:
    decoder = StreamDecoder(Pieces([b"a"]))
    assert [decoder.push(0), decoder.push(1), decoder.push(0), decoder.finish()] == ["", "a", "", ""]


def test_special_tokens_that_are_shown_have_their_text() -> None:
    decoder = StreamDecoder(Pieces([b"a\xe2"]), ("<end>x",), shown=frozenset({0}))
    assert [decoder.push(1), decoder.push(0), decoder.push(1)] == ["a", "\ufffd", "<end>a"]
    decoder = StreamDecoder(Pieces([b"xb"]), ("<end>x",), shown=frozenset({0}))
    assert [decoder.push(0), decoder.push(1), decoder.matched] == ["", "", "<end>x"]


def test_a_stop_string_before_the_least_tokens_ends_nothing() -> None:
    decoder = StreamDecoder(Pieces([b"a", b"b", b"a", b"b"]), ("b",), least=3)
    assert [decoder.push(token) for token in (1, 2, 3, 4)] == ["a", "b", "a", ""]
    assert decoder.matched == "b"


def test_a_preview_shows_open_places_and_remembers_nothing() -> None:
    """It goes on from what is held back: here half a character, and what may become a stop string."""
    euro = "€".encode()
    pieces = [b"ax", euro[:2], euro[2:], b"y"]
    decoder = StreamDecoder(Pieces(pieces), ("xyz",))
    assert decoder.push(1) == "a"
    assert decoder.preview([4, None, 0, 4]) == "xy\u2581y"
    assert decoder.push(2) == ""
    assert decoder.preview([3, 4]) == "x€y" and decoder.preview([None, 4]) == "x\ufffd\u2581y"
    assert decoder.push(3) == "x€" and decoder.push(4) == "y"
    assert decoder.preview([]) == "" and decoder.finish() == ""
