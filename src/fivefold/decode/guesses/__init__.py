"""Sources of guesses: one file for each way to guess the tokens that come next.

A file that has a `SOURCE` is in the table; nothing else is to be done. `known` needs a table of n-grams of
the model, and is there where the model has one. Whether a guess is right is found in the step that runs it,
and how far a source is trusted is for the decoder that asks it.
"""

from .source import NOTHING, Guess, Source
from .table import SOURCES, require_sources, sources_of

__all__ = ["NOTHING", "SOURCES", "Guess", "Source", "require_sources", "sources_of"]
