"""Engine: loading models and stepping many requests on them; where the rooms below meet."""

from .asynchronous import AsyncEngine, EventStream
from .engine import Engine
from .figures import EngineFigures, EngineOptions
from .generation import Generation
from .loader import LoadedModel, LoadOptions, load
from .score import score, score_in_chunks, windows

__all__ = [
    "AsyncEngine", "Engine", "EngineFigures", "EngineOptions", "EventStream", "Generation", "LoadOptions",
    "LoadedModel", "load", "score", "score_in_chunks", "windows",
]  # fmt: skip
