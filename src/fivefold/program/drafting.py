"""A model with a side drafter: the nodes that keep what the drafter reads, and the drafter's own Program.

The main Program gets nodes behind its own: hidden states of some layers are normed and joined, a matrix and a
norm bring them to one width, and each layer of the drafter makes keys and values of them, which are stored in
a cache group of its own. So every row that the model keeps leaves what the drafter needs, and pages, shared
prefixes, forks and preemption are as of any group. The model's own nodes stay as they are: its logits keep
their bits. The drafter's Program reads that group and the model's table of embeddings, and no other entries.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fivefold.core.batch import ALL, Float32
from fivefold.core.checkpoint import Tensor
from fivefold.core.drafter import DRAFTER, FEATURE, SLOTS, DrafterShape
from fivefold.core.errors import UnsupportedError
from fivefold.core.layout import CacheGroup, CacheLayout
from fivefold.formats import format_of

from .builder import Builder
from .model import Model
from .program import Node, Program
from .weight import Weight

_PACKED = "q8_0"
"""What matrices run as, where their rows have whole blocks of it."""


@dataclass(frozen=True, slots=True)
class Turning:
    """How the model's heads turn by position, which the drafter's do alike, and where its embeddings lie."""

    angles: Node
    style: int
    eps: float
    table: Weight


def with_drafter(model: Model, shape: DrafterShape) -> Model:
    """The model with the cache group and the Program of a drafter of that shape.

    UnsupportedError for a model that cannot have one: with recurrent states, without rotary positions, or
    whose layers do not end with a row of hidden states.
    """
    main = model.main
    turning = turning_of(model)
    first = model.shape.layers
    layers = tuple(range(first, first + shape.layers))
    group = CacheGroup(DRAFTER, layers, shape.kv_heads, shape.head_size, shape.head_size)
    layout = replace(model.layout, groups=(*model.layout.groups, group))
    programs = {name: replace(program, layout=layout) for name, program in model.programs.items()}
    programs["main"] = _storing(programs["main"], tap_buffers(model, shape.taps), turning, shape)
    head = head_of(model)
    own = head if shape.vocabulary == head.shape[0] else None
    programs[DRAFTER] = _guessing(layout, main, turning, (shape, own), first)
    return replace(model, layout=layout, programs=programs)


def tap_buffers(model: Model, taps: tuple[int, ...]) -> tuple[str, ...]:
    """The buffers of the main Program that hold what these layers give, (N, hidden) each."""
    program, found = model.main, []
    for layer in taps:
        ends = [node for node in program.nodes if node.layer == layer and node.outputs]
        buffer = program.buffers[ends[-1].outputs[0]] if ends else None
        if buffer is None or buffer.width != model.shape.hidden or buffer.row_set != ALL:
            raise _refused(model, f"layer {layer} does not end with a row of hidden states")
        found.append(buffer.name)
    return tuple(found)


def turning_of(model: Model) -> Turning:
    """What a drafter takes of its model; UnsupportedError if it cannot have one."""
    if model.layout.states:
        raise _refused(model, "it has recurrent states, which guesses would have to be taken out of again")
    if DRAFTER in model.programs:
        raise _refused(model, "it has one already")
    nodes = model.main.nodes
    angles = next((node for node in nodes if node.op == "rope_angles"), None)
    rope = next((node for node in nodes if node.op == "rope"), None)
    norm = next((node for node in nodes if node.op == "rms_norm"), None)
    embed = next((node for node in nodes if node.op == "embed"), None)
    if angles is None or rope is None or norm is None or embed is None:
        raise _refused(model, "it has no rotary positions, no norms by root mean squares or no embeddings")
    style, eps = rope.attributes["style"], norm.attributes["eps"]
    assert isinstance(style, int) and isinstance(eps, float)
    return Turning(angles, style, eps, model.main.weights[str(embed.weights[0])])


def _storing(main: Program, taps: tuple[str, ...], turning: Turning, shape: DrafterShape) -> Program:
    """The main Program with the nodes that store the drafter's entries. What these are made of is its last
    output, (N, hidden)."""
    build = Builder.behind(main)
    weights, layers = _Weights(build, shape), main.layout.group(DRAFTER).layers
    parts = [
        build.rms_norm(tap, weights.named(f"tap.{number}"), turning.eps) for number, tap in enumerate(taps)
    ]
    joined = parts[0]
    for part in parts[1:]:
        joined = build.head_join(joined, part, 1)
    context = build.linear(joined, weights.named("fc"))
    context = build.rms_norm(context, weights.named("context"), turning.eps)
    for number, layer in enumerate(layers):
        with build.layer(layer):
            k = build.linear(context, weights.named(f"{number}.k"))
            v = build.linear(context, weights.named(f"{number}.v"))
            k = build.rope(k, turning.angles.outputs[0], shape.kv_heads, turning.style)
            build.node("attention_store", (k, v), None, group=DRAFTER)
    return build.build(*main.outputs, context)


def _guessing(
    layout: CacheLayout, main: Program, turning: Turning, made: tuple[DrafterShape, Weight | None], first: int
) -> Program:
    """The drafter's Program: its rows are those of one block, its output is of the rows that want logits.

    It is `made` of a shape, and of the model's own head if that has no other rows."""
    shape, head = made
    build = Builder(DRAFTER, layout)
    weights = _Weights(build, shape)
    embedded = build.rms_norm(build.embed(build.read(turning.table)), weights.named("embed"), turning.eps)
    x = build.add(
        build.linear(build.input(FEATURE, shape.hidden), weights.named("last")),
        build.linear(embedded, weights.named("token")),
    )
    if shape.form == "block":
        x = build.add(x, build.input(SLOTS, shape.hidden))
    frequency, factors = turning.angles.weights
    assert frequency is not None
    constant: Float32 | None = main.constants.get(frequency)
    if constant is None:
        build.read(main.weights[frequency])
    else:
        build.constant(frequency, constant)
    if factors is not None:
        build.read(main.weights[factors])
    magnitude = turning.angles.attributes["magnitude"]
    assert isinstance(magnitude, float)
    angles = build.rope_angles(frequency, factors, magnitude)
    for number in range(shape.layers):
        with build.layer(first + number):
            x = _block(build, weights, (number, x, angles), turning, shape)
    told = [build.rms_norm(x, weights.named("feature"), turning.eps)] if shape.form == "serial" else []
    x = build.rms_norm(build.gather_rows(x, "logits"), weights.named("norm"), turning.eps)
    rows = weights.named("head") if head is None else build.read(head)
    return build.build(build.linear(x, rows, label="logits"), *told)


