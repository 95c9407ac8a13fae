"""What families with experts record alike: a router, and the matrices of the experts it chooses.

Where the matrices lie is the family's to say, as weights of a Program: stacks of tensors, or parts of them.
Nothing here asks which family it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fivefold.program import Routing, Weight, stacked

from .config import Keys
from .recording import Decoder, Layer


@dataclass(frozen=True, slots=True)
class Mixture:
    """The numbers of a layer's experts: how many, how many of them a row takes, and their inner width.

    `weighs_inputs`: what an expert reads is multiplied with its weight, and not what it gives.
    """

    experts: int
    chosen: int
    ffn: int
    routing: Routing
    weighs_inputs: bool = False


@dataclass(frozen=True, slots=True)
class ExpertWeights:
    """The matrices (E, M, K) of a layer's experts, and their biases (E, M) if they have some; `choice_bias`
    (E,) is added to scores for the choice alone, `scales` (E,) are multiplied with weights."""

    gate: Weight
    up: Weight
    down: Weight
    gate_bias: Weight | None = None
    up_bias: Weight | None = None
    down_bias: Weight | None = None
    choice_bias: Weight | None = None
    scales: Weight | None = None


Gate = Callable[[Layer, str, str], str]
"""Records what becomes of gate and up before they are multiplied with down."""


def record_mixture(
    layer: Layer, x: str, mixture: Mixture, weights: ExpertWeights, gated: Gate, seen: str = ""
) -> str:
    """The experts that `ffn_gate_inp` chooses for each row, added up by weight. It looks at `seen` if that is
    not what the experts read."""
    build = layer.build

    def multiply(x: str, matrices: Weight, biases: Weight | None) -> str:
        return build.expert_linear(
            x, route, build.read(matrices), None if biases is None else build.read(biases)
        )

    bias, scales = (None if one is None else build.read(one) for one in (weights.choice_bias, weights.scales))
    logits = layer.project(seen or x, "ffn_gate_inp", mixture.experts)
    route = build.route(logits, mixture.chosen, mixture.routing, bias, scales)
    x = build.expert_inputs(x, route) if mixture.weighs_inputs else x
    gate = multiply(x, weights.gate, weights.gate_bias)
    up = multiply(x, weights.up, weights.up_bias)
    y = multiply(gated(layer, gate, up), weights.down, weights.down_bias)
    return build.expert_sum(y, route, weighted=not mixture.weighs_inputs)


def read_chosen(keys: Keys, key: str, experts: int, default: int | None = None) -> int:
    """How many experts a row takes; FileError if there are fewer."""
    chosen = keys.size(key, default)
    if chosen > experts:
        raise keys.malformed(key, f"is {chosen}, and there are {experts} experts")
    return chosen


def read_experts(keys: Keys, default: int) -> int:
    """How many experts a config.json speaks of, under either of Transformers' two names for it."""
    said = {keys.size(key) for key in ("num_experts", "num_local_experts") if keys.get(key) is not None}
    if len(said) > 1:
        raise keys.malformed("num_experts", "is not num_local_experts")
    return said.pop() if said else default


def silu_gate(layer: Layer, gate: str, up: str) -> str:
    """silu(gate) * up, the `Gate` of most families."""
    return layer.build.gated(gate, up)


def folder_experts(decoder: Decoder, number: int, mixture: Mixture) -> ExpertWeights:
    """The experts of a layer as most folders hold them: a tensor for each expert and part."""
    folder, hidden = f"{decoder.names.block}.{number}.mlp.experts", decoder.shape.hidden

    def stack(part: str, outer: int, inner: int) -> Weight:
        names = [f"{folder}.{expert}.{part}.weight" for expert in range(mixture.experts)]
        return stacked(names, f"{folder}.*.{part}.weight", outer, inner)

    return ExpertWeights(
        stack("gate_proj", mixture.ffn, hidden), stack("up_proj", mixture.ffn, hidden),
        stack("down_proj", hidden, mixture.ffn),
    )  # fmt: skip


def gguf_experts(
    names: Callable[[str, str], str], mixture: Mixture, hidden: int, biases: bool
) -> ExpertWeights:
    """The experts of a layer as GGUF holds them; `names` gives those of a part's weight or bias."""
    outer = {"gate": mixture.ffn, "up": mixture.ffn, "down": hidden}
    inner = {"gate": hidden, "up": hidden, "down": mixture.ffn}
    matrices = {
        part: Weight(names(f"ffn_{part}_exps", "weight"), (mixture.experts, outer[part], inner[part]))
        for part in outer
    }
    added = {
        f"{part}_bias": Weight(names(f"ffn_{part}_exps", "bias"), (mixture.experts, outer[part]))
        for part in outer
        if biases
    }
    return ExpertWeights(**matrices, **added)
