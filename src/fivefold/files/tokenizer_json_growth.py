"""How much longer a tokenizer.json may make a text: a few replacements in a row can make gigabytes of a word.

Normalizers and decoders replace and prepend, one step after another, so their factors multiply. The factor
is an upper bound, in characters, and only steps that a file sizes itself are counted beside a constant for
Unicode's own forms.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

GROWTH_LIMIT = 4096
"""No known tokenizer is above 100."""

_UNICODE = {"NFD": 4, "NFC": 3, "NFKD": 18, "NFKC": 18, "Nmt": 1, "Lowercase": 3, "BertNormalizer": 9}


def growth(step: Mapping[str, Any] | None) -> int:
    """The factor that a normalizer or decoder, as the library writes it, can make a text longer by."""
    if step is None:
        return 1
    kind = step["type"]
    if kind == "Sequence":
        factor = 1
        for inner in step.get("normalizers", step.get("decoders", ())):
            factor = min(factor * growth(inner), 2 * GROWTH_LIMIT)
        return factor
    if kind == "Replace":
        return _replacement(step["pattern"], len(step["content"]))
    if kind == "Prepend":
        return 1 + len(step["prepend"])
    if kind == "Precompiled":
        return _charsmap(step["precompiled_charsmap"])
    return _UNICODE.get(kind, 1)


def _replacement(pattern: Mapping[str, Any], size: int) -> int:
    """An expression may match nothing, and so between all characters."""
    text = pattern.get("String")
    return max(1, -(-size // len(text))) if text else 1 + size


def _charsmap(stored: str) -> int:
    """The longest replacement in a charsmap."""
    data = base64.b64decode(stored)
    texts = data[4 + int.from_bytes(data[:4], "little") :]
    return max((len(found) for found in re.findall(rb"[^\0]{20,}", texts)), default=19)
