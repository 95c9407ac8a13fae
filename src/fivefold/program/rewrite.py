"""Programs made of others: attention that is observed, rows with learned inputs and low-rank parts, and page
tables for each layer and head.

They leave what other rows compute as it is, bit for bit: new nodes stand on row sets of their own, and what
they add is added to the rows of these sets alone. So a step without such rows can as well run the Program
that was rewritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from fivefold.core.batch import LOOKAHEAD, OBSERVERS, PEAK_OBSERVERS
from fivefold.core.errors import InputError
from fivefold.core.layout import CacheGroup, CacheLayout

from .model import Model
from .program import Buffer, Node, Program
from .weight import Weight


class _Rewriting:
    """A Program's nodes while others are put between them."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.nodes: list[Node] = []
        self.buffers = dict(program.buffers)
        self.weights = dict(program.weights)
        self._renamed: dict[str, str] = {}

    def copy(self, node: Node) -> Node:
        """The node as it is, but for inputs that others took the place of."""
        inputs = tuple(self._renamed.get(name, name) for name in node.inputs)
        self.nodes.append(replace(node, inputs=inputs))
        return self.nodes[-1]

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
        return replace(made, outputs=outputs, inputs=(*made.inputs, *inputs))


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
