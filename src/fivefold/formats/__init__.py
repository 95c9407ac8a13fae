"""Number formats: how numbers are laid out in blocks of bytes, one file for each format.

A format here is a row: its block, its bytes, and the reference `unpack` and `pack`. Files, the
planner, the executors and the quantizer all read the same row. Kernels are not here.
"""

from fivefold.formats.format import Format
from fivefold.formats.table import FORMATS, format_of

__all__ = ["FORMATS", "Format", "format_of"]
