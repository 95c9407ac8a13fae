"""Kinds of exercises: one file each.

A file that has a `KIND` is in the table; nothing else is to be done.
"""

from fivefold.exercises.kinds.table import KINDS

__all__ = ["KINDS"]
