"""Tiny DiffusionGemma models of Transformers with random weights, and what they compute and generate.

`generate` draws from torch. To compare token for token, its two draws are given from outside: `torch.randint`
(the noise of a canvas) and `torch.multinomial` (the tokens). Each canvas takes one noise to begin with, then
tokens and noise in turn for each step, so a count of calls says which step of which canvas is meant.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from diffusion_models import END, VOCABULARY, byte_tokenizer
from transformers_models import FULL, LOOKS, SLIDING, WINDOW, random_weights, transformers

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]

CANVAS, CONTEXT = 16, 512
TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "global_head_dim": 32,
    "num_global_key_value_heads": 1, "sliding_window": WINDOW, "layer_types": [SLIDING, FULL, SLIDING, FULL],
    "num_experts": 6, "top_k_experts": 3, "moe_intermediate_size": 24, "max_position_embeddings": CONTEXT,
    "pad_token_id": None, "eos_token_id": None, "bos_token_id": None,
}  # fmt: skip
LOOKING = {
    **LOOKS, "model_type": "gemma4_vision", "num_key_value_heads": 2, "head_dim": 8,
    "position_embedding_size": 16,
}  # fmt: skip


@dataclass(frozen=True)
class Noise:
    """Where random numbers come from: (R,) tokens of noise and (R,) numbers in [0, 1) for the positions of an
    answer in a step, which is -1 before the first."""

    tokens: Callable[[Int32, int], Int32]
    numbers: Callable[[Int32, int], npt.NDArray[np.float64]]


class CanvasModel:
    """A model, its forward passes and its generation."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def canvas_logits(self, prompt: list[int], canvas: list[int], last: Float32 | None) -> Float32:
        """(B, V) logits of a canvas behind a prompt; `last` (B, V) are the scaled logits of a step before."""
        import torch

        given = None if last is None else torch.tensor(last)[None]
        with torch.no_grad():
            found = self.model(
                input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([canvas]),
                self_conditioning_logits=given,
            )  # fmt: skip
        logits: Float32 = found.logits[0].numpy()
        return logits

    def text_logits(self, tokens: list[int]) -> Float32:
        """(T, V) what the head makes of text that is read causally."""
        import torch

        with torch.no_grad():
            cap, inner = self.model.final_logit_softcapping, self.model.model.encoder
            cache = transformers().DynamicCache(config=self.model.config.get_text_config())
            found = self.model.lm_head(inner(torch.tensor([tokens]), cache=cache).last_hidden_state)[0]
            logits: Float32 = (cap * torch.tanh(found / cap)).numpy()
        return logits

    def generate(self, prompt: list[int], tokens: int, noise: Noise, **numbers: Any) -> tuple[list[int], int]:
        """The tokens behind the prompt in whole canvases, and the steps that they took; `numbers` are of its
        generation config."""
        import torch

        steps = 0

        def count(*_: Any) -> None:
            nonlocal steps
            steps += 1

        hook = self.model.model.decoder.register_forward_hook(count)
        with torch.no_grad(), _drawing(noise):
            found = self.model.generate(torch.tensor([prompt]), max_new_tokens=tokens, **numbers)
        hook.remove()
        return found.sequences[0, len(prompt) :].tolist(), steps


@dataclass(frozen=True)
class Nature:
    """What a model of random weights is like, by factors of some of them.

    A model that reads its own guess is chaotic where weights are large: rounding grows about tenfold with
    each step, so that two programs which round differently part after a few. With a `signal` of 0.02 (what is
    added to embeddings of the last guess) they stay together. `sharp` is of the last norm: the larger, the
    surer are guesses. `gentle` is of what layers add: with little, guesses settle, and canvases end early.
    """

    signal: float = 1.0
    sharp: float = 1.0
    gentle: float = 1.0


ROUGH, SHARP = Nature(0.02), Nature(0.02, 4.0)
CALM = Nature(0.02, 4.0, 0.3)
"""Of which the first two never settle."""


def make_canvas_model(folder: Path, nature: Nature = Nature(), **changes: Any) -> CanvasModel:
    """Make a model, save it and read it back, in float32 with plain attention; `changes` are of its text."""
    package = transformers()
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = package.DiffusionGemmaConfig(
            text_config={**TEXT, **changes}, vision_config=LOOKING, canvas_length=CANVAS
        )
        kind = package.DiffusionGemmaForBlockDiffusion
        model = kind(config).float()
        random_weights(model, 1)
        inner = model.model.decoder
        with torch.no_grad():
            inner.norm.weight.mul_(nature.sharp)
            inner.self_conditioning.down_proj.weight.mul_(nature.signal)
            for layer in inner.layers:
                for norm in (layer.post_attention_layernorm, layer.post_feedforward_layernorm):
                    norm.weight.mul_(nature.gentle)
        model.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": END}))
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    return CanvasModel(model)


@contextmanager
def _drawing(noise: Noise) -> Iterator[None]:
    """Torch's draws from a noise, in the order in which `generate` makes them."""
    import torch

    canvas, turn, drawn = -1, -1, False

    def numbers() -> Int32:
        return np.arange(canvas * CANVAS, (canvas + 1) * CANVAS, dtype=np.int32)

    def randint(**_: Any) -> Any:
        nonlocal canvas, turn, drawn
        if not drawn:  # nothing was drawn since the last noise: a new canvas
            canvas, turn = canvas + 1, -1
        drawn = False
        return torch.tensor(noise.tokens(numbers(), turn))[None].long()

    def multinomial(shares: Any, num_samples: int) -> Any:
        nonlocal turn, drawn
        assert num_samples == 1
        turn, drawn = turn + 1, True
        cumulative = np.cumsum(shares.double().numpy(), axis=1)
        goals = noise.numbers(numbers(), turn) * cumulative[:, -1]
        return torch.tensor((cumulative <= goals[:, None]).sum(axis=1))[:, None]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randint", randint)
        patch.setattr(torch, "multinomial", multinomial)
        # A mark for compiled graphs, of which there are none; it would load the compiler.
        patch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: None)
        yield
