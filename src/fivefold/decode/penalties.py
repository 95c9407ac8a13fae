"""What the tokens so far do to the next logits: repetition, presence and frequency penalties.

Formulae and order are vLLM's. Repetition (from CTRL, arXiv 1909.05858) looks at prompt and output:
a positive logit is divided by it, any other multiplied. Then frequency is taken off once for each
time a token was put out, and presence once if it was put out at all.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fivefold.core.batch import Float32
from fivefold.core.request import SamplingParams


class Penalties:
    """The penalties of one request, and the tokens that they count."""

    def __init__(self, params: SamplingParams, vocabulary_size: int, prompt: Iterable[int]) -> None:
        self._repetition = params.repetition_penalty
        self._presence = params.presence_penalty
        self._frequency = params.frequency_penalty
        self._counts: dict[int, int] = {}
        self._seen: dict[int, None] = {}
        if self._repetition != 1.0:
            self._seen = {token: None for token in prompt if 0 <= token < vocabulary_size}

    @property
    def active(self) -> bool:
        """Whether `apply` can change anything, now or later."""
        return self._repetition != 1.0 or self._presence != 0.0 or self._frequency != 0.0

    def record(self, token: int) -> None:
        """Count one token of the output."""
        if self.active:
            self._counts[token] = self._counts.get(token, 0) + 1
            self._seen[token] = None

    def apply(self, logits: Float32) -> None:
        """Change (V,) logits in place, in float32."""
        if self._repetition != 1.0 and self._seen:
            seen = np.fromiter(self._seen, np.intp, len(self._seen))
            values, penalty = logits[seen], np.float32(self._repetition)
            logits[seen] = np.where(values > 0, values / penalty, values * penalty)
        if (self._presence != 0.0 or self._frequency != 0.0) and self._counts:
            put_out = np.fromiter(self._counts, np.intp, len(self._counts))
            times = np.fromiter(self._counts.values(), np.float32, len(self._counts))
            logits[put_out] -= np.float32(self._frequency) * times
            logits[put_out] -= np.float32(self._presence)
