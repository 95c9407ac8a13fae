"""The native executor: a Program lowered once, then replayed by the compiled core in one call a step.

Lowering gives every buffer its slot of the arena, packs each weight for the chosen instruction set,
and writes the nodes as the core takes them. An op without a native kernel is refused by name. The
core checks every index of a batch before it touches memory. No policy lives here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from fivefold._native import CacheStorage, Executor, Matrix, StateStorage, ThreadPool
from fivefold.core.batch import ALL, Batch, Float32, Int32
from fivefold.core.checkpoint import Tensor
from fivefold.core.errors import FileError, FivefoldError, UnsupportedError
from fivefold.core.layout import CacheLayout
from fivefold.formats import format_of
from fivefold.program import Node, Program, StepOutput, complete, plan_memory

from .packing import pack

_EMPTY: Int32 = np.zeros(0, np.int32)
_PRODUCTS = frozenset({"linear", "expert_linear", "head_linear"})
"""Ops whose first weight is packed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How Programs run here.

    `activations` is "int8" (quantized weights meet int8 rows, one scale for 32 elements) or
    "float". `max_rows` bounds the rows of a step and sizes the arena. `cache_format` is how entries of the
    cache are stored.
    """

    isa: str
    threads: int
    activations: str = "int8"
    max_rows: int = 512
    cache_format: str = "f16"


class NativeCache:
    """Native storage of all cache groups, and of recurrent states in so many slots; moves entries and states
    for the `cache` room."""

    def __init__(
        self, layout: CacheLayout, pages: Mapping[str, int], form: str = "f16", slots: int = 0
    ) -> None:
        self._layout = layout
        self.storages = {
            group.name: CacheStorage(
                len(group.layers), pages[group.name], group.heads_per_page, group.page_size,
                group.key_width, group.value_width, group.value_in_key, form,
            )
            for group in layout.groups
        }  # fmt: skip
        self.states = {
            group.name: StateStorage(len(group.layers), slots, prod(group.shape)) for group in layout.states
        }

    @property
    def bytes(self) -> int:
        """Bytes reserved for entries and states."""
        entries = sum(one.bytes for one in self.storages.values())
        return entries + sum(one.bytes for one in self.states.values())

    def copy_entries(
        self, name: str, page_from: Int32, slot_from: Int32, page_to: Int32, slot_to: Int32
    ) -> None:
        """Copy entry by entry, in order."""
        self.storages[name].copy_entries(page_from, slot_from, page_to, slot_to)

    def read_entries(self, name: str, pages: Int32, count: int) -> tuple[Float32, Float32]:
        """The first `count` entries of a table with these pages, in all layers and heads of a page.

        Keys (layers, heads, count, key width) and values (layers, heads, count, value width).
        """
        group, storage = self._layout.group(name), self.storages[name]
        heads = range(group.heads_per_page)
        parts = [
            [storage.read_entries(layer, head, pages, count) for head in heads]
            for layer in range(len(group.layers))
        ]
        keys, values = (np.array([[one[which] for one in layer] for layer in parts]) for which in (0, 1))
        return keys, values

    def copy_head_entries(
        self, name: str, layer: int, head: int,
        page_from: Int32, slot_from: Int32, page_to: Int32, slot_to: Int32,
    ) -> None:  # fmt: skip
        """Copy one layer's and head's part of each entry, in order."""
        self.storages[name].copy_head_entries(layer, head, page_from, slot_from, page_to, slot_to)

    def copy_state(self, source: int, target: int) -> None:
        """The states of one slot become those of another."""
        for states in self.states.values():
            states.copy(source, target)


PackedMatrices = dict[str, tuple[tuple[Tensor, ...], Matrix]]
"""Packed matrices by name, each with the tensors that it is made of."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How weights are packed.

    where     they lie, for errors.
    packed    is told of each matrix whose stored bytes are no longer needed.
    matrices  those that other executors with the same settings have packed; gets those that are packed now.
    """

    where: str = ""
    packed: Callable[[Tensor], None] | None = None
    matrices: PackedMatrices | None = None


class NativeExecutor:
    """One Program ready to run. `tensors` looks a stored weight up by name."""

    def __init__(
        self,
        program: Program,
        tensors: Callable[[str], Tensor],
        cache: NativeCache,
        settings: Settings,
        pool: ThreadPool | None = None,
        taps: Sequence[str] = (),
        packing: Packing = Packing(),
    ) -> None:
        """FileError for a weight that is not finite.

        Tables of embeddings are not read here: what is wrong with a row shows in the logits.
        """
        self._packing = packing
        self._program = program
        self._tensors = tensors
        self._settings = settings
        self.pool = pool or ThreadPool(settings.threads)
        self._core = Executor(self.pool, settings.isa, settings.activations, settings.max_rows)
        self._matrices: dict[str, int] = {}
        self._vectors: dict[tuple[str, float], int] = {}
        self._tables: dict[str, int] = {}
        self.weight_bytes = 0
        self._row_set_names = tuple(program.row_sets)
        self._row_sets = {ALL: 0, **{name: self._core.add_row_set() for name in self._row_set_names}}
        used = {node.attributes.get("group") for node in program.nodes}
        self._groups = {
            group.name: self._core.add_group(cache.storages[group.name], group.tables)
            for group in program.layout.groups
            if group.name in used
        }
        self._states = {
            group.name: self._core.add_state(cache.states[group.name]) for group in program.layout.states
        }
        self._observing: list[str] = []
        self._partial = any(program.buffers[name].row_set != ALL for name in program.inputs)
        self._buffers = self._add_buffers(taps)
        for node in program.nodes:
            self._add(node)

    @property
    def max_rows(self) -> int:
        """Most rows that a batch may have."""
        return self._settings.max_rows

    def run(self, batch: Batch, taps: Sequence[str] = (), *, copy: bool = True) -> StepOutput:
        """Run the batch; returns the Program's outputs and those tapped buffers named when built.

        Without `copy` they are the executor's own memory, which the next run overwrites.
        """
        if self._partial:
            batch = complete(batch, self._program)
        groups = [batch.groups[name] for name in self._groups]
        views = [(g.tables, g.start, g.stop, g.write, g.mask, g.mask_from) for g in groups]
        sets = [batch.row_sets.get(name, _EMPTY) for name in self._row_set_names]
        given = [batch.inputs[name] for name in self._program.inputs]
        states = None if batch.states is None else (batch.states.read, batch.states.write)
        try:
            self._core.run(batch.tokens, batch.positions, batch.sequence, sets, views, given, states)
        except ValueError as error:
            raise FivefoldError(f"the step cannot run: {error}", where=self._program.name) from error
        wanted = (*self._program.outputs, *taps)
        take = self._core.buffer if copy else self._core.view
        return StepOutput({name: take(self._buffers[name]) for name in wanted}, self._observed())

    def _observed(self) -> dict[str, dict[str, dict[int, Float32]]]:
        """What observing nodes found, as the reference executor names it."""
        results = {}
        for number, label in enumerate(self._observing):
            found = dict(self._core.observation(number))
            if found:
                results[label] = {"importance": found}
        return results

    def _add_buffers(self, taps: Sequence[str]) -> dict[str, int]:
        memory = plan_memory(self._program, taps)
        self._core.add_slots(list(memory.widths))
        numbers = {}
        for name, slot in memory.slots.items():
            buffer = self._program.buffers[name]
            numbers[name] = self._core.add_buffer(slot, buffer.width, self._row_sets[buffer.row_set])
        for name in self._program.inputs:
            self._core.add_input(numbers[name])
        return numbers

    def _add(self, node: Node) -> None:
        op = node.declaration
        if op.kernel is None:
            raise UnsupportedError(
                f"op {op.name} has no native kernel", where=f"{self._program.name}, layer {node.layer}",
                remedy="run this model with the reference executor",
            )  # fmt: skip
        group = node.attributes.get("group")
        integers = [int(value) for value in map(node.attributes.get, op.integers) if isinstance(value, int)]
        if op.sequence and isinstance(group, str):
            kept_by = node.attributes.get("entries", node.layer)
            assert isinstance(kept_by, int)
            integers.insert(0, self._program.layout.group(group).layers.index(kept_by))
        state = node.attributes.get("state")
        if isinstance(state, str):
            layers = self._program.layout.state(state).layers
            integers = [self._states[state], layers.index(node.layer), *integers]
        floats = [
            float(value) for value in map(node.attributes.get, op.floats) if isinstance(value, int | float)
        ]
        if node.op == "observe":
            self._observing.append(f"{node.layer}.{node.label}")
        row_set = node.attributes.get("row_set", node.row_set)
        self._core.add_node(
            op.kernel,
            [self._buffers[name] for name in node.inputs],
            [self._buffers[name] for name in node.outputs],
            [self._weight(node, place, name) for place, name in enumerate(node.weights)],
            integers,
            floats,
            self._groups[group] if isinstance(group, str) else -1,
            self._row_sets[str(row_set)],
        )

    def _weight(self, node: Node, place: int, name: str | None) -> int:
        """The core's number of a weight, in the form that this op takes it; packed once."""
        if name is None:
            return -1
        if node.op in _PRODUCTS and place == 0:
            return self._stored(self._matrices, name, self._pack)
        if node.op == "embed":
            return self._stored(self._tables, name, self._table)
        offset = node.attributes.get("offset", 0.0)
        assert isinstance(offset, float)
        key = (name, offset)
        if key not in self._vectors:
            self._vectors[key] = self._vector(name, offset)
        return self._vectors[key]

    def _stored(self, known: dict[str, int], name: str, make: Callable[[str], int]) -> int:
        if name not in known:
            known[name] = make(name)
        return known[name]

    def _pack(self, name: str) -> int:
        """A matrix, or the stack of those of experts; none is packed that was packed before."""
        weight = self._program.weights[name]
        tensors = tuple(self._tensors(tensor) for tensor, _ in weight.tensors)
        shared = self._packing.matrices
        known = None if shared is None else shared.get(name)
        if known is not None and all(map(operator.is_, known[0], tensors)):
            self.weight_bytes += known[1].bytes
            return self._core.add_matrix(known[1])
        matrix = pack(weight, self._tensors, self.pool, self._settings.isa)
        if not matrix.finite:
            raise self._not_finite(tensors[0].name)
        self.weight_bytes += matrix.bytes
        if self._packing.packed is not None:
            for tensor in tensors:
                self._packing.packed(tensor)
        if shared is not None:
            shared[name] = (tensors, matrix)
        return self._core.add_matrix(matrix)

    def _table(self, name: str) -> int:
        tensor = self._tensors(name)
        rows, columns = tensor.shape
        return self._core.add_table(tensor.format, tensor.data, rows, columns, *_scales(tensor))

    def _vector(self, name: str, offset: float) -> int:
        """A vector, with the offset of the op that takes it already added."""
        constant = self._program.constants.get(name)
        values = self._numbers(name) if constant is None else constant
        if not np.isfinite(values).all():
            raise self._not_finite(name)
        return self._core.add_vector(values + np.float32(offset) if offset else values)

    def _numbers(self, name: str) -> Float32:
        values = self._program.weights[name].of(lambda tensor: dequantize(self._tensors(tensor)))
        return np.ascontiguousarray(values).ravel()

    def _not_finite(self, name: str) -> FileError:
        return FileError(
            f"tensor {name} holds a number that is NaN or infinite", where=self._packing.where,
            remedy="fetch the file again or take another conversion of the model",
        )  # fmt: skip


def dequantize(tensor: Tensor) -> Float32:
    """A stored tensor as float32 in its own shape; each product with a scale is rounded once, and infinite
    where float32 ends.
    """
    count = int(np.prod(tensor.shape))
    values = format_of(tensor.format, tensor.name).unpack(tensor.data, count).reshape(tensor.shape)
    if tensor.scales is None:
        return values
    if not tensor.scales.fits(tensor.shape):
        raise FileError(
            f"scales {list(tensor.scales.values.shape)} do not fit tensor {tensor.name} {list(tensor.shape)}",
            remedy="fetch the file again or take another conversion of the model",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        return values * tensor.scales.spread(tensor.shape)


def _scales(tensor: Tensor) -> tuple[Float32, int, int] | tuple[()]:
    """A tensor's scales as the core takes them: (R, C), rows and columns of a block; nothing without."""
    scales = tensor.scales
    return () if scales is None else (scales.values, scales.rows, scales.columns)
