"""A frozen model over lookahead rows, in torch: its Program is walked node by node, whatever the family.

Only rows behind prompts run; what the model keeps of the prompts is read from stored examples. What is
wanted are the scores of all layers, so a node runs only if scores depend on it: of the last layer that is
the way to its queries and keys. Every linear node that runs may have a low-rank pair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fivefold.core.checkpoint import Float32
from fivefold.core.errors import InputError, UnsupportedError
from fivefold.program import Model, Node

from .attending import Entries
from .differentiable import DIFFERENTIABLE, Pairs, Pass, TorchCall
from .examples import Document

_ATTENTION, _STORE, _EMBED = "attention", "attention_store", "embed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Importance of each layer, (Q, query heads, T + S) each, and the buffers that were asked for."""

    importance: tuple[Tensor, ...]
    buffers: dict[str, Tensor]


class Network:
    """The part of a model that scores depend on. `weights` gives a tensor of the file as float32 by name.

    `linears` are names and shapes (M, K) of the matrices that may have a pair, in the Program's order;
    `table` is the name of the embeddings, which are not held here. UnsupportedError names what cannot be
    trained through.
    """

    def __init__(self, model: Model, weights: Callable[[str], Float32]) -> None:
        program = model.main
        self._program = program
        self._nodes, self._needed = _chosen(program.nodes)
        self._check(model)
        self.shape = model.shape
        self.layers = tuple(node.layer for node in self._nodes if node.op == _ATTENTION)
        self.table = next(node.weights[0] or "" for node in self._nodes if node.op == _EMBED)
        self.linears = {
            node.weights[0]: (
                program.weights[node.weights[0]].shape[0],
                program.weights[node.weights[0]].shape[1],
            )
            for node in self._nodes
            if node.op == "linear" and node.weights[0] is not None
        }
        self._weights: dict[str, Tensor] = {}
        for node in self._nodes:
            for name in node.weights if node.op != _EMBED else ():
                if name is not None and name not in self._weights:
                    constant = program.constants.get(name)
                    values = program.weights[name].of(weights) if constant is None else constant
                    self._weights[name] = torch.tensor(values)

    def run(
        self, rows: Tensor, pairs: Pairs, scale: float, document: Document, taps: Sequence[str] = ()
    ) -> Outcome:
        """Run the rows (n, hidden) behind every prompt of the document; `scale` multiplies what pairs add.

        InputError if the document is another model's.
        """
        self.require_document(document)
        entries = Entries(document, len(rows))
        layout = self._program.layout
        run = Pass(rows.repeat(entries.count, 1), pairs, scale, entries, layout)
        held: dict[str, Tensor] = {}
        tapped: dict[str, Tensor] = {}
        for node, ended in self._nodes_with_ends:
            call = TorchCall(
                node, [held.get(name) for name in node.inputs],
                [None if name is None else self._weights.get(name) for name in node.weights], run,
                any(name in self._needed for name in node.outputs),
            )  # fmt: skip
            output = DIFFERENTIABLE[node.op](call)
            for name in node.outputs:
                held[name] = output
                if name in taps:
                    tapped[name] = output
            for name in ended:
                held.pop(name, None)
        return Outcome(tuple(run.importance[layer] for layer in self.layers), tapped)

    @property
    def _nodes_with_ends(self) -> list[tuple[Node, tuple[str, ...]]]:
        """The nodes in order, and the buffers that nothing reads after each."""
        last = {name: index for index, node in enumerate(self._nodes) for name in node.inputs}
        ends: list[list[str]] = [[] for _ in self._nodes]
        for name, index in last.items():
            ends[index].append(name)
        return [(node, tuple(names)) for node, names in zip(self._nodes, ends, strict=True)]

    def _check(self, model: Model) -> None:
        where = model.shape.family
        for node in self._nodes:
            if node.op not in DIFFERENTIABLE:
                raise UnsupportedError(
                    f"op {node.op} cannot be trained through", where=where,
                    remedy=f"take a model made of {', '.join(sorted(DIFFERENTIABLE))}",
                )  # fmt: skip
            if node.op == _ATTENTION and node.attributes["entries"] != node.layer:
                raise UnsupportedError(
                    f"layer {node.layer} reads entries of another layer", where=where,
                    remedy="take a model whose layers keep their own",
                )  # fmt: skip
        embedding = sum(node.op == _EMBED for node in self._nodes)
        if embedding != 1 or not any(node.op == _ATTENTION for node in self._nodes):
            raise UnsupportedError(
                f"a model with {embedding} tables of embeddings before its attention has no lookahead rows",
                where=where, remedy="take a model with one table",
            )  # fmt: skip

    def require_document(self, document: Document) -> None:
        """InputError unless its entries have the layers and heads of the model."""
        groups = self._program.layout.groups
        heads = {(group.kv_heads, group.key_width, group.value_width) for group in groups}
        layers, kv_heads, _, size = document.keys.shape
        found = {(kv_heads, size, document.values.shape[-1])}
        queries = document.questions[0].target.shape[1]
        if heads != found or layers != len(self.layers) or queries != self.shape.heads:
            raise InputError(
                f"entries of {layers} layers, {kv_heads} KV heads of {size} and {queries} query heads are "
                f"not those of this {self.shape.family} model", where=document.name,
                remedy="make examples with the model that is trained",
            )  # fmt: skip


def _chosen(nodes: Sequence[Node]) -> tuple[tuple[Node, ...], frozenset[str]]:
    """The nodes that any layer's scores depend on, and the buffers that are read.

    Scores need queries and keys. Values are needed where something reads the output of attention.
    """
    stores = {node.layer: node for node in nodes if node.op == _STORE}
    needed: set[str] = set()
    chosen: list[Node] = []
    for node in reversed(nodes):
        if node.op == _ATTENTION:
            needed.update(node.inputs)
            store = stores.get(node.layer)
            if store is not None:
                read = any(name in needed for name in node.outputs)
                needed.update(store.inputs if read else store.inputs[:1])
            chosen.append(node)
        elif node.op == _STORE or any(name in needed for name in node.outputs):
            chosen.append(node)
            needed.update(node.inputs if node.op != _STORE else ())
    return tuple(reversed(chosen)), frozenset(needed)
