"""A Program: a model's forward pass as a flat list of ops over named buffers.

It is data, made by `Builder`, and it knows no weights, only their names and shapes. Three readers
use it: the reference executor, the native executor and the planner. Its only free sizes are the
rows of the step and of its row sets. It holds no family's name and runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fivefold.core.batch import ALL, Float32
from fivefold.core.errors import InputError
from fivefold.core.layout import CacheLayout
from fivefold.ops import OPS, Attribute, Op

from .weight import Weight


@dataclass(frozen=True, slots=True)
class Buffer:
    """Rows of float32 numbers: (rows of its row set, width)."""

    name: str
    width: int
    row_set: str = ALL


@dataclass(frozen=True, slots=True)
class Node:
    """One op applied: names of buffers and weights (None: an optional weight left out)."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[str | None, ...] = ()
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    layer: int = -1
    row_set: str = ALL
    label: str = ""

    @property
    def declaration(self) -> Op:
        """The op's row in the table."""
        return OPS[self.op]


@dataclass(frozen=True, slots=True)
class Program:
    """Nodes in order, the buffers and weights they name, and what the model keeps between steps.

    `inputs` are buffers given with the batch; `outputs` those a caller may ask for by default.
    `constants` are small arrays that belong to the Program itself (rotary frequencies).
    """

    name: str
    nodes: tuple[Node, ...]
    buffers: Mapping[str, Buffer]
    weights: Mapping[str, Weight]
    layout: CacheLayout
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    constants: Mapping[str, Float32] = field(default_factory=dict)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layer numbers that occur, ascending."""
        return tuple(sorted({node.layer for node in self.nodes if node.layer >= 0}))

    @property
    def tensors(self) -> Mapping[str, tuple[int, ...]]:
        """Names and shapes of all tensors of a file that the weights are read from."""
        read = [weight for weight in self.weights.values() if weight.name not in self.constants]
        return {name: shape for weight in read for name, shape in weight.tensors}

    @property
    def row_sets(self) -> tuple[str, ...]:
        """Names of the row sets that the batch must give, in order of first use."""
        found: dict[str, None] = {}
        for node in self.nodes:
            for name in (node.row_set, node.attributes.get("row_set")):
                if isinstance(name, str) and name and name != ALL:
                    found[name] = None
        for name in self.inputs:
            if self.buffers[name].row_set != ALL:
                found[self.buffers[name].row_set] = None
        return tuple(found)

    def slice(self, first: int, last: int) -> Program:
        """The Program of layers `first` to `last` - 1 alone.

        Nodes without a layer go with the side that needs them: those before the first layered node
        stay at the front of every slice if they are needed there and know positions only (rotary
        angles), the rest stay with the first or the last layer. Buffers that a slice reads and does
        not write become its inputs; those that a later slice would read become its outputs.
        """
        layers = self.layers
        starts = next(i for i, node in enumerate(self.nodes) if node.layer >= 0)
        ends = max(i for i, node in enumerate(self.nodes) if node.layer >= 0)
        chosen: list[Node] = []
        later: list[Node] = []
        for index, node in enumerate(self.nodes):
            before, after = index < starts, index > ends and node.layer < 0
            here = first <= node.layer < last if node.layer >= 0 else False
            here = here or (before and (first <= layers[0] or node.declaration.positional))
            here = here or (after and last > layers[-1])
            if here:
                chosen.append(node)
            elif after or node.layer >= last:
                later.append(node)
        _require_entries(chosen, f"{self.name}[{first}:{last}]")
        return _cut(self, chosen, later, f"{self.name}[{first}:{last}]")

    def with_nodes(
        self, nodes: tuple[Node, ...], buffers: Mapping[str, Buffer], weights: Mapping[str, Weight]
    ) -> Program:
        """The same Program with other nodes: how an adapter or a lowering rewrites it."""
        return replace(self, nodes=nodes, buffers=buffers, weights=weights)


def _require_entries(nodes: list[Node], name: str) -> None:
    """InputError for a node that reads a layer's entries which no node of this part of a Program stores."""
    inside = {node.layer for node in nodes}
    for node in nodes:
        kept_by = node.attributes.get("entries", node.layer)
        if kept_by not in inside:
            raise InputError(
                f"layer {node.layer} reads what layer {kept_by} stores, which is not in this part",
                where=name, remedy="cut the model where no layer reads entries of another",
            )  # fmt: skip


def _cut(whole: Program, chosen: list[Node], later: list[Node], name: str) -> Program:
    """A Program of the chosen nodes, its inputs and outputs found from what is read and written."""
    needed = {buffer for node in chosen for buffer in node.inputs}
    nodes = [node for node in chosen if node.inputs or any(output in needed for output in node.outputs)]
    written: set[str] = set()
    inputs: dict[str, None] = {}
    for node in nodes:
        for buffer in node.inputs:
            if buffer not in written:
                inputs[buffer] = None
        written.update(node.outputs)
    wanted = {buffer for node in later for buffer in node.inputs} | set(whole.outputs)
    shared = [node for node in whole.nodes if node.layer < 0 and node.declaration.positional]
    rebuilt = {output for node in shared for output in node.outputs}
    outputs = [
        buffer for buffer in dict.fromkeys(o for node in nodes for o in node.outputs) if buffer in wanted
    ]
    last_outputs = tuple(b for b in outputs if b not in rebuilt or b in whole.outputs)
    used = {b for node in nodes for b in (*node.inputs, *node.outputs)}
    weights = {w for node in nodes for w in node.weights if w is not None}
    return Program(
        name,
        tuple(nodes),
        {key: buffer for key, buffer in whole.buffers.items() if key in used},
        {key: weight for key, weight in whole.weights.items() if key in weights},
        whole.layout,
        tuple(inputs),
        last_outputs,
        {key: value for key, value in whole.constants.items() if key in weights},
    )
