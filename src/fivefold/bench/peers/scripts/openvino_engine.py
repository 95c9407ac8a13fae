"""OpenVINO GenAI, inside its own interpreter: its continuous batching, stepped by hand.

It opens a GGUF file as well as a folder of its own. The library's defaults are kept (8-bit cache, bf16 or
int8 arithmetic as it sees fit), but for the threads and the tokens of a step, which are llama.cpp's 2048.
"""

from __future__ import annotations

import importlib
import time
from typing import Any

STEP_TOKENS = 2048


class Engine:
    """One model; `run` gives all prompts at once and notes when tokens come."""

    def __init__(self, model: str, threads: int, requests: int, entries: int) -> None:
        self._numpy: Any = importlib.import_module("numpy")
        self._core: Any = importlib.import_module("openvino")
        self._library: Any = importlib.import_module("openvino_genai")
        schedule = self._library.SchedulerConfig()
        schedule.max_num_batched_tokens = STEP_TOKENS
        schedule.max_num_seqs = max(requests, 1)
        properties = {"INFERENCE_NUM_THREADS": threads}
        self._pipeline = self._library.ContinuousBatchingPipeline(model, schedule, "CPU", properties)
        self._number = 0
        self.version = str(self._library.__version__)

    def run(self, prompts: list[list[int]], tokens: int) -> tuple[list[float], list[list[int]]]:
        """Seconds since the prompts were given, and each request's tokens by then; greedy, to the end."""
        inputs = [self._core.Tensor(self._numpy.array([prompt], self._numpy.int64)) for prompt in prompts]
        config = self._library.GenerationConfig()
        config.max_new_tokens = config.min_new_tokens = tokens
        config.ignore_eos = True
        config.do_sample = False
        seconds: list[float] = []
        history: list[list[int]] = []
        written = [0] * len(prompts)
        began = time.perf_counter()
        handles = [
            self._pipeline.add_request(self._number + at, each, config) for at, each in enumerate(inputs)
        ]
        self._number += len(prompts)
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
            now = time.perf_counter() - began
            for at, handle in enumerate(handles):
                if handle.can_read():
                    written[at] += sum(len(part.generated_ids) for part in handle.read().values())
            seconds.append(now)
            history.append(list(written))
        return seconds, history
