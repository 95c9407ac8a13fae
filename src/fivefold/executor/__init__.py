"""The native executor: the only room that touches the compiled core."""

from .choice import draw, guess_tokens, largest_logit, likeliest_tokens
from .machine import Processor, allowed_threads, choose_isa, processor, read_bandwidth
from .native import NativeCache, NativeExecutor, PackedMatrices, Packing, Settings, dequantize
from .packing import grown_bytes
from .probe import ExpertProbe, LatentProbe, LinearProbe, Probes

__all__ = [
    "ExpertProbe", "LatentProbe", "LinearProbe", "NativeCache", "NativeExecutor", "PackedMatrices", "Packing",
    "Probes", "Processor", "Settings", "allowed_threads", "choose_isa", "dequantize", "draw", "grown_bytes",
    "guess_tokens", "largest_logit", "likeliest_tokens", "processor", "read_bandwidth",
]  # fmt: skip
