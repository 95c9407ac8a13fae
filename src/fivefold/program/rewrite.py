"""Programs made of others: attention that is observed, rows with learned inputs and low-rank parts, rows of a
canvas whose input is made otherwise, and page tables for each layer and head.

They leave what other rows compute as it is, bit for bit: new nodes stand on row sets of their own, and what
they add is added to the rows of these sets alone. So a step without such rows can as well run the Program
that was rewritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from fivefold.core.batch import CANVAS, LOOKAHEAD, OBSERVERS, PEAK_OBSERVERS, SHARES, Float32
from fivefold.core.errors import InputError
from fivefold.core.layout import CacheGroup, CacheLayout
from fivefold.ops import Attribute

from .model import Model
from .program import Buffer, Node, Program
from .weight import Source, Weight, taken


class _Rewriting:
    """A Program's nodes while others are put between them."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.nodes: list[Node] = []
        self.buffers = dict(program.buffers)
        self.weights = dict(program.weights)
        self.constants = dict(program.constants)
        self._renamed: dict[str, str] = {}

    def copy(self, node: Node) -> Node:
        """The node as it is, but for inputs that others took the place of."""
        inputs = tuple(self._renamed.get(name, name) for name in node.inputs)
        self.nodes.append(replace(node, inputs=inputs))
        return self.nodes[-1]

    def read(self, weight: Weight) -> str:
        """Declare a weight; its name."""
        self.weights[weight.name] = weight
        return weight.name

    def constant(self, name: str, values: Float32) -> str:
        """A small array that belongs to the Program; its name."""
        self.constants[name] = values
        return self.read(Weight(name, values.shape))

    def replace_output(self, node: Node, name: str) -> None:
        """From here on a buffer stands for a node's output, as wide and on the same rows."""
        self._renamed[node.outputs[0]] = name

    def add(self, node: Node, width: int | None, name: str) -> str:
        """A new node, with an output of that name and width."""
        if width is not None:
            self.buffers[name] = Buffer(name, width, node.row_set)
            node = replace(node, outputs=(name,))
        self.nodes.append(node)
        return name

    def gather(self, beside: Node, name: str, row_set: str) -> str:
        """The rows of a row set, of one of the Program's buffers; gathered once."""
        gathered = f"{name}.{row_set}"
        if gathered not in self.buffers:
            node = Node(
                "gather_rows", (name,), (), (), {"row_set": row_set}, beside.layer, row_set, "gather_rows"
            )
            self.add(node, self.buffers[name].width, gathered)
        return gathered

    def finish(self, inputs: Iterable[str] = ()) -> Program:
        outputs = tuple(self._renamed.get(name, name) for name in self.program.outputs)
        made = self.program.with_nodes(tuple(self.nodes), self.buffers, self.weights)
        return replace(made, outputs=outputs, inputs=(*made.inputs, *inputs), constants=self.constants)


def observed(program: Program) -> Program:
    """The Program with two observing nodes beside each attention, for OBSERVERS and for PEAK_OBSERVERS.

    Their results, (query heads, slots) for each sequence, are named by their layer and row set.
    """
    work = _Rewriting(program)
    for node in program.nodes:
        copied = work.copy(node)
        if node.op != "attention":
            continue
        for row_set, peak in ((OBSERVERS, 0), (PEAK_OBSERVERS, 1)):
            queries = work.gather(copied, copied.inputs[0], row_set)
            watching = replace(
                copied, op="observe", inputs=(queries,), outputs=(), row_set=row_set, label=row_set,
                attributes={**copied.attributes, "peak": peak},
            )  # fmt: skip
            work.add(watching, None, "")
    return work.finish()


def split_layers(model: Model) -> Model:
    """The model with page tables for each layer and KV head by itself: each can keep as many entries as it
    likes. Groups with a window or a chunk, and those whose heads have tables already, stay as they are.

    Steps cost more: views are made for each layer.
    """
    groups: list[CacheGroup] = []
    names: dict[tuple[str, int], str] = {}
    for group in model.layout.groups:
        if group.window is not None or group.chunk is not None or group.tables > 1:
            groups.append(group)
            continue
        for layer in group.layers:
            names[group.name, layer] = f"{group.name}.{layer}"
            groups.append(
                replace(group, name=f"{group.name}.{layer}", layers=(layer,), tables=group.kv_heads)
            )
    layout = replace(model.layout, groups=tuple(groups))
    programs = {name: _renamed(program, layout, names) for name, program in model.programs.items()}
    return replace(model, layout=layout, programs=programs)


