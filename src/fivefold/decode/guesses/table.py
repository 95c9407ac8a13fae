"""The table of sources, one for each module of this package that has a `SOURCE`.

Adding a source is adding a file: nothing is registered by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fivefold.core.ngrams import NGramTable
from fivefold.core.walking import walked

from .known import Known
from .source import Source

SOURCES: Mapping[str, Callable[[], Source]] = walked(__name__.rpartition(".")[0], "SOURCE")
"""What makes a source for a new text, by its name."""


def sources_of(table: NGramTable | None = None) -> dict[str, Source]:
    """A new source of each kind; one of the model's table too, if it has one."""
    made = {name: make() for name, make in SOURCES.items()}
    return made if table is None else {**made, Known.name: Known(table)}
