"""Model families: one file each, found by architecture name."""

from .config import left_by_part
from .registry import ARCHITECTURES, architecture_of, load_model

__all__ = ["ARCHITECTURES", "architecture_of", "left_by_part", "load_model"]
