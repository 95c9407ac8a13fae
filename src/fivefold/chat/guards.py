"""What filters, tests and methods may do in a chat template, looking one step ahead.

Each guard here refuses what would make, from values of bounded size, one that is far larger, or take a time
that grows with a product of two sizes. What the other operations make is at most a few times as large
as what they are given; the meter measures it afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from jinja2.exceptions import SecurityError

from fivefold.chat.meter import Meter, size_of
from fivefold.chat.operators import MOST_WIDTH, percent

MOST_KEYS = 4096
"""Keys of a table that is made from other values: some values make such tables slow."""
MOST_LETTERS = 1 << 16
"""Characters of a text that is taken apart character by character."""
MOST_FOR_SLOW = 1 << 14
MOST_INDENT = 32
MOST_SEARCH = 1 << 26
"""Characters of a text times those of what is searched for, where that is the time it takes."""

Call = Callable[..., Any]
Guard = Callable[..., Any]
"""Called with the function that it guards, the meter, the text or value, and the function's arguments."""

_LINE_ENDS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_SPACES = _LINE_ENDS + " \t\x1f\xa0\u1680\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


def _widths(call: Call, meter: Meter, value: Any, *args: Any, **kwargs: Any) -> Any:
    """No argument that is a number may be large."""
    for number in (*args, *kwargs.values()):
        if isinstance(number, int) and abs(number) > MOST_WIDTH:
            raise SecurityError(f"it asks for a width above {MOST_WIDTH}")
    return call(value, *args, **kwargs)


def _indent(call: Call, meter: Meter, value: Any, width: Any = 4, *args: Any, **kwargs: Any) -> Any:
    lines = _count(meter, str(value), _LINE_ENDS) + 1
    unit = size_of(width) if isinstance(width, str) else int(width)
    meter.check(lines * (unit + 1) + size_of(str(value)))
    return call(value, width, *args, **kwargs)


def _expandtabs(call: Call, meter: Meter, text: str, tabsize: int = 8) -> Any:
    meter.check(size_of(text) + 4 * text.count("\t") * tabsize)
    return call(text, tabsize)


def _replace(call: Call, meter: Meter, value: Any, old: Any, new: Any, *args: Any, **kwargs: Any) -> Any:
    text, old_text = str(value), str(old)
    times = text.count(old_text) if len(old_text) <= len(text) else 0
    meter.check(4 * (len(text) + times * len(str(new))) if times else 0)
    return call(value, old, new, *args, **kwargs)


def _join(call: Call, meter: Meter, separator: str, items: Any) -> Any:
    parts = _items_of(meter, items)
    meter.check(meter.weigh(parts) + len(parts) * (size_of(separator) if separator else 0))
    return call(separator, parts)


def _joined(call: Call, meter: Meter, value: Any, d: Any = "", attribute: Any = None) -> Any:
    parts = _items_of(meter, value)
    separator = str(d)
    meter.check(meter.weigh(parts) + len(parts) * (size_of(separator) if separator else 0))
    return call(parts, d, attribute)


def _split(call: Call, meter: Meter, text: str, sep: Any = None, maxsplit: int = -1) -> Any:
    if sep is None:
        _count(meter, text, _SPACES)
    elif isinstance(sep, str) and sep and text.count(sep) > MOST_LETTERS:
        raise SecurityError(f"it splits a text into more than {MOST_LETTERS} parts")
    _search(text, sep)
    return call(text, sep, maxsplit)


def _splitlines(call: Call, meter: Meter, text: str, *args: Any, **kwargs: Any) -> Any:
    _count(meter, text, _LINE_ENDS)
    return call(text, *args, **kwargs)


def _count(meter: Meter, text: str, characters: str) -> int:
    """How often these characters occur; SecurityError if that is too often to take the text apart there."""
    found = sum(text.count(character) for character in characters)
    if found > MOST_LETTERS:
        raise SecurityError(f"it splits a text into more than {MOST_LETTERS} parts")
    return found


def _searching(call: Call, meter: Meter, value: Any, *args: Any, **kwargs: Any) -> Any:
    """Where time is the product of two lengths."""
    for pattern in (*args, *kwargs.values()):
        _search(str(value), pattern)
    return call(value, *args, **kwargs)


def _search(text: str, pattern: Any) -> None:
    if isinstance(pattern, str) and len(text) * len(pattern) > MOST_SEARCH:
        raise SecurityError("it searches for too long a text")


