"""The reference executor: a Program run op by op in numpy float32, slowly and obviously right.

Every native kernel is tested against it, and shapes that have no kernel yet are proved with it. It
keeps its cache and recurrent states as plain float32 arrays with the same pages and slots as the
native stores; given a format of entries, it rounds what it keeps as they do. It shares nothing between
steps but these, and it plans nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fivefold.core.batch import ALL, Batch, Float32, Int32
from fivefold.core.layout import CacheGroup, CacheLayout
from fivefold.formats import UNROUNDED, EntryFormat
from fivefold.ops import Call

from .program import Node, Program

_NO_ROWS: Int32 = np.zeros(0, np.int32)


class ReferenceCache:
    """Keys and values of all cache groups, (layers, pages, heads a page, slots, width) float32 each.

    Recurrent states lie beside them, in `slots` slots.
    """

    def __init__(
        self, layout: CacheLayout, pages: int, form: EntryFormat = UNROUNDED, slots: int = 0
    ) -> None:
        self.layout = layout
        self.state = ReferenceState(layout, slots)
        self._read_back = form.read_back
        self._weights = form.weights
        self._keys: dict[str, Float32] = {}
        self._values: dict[str, Float32] = {}
        for group in layout.groups:
            shape = (len(group.layers), pages, group.heads_per_page, group.page_size)
            self._keys[group.name] = np.zeros((*shape, group.key_width), np.float32)
            if not group.value_in_key:
                self._values[group.name] = np.zeros((*shape, group.value_width), np.float32)

    def write(
        self, batch: Batch, name: str, layer: int, row: int, key: Float32, value: Float32 | None
    ) -> None:
        """Store one row's entry in the slot that the batch names for it; -1 stores nothing."""
        group, view = self.layout.group(name), batch.groups[name]
        at = group.layers.index(layer)
        keys = self._stored_keys(group, key.reshape(group.kv_heads, -1))
        values = None if value is None else self._read_back(value.reshape(group.kv_heads, -1))
        for head in range(group.kv_heads):
            table, inner = divmod(head, group.heads_per_page)
            slot = int(view.write[row, table])
            if slot < 0:
                continue
            page = view.tables[batch.sequence[row], table, slot // group.page_size]
            self._keys[name][at, page, inner, slot % group.page_size] = keys[head]
            if values is not None:
                self._values[name][at, page, inner, slot % group.page_size] = values[head]

    def _stored_keys(self, group: CacheGroup, keys: Float32) -> Float32:
        """As they are read back. A value that lies in its key has a scale of its own, and so has the rest."""
        if not group.value_in_key:
            return self._read_back(keys)
        parts = keys[:, : group.value_width], keys[:, group.value_width :]
        return np.concatenate([self._read_back(part) if part.size else part for part in parts], axis=1)

    def read(
        self, batch: Batch, name: str, layer: int, row: int, head: int, slots: Any
    ) -> tuple[Float32, Float32]:
        """Keys and values of one KV head at those slots of the row's sequence."""
        group, view = self.layout.group(name), batch.groups[name]
        at = group.layers.index(layer)
        table, inner = divmod(head, group.heads_per_page)
        pages = view.tables[batch.sequence[row], table][slots // group.page_size]
        within = slots % group.page_size
        keys = self._keys[name][at, pages, inner, within]
        if group.value_in_key:
            return keys, keys[:, : group.value_width]
        return keys, self._values[name][at, pages, inner, within]

    def weigh(self, name: str, weights: Float32, values: Float32, slots: Any) -> Float32:
        """Softmax weights as the format's kernels multiply them with the values at those slots.

        Values that lie in the key are multiplied as they are read, whatever the format.
        """
        if self._weights is None or self.layout.group(name).value_in_key:
            return weights
        return self._weights(weights, values, slots)

    def copy_entries(
        self, name: str, page_from: Int32, slot_from: Int32, page_to: Int32, slot_to: Int32
    ) -> None:
        """Move entries between slots, one after the other, in all layers and heads of the pages."""
        for store in (self._keys.get(name), self._values.get(name)):
            if store is None:
                continue
            for source, place, target, here in zip(page_from, slot_from, page_to, slot_to, strict=True):
                store[:, target, :, here] = store[:, source, :, place]

    def read_entries(self, name: str, pages: Int32, count: int) -> tuple[Float32, Float32]:
        """The first `count` entries of a table with these pages, in all layers and heads of a page.

        Keys (layers, heads, count, key width) and values (layers, heads, count, value width).
        """
        keys = self._keys[name][:, pages]
        values = self._values[name][:, pages] if name in self._values else keys
        width = self.layout.group(name).value_width
        found = []
        for stored, wide in ((keys, keys.shape[-1]), (values, width)):  # (layers, pages, heads, slots, width)
            whole = stored.swapaxes(1, 2)
            flat = whole.reshape(*whole.shape[:2], -1, whole.shape[-1])
            found.append(np.ascontiguousarray(flat[:, :, :count, :wide]))
        return found[0], found[1]

    def copy_head_entries(
        self, name: str, layer: int, head: int,
        page_from: Int32, slot_from: Int32, page_to: Int32, slot_to: Int32,
    ) -> None:  # fmt: skip
        """The same in one layer, counted within the group, and in one head of the pages."""
        for store in (self._keys.get(name), self._values.get(name)):
            if store is None:
                continue
            for source, place, target, here in zip(page_from, slot_from, page_to, slot_to, strict=True):
                store[layer, target, head, here] = store[layer, source, head, place]

    def copy_state(self, source: int, target: int) -> None:
        """The states of one slot become those of another."""
        self.state.copy(source, target)


class ReferenceState:
    """Recurrent states: (layers, slots, *shape) float32 for each state group."""

    def __init__(self, layout: CacheLayout, slots: int) -> None:
        self._layout = {group.name: group for group in layout.states}
        self._arrays = {
            group.name: np.zeros((len(group.layers), slots, *group.shape), np.float32)
            for group in layout.states
        }

    def array(self, name: str, layer: int, slot: int) -> Float32:
        """The state of one layer and slot, as a view that may be changed."""
        state: Float32 = self._arrays[name][self._layout[name].layers.index(layer), slot]
        return state

    def copy(self, source: int, target: int) -> None:
        """In all groups and layers."""
        for array in self._arrays.values():
            array[:, target] = array[:, source]


def complete(batch: Batch, program: Program) -> Batch:
    """The batch with what a Program names and no span of the step has: row sets and inputs without rows."""
    sets = {name: batch.row_sets.get(name, _NO_ROWS) for name in program.row_sets}
    inputs = dict(batch.inputs)
    for name in program.inputs:
        buffer = program.buffers[name]
        if name not in inputs and buffer.row_set != ALL and not len(sets[buffer.row_set]):
            inputs[name] = np.zeros((0, buffer.width), np.float32)
    return replace(batch, row_sets={**batch.row_sets, **sets}, inputs=inputs)


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What a step brought: the asked-for buffers by name, and results beside rows by node label."""

    buffers: Mapping[str, Float32]
    results: Mapping[str, Any] = field(default_factory=dict)


class ReferenceExecutor:
    """Runs one Program. `weights` gives a tensor as a float32 array by name each time a node needs it."""

    def __init__(self, program: Program, weights: Callable[[str], Float32], cache: ReferenceCache) -> None:
        self._program = program
        self._weights = weights
        self._cache = cache

    def run(self, batch: Batch, taps: Sequence[str] = ()) -> StepOutput:
        """Run the batch; returns the Program's outputs and the tapped buffers."""
        batch = complete(batch, self._program)
        held: dict[str, Float32] = {name: batch.inputs[name] for name in self._program.inputs}
        results: dict[str, Any] = {}
        for node in self._program.nodes:
            outputs = node.declaration.reference(self._call(node, held, batch, results))
            for name, rows in zip(node.outputs, outputs, strict=True):
                expected = self._program.buffers[name].width
                assert rows.shape[1] == expected, f"{node.label} gave rows of {rows.shape[1]}, not {expected}"
                held[name] = rows.astype(np.float32, copy=False)
        wanted = (*self._program.outputs, *taps)
        return StepOutput({name: held[name] for name in wanted}, results)

    def _call(self, node: Node, held: Mapping[str, Float32], batch: Batch, results: dict[str, Any]) -> Call:
        rows = np.arange(batch.rows) if node.row_set == ALL else batch.row_sets[node.row_set]
        return Call(
            [held[name] for name in node.inputs],
            [None if name is None else self._weight(name) for name in node.weights],
            node.attributes,
            batch,
            rows,
            node.layer,
            self._cache,
            results.setdefault(f"{node.layer}.{node.label}", {}),
        )

    def _weight(self, name: str) -> Float32:
        constant = self._program.constants.get(name)
        return self._program.weights[name].of(self._weights) if constant is None else constant
