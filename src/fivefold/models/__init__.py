"""Model families: one file each, found by architecture name."""

from .config import left_by_part
from .registry import ARCHITECTURES, load_model

__all__ = ["ARCHITECTURES", "left_by_part", "load_model"]
