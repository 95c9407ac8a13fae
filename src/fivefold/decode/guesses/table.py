"""The table of sources, one for each module of this package that has a `SOURCE`.

Adding a source is adding a file: nothing is registered by hand.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from .source import Source


def _walk() -> dict[str, Callable[[], Source]]:
    package = __name__.rpartition(".")[0]
    found: dict[str, Callable[[], Source]] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        source = getattr(import_module(f"{package}.{module.name}"), "SOURCE", None)
        if source is not None:
            found[source.name] = source
    return found


SOURCES: Mapping[str, Callable[[], Source]] = MappingProxyType(_walk())
"""What makes a source for a new text, by its name."""
