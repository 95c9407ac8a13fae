"""Engine: loading models and stepping them; where the rooms below meet."""

from .engine import Engine, Figures
from .loader import LoadedModel, LoadOptions, load
from .score import score, windows

__all__ = ["Engine", "Figures", "LoadOptions", "LoadedModel", "load", "score", "windows"]
