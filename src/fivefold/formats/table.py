"""The table of number formats, one row for each module of this package that has a `FORMAT`.

Adding a format is adding a file: nothing is registered by hand.
"""

from __future__ import annotations

from collections.abc import Mapping

from fivefold.core.errors import UnsupportedError
from fivefold.core.walking import walked
from fivefold.formats.format import Format

FORMATS: Mapping[str, Format] = walked(__name__.rpartition(".")[0], "FORMAT")
"""All number formats by name."""


def format_of(name: str, where: str = "") -> Format:
    """The format of that name; UnsupportedError says where it was found and which formats exist."""
    row = FORMATS.get(name)
    if row is None:
        raise UnsupportedError(
            f"number format {name!r} is not implemented",
            where=where,
            remedy=f"implemented are {', '.join(sorted(FORMATS))}",
        )
    return row
