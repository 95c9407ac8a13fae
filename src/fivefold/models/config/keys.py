"""Typed reads of a config: sizes, numbers, words and truth values, checked before they are believed.

Both kinds of checkpoint are read through it, GGUF's keys under the architecture's prefix, those of a
config.json as they stand. A key that the family does not know is refused, for it may change the result.
A value of null is taken for an absent key, as Transformers takes it.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FileError, UnsupportedError

LARGEST_SIZE = 2**31 - 1
"""No size of a model is larger; what comes of sizes is computed and reserved without further thought."""

TEXT = "text_config"
"""The key of a config.json for several kinds of input that holds the config of its text part."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = 80


class Keys:
    """The keys of one config. `where` names the file, `family` who reads it, `prefix` stands before keys."""

    def __init__(self, values: Mapping[str, Any], where: str, family: str, prefix: str = "") -> None:
        self.where = where
        self.family = family
        self._values = values
        self._prefix = prefix

    def refuse_unknown(self, known: Collection[str], remedy: str) -> None:
        """UnsupportedError for the first key under the prefix that is not in `known`."""
        for key, value in self._values.items():
            inner = key.removeprefix(self._prefix)
            if key.startswith(self._prefix) and inner not in known and value is not None:
                raise UnsupportedError(
                    f"key {key[:200]} is not known to the {self.family} family",
                    where=self.where,
                    remedy=remedy,
                )

    def with_silent(self, meant: Mapping[str, Any]) -> Keys:
        """The same keys, and for each that is absent or null what its silence means."""
        said = {key: value for key, value in self._values.items() if value is not None}
        silent = {self._prefix + key: value for key, value in meant.items()}
        return Keys({**silent, **said}, self.where, self.family, self._prefix)

    @property
    def plain(self) -> dict[str, Any]:
        """The keys under the prefix without it, and their values."""
        own = ((key, value) for key, value in self._values.items() if key.startswith(self._prefix))
        return {key.removeprefix(self._prefix): value for key, value in own}

    def saying(self, values: Mapping[str, Any]) -> Keys:
        """The same keys, some with other values."""
        said = {self._prefix + key: value for key, value in values.items()}
        return Keys({**self._values, **said}, self.where, self.family, self._prefix)

    def __contains__(self, key: str) -> bool:
        return self._prefix + key in self._values

    def get(self, key: str, default: Any = None) -> Any:
        """The value as it stands, the default where it is absent or null."""
        value = self._values.get(self._prefix + key)
        return default if value is None else value

    def number(self, key: str, default: float | None = None, above: float = -math.inf) -> float:
        """A finite number above a bound; without a default it must be there."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            found = "missing" if value is None else f"{_shown(value)}, not a number"
            raise self.malformed(key, f"is {found}")
        if abs(value) >= 2**64 or not above < value < math.inf:
            bound = "a number that can be" if above == -math.inf else f"a number above {above:g}"
            raise self.malformed(key, f"is {_shown(value)}, not {bound}")
        return value if isinstance(value, int) else float(value)  # numpy's own floats warn

    def size(self, key: str, default: int | None = None) -> int:
        """A whole number of at least 1."""
        value = self.number(key, default)
        if value != int(value) or not 1 <= value <= LARGEST_SIZE:
            raise self.malformed(key, f"is {_shown(value)}, not a size")
        return int(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self.malformed(key, f"is {_shown(value)}, not true or false")
        return value

    def only(self, key: str, default: Any, *allowed: Any) -> Any:
        """The value, which must be one of those that the family can do; UnsupportedError names them."""
        value = self.get(key, default)
        if not any(type(value) is type(one) and value == one for one in allowed):
            known = ", ".join(map(_shown, allowed))
            raise UnsupportedError(
                f"key {self._prefix}{key} is {_shown(value)}", where=self.where, remedy=f"known are {known}"
            )
        return value

    def inside(self, key: str) -> Keys:
        """The keys of an object under this key; none where it is absent."""
        value = self.get(key, {})
        if not isinstance(value, Mapping):
            raise self.malformed(key, "is not an object")
        prefix = f"{self._prefix}{key}."
        values = {f"{prefix}{inner}": one for inner, one in value.items()}
        return Keys(values, self.where, self.family, prefix)

    def malformed(self, key: str, what: str) -> FileError:
        """The error for a key whose value cannot be: not a matter of what the family supports."""
        return FileError(
            f"key {self._prefix}{key} {what}", where=self.where, remedy="convert or fetch the model again"
        )


def _shown(value: Any) -> str:
    """A value from a file as it may stand in an error: not endless, nor written out before it is cut."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.size} numbers"
    text = "a huge number" if isinstance(value, int) and abs(value) >= 2**64 else _SHORT.repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def config_of(checkpoint: Checkpoint) -> str:
    """The file that says what the model is."""
    return str(checkpoint.path if checkpoint.kind == "gguf" else checkpoint.path / "config.json")


def open_keys(checkpoint: Checkpoint, architecture: str, known: Collection[str], remedy: str) -> Keys:
    """The config of a checkpoint, to be read; UnsupportedError for a key that the family does not know."""
    prefix = f"{architecture}." if checkpoint.kind == "gguf" else ""
    if f"{TEXT}.model_type" in checkpoint.metadata:  # opened by `text_part`
        prefix = f"{TEXT}."
    keys = Keys(checkpoint.metadata, config_of(checkpoint), architecture, prefix)
    keys.refuse_unknown(known, remedy)
    return keys
