"""vLLM, inside its own interpreter: its engine, stepped by hand, on a Hugging Face folder.

Threads are bound by variables that the caller sets before Python starts. Prefix caching is off, since no
two prompts begin alike.
"""

from __future__ import annotations

import importlib
import time
from typing import Any

MEMORY_SHARE = 0.4
"""Of the machine's memory, which others use too: by its default vLLM would take nearly all, and refuses."""


class Engine:
    """One model; `run` gives all prompts at once and notes when tokens come."""

    def __init__(self, model: str, threads: int, requests: int, entries: int) -> None:
        self._library: Any = importlib.import_module("vllm")
        options = self._library.EngineArgs(
            model=model, max_model_len=entries, max_num_seqs=max(requests, 1), enable_prefix_caching=False,
            skip_tokenizer_init=True, disable_log_stats=True, gpu_memory_utilization=MEMORY_SHARE,
        )  # fmt: skip
        self._engine = self._library.LLMEngine.from_engine_args(options)
        self._number = 0
        self.version = str(self._library.__version__)

    def run(self, prompts: list[list[int]], tokens: int) -> tuple[list[float], list[list[int]]]:
        """Seconds since the prompts were given, and each request's tokens by then; greedy, to the end."""
        sampling = self._library.SamplingParams(
            temperature=0.0, max_tokens=tokens, min_tokens=tokens, ignore_eos=True, detokenize=False
        )
        seconds: list[float] = []
        history: list[list[int]] = []
        written = [0] * len(prompts)
        places: dict[str, int] = {}
        began = time.perf_counter()
        for at, prompt in enumerate(prompts):
            name = str(self._number + at)
            places[name] = at
            self._engine.add_request(name, {"prompt_token_ids": prompt}, sampling)
        self._number += len(prompts)
        while self._engine.has_unfinished_requests():
            outputs = self._engine.step()
            now = time.perf_counter() - began
            for output in outputs:
                written[places[output.request_id]] = len(output.outputs[0].token_ids)
            if outputs:
                seconds.append(now)
                history.append(list(written))
        return seconds, history
