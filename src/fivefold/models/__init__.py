"""Model families: one file each, found by architecture name."""

from .registry import ARCHITECTURES, architecture_of, load_model

__all__ = ["ARCHITECTURES", "architecture_of", "load_model"]
