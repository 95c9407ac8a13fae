"""The table of kinds, one row for each module of this package that has a `KIND`."""

from __future__ import annotations

from collections.abc import Mapping

from fivefold.core.walking import walked
from fivefold.exercises.kind import ExerciseKind

KINDS: Mapping[str, ExerciseKind] = walked(__name__.rpartition(".")[0], "KIND")
"""All kinds of exercises by name."""
