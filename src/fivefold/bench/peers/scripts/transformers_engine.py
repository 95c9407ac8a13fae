"""Hugging Face Transformers, inside its own interpreter: `generate` on a static batch.

It opens a Hugging Face folder and takes numbers as they are there (`dtype="auto"`). A static batch gives each
request a token in the same step, so a stopping criterion that never stops tells the time of each.
"""

from __future__ import annotations

import importlib
import time
from typing import Any


class Engine:
    """One model; `run` gives all prompts at once and notes when tokens come."""

    def __init__(self, model: str, threads: int, requests: int, entries: int) -> None:
        self._torch: Any = importlib.import_module("torch")
        self._torch.set_num_threads(threads)
        library: Any = importlib.import_module("transformers")
        self._model = library.AutoModelForCausalLM.from_pretrained(model, dtype="auto").eval()
        self.version = str(library.__version__)

    def run(self, prompts: list[list[int]], tokens: int) -> tuple[list[float], list[list[int]]]:
        """Seconds since the prompts were given, and each request's tokens by then; greedy, to the end."""
        torch = self._torch
        identities = torch.tensor(prompts)
        seconds: list[float] = []

        def note(so_far: Any, scores: Any, **unused: Any) -> Any:
            seconds.append(time.perf_counter() - began)
            return torch.zeros(so_far.shape[0], dtype=torch.bool)

        began = time.perf_counter()
        with torch.inference_mode():
            self._model.generate(
                identities, attention_mask=torch.ones_like(identities), do_sample=False,
                max_new_tokens=tokens, min_new_tokens=tokens, stopping_criteria=[note],
            )  # fmt: skip
        return seconds, [[step + 1] * len(prompts) for step in range(len(seconds))]
