"""Reads `tokenizer.ggml.*` of a GGUF file, and says what is wrong with it.

Every accessor checks the type of what it gives; what is missing or malformed raises FileError, what
no implementation is there for UnsupportedError, both with the name of the file and of the key.
What the values mean is the matter of the modules beside this one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FileError, UnsupportedError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Types of tokens, as `tokenizer.ggml.token_type` numbers them; 0 is undefined, and taken for normal."""


class TokenizerKeys:
    """The keys of one file."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    def malformed(self, name: str, what: str) -> FileError:
        return FileError(
            f"key 'tokenizer.ggml.{name}' {what}",
            where=str(self._checkpoint.path),
            remedy="fetch the file again, or convert the model with a current program",
        )

    def unsupported(self, name: str, what: str) -> UnsupportedError:
        return UnsupportedError(
            f"key 'tokenizer.ggml.{name}': {what}",
            where=str(self._checkpoint.path),
            remedy="use a model whose tokenizer is in the list",
        )

    def general(self, name: str) -> str:
        """A text under `general.`, empty when the file has none."""
        value = self._checkpoint.metadata.get(f"general.{name}")
        return value if isinstance(value, str) else ""

    def text(self, name: str, absent: str | None = None) -> str:
        value = self._get(name, absent)
        if not isinstance(value, str):
            raise self.malformed(name, "is not a string")
        return value

    def texts(self, name: str) -> list[str]:
        value = self._get(name, None)
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise self.malformed(name, "is not a list of strings")
        return value

    def flag(self, name: str, absent: bool) -> bool:
        value = self._get(name, absent)
        if not isinstance(value, bool):
            raise self.malformed(name, "is not true or false")
        return value

    def token(self, role: str, size: int, absent: int | None = None) -> int | None:
        """The id under a role's key; `absent`, if there is such a token, when the file has no such key."""
        name = f"{role}_token_id"
        value = self._checkpoint.metadata.get(f"tokenizer.ggml.{name}")
        if value is None:
            return absent if absent is not None and absent < size else None
        if type(value) is not int or not 0 <= value < size:
            raise self.malformed(name, f"is not the id of one of {size} tokens")
        return value

    def types(self, size: int) -> list[int]:
        """The type of each token; all normal when the file does not say."""
        value = self._checkpoint.metadata.get("tokenizer.ggml.token_type")
        if value is None:
            return [NORMAL] * size
        types = _numbers(value)
        if types is None or types.dtype.kind not in "iu" or len(types) != size:
            raise self.malformed("token_type", f"does not hold one number for each of {size} tokens")
        if len(types) and not (types.min() >= 0 and types.max() <= BYTE):
            raise self.malformed("token_type", f"holds a type that is not from 0 to {BYTE}")
        return [int(kind) for kind in types]

    def scores(self, size: int) -> list[float]:
        """The score of each token."""
        scores = _numbers(self._get("scores", None))
        if scores is None or scores.dtype.kind not in "iuf" or len(scores) != size:
            raise self.malformed("scores", f"does not hold one number for each of {size} tokens")
        if not np.isfinite(scores).all():
            raise self.malformed("scores", "holds a score that is not finite")
        return [float(score) for score in scores]

    def bytes(self, name: str) -> bytes:
        """A list of bytes; empty when the file has none."""
        value = self._checkpoint.metadata.get(f"tokenizer.ggml.{name}")
        if value is None:
            return b""
        data = _numbers(value)
        if data is None or data.dtype not in (np.int8, np.uint8):
            raise self.malformed(name, "is not a list of bytes")
        return data.tobytes()

    def merges(self) -> list[tuple[str, str]]:
        pairs: list[tuple[str, str]] = []
        for rank, text in enumerate(self.texts("merges")):
            space = text.find(" ", 1)
            if not 0 < space < len(text) - 1:
                raise self.malformed("merges", f"holds no pair at {rank}")
            pairs.append((text[:space], text[space + 1 :]))
        return pairs

    def _get(self, name: str, absent: Any) -> Any:
        value = self._checkpoint.metadata.get(f"tokenizer.ggml.{name}", absent)
        if value is None:
            raise self.malformed(name, "is missing")
        return value


def _numbers(value: Any) -> np.ndarray[Any, np.dtype[Any]] | None:
    """A list of numbers as an array; None for anything else, which numpy might take much memory for."""
    if isinstance(value, list) and all(isinstance(one, int | float) for one in value):
        value = np.array(value)
    return value if isinstance(value, np.ndarray) and value.ndim == 1 else None