def _renamed(program: Program, layout: CacheLayout, names: Mapping[tuple[str, int], str]) -> Program:
    """The Program over another layout, whose groups are named by the layer that stores the entries."""
    nodes = []
    for node in program.nodes:
        kept_by = node.attributes.get("entries", node.layer)
        assert isinstance(kept_by, int)
        name = names.get((str(node.attributes.get("group")), kept_by))
        nodes.append(node if name is None else replace(node, attributes={**node.attributes, "group": name}))
    return replace(program, nodes=tuple(nodes), layout=layout)


@dataclass(frozen=True, slots=True)
class LowRank:
    """The weights of a low-rank part by name: y += up (down x). down (R, K), up (M, R)."""

    down: str
    up: str
    rank: int


def looking_ahead(program: Program, parts: Mapping[str, LowRank]) -> Program:
    """The Program with rows of the set LOOKAHEAD: an input of that name stands in for their embeddings, and
    linear nodes get the low-rank parts that `parts` names by their weight. InputError for a weight that no
    linear node has.
    """
    work = _Rewriting(program)
    left = set(parts)
    for node in program.nodes:
        copied = work.copy(node)
        if node.op == "embed":
            _give_rows(work, copied)
        part = parts.get(node.weights[0] or "") if node.op == "linear" else None
        if part is not None:
            left.discard(str(node.weights[0]))
            _add_part(work, copied, part)
    if left:
        raise InputError(
            f"no product of this model has the weight {min(left)}", where=program.name,
            remedy="take a module that was trained for this model",
        )  # fmt: skip
    return work.finish(inputs=(LOOKAHEAD,))


def _give_rows(work: _Rewriting, node: Node) -> None:
    embedded = node.outputs[0]
    width = work.buffers[embedded].width
    work.buffers[LOOKAHEAD] = Buffer(LOOKAHEAD, width, LOOKAHEAD)
    scatter = replace(
        node, op="scatter_rows", inputs=(embedded, LOOKAHEAD), outputs=(), weights=(),
        attributes={"row_set": LOOKAHEAD}, label="scatter_rows",
    )  # fmt: skip
    work.replace_output(node, work.add(scatter, width, f"{embedded}.given"))


