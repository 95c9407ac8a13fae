"""What a folder declares of its quantization, in config.json or hf_quant_config.json.

A key that is not known, or a value that cannot be done, is refused: it could change what numbers mean.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fivefold.core.errors import FileError, UnsupportedError
from fivefold.files.gguf_values import shown
from fivefold.files.quantized.parts import Scheme

TAKE_ANOTHER = "use the model's own weights, or a version of it in NVFP4, MXFP4 or FP8, or a GGUF file"

_CACHE_KINDS = ("FP8", "NVFP4", "INT8")
_CACHE_KEYS = {
    "num_bits", "type", "dynamic", "strategy", "symmetric", "group_size", "block_structure", "observer",
    "observer_kwargs", "actorder", "scale_dtype", "zp_dtype",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Declared:
    """What a maker's config says: how the matrix of each module is stored; None if it is not quantized.

    `label` names the quantization in errors. `joint` stands between a module's name and what its tensors are.
    """

    label: str
    scheme_of: Callable[[str], Scheme | None]
    joint: str = "."


class Declaration:
    """One object of a config. `where` is its file and the path of keys to it."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.where = where
        self._values = values

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def refuse_unknown(self, known: Collection[str]) -> None:
        """UnsupportedError for the first key with a value that is not known."""
        for key, value in self._values.items():
            if key not in known and value is not None:
                raise self.unsupported(f"key {shown(key)} is not known")

    def get(self, key: str, default: Any = None) -> Any:
        """The value as it stands, the default where it is absent or null."""
        value = self._values.get(key)
        return default if value is None else value

    def text(self, key: str, default: str = "") -> str:
        """A text."""
        value = self.get(key, default)
        if not isinstance(value, str):
            raise self.malformed(key, "not a text")
        return value

    def only(self, key: str, default: Any, *allowed: Any) -> Any:
        """The value, which must be one of those that can be done; UnsupportedError says what it is."""
        value = self.get(key, default)
        if not any(type(value) is type(one) and value == one for one in allowed):
            known = ", ".join(map(str, allowed))
            raise self.unsupported(f"key {key} is {_brief(value)}, and {known} can be done")
        return value

    def names(self, *keys: str) -> list[str]:
        """The texts in the lists under these keys, of which several may say the same thing."""
        found: list[str] = []
        for key in keys:
            value = self.get(key, [])
            if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
                raise self.malformed(key, "not a list of texts")
            found.extend(value)
        return found

    def inside(self, key: str) -> Declaration:
        """The object under a key, empty where it is absent."""
        value = self.get(key, {})
        if not isinstance(value, Mapping):
            raise self.malformed(key, "not an object")
        return Declaration(value, f"{self.where}: {shown(key).strip(chr(39))}")

    def __iter__(self) -> Iterator[str]:
        """The keys, in their order."""
        return iter(self._values)

    def check_cache(self, key: str) -> None:
        """Refuse what is no hint for the cache of keys and values.

        Such a hint says in which format the cache may be kept, for which factors lie in the file (`k_scale`,
        `v_scale`). It is sound to pass over both: no weight depends on them, and a cache with more bits holds
        what the one with fewer would have rounded.
        """
        value = self.get(key)
        if value is None or value in _CACHE_KINDS:
            return
        if not isinstance(value, Mapping):
            raise self.unsupported(f"key {key} is {_brief(value)}, and {', '.join(_CACHE_KINDS)} are known")
        hint = self.inside(key)
        hint.refuse_unknown(_CACHE_KEYS)
        hint.only("type", "float", "float", "int")
        hint.only("symmetric", True, True)

    def unsupported(self, what: str) -> UnsupportedError:
        """The error for what is well formed and cannot be done."""
        return UnsupportedError(what, where=self.where, remedy=TAKE_ANOTHER)

    def malformed(self, key: str, what: str) -> FileError:
        """The error for a key whose value cannot be."""
        return FileError(
            f"key {key} is {_brief(self.get(key))}, {what}", where=self.where, remedy="fetch the file again"
        )


def _brief(value: Any) -> str:
    """A value from a file as it may stand in an error."""
    if isinstance(value, str):
        return shown(value)
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 2**64):
        return str(value)
    if (
        isinstance(value, list)
        and len(value) <= 4
        and all(type(one) is int and abs(one) < 2**64 for one in value)
    ):
        return str(value)
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, Mapping) else "a huge number"
