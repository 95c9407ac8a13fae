"""Dialects: one file for each way in which models write reasoning and tool calls.

A file that has a `DIALECT` is in the table; nothing else is to be done. How answers are read is not
here but beside this folder.
"""

from fivefold.chat.dialects.table import DIALECTS, dialect_for

__all__ = ["DIALECTS", "dialect_for"]