def _add_part(work: _Rewriting, node: Node, part: LowRank) -> None:
    product, x = node.outputs[0], node.inputs[0]
    outer, inner = work.buffers[product].width, work.buffers[x].width
    work.weights[part.down] = Weight(part.down, (part.rank, inner))
    work.weights[part.up] = Weight(part.up, (outer, part.rank))
    rows = work.gather(node, x, LOOKAHEAD)
    linear = replace(node, row_set=LOOKAHEAD, attributes={}, outputs=())
    low = work.add(
        replace(linear, inputs=(rows,), weights=(part.down, None), label="down"), part.rank, f"{product}.low"
    )
    extra = work.add(
        replace(linear, inputs=(low,), weights=(part.up, None), label="up"), outer, f"{product}.extra"
    )
    scatter = replace(
        node, op="scatter_add_rows", inputs=(product, extra), outputs=(), weights=(),
        attributes={"row_set": LOOKAHEAD}, label="scatter_add_rows",
    )  # fmt: skip
    work.replace_output(node, work.add(scatter, outer, f"{product}.adapted"))


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What makes the input of a canvas row of its token and of the model's last guess.

    table        the embeddings (V, hidden), from which guesses are read as well.
    pre_norm     (hidden,), of what was read; `gate`, `up` (ffn, hidden) and `down` (hidden, ffn) follow.
    eps          of both norms; the second has no weights.
    activation   the code of the gate's.
    factors      weights of `scale_by` nodes to those that rows of a canvas have in their place.
    """

    table: Weight
    pre_norm: Weight
    gate: Weight
    up: Weight
    down: Weight
    eps: float
    activation: int
    factors: Mapping[str, Weight]


def self_conditioned(program: Program, parts: Conditioning) -> Program:
    """The Program with rows of the set CANVAS, whose embeddings are normed, after a signal was added to those
    of the set SHARES. An input of that name, (n, V) probabilities, is read through the table of embeddings,
    scaled as these are, and gated. InputError for a Program that does not scale its embeddings.
    """
    work = _Rewriting(program)
    embedded = next((node.outputs for node in program.nodes if node.op == "embed"), ())
    found = False
    for node in program.nodes:
        copied = work.copy(node)
        if node.op == "scale" and node.inputs == embedded:
            found = True
            _condition(work, copied, parts)
        factor = parts.factors.get(node.weights[0] or "") if node.op == "scale_by" else None
        if factor is not None:
            _scale_apart(work, node, copied, factor)
    if not found:
        raise InputError("its embeddings are not scaled", where=program.name)
    return work.finish(inputs=(SHARES,))


def _condition(work: _Rewriting, node: Node, parts: Conditioning) -> None:
    """Behind the node that scales embeddings: the signal, then the norm."""
    x = node.outputs[0]
    vocabulary, hidden = parts.table.shape
    ffn = parts.gate.shape[0]
    work.buffers[SHARES] = Buffer(SHARES, vocabulary, SHARES)
    table = taken(Source(parts.table.name, parts.table.shape, transposed=True))

    def on_shares(op: str, weight: Weight | None, *inputs: str, width: int, **attributes: Attribute) -> str:
        weights = () if weight is None else (work.read(weight),)
        weights = (*weights, None) if op == "linear" else weights
        label = f"conditioning.{len(work.nodes)}"
        return work.add(Node(op, inputs, (), weights, attributes, -1, SHARES, label), width, label)

    read = on_shares("linear", table, SHARES, width=hidden)
    read = on_shares("scale", None, read, width=hidden, **node.attributes)
    normed = on_shares("rms_norm", parts.pre_norm, read, width=hidden, **_norm(parts.eps))
    gate = on_shares("linear", parts.gate, normed, width=ffn)
    up = on_shares("linear", parts.up, normed, width=ffn)
    gated = on_shares("gated", None, gate, up, width=ffn, activation=parts.activation)
    signal = on_shares("linear", parts.down, gated, width=hidden)
    x = _put(work, node, "scatter_add_rows", (x, signal), SHARES, f"{x}.conditioned")
    ones = work.constant(f"ones.{hidden}", np.ones(hidden, np.float32))
    rows = work.gather(node, x, CANVAS)
    norm = replace(
        node, op="rms_norm", inputs=(rows,), outputs=(), weights=(ones,), attributes=_norm(parts.eps),
        row_set=CANVAS, label="canvas",
    )  # fmt: skip
    normed = work.add(norm, hidden, f"{x}.normed")
    work.replace_output(node, _put(work, node, "scatter_rows", (x, normed), CANVAS, f"{x}.joined"))


def _norm(eps: float) -> dict[str, Attribute]:
    return {"eps": eps, "groups": 1, "offset": 0.0}


def _scale_apart(work: _Rewriting, node: Node, copied: Node, factor: Weight) -> None:
    """Behind a node that scales all rows: those of a canvas are scaled by another factor in its place."""
    source, product = copied.inputs[0], copied.outputs[0]
    rows = work.gather(copied, source, CANVAS)
    scale = replace(
        copied, inputs=(rows,), outputs=(), weights=(work.read(factor),), row_set=CANVAS, label="canvas"
    )
    scaled = work.add(scale, work.buffers[product].width, f"{product}.scaled")
    name = _put(work, copied, "scatter_rows", (product, scaled), CANVAS, f"{product}.joined")
    work.replace_output(node, name)


def _put(work: _Rewriting, beside: Node, op: str, inputs: tuple[str, str], row_set: str, name: str) -> str:
    """Rows of a row set put, or added, into a buffer of all rows."""
    scatter = replace(
        beside, op=op, inputs=inputs, outputs=(), weights=(), attributes={"row_set": row_set}, label=op
    )
    return work.add(scatter, work.buffers[inputs[0]].width, name)
