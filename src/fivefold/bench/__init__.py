"""Bench: honest measurement of speed and quality."""

from .quality import Quality, log_softmax, measure_quality
from .speed import Measure, Side, alternate, decode_rate, llama_cpp, prefill_rate

__all__ = [
    "Measure", "Quality", "Side", "alternate", "decode_rate", "llama_cpp", "log_softmax", "measure_quality",
    "prefill_rate",
]  # fmt: skip
