"""Quality of models on a text: perplexity, and the distance of their distributions to a reference's."""

from .distance import compare as compare_distributions
from .distance import log_softmax
from .measure import measure_quality, text_windows
from .report import TextSetup, measure_models, model_hash, quality_lines
from .sums import Moments, Quality, Tallies, Tally

__all__ = [
    "Moments", "Quality", "Tallies", "Tally", "TextSetup", "compare_distributions", "log_softmax",
    "measure_models", "measure_quality", "model_hash", "quality_lines", "text_windows",
]  # fmt: skip
