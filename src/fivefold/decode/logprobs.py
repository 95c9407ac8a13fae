"""Log probabilities as they are reported to people.

They are those of the model: taken from the raw logits, before bias, penalties, bans, temperature
and filters, which is what vLLM (v1) reports by default.
"""

from __future__ import annotations

import numpy as np

from fivefold.core.batch import Float32
from fivefold.core.request import TokenLogprob
from fivefold.decode.filters import ranked


def log_normalizer(logits: Float32) -> float:
    """log(sum(exp(logits))) over (V,) logits, in float64; the largest must be finite."""
    largest = float(logits.max())
    return largest + float(np.log(np.exp(logits.astype(np.float64) - largest).sum()))


def token_logprob(logits: Float32, token: int, alternatives: int) -> TokenLogprob:
    """The log probability of `token` under (V,) raw logits, and the `alternatives` likeliest tokens."""
    normalizer = log_normalizer(logits)
    best = ranked(logits, alternatives) if alternatives > 0 else np.zeros(0, np.intp)
    top = tuple((int(index), float(logits[index]) - normalizer) for index in best)
    return TokenLogprob(token, float(logits[token]) - normalizer, top)
