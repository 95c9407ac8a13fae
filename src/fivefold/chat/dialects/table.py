"""The table of dialects, one row for each module of this package that has a `DIALECT`.

Adding a dialect is adding a file: nothing is registered by hand. Which one a model writes is told by its
chat template, the only thing in a model file that says so.
"""

from __future__ import annotations

from collections.abc import Mapping

from fivefold.chat.answer import Dialect
from fivefold.core.walking import walked

_PLAIN = "plain"


DIALECTS: Mapping[str, Dialect] = walked(__name__.rpartition(".")[0], "DIALECT")
"""All dialects by name."""


def dialect_for(template: str | None) -> Dialect:
    """The dialect of a model, by marks in its chat template; plain where none is known.

    A template that says nothing of tools leaves the choice open: then a dialect counts that such
    models take from the words of a system message.
    """
    if template is None:
        return DIALECTS[_PLAIN]
    for dialect in DIALECTS.values():
        if any(mark in template for mark in dialect.template_marks):
            return dialect
    if "tool" not in template:
        for dialect in DIALECTS.values():
            if any(mark in template for mark in dialect.taught_marks):
                return dialect
    return DIALECTS[_PLAIN]
