"""The text part of a folder that holds a model for several kinds of input, as if it had been saved alone.

Such a config.json has a `text_config`, and beside it configs of what looks and listens. Families know nothing
of that: they get the keys inside, and tensors by the names that a text model has. Afterwards the Program's
weights are called as the file calls them. Tensors of the other parts are left knowingly: text needs none of
them. What is neither text nor known to be another part stays, so it is refused as everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.core.errors import FileError, UnsupportedError
from fivefold.program import Model, Program, Weight

from .harmless import HARMLESS_KEYS
from .keys import TEXT, Keys, config_of

OUTER_KEYS = HARMLESS_KEYS | {
    "text_config", "vision_config", "audio_config", "tie_word_embeddings",
    # tokens that stand for what is no text, and how many
    "image_token_id", "image_token_index", "video_token_id", "audio_token_id", "audio_token_index",
    "boi_token_id", "boi_token_index", "eoi_token_id", "eoi_token_index", "boa_token_id", "boa_token_index",
    "eoa_token_id", "eoa_token_index", "mm_tokens_per_image", "vision_soft_tokens_per_image",
    "vision_start_token_id", "vision_end_token_id",
    # the way from what looks to what reads
    "projector_hidden_act", "multimodal_projector_bias", "spatial_merge_size", "vision_feature_layer",
}  # fmt: skip
"""Keys beside `text_config` that change nothing of the text part, and `tie_word_embeddings`."""

_NAMES = (
    (re.compile(r"language_model\.model\.(.+)", re.DOTALL), r"model.\1"),
    (re.compile(r"model\.language_model\.(.+)", re.DOTALL), r"model.\1"),
    (re.compile(r"(?:language_model\.)?lm_head\.(.+)", re.DOTALL), r"lm_head.\1"),
)
"""How files call a text part's tensors, and how they are called in a text model's own folder."""

_OTHER = re.compile(
    r"(?:model\.)?(?:encoder\.)?(vision_tower|vision_model|visual|multi_modal_projector|embed_vision|audio_tower|embed_audio)"
    r"\..+",
    re.DOTALL,
)
"""Tensors of parts that are no text, the word for the part first."""


_LAYER = re.compile(r"(?<=\.)\d+(?=\.)")


@dataclass(frozen=True, slots=True)
class TextParts:
    """What the text part of an architecture can be.

    families  the architecture of a text model alone, by the `model_type` inside `text_config`.
    tied      what silence about `tie_word_embeddings` means, outside and inside.
    """

    families: Mapping[str, str]
    tied: bool = True


@dataclass(frozen=True, slots=True)
class TextPart:
    """The text model as families read it, the file's name of each of its tensors, and the tensors left."""

    checkpoint: Checkpoint
    architecture: str
    names: Mapping[str, str]
    left: tuple[str, ...]

    def as_in_file(self, model: Model) -> Model:
        """The model with weights called as in the file, which knows what it leaves."""
        programs = {name: self._program(program) for name, program in model.programs.items()}
        left = (*(self.names.get(name, name) for name in model.left), *self.left)
        return replace(model, programs=programs, left=left)

    def _program(self, program: Program) -> Program:
        weights = {name: self._weight(weight) for name, weight in program.weights.items()}
        nodes = tuple(
            replace(node, weights=tuple(None if one is None else weights[one].name for one in node.weights))
            for node in program.nodes
        )
        renamed = {weight.name: weight for weight in weights.values()}
        return program.with_nodes(nodes, program.buffers, renamed)

    def _weight(self, weight: Weight) -> Weight:
        if not weight.sources:
            return replace(weight, name=self.names.get(weight.name, weight.name))
        sources = (replace(one, tensor=self.names.get(one.tensor, one.tensor)) for one in weight.sources)
        return replace(weight, sources=tuple(sources))


def open_text_part(checkpoint: Checkpoint, architecture: str, parts: TextParts) -> TextPart:
    """The text part of a folder; FileError or UnsupportedError where its config.json or tensors have none.

    Nothing of a tensor is read.
    """
    outer = Keys(checkpoint.metadata, config_of(checkpoint), architecture)
    outer.refuse_unknown(OUTER_KEYS, "use a model of plain form, or a text model alone")
    inner = outer.inside(TEXT)
    kind = inner.only("model_type", None, *parts.families)
    values = {f"{TEXT}.{key}": value for key, value in checkpoint.metadata[TEXT].items()}
    tied = outer.flag("tie_word_embeddings", inner.flag("tie_word_embeddings", parts.tied))
    names: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    left = []
    for name, tensor in checkpoint.tensors.items():
        if _OTHER.fullmatch(name):
            left.append(name)
            continue
        plain = _plain(name)
        if plain in tensors:
            raise FileError(f"tensors {names.get(plain, plain)} and {name} are the same part of the model",
                            where=str(checkpoint.path), remedy="fetch the model again")  # fmt: skip
        names[plain], tensors[plain] = name, tensor
    if not any(name != plain for plain, name in names.items()):
        raise UnsupportedError("no tensor is called as those of a text part are", where=str(checkpoint.path),
                               remedy="fetch the model again")  # fmt: skip
    metadata = {**values, f"{TEXT}.tie_word_embeddings": tied}
    own = Checkpoint(checkpoint.path, checkpoint.kind, metadata, tensors)
    return TextPart(own, parts.families[kind], names, tuple(left))


def left_by_part(left: tuple[str, ...]) -> Mapping[str, int]:
    """How many tensors are left, by the word for the other part, or for a text part's own by their name."""
    found: dict[str, int] = {}
    for name in left:
        match = _OTHER.fullmatch(name)
        part = match[1] if match else _LAYER.sub("*", name)
        found[part] = found.get(part, 0) + 1
    return found


def _plain(name: str) -> str:
    for pattern, plain in _NAMES:
        match = pattern.fullmatch(name)
        if match:
            return match.expand(plain)
    return name
