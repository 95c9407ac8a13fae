"""Engine: loading models and stepping many requests on them; where the rooms below meet."""

from fivefold.decode.diffusion import CACHINGS, caching_named, chosen_denoiser

from .asynchronous import AsyncEngine, EventStream
from .decodings import AUTO, DECODINGS, decoding_named
from .engine import Engine
from .figures import EngineFigures, EngineOptions, Totals
from .generation import Generation
from .inspection import inspect_model
from .loader import LoadedModel, load
from .need import Need, need_of
from .options import LoadOptions
from .residency import LoadError, Residency
from .score import read_prompt, score, score_in_chunks, windows
from .seats import Lease, Recipe
from .servable import NONE, SERVED, checked

__all__ = [
    "AUTO", "CACHINGS", "DECODINGS", "NONE", "SERVED",
    "AsyncEngine", "Engine", "EngineFigures", "EngineOptions", "EventStream", "Generation", "Lease",
    "LoadError", "LoadOptions", "LoadedModel", "Need", "Recipe", "Residency", "Totals",
    "caching_named", "checked", "chosen_denoiser", "decoding_named", "inspect_model", "load", "need_of",
    "read_prompt", "score", "score_in_chunks", "windows",
]  # fmt: skip
