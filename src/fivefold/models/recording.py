"""What families record alike: projections, norms, heads, feed-forward, and the way from tokens to logits.

A family describes its numbers as a `Decoder` and its block in the words of `Layer`, which adds the weights'
names, biases and sizes. What makes a family stays in its file: the order of these words. Nothing here asks
which family it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
class Decoder:
    """The numbers of one model.

    tied         the table of embeddings is the head too.
    biases       the parts of a block that have one.
    norm_offset  is added to the weights of norms: 1 where files hold what norms differ from 1 by.
    windows      of each layer; empty if no layer has one. One that is not smaller than the context hides
                 nothing, so its layer is as those without.
    states       the recurrent states; layers that have one keep no keys and values.
    """

    shape: ModelShape
    names: Names
    eps: float
    tied: bool
    biases: frozenset[str] = frozenset()
    norm_offset: float = 0.0
    windows: Windows = ()
    states: tuple[StateGroup, ...] = ()

    def group(self, layer: int) -> str:
        """The cache group of a layer."""
        window = self.windows[layer] if self.windows else None
        return "main" if window is None or window >= self.shape.context else "window"

    def layout(self) -> CacheLayout:
        """A cache group for the layers that keep all positions, and one for those with a window; states."""
        shape, groups = self.shape, []
        recurrent = {number for group in self.states for number in group.layers}
        for name in ("main", "window"):
            layers = tuple(n for n in range(shape.layers) if self.group(n) == name and n not in recurrent)
            if layers:
                window = self.windows[layers[0]] if name == "window" else None
                groups.append(
                    CacheGroup(name, layers, shape.kv_heads, shape.head_size, shape.head_size, window=window)
                )
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

    def norm(self, x: str, weight: str, groups: int = 1) -> str:
        """A norm of whole rows, or of equal groups of a row, by the weight of that name."""
        decoder = self.decoder
        weight = self.build.weight(weight, self.build.width(x) // groups)
        return self.build.rms_norm(x, weight, decoder.eps, groups, decoder.norm_offset)

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
        self._norm = recorder.norm

    def norm(self, x: str, part: str, groups: int = 1) -> str:
        """A norm of whole rows, or of equal groups of a row."""
        return self._norm(x, self.decoder.names.weight(self.number, part), groups)

    def project(self, x: str, part: str, outer: int) -> str:
        """A matrix, and a bias where the part has one."""
        names = self.decoder.names
        weight = self.build.weight(names.weight(self.number, part), outer, self.build.width(x))
        biased = part in self.decoder.biases
        bias = self.build.weight(names.weight(self.number, part, "bias"), outer) if biased else None
        return self.build.linear(x, weight, bias)

    def heads(self, x: str) -> tuple[str, str, str]:
        """Queries, keys and values."""
        shape = self.decoder.shape
        q = self.project(x, "attn_q", shape.heads * shape.head_size)
        k = self.project(x, "attn_k", shape.kv_heads * shape.head_size)
        return q, k, self.project(x, "attn_v", shape.kv_heads * shape.head_size)

    def norm_heads(self, q: str, k: str) -> tuple[str, str]:
        """Queries and keys, each head normed by itself."""
        shape = self.decoder.shape
        return self.norm(q, "attn_q_norm", shape.heads), self.norm(k, "attn_k_norm", shape.kv_heads)

    def rotate(self, q: str, k: str, angles: str, style: int, of_queries: str = "") -> tuple[str, str]:
        """Queries and keys, turned by their positions; queries by angles of their own if such are given."""
        shape, rope = self.decoder.shape, self.build.rope
        return rope(q, of_queries or angles, shape.heads, style), rope(k, angles, shape.kv_heads, style)

    def attend(
        self, q: str, k: str, v: str, scale: float | None = None, soft_cap: float = 0.0,
        sinks: str | None = None, gate: str | None = None,
    ) -> str:  # fmt: skip
        """Attention in the layer's cache group, and its output matrix; scores are scaled by the size of heads
        unless told otherwise. What comes of it is multiplied by the sigmoid of `gate` before the matrix."""
        shape = self.decoder.shape
        o = self.build.attention(
            q, (k, v), group=self.decoder.group(self.number), heads=shape.heads,
            scale=shape.head_size**-0.5 if scale is None else scale, soft_cap=soft_cap,
            sinks=sinks,
        )  # fmt: skip
        if gate is not None:
            o = self.build.gated(gate, o, ACTIVATIONS.index("sigmoid"))
        return self.project(o, "attn_output", shape.hidden)

    def feed_forward(self, x: str, activation: str = "silu") -> str:
        """activation(gate) * up, and back."""
        shape = self.decoder.shape
        gate, up = self.project(x, "ffn_gate", shape.ffn), self.project(x, "ffn_up", shape.ffn)
        return self.project(
            self.build.gated(gate, up, ACTIVATIONS.index(activation)), "ffn_down", shape.hidden
        )


Block = Callable[[Layer, str], str]
"""Records one block after the buffer of that name."""


def record_blocks(recorder: Recorder, x: str, block: Block) -> str:
    """All blocks, one behind the other."""
    for number in range(recorder.decoder.shape.layers):
        with recorder.build.layer(number):
            x = block(Layer(recorder, number), x)
    return x


def model_of(decoder: Decoder, program: Program) -> Model:
    """A model of one Program."""
    return Model(decoder.shape, program.layout, {"main": program})


def record_model(decoder: Decoder, rotation: Rotation, block: Callable[[Layer, str, str], str]) -> Model:
    """A model whose blocks all turn heads by the same angles, which `block` is given as its third."""
    recorder = Recorder(decoder)
    frequency = recorder.frequency(rotation)
    x = recorder.embed()
    angles = recorder.build.rope_angles(*frequency)
    x = record_blocks(recorder, x, lambda layer, x: block(layer, x, angles))
    return model_of(decoder, recorder.finish(x))
