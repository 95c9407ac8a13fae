"""Number formats: how numbers are laid out in blocks of bytes, one file for each format.

A format here is a row: its block, its bytes, and the reference `unpack` and `pack`. Files, the
planner, the executors and the quantizer all read the same row. Those of cache entries, which have no
blocks, are in `entries`. Kernels are not here.
"""

from fivefold.formats.entries import ENTRY_FORMATS, UNROUNDED, EntryFormat, entry_format
from fivefold.formats.format import Format
from fivefold.formats.table import FORMATS, format_of

__all__ = [
    "ENTRY_FORMATS", "FORMATS", "UNROUNDED", "EntryFormat", "Format", "entry_format", "format_of",
]  # fmt: skip
