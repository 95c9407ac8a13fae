"""Backends: who runs a step. One Runner protocol, in `core.runner`.

The Transformers backend is not among these names: it needs torch, and is imported when it is needed
(`extra`).
"""

from .drafting import drafter_bytes, drafter_tensors
from .extra import MissingExtraError, Outline, Room, transformers_backend
from .native import NativeRunner, ReferenceRunner

__all__ = [
    "MissingExtraError", "NativeRunner", "Outline", "ReferenceRunner", "Room", "drafter_bytes",
    "drafter_tensors", "transformers_backend",
]  # fmt: skip