def _slow(call: Call, meter: Meter, value: Any, *args: Any, **kwargs: Any) -> Any:
    """Filters for web pages, written for short texts."""
    if meter.weigh(value) > MOST_FOR_SLOW:
        raise SecurityError("it gives too long a text to a slow filter")
    for argument in (*args, *kwargs.values()):
        if isinstance(argument, str) and len(argument) > 256:
            raise SecurityError("it gives too long an argument to a slow filter")
    return call(value, *args, **kwargs)


def _number(call: Call, meter: Meter, value: Any, *args: Any, **kwargs: Any) -> Any:
    if isinstance(value, str) and len(value) > MOST_WIDTH:
        raise SecurityError("it reads a number from too long a text")
    return call(value, *args, **kwargs)


def _numeric(call: Call, meter: Meter, value: Any, *args: Any) -> Any:
    """Tests that would take a text for a format."""
    if isinstance(value, str):
        raise TypeError("a text is not a number")
    return call(value, *args)


def _items(call: Call, meter: Meter, value: Any, *args: Any, **kwargs: Any) -> Any:
    """Filters that take a text apart into its characters."""
    if isinstance(value, str) and len(value) > MOST_LETTERS:
        raise SecurityError(f"it takes a text of more than {MOST_LETTERS} characters apart")
    return call(value, *args, **kwargs)


def _items_of(meter: Meter, value: Any) -> list[Any]:
    return list(_items(meter.listed, meter, value))


def _pieces(call: Call, meter: Meter, value: Any, *args: Any, **kwargs: Any) -> Any:
    return _widths(call, meter, _items_of(meter, value), *args, **kwargs)


def _sum(call: Call, meter: Meter, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    if not isinstance(start, int | float):
        raise SecurityError("it adds up what are no numbers")
    return _items(call, meter, value, attribute, start)


def _unique(call: Call, meter: Meter, value: Any, *args: Any, **kwargs: Any) -> Any:
    return call(meter.listed(value, MOST_KEYS), *args, **kwargs)


def _format(call: Call, meter: Meter, value: Any, *args: Any, **kwargs: Any) -> Any:
    percent(meter, str(value), kwargs or args)
    return call(value, *args, **kwargs)


def tojson(
    meter: Meter,
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without HTML escapes, unlike Jinja2's own filter; what it will be is measured on the way."""
    for given in (indent, *(separators or ())):
        if (len(given) if isinstance(given, str) else given or 0) > MOST_INDENT:
            raise SecurityError(f"it indents by more than {MOST_INDENT}")
    meter.weigh(value)
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    if indent is None:
        return str(meter.admit(encoder.encode(value)))
    return meter.joined(meter.turns(encoder.iterencode(value)))


FILTERS: Mapping[str, Guard] = {
    **dict.fromkeys(("center", "round"), _widths),
    **dict.fromkeys(("batch", "slice"), _pieces),
    **dict.fromkeys(("int", "float", "filesizeformat"), _number),
    **dict.fromkeys(
        ("pprint", "striptags", "title", "urlencode", "urlize", "wordcount", "wordwrap", "xmlattr"), _slow
    ),
    **dict.fromkeys(
        ("groupby", "list", "map", "max", "min", "random", "reject", "rejectattr", "select", "selectattr",
         "sort"), _items,
    ),
    "format": _format, "indent": _indent, "join": _joined, "replace": _replace, "sum": _sum,
    "trim": _searching, "unique": _unique,
}  # fmt: skip
TESTS: Mapping[str, Guard] = dict.fromkeys(("odd", "even", "divisibleby"), _numeric)
METHODS: Mapping[str, Guard] = {
    **dict.fromkeys(("center", "ljust", "rjust", "zfill"), _widths),
    **dict.fromkeys(("strip", "lstrip", "rstrip", "rfind", "rindex", "rpartition"), _searching),
    **dict.fromkeys(("split", "rsplit"), _split),
    "expandtabs": _expandtabs, "join": _join, "replace": _replace, "splitlines": _splitlines,
}  # fmt: skip
PLAIN_METHODS = frozenset(
    [
        "capitalize",
        "casefold",
        "copy",
        "count",
        "endswith",
        "find",
        "get",
        "index",
        "isalnum",
        "isalpha",
        "isascii",
        "isdecimal",
        "isdigit",
        "isidentifier",
        "islower",
        "isnumeric",
        "isprintable",
        "isspace",
        "istitle",
        "isupper",
        "items",
        "keys",
        "lower",
        "partition",
        "removeprefix",
        "removesuffix",
        "startswith",
        "swapcase",
        "title",
        "upper",
        "values",
    ]
)
"""Methods of texts, lists, tables and numbers that may be called as they are."""
