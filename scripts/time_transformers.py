"""Eight requests at once on the Transformers backend, against Transformers' own `generate`, one after the
other.

    .venv/bin/python scripts/time_transformers.py bench/transformers/batch-8.json [THREADS]

The model is random, of an architecture without a family here (Phi-3), and large enough that its weights are
what a step reads: 116 million parameters in float32. Both sides run in this process with the same weights,
threads and prompts, in turn; the figures are medians of rounds, and the ratio is the median of the rounds'
ratios, since other work on the machine slows both sides of a round alike. On a machine that is never quiet
one thread and the ratio of processor times say more: threads that wait for each other count as busy.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from fivefold.bench.machine import describe_machine
from fivefold.core.request import SamplingParams
from fivefold.engine import Engine, EngineOptions, LoadedModel, LoadOptions, load
from fivefold.executor import allowed_threads, choose_isa, read_bandwidth

REQUESTS, PROMPT, WRITTEN, ROUNDS = 8, 64, 64, 7
ONE_BY_ONE = 1
"""Prompts of a round that `generate` gets: its rate does not depend on how many follow one another."""
SHAPE: dict[str, Any] = {
    "vocab_size": 8192, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "num_key_value_heads": 4, "max_position_embeddings": 2048,
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip
BYTES = 256
"""Tokens of the tokenizer; the prompts are made of them."""


def make(folder: Path) -> None:
    """The model and a tokenizer with a token for each byte."""
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.Phi3Config(**SHAPE), dtype=torch.float32
    )
    with torch.no_grad():
        for values in model.parameters():
            if values.dim() > 1:
                values.copy_(torch.randn_like(values) / values.shape[-1] ** 0.5)
        # Tokens that the tokenizer lacks are never written: their logits stay at zero, below the largest.
        model.lm_head.weight[BYTES:] = 0
    model.save_pretrained(folder)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    made.save(str(folder / "tokenizer.json"))


def timed(work: Callable[[], list[list[int]]]) -> tuple[tuple[float, float], list[list[int]]]:
    """Seconds of the wall clock and of the processor (all threads), and what was written."""
    began, busy = time.perf_counter(), time.process_time()
    found = work()
    return (time.perf_counter() - began, time.process_time() - busy), found


def together(loaded: LoadedModel, prompts: list[list[int]]) -> list[list[int]]:
    """All prompts at once. Nothing is left in the cache from a round before."""
    engine = Engine(loaded, EngineOptions(prefix_cache=False))
    answers = engine.generate(prompts, SamplingParams(max_tokens=WRITTEN, temperature=0.0, ignore_eos=True))
    return [list(answer.tokens) for answer in answers]


def one_by_one(model: Any, prompts: list[list[int]]) -> list[list[int]]:
    """Transformers' own way, greedy, with its own cache and its fastest attention on a processor (sdpa)."""
    found = []
    with torch.inference_mode():
        for prompt in prompts:
            tokens = torch.tensor([prompt])
            answer = model.generate(tokens, attention_mask=torch.ones_like(tokens))
            found.append(answer[0, len(prompt) :].tolist())
    return found


def measure(folder: Path, target: Path, threads: int) -> dict[str, Any]:
    """What all rounds say; it is written after each of them."""
    loaded = load(folder, LoadOptions(threads=threads, entries=REQUESTS * (PROMPT + WRITTEN + 32)))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.generation_config = transformers.GenerationConfig(do_sample=False, max_new_tokens=WRITTEN)
    weights = sum(values.nbytes for values in model.parameters())
    draws = np.random.default_rng(1)
    prompts = [draws.integers(0, BYTES, PROMPT).tolist() for _ in range(REQUESTS)]
    torch.set_num_threads(threads)
    one_by_one(model, prompts[:1])
    together(loaded, prompts[:1])
    rates: dict[str, list[float]] = {"fivefold": [], "generate": []}
    busy: list[float] = []
    bandwidths, same = [], []
    for number in range(ROUNDS):
        bandwidths.append(read_bandwidth(threads, weights))
        (took, own), ours = timed(lambda: together(loaded, prompts))
        rates["fivefold"].append(REQUESTS * WRITTEN / took)
        (took, other), theirs = timed(lambda: one_by_one(model, prompts[:ONE_BY_ONE]))
        rates["generate"].append(ONE_BY_ONE * WRITTEN / took)
        busy.append(other / ONE_BY_ONE * REQUESTS / own)
        same.append(sum(a == b for a, b in zip(ours, theirs, strict=False)))
        print(number, {side: round(each[-1], 2) for side, each in rates.items()}, busy[-1], flush=True)
        answer = told(rates, bandwidths, weights, threads)
        answer["processor_time_ratio"] = {"median": statistics.median(busy), "rounds": busy}
        answer |= {"compared_answers": ONE_BY_ONE, "equal_answers": min(same)}
        target.write_text(json.dumps(answer, indent=1) + "\n")
    return answer


def told(
    rates: dict[str, list[float]], bandwidths: list[float], weights: int, threads: int
) -> dict[str, Any]:
    """Tokens a second of each side, and how often ours are theirs."""
    ratios = [ours / theirs for ours, theirs in zip(rates["fivefold"], rates["generate"], strict=True)]
    return {
        "work": "batch-transformers", "architecture": "Phi3ForCausalLM", "shape": SHAPE,
        "parameters": weights // 4, "weight_bytes": weights, "number": "f32", "cache_format": "f32",
        "requests": REQUESTS, "prompt_tokens": PROMPT, "tokens": WRITTEN, "threads": threads,
        "instruction_set": choose_isa(), "read_bandwidth": statistics.median(bandwidths),
        "sides": {side: {"median": statistics.median(each), "rounds": each} for side, each in rates.items()},
        "ratio": {"median": statistics.median(ratios), "rounds": ratios},
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", ""),
        "transformers": transformers.__version__, "torch": torch.__version__,
        "machine": describe_machine(),
    }  # fmt: skip


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        answer = measure(
            Path(folder), Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else allowed_threads()
        )
    print(json.dumps(answer["ratio"]))
