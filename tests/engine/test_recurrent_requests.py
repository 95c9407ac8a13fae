"""Many requests of a model with recurrent states: each gets what it gets alone, whatever runs beside it, also
when it is preempted; and its memory is counted."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from guessed import Clock, truth_teller

from fivefold.backends import NativeRunner
from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.core.errors import InputError
from fivefold.core.request import Request, SamplingParams
from fivefold.engine import Engine, EngineOptions, LoadedModel, LoadOptions, decodings, load
from fivefold.engine.described import described
from fivefold.engine.need import measured
from fivefold.formats import FORMATS
from fivefold.models import load_model

TINY = Path(__file__).parent / "data" / "tiny.gguf"
KEYS = {
    "block_count": 3, "context_length": 128, "embedding_length": 32, "feed_forward_length": 48,
    "attention.head_count": 2, "attention.head_count_kv": 1, "attention.key_length": 16,
    "attention.value_length": 16, "attention.layer_norm_rms_epsilon": np.float64(1e-6),
    "rope.dimension_count": 4, "rope.freq_base": 10000.0, "ssm.conv_kernel": 4, "ssm.state_size": 16,
    "ssm.group_count": 1, "ssm.time_step_rank": 2, "ssm.inner_size": 32, "full_attention_interval": 3,
}  # fmt: skip
DELTA = {
    "attn_qkv.weight": (64, 32), "attn_gate.weight": (32, 32), "ssm_alpha.weight": (2, 32),
    "ssm_beta.weight": (2, 32), "ssm_conv1d.weight": (64, 4), "ssm_a": (2,), "ssm_dt.bias": (2,),
    "ssm_norm.weight": (16,), "ssm_out.weight": (32, 32),
}  # fmt: skip
ATTENTION = {
    "attn_q.weight": (64, 32), "attn_k.weight": (16, 32), "attn_v.weight": (16, 32),
    "attn_q_norm.weight": (16,), "attn_k_norm.weight": (16,), "attn_output.weight": (32, 32),
}  # fmt: skip
BOTH = {
    "attn_norm.weight": (32,), "post_attention_norm.weight": (32,), "ffn_gate.weight": (48, 32),
    "ffn_up.weight": (48, 32), "ffn_down.weight": (32, 48),
}  # fmt: skip


def checkpoint(vocabulary: int) -> Checkpoint:
    """Two delta nets and an attention, with random weights."""
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (vocabulary, 32), "output_norm.weight": (32,),
        **{
            f"blk.{layer}.{name}": shape
            for layer in range(3)
            for name, shape in {**BOTH, **(ATTENTION if layer == 2 else DELTA)}.items()
        },
    }  # fmt: skip
    draw = np.random.default_rng(6)
    tensors = {}
    for name, shape in shapes.items():
        values = draw.normal(0.0, 1.5 / shape[-1] ** 0.5 if len(shape) > 1 else 0.2, shape).astype(np.float32)
        values = -np.abs(values) if name.endswith("ssm_a") else values
        values = values + np.float32(1) if name.endswith("norm.weight") else values
        tensors[name] = Tensor(name, "f32", shape, FORMATS["f32"].pack(values.reshape(-1)))
    metadata = {"general.architecture": "qwen35", **{f"qwen35.{key}": value for key, value in KEYS.items()}}
    return Checkpoint(Path("tiny"), "gguf", MappingProxyType(metadata), MappingProxyType(tensors))


def loaded(entries: int, sequences: int) -> LoadedModel:
    """The recurrent model, with the tokenizer of another one."""
    tiny = load(TINY, LoadOptions(entries=64, context=64))
    made = checkpoint(tiny.vocabulary.size)
    model = load_model(made)
    runner = NativeRunner(model, made, tiny.settings, entries, sequences=sequences)
    return dataclasses.replace(tiny, checkpoint=made, model=model, runner=runner, context=128)


def requests(count: int) -> list[Request]:
    choose = random.Random(5)
    return [
        Request(
            f"r{number}",
            tuple(choose.randrange(2, 258) for _ in range(choose.randrange(1, 30))),
            SamplingParams(
                max_tokens=choose.randrange(10, 80), temperature=choose.choice([0.0, 0.9]), seed=number,
                logprobs=1, ignore_eos=True,
            ),
        )
        for number in range(count)
    ]  # fmt: skip


def run(model: LoadedModel, wanted: list[Request]) -> tuple[dict[str, Any], Engine]:
    engine = Engine(model, EngineOptions(), Clock())
    found: dict[str, list[Any]] = {request.identity: [] for request in wanted}
    for request in wanted:
        engine.submit(request)
    while engine.busy:
        for event in engine.step():
            assert event.error is None, event.error
            found[event.identity].append((event.tokens, event.logprobs))
        engine.check_integrity()
    return {
        name: ([t for tokens, _ in events for t in tokens], [e for _, more in events for e in more])
        for name, events in found.items()
    }, engine


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    model = loaded(256, 1)
    found = {}
    for request in requests(16):
        found |= run(model, [request])[0]
    return found


@pytest.mark.parametrize(("entries", "sequences"), [(4096, 16), (4096, 3), (192, 16)])
def test_together(alone: dict[str, Any], entries: int, sequences: int) -> None:
    found, engine = run(loaded(entries, sequences), requests(16))
    assert found == alone
    assert (engine.figures().preemptions > 0) == (entries == 192), "only little room makes requests give way"
    assert engine.figures().cached_tokens == 0, "a state cannot be shared"


@pytest.mark.parametrize("sequences", [16, 5])
def test_guesses(alone: dict[str, Any], sequences: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row of a guess leaves its state in a slot of its own; where slots are short there are fewer."""
    asked = requests(16)
    texts = {one.identity: [*one.prompt, *alone[one.identity][0]] for one in asked}
    monkeypatch.setitem(decodings._DECODERS, "speculative", truth_teller(texts, 0.8))
    found, engine = run(loaded(4096, sequences), asked)
    assert found == alone
    figures = engine.figures()
    assert 10 < figures.accepted_tokens < figures.guessed_tokens
    assert figures.preemptions == 0


def test_states_are_counted_as_memory() -> None:
    tiny = load(TINY, LoadOptions(entries=64, context=64))
    made = checkpoint(tiny.vocabulary.size)
    model = load_model(made)
    one = 2 * 4 * (3 * 64 + 2 * 16 * 16)
    assert model.layout.state_bytes() == one
    need = measured(described(made, LoadOptions(sequences=5)), LoadOptions(sequences=5))
    assert need.states == 5 * one
    assert need.least_bytes == need.weights + need.states + need.least * 64
    with pytest.raises(InputError, match=f"{5 * one} of recurrent states"):
        need.entries(need.least_bytes - 64)
    assert need.entries(need.least_bytes) == need.least
    runner = NativeRunner(model, made, tiny.settings, 64, sequences=5)
    assert runner.cache_bytes == 5 * one + 64 * 64
