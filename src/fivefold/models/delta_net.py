"""What families with gated delta nets record alike: a layer that keeps a state in place of keys and values.

Queries, keys and values of all heads come from one matrix, go through a short convolution and into the gated
delta rule, whose output is normed head by head and gated. Where the weights lie is the family's to say.
Nothing here asks which family it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fivefold.core.errors import FileError, UnsupportedError
from fivefold.core.layout import StateGroup

from .recording import Layer

CONVOLUTION, DELTA = "convolution", "delta"
"""Names of the two state groups."""

VALUE_STEP, KEY_STEP, WIDEST_KEY = 16, 4, 512
"""Widths of heads that there are kernels for (native/recurrent.cc)."""


@dataclass(frozen=True, slots=True)
class DeltaNet:
    """The numbers of the delta nets of a model.

    taps    rows that the convolution sees.
    tiled   heads of values take the heads of keys in turn; else neighbours share one.
    """

    key_heads: int
    value_heads: int
    key_width: int
    value_width: int
    taps: int
    tiled: bool

    @property
    def values(self) -> int:
        """Numbers of all values of a row."""
        return self.value_heads * self.value_width

    @property
    def columns(self) -> int:
        """Numbers of all queries, keys and values of a row."""
        return 2 * self.key_heads * self.key_width + self.values

    def states(self, layers: Sequence[int]) -> tuple[StateGroup, ...]:
        """What such layers keep for a sequence."""
        if not layers:
            return ()
        return (
            StateGroup(CONVOLUTION, tuple(layers), (self.taps - 1, self.columns)),
            StateGroup(DELTA, tuple(layers), (self.value_heads, self.value_width, self.key_width)),
        )

    def require(self, where: str) -> None:
        """FileError unless heads of keys can be shared and the convolution has a past; UnsupportedError for
        widths of heads that the kernels do not have."""
        if self.value_width % VALUE_STEP or self.key_width % KEY_STEP or self.key_width > WIDEST_KEY:
            raise UnsupportedError(
                f"heads of delta nets with values of {self.value_width} and keys of {self.key_width} numbers",
                where=where,
                remedy=f"values must be multiples of {VALUE_STEP}, keys of {KEY_STEP} up to {WIDEST_KEY}",
            )
        if self.value_heads % self.key_heads or self.taps < 2:
            raise FileError(
                f"{self.value_heads} heads of values do not share {self.key_heads} heads of keys evenly, or "
                f"a convolution of {self.taps} rows has no state", where=where,
                remedy="fetch the file again or convert the model again",
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class DeltaWeights:
    """Names of a layer's weights that are no matrices, and the shape of that of the convolution.

    `logarithm`: the rate of decay is stored as the logarithm of its size, not as it is.
    """

    convolution: str
    convolution_shape: tuple[int, ...]
    rate: str
    bias: str
    norm: str
    logarithm: bool


def record_delta_net(layer: Layer, x: str, net: DeltaNet, weights: DeltaWeights) -> str:
    """The layer after its first norm, by GGUF's words for its matrices."""
    build, heads = layer.build, net.value_heads
    z = layer.project(x, "attn_gate", net.values)
    gates = build.node(
        "delta_gates",
        (layer.project(x, "ssm_alpha", heads), layer.project(x, "ssm_beta", heads)),
        2 * heads,
        (build.weight(weights.rate, heads), build.weight(weights.bias, heads)),
        logarithm=int(weights.logarithm),
    )
    qkv = build.node(
        "short_convolution",
        (layer.project(x, "attn_qkv", net.columns),),
        net.columns,
        (build.weight(weights.convolution, *weights.convolution_shape),),
        state=CONVOLUTION,
    )
    o = build.node(
        "delta_rule", (qkv, gates), net.values, state=DELTA, key_heads=net.key_heads, value_heads=heads,
        tiled=int(net.tiled), output=net.values,
    )  # fmt: skip
    norm = build.weight(weights.norm, net.value_width)  # the weight itself, whatever other norms hold
    o = build.gated(z, build.rms_norm(o, norm, layer.decoder.eps, heads))
    return layer.project(o, "ssm_out", layer.decoder.shape.hidden)
