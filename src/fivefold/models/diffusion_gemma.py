"""DiffusionGemma: Gemma 4 with experts, whose layers run in two ways.

Text that is final runs as Gemma 4's does, causal, and its entries are what the cache keeps. A canvas runs
through the same layers bidirectionally: its rows see the entries before it and each other, whatever the
window, and are not kept. What goes into them is made otherwise: to the embedding is added what the model
guessed last, read through the table of embeddings and gated, and the sum is normed; and the number that a
layer's result is multiplied with is the canvas's own. So the Program is Gemma 4's, rewritten.

Keys, names and defaults as Transformers 5.24 has them (`models/diffusion_gemma`), of which the text is read.
A config for text alone, weights of the two ways that are not shared, and images are not known here. The
numbers of the denoiser are those of `generate`; generation_config.json is not asked for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.core.diffusion import DiffusionRules
from fivefold.ops.elementwise import ACTIVATIONS
from fivefold.program import Conditioning, Model, Weight, self_conditioned

from .config import JSON_NAMES, OUTER_KEYS, TEXT, Keys, TextPart, config_of

BASE = "Gemma4ForCausalLM"
"""The architecture that the text is read by."""

_PLAIN = "use a model of plain DiffusionGemma form"
_IMPLIED: Mapping[str, object] = {
    "enable_moe_block": True, "attention_k_eq_v": True, "num_kv_shared_layers": 0,
    "hidden_size_per_layer_input": 0, "use_double_wide_mlp": False,
}  # fmt: skip
"""Keys of Gemma 4 that DiffusionGemma does not have, and what holds in their place."""

_CAP = 30.0
"""The bound of the logits where the config is silent; Transformers does not write it."""

_LEFT = re.compile(r"model\.encoder\.(vision_tower|embed_vision)\..+", re.DOTALL)
_CANVAS_FACTOR = re.compile(r"model\.decoder\.(layers\.\d+)\.layer_scalar")
_CANVAS, _TEXT = "model.decoder.", "model.encoder.language_model."
_SIGNAL = "model.self_conditioning"


@dataclass(frozen=True, slots=True)
class CanvasPart:
    """The text as Gemma 4 reads it, and what makes a DiffusionGemma of Gemma 4."""

    text: TextPart
    rules: DiffusionRules
    eps: float

    @property
    def checkpoint(self) -> Checkpoint:
        """As Gemma 4 reads it."""
        return self.text.checkpoint

    @property
    def architecture(self) -> str:
        """Gemma 4's."""
        return self.text.architecture

    def as_in_file(self, model: Model) -> Model:
        """Gemma 4's model with rows of a canvas, and weights called as in the file."""
        program = self_conditioned(model.main, self._conditioning(model))
        shape = replace(model.shape, family="diffusion_gemma")
        made = replace(model, shape=shape, programs={"main": program}, diffusion=self.rules)
        return self.text.as_in_file(made)

    def _conditioning(self, model: Model) -> Conditioning:
        shape = model.shape
        wide, narrow = (shape.ffn, shape.hidden), (shape.hidden, shape.ffn)
        return Conditioning(
            Weight(JSON_NAMES.embedding, (shape.vocabulary, shape.hidden)),
            Weight(f"{_SIGNAL}.pre_norm.weight", (shape.hidden,)),
            Weight(f"{_SIGNAL}.gate_proj.weight", wide), Weight(f"{_SIGNAL}.up_proj.weight", wide),
            Weight(f"{_SIGNAL}.down_proj.weight", narrow), self.eps, ACTIVATIONS.index("gelu_tanh"),
            {f"model.layers.{n}.layer_scalar": Weight(f"model.layers.{n}.canvas_scalar", (1,))
             for n in range(shape.layers)},
        )  # fmt: skip


def open_canvas(checkpoint: Checkpoint, architecture: str) -> CanvasPart:
    """A folder of DiffusionGemma; FileError or UnsupportedError for what its config says otherwise."""
    outer = Keys(checkpoint.metadata, config_of(checkpoint), architecture)
    outer.refuse_unknown(OUTER_KEYS | {"canvas_length"}, _PLAIN)
    outer.only("model_type", "diffusion_gemma", "diffusion_gemma")
    outer.only("tie_word_embeddings", True, True)  # untied, text and canvas have weights of their own
    inner = outer.inside(TEXT)
    inner.only("model_type", "diffusion_gemma_text", "diffusion_gemma_text")
    for key, value in _IMPLIED.items():
        inner.only(key, value, value)
    said = {**inner.with_silent({"final_logit_softcapping": _CAP}).plain, **_IMPLIED}
    said |= {"model_type": "gemma4_text", "tie_word_embeddings": True}
    metadata = {f"{TEXT}.{key}": value for key, value in said.items()}
    names, left = _named(checkpoint.tensors)
    tensors = {plain: checkpoint.tensors[name] for plain, name in names.items()}
    view = Checkpoint(checkpoint.path, checkpoint.kind, metadata, tensors)
    rules = DiffusionRules(
        "canvas", outer.size("canvas_length", 256), None, "uniform_renoise", conditioned=True
    )
    eps = inner.number("rms_norm_eps", 1e-6, above=0)
    return CanvasPart(TextPart(view, BASE, names, left), rules, eps)


def _named(tensors: Mapping[str, Tensor]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The file's name of each tensor by Gemma 4's, and the tensors that are left.

    Text and canvas share their weights, which lie under the canvas's name: a copy under the text's is left.
    Of the numbers that layers multiply with each has its own.
    """
    names: dict[str, str] = {}
    left = []
    for name in tensors:
        if _LEFT.fullmatch(name):
            left.append(name)
        elif match := _CANVAS_FACTOR.fullmatch(name):
            names[f"model.{match[1]}.canvas_scalar"] = name
        elif name.startswith(_TEXT):
            rest = name.removeprefix(_TEXT)
            shared = f"{_CANVAS}{rest}"
            if shared in tensors and not _CANVAS_FACTOR.fullmatch(shared):
                left.append(name)
            else:
                names[f"model.{rest}"] = name
        elif name.startswith(_CANVAS):
            names[f"model.{name.removeprefix(_CANVAS)}"] = name
        else:
            names[name] = name
    return names, tuple(left)
