"""Files of packages become plain text: one function for each form, and what all texts have done to them.

A little, not more: marks that only a typesetter needs go, words stay as they were written. Prose that was
broken into lines of a terminal's width is joined again, paragraph by paragraph; code keeps its lines.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Collection, Mapping
from html.parser import HTMLParser
from types import MappingProxyType

LEAST_TEXT = 0.85
"""Share of a text's characters that must be letters, digits, blanks and common marks of ASCII."""
LONGEST_WORD = 120
_BLOCKS = re.compile("address|article|blockquote|dd|div|dl|dt|h[1-6]|li|ol|p|pre|section|table|tr|ul")
_HIDDEN = re.compile("head|nav|script|style|footer")
_HIDDEN_CLASSES = frozenset(
    {"docnav", "headerlink", "indexterm", "navfooter", "navheader", "related", "sphinxsidebar", "toc"}
)
_EMPTY = re.compile("area|br|col|hr|img|input|link|meta|wbr")
_BROKEN = re.compile(r"(?![-*+•|#>.%])\S.{39,110}")
_PROSE = re.compile(r"[A-Za-z\"'(][^{}=;]*")
_ASCII_STRING = b"\x00\x04\x00\x09"


class Page(HTMLParser):
    """The shown text of an HTML page: blocks become paragraphs; navigation is left out, and parts of these
    `classes` and `ids`."""

    def __init__(self, classes: Collection[str] = _HIDDEN_CLASSES, ids: Collection[str] = ()) -> None:
        super().__init__()
        self.classes, self.ids = frozenset(classes), frozenset(ids)
        self.parts: list[str] = []
        self.open: list[str] = []
        self.hidden_from = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if _EMPTY.fullmatch(tag):
            self.parts.append("\n" if tag == "br" else "")
            return
        self.open.append(tag)
        named = dict(attrs)
        own = self.classes.intersection((named.get("class") or "").split())
        if (_HIDDEN.fullmatch(tag) or own or named.get("id") in self.ids) and not self.hidden_from:
            self.hidden_from = len(self.open)
        if _BLOCKS.fullmatch(tag):
            self.parts.append("\n\n")

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.open:
            return
        while self.open.pop() != tag:
            pass
        if len(self.open) < self.hidden_from:
            self.hidden_from = 0
        if _BLOCKS.fullmatch(tag):
            self.parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        if not self.hidden_from:
            self.parts.append(data if "pre" in self.open else re.sub(r"\s+", " ", data))

    def shown(self, text: str) -> str:
        """What a page of that text shows, paragraphs apart by an empty line."""
        self.feed(text)
        return re.sub(r"\n\n ", "\n\n", "".join(self.parts))


def from_html(content: bytes) -> str:
    """What a page shows."""
    return joined(Page().shown(decoded(content)))


def from_text(content: bytes) -> str:
    """Plain text as it is, its paragraphs joined."""
    return joined(decoded(content))


def from_rst(content: bytes) -> str:
    """reStructuredText without directives, targets, roles and the lines under titles."""
    text = decoded(content)
    text = re.sub(r"^[ \t]*\.\. .*$\n?", "", text, flags=re.MULTILINE)
    text = re.sub(r"^[ \t]*:[\w-]+:.*$\n?", "", text, flags=re.MULTILINE)
    text = re.sub(r"^([=\-~^\"'#*+`.])\1{2,}[ \t]*$\n?", "", text, flags=re.MULTILINE)
    text = re.sub(r":[\w:+-]+:`!?~?([^`<]+?)(?: <[^`>]*>)?`", r"\1", text)
    text = re.sub(r"`([^`<]+?)(?: <[^`>]*>)?`__?", r"\1", text)
    return joined(re.sub(r"``([^`]+)``", r"\1", text))


def from_sayings(content: bytes) -> str:
    """Sayings, each ended by a line with a percent sign."""
    return re.sub(r"^%$", "", decoded(content), flags=re.MULTILINE)


def from_code(content: bytes) -> str:
    """Source code, untouched."""
    return decoded(content)


def from_dialogues(content: bytes) -> str:
    """Dialogues of a YAML file: `- - question` and `  - answer`, as lines of two speakers."""
    turns = re.findall(r"^(- -|  -) (.+)$", decoded(content), flags=re.MULTILINE)
    lines = [("\nA: " if mark == "- -" else "B: ") + said.strip("\"' ") for mark, said in turns]
    return "\n".join(lines)


def from_r_strings(content: bytes) -> str:
    """The lines of a lazy-load database of R: deflated chunks of serialized vectors of strings."""
    lines: list[str] = []
    at = content.find(b"\x78\x9c")
    while at >= 0:
        inflater = zlib.decompressobj()
        chunk = inflater.decompress(content[at:])
        spot = chunk.find(_ASCII_STRING)
        while spot >= 0:
            size = int.from_bytes(chunk[spot + 4 : spot + 8])
            lines.append(decoded(chunk[spot + 8 : spot + 8 + size]))
            spot = chunk.find(_ASCII_STRING, spot + 8 + size)
        at = content.find(b"\x78\x9c", len(content) - len(inflater.unused_data))
    return joined("\n".join(lines))


FORMS: Mapping[str, Callable[[bytes], str]] = MappingProxyType(
    {
        "text": from_text,
        "html": from_html,
        "rst": from_rst,
        "sayings": from_sayings,
        "code": from_code,
        "dialogues": from_dialogues,
        "r-strings": from_r_strings,
    }
)


def decoded(content: bytes) -> str:
    """UTF-8, without control characters; what is no character becomes a replacement mark."""
    text = content.decode("utf-8", "replace").replace("\r\n", "\n")
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f\ufeff]", "", text)


def joined(text: str) -> str:
    """The text with lines of a paragraph joined, where it was only broken to a width."""
    paragraphs = re.split(r"\n(?:[ \t]*\n)+", _without_margin(text))
    return "\n\n".join(_one_line(paragraph) for paragraph in paragraphs)


def _without_margin(text: str) -> str:
    """A margin that nearly all lines have is no indentation."""
    lines = text.split("\n")
    written = [line for line in lines if line.strip()]
    for margin in (8, 7, 6, 5, 4, 3, 2):
        if sum(line.startswith(" " * margin) for line in written) > 0.8 * len(written):
            return "\n".join(line.removeprefix(" " * margin) for line in lines)
    return text


def _one_line(paragraph: str) -> str:
    """The paragraph on one line, if all but its last line are about as wide as a terminal."""
    lines = paragraph.strip("\n").split("\n")
    margin = len(lines[0]) - len(lines[0].lstrip())
    even = all(len(line) - len(line.lstrip()) == margin for line in lines)
    fitting = _PROSE if margin else _BROKEN
    broken = all(_BROKEN.fullmatch(line.strip()) and fitting.fullmatch(line.strip()) for line in lines[:-1])
    if len(lines) > 1 and even and broken:
        return " " * margin + " ".join(line.strip() for line in lines)
    return paragraph.strip("\n")


def tidied(text: str) -> str:
    """No blanks at ends of lines, at most one empty line at a time, no line with an endless word."""
    text = re.sub(r"[ \t]+$", "", text.replace("\xa0", " "), flags=re.MULTILINE)
    lines = [line for line in text.split("\n") if max(map(len, line.split()), default=0) < LONGEST_WORD]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def is_text(text: str) -> bool:
    """Whether this is English or code, and not tables of signs or another script."""
    fitting = len(re.findall(r"[A-Za-z0-9 \n.,;:'\"()_=-]", text))
    return fitting >= LEAST_TEXT * len(text)
