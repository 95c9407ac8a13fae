"""What families record alike: projections, norms, heads, feed-forward, and the way from tokens to logits.

A family describes its numbers as a `Decoder` and its block in the words of `Layer`, which adds the weights'
names, biases and sizes. What makes a family stays in its file: the order of these words. Nothing here asks
which family it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fivefold.core.layout import CacheGroup, CacheLayout, ModelShape, StateGroup
from fivefold.ops.elementwise import ACTIVATIONS
from fivefold.program import Builder, Model, Program, RopeScaling, inverse_frequencies

from .config import FACTORS, Names, Windows

HALVES, NEIGHBOURS = 0, 1
"""How rotary pairs lie: halves in Hugging Face's files, neighbours in GGUF's of the Llama kind."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """How positions turn heads: the base of the frequencies and their scaling, how many dimensions of a head
    turn, how pairs lie, and whether the file divides the frequencies by factors of its own."""

    base: float
    scaling: RopeScaling
    rotary: int
    style: int = HALVES
    factors: bool = False


@dataclass(frozen=True, slots=True)
class Heads:
    """How many KV heads a layer has, and how large its heads are."""

    kv: int
    size: int


@dataclass(frozen=True, slots=True)
class Decoder:
    """The numbers of one model.

    tied         the table of embeddings is the head too.
    biases       the parts of a block that have one.
    norm_offset  is added to the weights of norms: 1 where files hold what norms differ from 1 by.
    windows      of each layer; empty if no layer has one. One that is not smaller than the context hides
                 nothing, so its layer is as those without.
    latent       of latent attention: the numbers that all heads' values are made of, and those of a key that
                 turn. An entry of the cache is these two and nothing else.
    chunked      the windows are chunks: a row sees its own chunk of so many positions.
    heads        of each layer; empty if all are as the shape says. Those with a window are alike, and those
                 without.
    kept_by      of each layer, the layer whose entries it reads; empty if each keeps its own.
    states       the recurrent states; layers that have one keep no keys and values.
    """

    shape: ModelShape
    names: Names
    eps: float
    tied: bool
    biases: frozenset[str] = frozenset()
    norm_offset: float = 0.0
    windows: Windows = ()
    latent: tuple[int, int] | None = None
    chunked: bool = False
    heads: tuple[Heads, ...] = ()
    kept_by: tuple[int, ...] = ()
    states: tuple[StateGroup, ...] = ()

    def group(self, layer: int) -> str:
        """The cache group of a layer."""
        window = self.windows[layer] if self.windows else None
        if window is None or (window >= self.shape.context and not self.heads):
            return "main"
        return "window"

    def heads_of(self, layer: int) -> Heads:
        """The heads of a layer."""
        return self.heads[layer] if self.heads else Heads(self.shape.kv_heads, self.shape.head_size)

    def keeper(self, layer: int) -> int:
        """The layer whose entries a layer reads."""
        return self.kept_by[layer] if self.kept_by else layer

    def layout(self) -> CacheLayout:
        """A cache group for the layers that keep all positions, and one for those with a window; states."""
        shape, groups = self.shape, []
        recurrent = {number for group in self.states for number in group.layers}
        for name in ("main", "window"):
            layers = tuple(
                n for n in range(shape.layers)
                if self.group(n) == name and self.keeper(n) == n and n not in recurrent
            )  # fmt: skip
            if layers:
                heads = self.heads_of(layers[0])
                near = self.windows[layers[0]] if name == "window" else None
                entry = CacheGroup(name, layers, heads.kv, heads.size, heads.size)
                if self.latent is not None:
                    entry = CacheGroup(name, layers, 1, sum(self.latent), self.latent[0], value_in_key=True)
                chunk, window = (near, None) if self.chunked else (None, near)
                groups.append(replace(entry, window=window, chunk=chunk))
        return CacheLayout(tuple(groups), self.states)


class Recorder:
    """Records the parts of a decoder that lie outside of its blocks."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.build = Builder("main", decoder.layout())
        shape, names = decoder.shape, decoder.names
        self._table = self.build.weight(names.embedding, shape.vocabulary, shape.hidden)

    def frequency(self, rotation: Rotation, name: str = "inverse_frequency") -> tuple[str, str | None, float]:
        """What `angles` are made of, as weights of the Program."""
        values, magnitude = inverse_frequencies(rotation.base, rotation.rotary, rotation.scaling)
        factors = self.build.weight(FACTORS, rotation.rotary // 2) if rotation.factors else None
        return self.build.constant(name, values), factors, magnitude

    def embed(self) -> str:
        """The rows of the table of embeddings."""
        return self.build.embed(self._table)

    def norm(self, x: str, weight: str, groups: int = 1, eps: float | None = None) -> str:
        """A norm of whole rows, or of equal groups of a row, by the weight of that name; `eps` if it is not
        the model's."""
        decoder = self.decoder
        weight = self.build.weight(weight, self.build.width(x) // groups)
        eps = decoder.eps if eps is None else eps
        return self.build.rms_norm(x, weight, eps, groups, decoder.norm_offset)

    def bare_norm(self, x: str, groups: int = 1) -> str:
        """A norm without weights of a file."""
        width = self.build.width(x) // groups
        ones = self.build.constant(f"ones.{width}", np.ones(width, np.float32))
        return self.build.rms_norm(x, ones, self.decoder.eps, groups)

    def finish(self, x: str, soft_cap: float = 0.0) -> Program:
        """The last norm and the head, of the rows that want logits, and the Program."""
        build, names, shape = self.build, self.decoder.names, self.decoder.shape
        x = self.norm(build.gather_rows(x, "logits"), names.norm)
        head = self._table if self.decoder.tied else build.weight(names.head, shape.vocabulary, shape.hidden)
        logits = build.linear(x, head, label="logits")
        return build.build(build.soft_cap(logits, soft_cap) if soft_cap else logits)


class Layer:
    """Records the parts of one block, by GGUF's words for its weights."""

    def __init__(self, recorder: Recorder, number: int) -> None:
        self.build = recorder.build
        self.decoder = recorder.decoder
        self.number = number
        self.own = recorder.decoder.heads_of(number)
        self.bare_norm = recorder.bare_norm
        self._norm = recorder.norm

    def norm(self, x: str, part: str, groups: int = 1, eps: float | None = None) -> str:
        """A norm of whole rows, or of equal groups of a row; `eps` if it is not the model's."""
        return self._norm(x, self.decoder.names.weight(self.number, part), groups, eps)

    def project(self, x: str, part: str, outer: int) -> str:
        """A matrix, and a bias where the part has one."""
        names = self.decoder.names
        weight = self.build.weight(names.weight(self.number, part), outer, self.build.width(x))
        biased = part in self.decoder.biases
        bias = self.build.weight(names.weight(self.number, part, "bias"), outer) if biased else None
        return self.build.linear(x, weight, bias)

    def heads(self, x: str) -> tuple[str, str, str]:
        """Queries, keys and values."""
        own = self.own
        q = self.project(x, "attn_q", self.decoder.shape.heads * own.size)
        k = self.project(x, "attn_k", own.kv * own.size)
        return q, k, self.project(x, "attn_v", own.kv * own.size)

    def norm_heads(self, q: str, k: str) -> tuple[str, str]:
        """Queries and keys, each head normed by itself."""
        return self.norm(q, "attn_q_norm", self.decoder.shape.heads), self.norm(k, "attn_k_norm", self.own.kv)

    def rotate(self, q: str, k: str, angles: str, style: int, of_queries: str = "") -> tuple[str, str]:
        """Queries and keys, turned by their positions; queries by angles of their own if such are given."""
        heads, rope = self.decoder.shape.heads, self.build.rope
        return rope(q, of_queries or angles, heads, style), rope(k, angles, self.own.kv, style)

    def attend(
        self, q: str, k: str = "", v: str = "", scale: float | None = None, soft_cap: float = 0.0,
        sinks: str | None = None, gate: str | None = None,
    ) -> str:  # fmt: skip
        """Attention in the layer's cache group, and its output matrix; scores are scaled by the size of heads
        unless told otherwise. A layer that reads another's entries has no keys and values to give. What comes
        of it is multiplied by the sigmoid of `gate` before the matrix."""
        shape, keeper = self.decoder.shape, self.decoder.keeper(self.number)
        o = self.build.attention(
            q, (k, v) if keeper == self.number else keeper, group=self.decoder.group(self.number),
            heads=shape.heads, scale=self.own.size**-0.5 if scale is None else scale, soft_cap=soft_cap,
            sinks=sinks,
        )  # fmt: skip
        if gate is not None:
            o = self.build.gated(gate, o, ACTIVATIONS.index("sigmoid"))
        return self.project(o, "attn_output", shape.hidden)

    def feed_forward(self, x: str, activation: str = "silu", kind: str = "", ffn: int | None = None) -> str:
        """activation(gate) * up, and back; `kind` of a part that stands beside the plain one, which is `ffn`
        wide inside."""
        shape = self.decoder.shape
        ffn = shape.ffn if ffn is None else ffn
        gate, up = self.project(x, f"ffn_gate{kind}", ffn), self.project(x, f"ffn_up{kind}", ffn)
        gated = self.build.gated(gate, up, ACTIVATIONS.index(activation))
        return self.project(gated, f"ffn_down{kind}", shape.hidden)


Block = Callable[[Layer, str], str]
"""Records one block after the buffer of that name."""


def record_blocks(recorder: Recorder, x: str, block: Block) -> str:
    """All blocks, one behind the other."""
    for number in range(recorder.decoder.shape.layers):
        with recorder.build.layer(number):
            x = block(Layer(recorder, number), x)
    return x


def model_of(decoder: Decoder, program: Program, left: tuple[str, ...] = ()) -> Model:
    """A model of one Program, which leaves those tensors knowingly."""
    return Model(decoder.shape, program.layout, {"main": program}, left)


def record_model(decoder: Decoder, rotation: Rotation, block: Callable[[Layer, str, str], str]) -> Model:
    """A model whose blocks all turn heads by the same angles, which `block` is given as its third."""
    recorder = Recorder(decoder)
    frequency = recorder.frequency(rotation)
    x = recorder.embed()
    angles = recorder.build.rope_angles(*frequency)
    x = record_blocks(recorder, x, lambda layer, x: block(layer, x, angles))
    return model_of(decoder, recorder.finish(x))
