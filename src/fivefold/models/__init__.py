"""Model families: one file each, found by architecture name."""

from .registry import ARCHITECTURES, load_model

__all__ = ["ARCHITECTURES", "load_model"]