def _block(
    build: Builder, weights: _Weights, at: tuple[int, str, str], turning: Turning, shape: DrafterShape
) -> str:
    """A pre-norm block of grouped-query attention and gated SiLU, as Llama's."""
    number, x, angles = at

    def project(of: str, part: str) -> str:
        return build.linear(of, weights.named(f"{number}.{part}"))

    normed = build.rms_norm(x, weights.named(f"{number}.attn_norm"), turning.eps)
    q = build.rope(project(normed, "q"), angles, shape.heads, turning.style)
    k = build.rope(project(normed, "k"), angles, shape.kv_heads, turning.style)
    attended = build.attention(
        q, (k, project(normed, "v")), group=DRAFTER, heads=shape.heads, scale=shape.head_size**-0.5
    )
    x = build.add(x, project(attended, "o"))
    normed = build.rms_norm(x, weights.named(f"{number}.ffn_norm"), turning.eps)
    return build.add(x, project(build.gated(project(normed, "gate"), project(normed, "up")), "down"))


class _Weights:
    """The drafter's weights by their names, as a Program calls them."""

    def __init__(self, build: Builder, shape: DrafterShape) -> None:
        self._build = build
        self._shapes = {**shape.weights(), "head": (shape.vocabulary, shape.hidden)}

    def named(self, name: str) -> str:
        """Declare the weight of that name."""
        return self._build.weight(weight_name(name), *self._shapes[name])


def weight_name(name: str) -> str:
    """What Programs call a weight of a drafter, `head` among them."""
    return f"{DRAFTER}.{name}"


def packed_form(shape: tuple[int, ...]) -> str:
    """The format that a weight of that shape runs as."""
    if len(shape) == 1:
        return "f32"
    return "f16" if shape[1] % format_of(_PACKED).block else _PACKED


def packed_weight(name: str, values: Float32) -> Tensor:
    """A weight of a drafter, `head` among them, as it runs."""
    form = packed_form(values.shape)
    stored = format_of(form).pack(np.ascontiguousarray(values, np.float32).reshape(-1))
    return Tensor(weight_name(name), form, values.shape, stored)


def head_of(model: Model) -> Weight:
    """The model's own head (V, hidden), whether it has a drafter or not."""
    main = model.main
    own = [node for node in main.nodes if node.op == "linear" and not _is_drafters(str(node.weights[0]))]
    return main.weights[str(own[-1].weights[0])]


def _is_drafters(name: str) -> bool:
    return name.startswith(weight_name(""))


def _refused(model: Model, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"this model cannot have a side drafter: {why}", where=model.shape.family, remedy="run it without one"
    )
