"""Recording a Program: a family calls these methods in the order of its forward pass.

Each method appends one node, checks widths as it goes, and returns the name of the new buffer.
Buffers are written once, so a name always means one value; memory is shared later by `memory`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from fivefold.core.batch import ALL, Float32
from fivefold.core.errors import InputError
from fivefold.core.layout import CacheLayout
from fivefold.ops import OPS, Attribute
from fivefold.ops.experts import SCORINGS

from .program import Buffer, Node, Program
from .weight import Weight


@dataclass(frozen=True, slots=True)
class Routing:
    """How experts are chosen and weighed; see `ops.experts` for what the words mean."""

    scoring: str = "softmax"
    normalise: bool = True
    factor: float = 1.0
    groups: int = 1
    groups_chosen: int = 1
    group_best: int = 1


class Builder:
    """Records nodes for a Program named `name` over a cache layout."""

    def __init__(self, name: str, layout: CacheLayout) -> None:
        self._name = name
        self._layout = layout
        self._nodes: list[Node] = []
        self._buffers: dict[str, Buffer] = {}
        self._weights: dict[str, Weight] = {}
        self._constants: dict[str, Float32] = {}
        self._inputs: list[str] = []
        self._layer = -1

    @classmethod
    def behind(cls, program: Program) -> Builder:
        """A builder that goes on behind the nodes of a Program."""
        made = cls(program.name, program.layout)
        made._nodes.extend(program.nodes)
        made._buffers.update(program.buffers)
        made._weights.update(program.weights)
        made._constants.update(program.constants)
        made._inputs.extend(program.inputs)
        return made

    @contextmanager
    def layer(self, number: int) -> Iterator[None]:
        """Nodes recorded inside belong to that layer."""
        before, self._layer = self._layer, number
        yield
        self._layer = before

    def weight(self, name: str, *shape: int) -> str:
        """Declare a weight by name and shape; the name is returned for use in a node."""
        return self.read(Weight(name, shape))

    def read(self, weight: Weight) -> str:
        """Declare a weight that is not one whole tensor; its name is returned for use in a node."""
        known = self._weights.setdefault(weight.name, weight)
        if known != weight:
            raise InputError(
                f"weight {weight.name} is declared as {known.shape} and as {weight.shape}", where=self._name
            )
        return weight.name

    def constant(self, name: str, values: Float32) -> str:
        """A small array that belongs to the Program."""
        self._constants[name] = np.ascontiguousarray(values, np.float32)
        return self.weight(name, *values.shape)

    def input(self, name: str, width: int, row_set: str = ALL) -> str:
        """A buffer that is given with the batch."""
        self._buffers[name] = Buffer(name, width, row_set)
        self._inputs.append(name)
        return name

    def width(self, buffer: str) -> int:
        """Numbers a row of that buffer."""
        return self._buffers[buffer].width

    def node(
        self,
        op: str,
        inputs: tuple[str, ...],
        width: int | None,
        weights: tuple[str | None, ...] = (),
        rows: str | None = None,
        label: str = "",
        **attributes: Attribute,
    ) -> str:
        """Record any op; `width` None for an op without output. Returns the output buffer's name."""
        declared = OPS[op]
        missing = [name for name in declared.attributes if name not in attributes]
        if missing or len(inputs) != len(declared.inputs) or len(weights) != len(declared.weights):
            raise InputError(
                f"{op} was recorded with the wrong operands",
                where=f"{self._name} node {len(self._nodes)}",
                remedy=f"it takes {declared.inputs}, {declared.weights}, {declared.attributes}",
            )
        on = rows or (self._buffers[inputs[0]].row_set if inputs else ALL)
        name = (
            f"{label or op}.{len(self._nodes)}"
            if self._layer < 0
            else f"{self._layer}.{label or op}.{len(self._nodes)}"
        )
        outputs: tuple[str, ...] = ()
        if width is not None:
            self._buffers[name] = Buffer(name, width, on)
            outputs = (name,)
        self._nodes.append(Node(op, inputs, outputs, weights, attributes, self._layer, on, label or op))
        return name

    def embed(self, table: str) -> str:
        """Rows of the embedding table by token id."""
        return self.node("embed", (), self._weights[table].shape[1], (table,), label="tokens")

    def linear(self, x: str, weight: str, bias: str | None = None, label: str = "") -> str:
        """x W^T + b."""
        outer, inner = self._weights[weight].shape
        if inner != self.width(x):
            raise InputError(
                f"weight {weight} takes rows of {inner}, {x} has {self.width(x)}", where=self._name
            )
        return self.node("linear", (x,), outer, (weight, bias), label=label)

    def rms_norm(self, x: str, weight: str, eps: float, groups: int = 1, offset: float = 0.0) -> str:
        """Root mean square norm of whole rows, or of `groups` equal parts of each, times offset + weight."""
        return self.node("rms_norm", (x,), self.width(x), (weight,), eps=eps, groups=groups, offset=offset)

    def add(self, a: str, b: str) -> str:
        """Sum of two buffers of one width."""
        return self.node("add", (a, b), self.width(a))

    def scale(self, x: str, factor: float) -> str:
        """x times a number."""
        return self.node("scale", (x,), self.width(x), factor=factor)

    def scale_by(self, x: str, factor: str) -> str:
        """x times a weight (1,)."""
        return self.node("scale_by", (x,), self.width(x), (factor,))

    def soft_cap(self, x: str, cap: float) -> str:
        """cap * tanh(x / cap)."""
        return self.node("soft_cap", (x,), self.width(x), cap=cap)

    def gated(self, gate: str, up: str, activation: int = 0) -> str:
        """activation(gate) * up."""
        return self.node("gated", (gate, up), self.width(gate), activation=activation)

    def clamped_gated(self, gate: str, up: str, alpha: float, limit: float) -> str:
        """gate sigmoid(alpha gate) (up + 1), both held by the limit."""
        return self.node("clamped_gated", (gate, up), self.width(gate), alpha=alpha, limit=limit)

    def route(
        self, logits: str, chosen: int, routing: Routing, bias: str | None = None, scales: str | None = None
    ) -> str:
        """The chosen experts of each row and their weights; `bias` counts for the choice alone, `scales` are
        multiplied with the weights."""
        scoring = SCORINGS.index(routing.scoring)
        return self.node(
            "route",
            (logits,),
            2 * chosen,
            (bias, scales),
            chosen=chosen,
            scoring=scoring,
            normalise=int(routing.normalise),
            factor=routing.factor,
            groups=routing.groups,
            groups_chosen=routing.groups_chosen,
            group_best=routing.group_best,
        )

    def expert_linear(self, x: str, route: str, matrices: str, biases: str | None = None) -> str:
        """W x + b of each chosen expert side by side; x has a part for each of them, or one for all."""
        _, outer, inner = self._weights[matrices].shape
        chosen = self.width(route) // 2
        if self.width(x) not in (inner, chosen * inner):
            raise InputError(
                f"weight {matrices} takes parts of {inner}, {x} has {self.width(x)}", where=self._name
            )
        return self.node("expert_linear", (x, route), chosen * outer, (matrices, biases))

    def expert_inputs(self, x: str, route: str) -> str:
        """x times the weight of each chosen expert, side by side."""
        return self.node("expert_inputs", (x, route), self.width(x) * (self.width(route) // 2))

    def expert_sum(self, x: str, route: str, weighted: bool = True) -> str:
        """The parts of the chosen experts, added up by weight, or as they are."""
        width = self.width(x) // (self.width(route) // 2)
        return self.node("expert_sum", (x, route), width, weighted=int(weighted))

    def head_linear(self, x: str, matrices: Weight) -> str:
        """W_h x_h for the part of x that belongs to each head; `matrices` is (heads, M, K)."""
        heads, outer, inner = matrices.shape
        if self.width(x) != heads * inner:
            raise InputError(
                f"weight {matrices.name} takes {heads} parts of {inner}, {x} has {self.width(x)}",
                where=self._name,
            )
        return self.node("head_linear", (x,), heads * outer, (self.read(matrices),))

    def head_columns(self, x: str, heads: int, first: int, count: int) -> str:
        """`count` numbers of the part of each head, from `first` on."""
        return self.node("head_columns", (x,), heads * count, heads=heads, first=first, count=count)

    def head_join(self, a: str, b: str, heads: int) -> str:
        """For each head its part of a, then its part of b."""
        return self.node("head_join", (a, b), self.width(a) + self.width(b), heads=heads)

    def rope_angles(self, frequency: str, factors: str | None, magnitude: float) -> str:
        """Cosines and sines of the rows' positions."""
        width = 2 * self._weights[frequency].shape[0]
        return self.node("rope_angles", (), width, (frequency, factors), label="angles", magnitude=magnitude)

    def scale_by_position(self, x: str, beta: float, length: int, shift: int = 0) -> str:
        """x times 1 + beta * log(1 + floor((position + shift) / length))."""
        return self.node("scale_by_position", (x,), self.width(x), beta=beta, length=length, shift=shift)

    def rope(self, x: str, angles: str, heads: int, style: int) -> str:
        """Rotate the heads of x."""
        size = self.width(x) // heads
        rotary = self.width(angles)
        return self.node(
            "rope", (x, angles), self.width(x), heads=heads, head_size=size, rotary=rotary, style=style
        )

    def attention(
        self,
        q: str,
        stores: tuple[str, ...] | int,
        *,
        group: str,
        heads: int,
        scale: float,
        soft_cap: float = 0.0,
        sinks: str | None = None,
    ) -> str:
        """Store (k, v), or a latent (k,), or nothing, and then attend to the cache; or attend to the entries
        that an earlier layer stores, given as its number."""
        kept = self._layout.group(group)
        if isinstance(stores, tuple) and stores:
            op = "attention_store" if len(stores) == len(("k", "v")) else "latent_store"
            self.node(op, stores, None, group=group)
        return self.node(
            "attention",
            (q,),
            heads * kept.value_width,
            (sinks,),
            group=group,
            entries=stores if isinstance(stores, int) else self._layer,
            heads=heads,
            scale=scale,
            soft_cap=soft_cap,
        )

    def gate_rows(self, x: str, gate: str) -> str:
        """Rows times the sigmoid of one number each."""
        return self.node("gate_rows", (x, gate), self.width(x))

    def gather_rows(self, x: str, row_set: str) -> str:
        """The rows of a row set."""
        return self.node("gather_rows", (x,), self.width(x), rows=row_set, row_set=row_set)

    def build(self, *outputs: str) -> Program:
        """The finished Program; `outputs` are the buffers that callers get."""
        return Program(
            self._name,
            tuple(self._nodes),
            self._buffers,
            self._weights,
            self._layout,
            tuple(self._inputs),
            outputs,
            self._constants,
        )
