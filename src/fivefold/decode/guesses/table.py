"""The table of sources, one for each module of this package that has a `SOURCE`.

Adding a source is adding a file: nothing is registered by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fivefold.core.walking import walked

from .source import Source

SOURCES: Mapping[str, Callable[[], Source]] = walked(__name__.rpartition(".")[0], "SOURCE")
"""What makes a source for a new text, by its name."""
