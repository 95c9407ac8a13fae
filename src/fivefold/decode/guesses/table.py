"""The table of sources, one for each module of this package that has a `SOURCE`.

Adding a source is adding a file: nothing is registered by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set

from fivefold.core.ngrams import NGramTable
from fivefold.core.request import chosen_name
from fivefold.core.walking import walked

from .known import Known
from .source import Source

SOURCES: Mapping[str, Callable[[], Source]] = walked(__name__.rpartition(".")[0], "SOURCE")
"""What makes a source for a new text, by its name."""


def sources_of(table: NGramTable | None = None, names: Set[str] | None = None) -> dict[str, Source]:
    """A new source of each kind; one of the model's table too, if it has one. Only those of these `names`, if
    they are given; InputError for a name that no source has."""
    if names is not None:
        require_sources(names)
    kinds = dict(SOURCES)
    if table is not None:
        kinds[Known.name] = lambda: Known(table)
    return {name: make() for name, make in kinds.items() if names is None or name in names}


def require_sources(names: Set[str]) -> None:
    """InputError for a name that no source has."""
    for name in sorted(names):
        chosen_name(name, (*SOURCES, Known.name), "source of guesses")
