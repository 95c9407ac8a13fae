"""What an op is: declared once, read by every reader of a Program.

An `Op` has a name (also the name of its native kernel, if it has one), a numpy reference that is
slow and obviously right, and a cost. The reference sees a `Call`: the node's inputs and weights as
float32 arrays, its attributes, and the batch it runs in. Ops work row by row on one row set; only
sequence ops look at which rows belong together. This module runs nothing and dispatches nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fivefold.core.batch import Batch, Float32

Attribute = int | float | str | bool | tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Cost:
    """What one node does in one step: floating point operations, and bytes moved.

    `weight_bytes` are read once a step however many rows there are; `row_bytes` are the activations
    read and written; `cache_bytes` the cache entries read and written.
    """

    flops: float = 0.0
    weight_bytes: float = 0.0
    row_bytes: float = 0.0
    cache_bytes: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        """The cost of both."""
        return Cost(
            self.flops + other.flops,
            self.weight_bytes + other.weight_bytes,
            self.row_bytes + other.row_bytes,
            self.cache_bytes + other.cache_bytes,
        )


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a cost depends on: rows of the node, widths, weights, and how much of the cache is seen.

    `pairs` counts (row, visible entry) pairs of the step, `entries` the distinct entries read, both within
    the window of the node's cache group.
    """

    rows: int
    widths: tuple[int, ...]  # inputs, then outputs
    inputs: int
    weight_shapes: tuple[tuple[int, ...], ...]
    weight_bytes: tuple[float, ...]
    attributes: Mapping[str, Attribute]
    pairs: float = 0.0
    entries: float = 0.0
    entry_bytes: float = 0.0  # of one position in the cache, in one layer

    @property
    def output_width(self) -> int:
        """Width of the first output."""
        return self.widths[self.inputs]

    def row_bytes(self) -> float:
        """Bytes of the float32 rows that the node reads and writes."""
        return 4.0 * self.rows * sum(self.widths)


@dataclass(slots=True)
class Call:
    """One node about to run in the reference executor.

    `inputs` are (rows, width) float32, `weights` float32 in their own shape or None where an
    optional one is absent. `cache` is the store that sequence ops read and write, states among it.
    `rows` are the indices of the node's rows among all N rows. An op that has results beside its
    rows (importance) puts them into `results` under its node's label.
    """

    inputs: list[Float32]
    weights: list[Float32 | None]
    attributes: Mapping[str, Attribute]
    batch: Batch
    rows: Any
    layer: int
    cache: Any = None
    results: dict[str, Any] = field(default_factory=dict)

    def integer(self, name: str) -> int:
        """An attribute that is a whole number."""
        value = self.attributes[name]
        assert isinstance(value, int), f"{name} is {value!r}"
        return value

    def number(self, name: str) -> float:
        """An attribute that is a number."""
        value = self.attributes[name]
        assert isinstance(value, int | float), f"{name} is {value!r}"
        return float(value)

    def weight(self, index: int) -> Float32:
        """A weight that must be there."""
        weight = self.weights[index]
        assert weight is not None, f"weight {index} is missing"
        return weight


Reference = Callable[[Call], tuple[Float32, ...]]


@dataclass(frozen=True, slots=True)
class Op:
    """One row of the table of ops.

    inputs, outputs, weights  names of the operands in order; a weight name ending in "?" is optional.
    attributes  names of the attributes a node must give.
    kernel      name of the native kernel, None while there is none: the native executor then
                refuses the Program by name.
    integers, floats  which attributes the native kernel takes, in its order.
    sequence    the op knows which rows belong to which sequence.
    positional  the op knows of its rows no more than their positions: each part of a Program that is cut
                in layers can compute it again.
    in_place    its output may lie where its first input was, and most of it is the same.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    reference: Reference
    cost: Callable[[Sizes], Cost]
    weights: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    kernel: str | None = None
    integers: tuple[str, ...] = ()
    floats: tuple[str, ...] = ()
    sequence: bool = False
    positional: bool = False
    in_place: bool = False


def rowwise_cost(flops_per_number: float) -> Callable[[Sizes], Cost]:
    """The cost of an op that does a few operations on each number of its output."""

    def cost(sizes: Sizes) -> Cost:
        return Cost(
            flops=flops_per_number * sizes.rows * sizes.output_width,
            weight_bytes=sum(sizes.weight_bytes),
            row_bytes=sizes.row_bytes(),
        )

    return cost
