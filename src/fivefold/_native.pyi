"""The compiled core, as `native/bind.cc` exposes it. Only `fivefold.executor` imports it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_Bytes = npt.NDArray[np.uint8]
_Int32 = npt.NDArray[np.int32]
_Float32 = npt.NDArray[np.float32]
_UInt32 = npt.NDArray[np.uint32]
_Words = npt.NDArray[np.uint64]
_GroupArrays = tuple[_Int32, _Int32, _Int32, _Int32, _Words | None, _Int32 | None]
"""tables (B, T, P), start, stop and write (N, T), mask (N, W) and mask_from (N, T)."""

def isas() -> list[str]:
    """Instruction sets usable here, slowest first."""

def cpu_report() -> dict[str, bool | str]:
    """The processor's names, and which features it and the system offer."""

def read_bandwidth(pool: ThreadPool, bytes: int, seconds: float) -> float:
    """Bytes a second of a read-only sum over a buffer of that size, by all threads."""

def peak_rate(pool: ThreadPool, isa: str, numbers: str, seconds: float) -> float:
    """Products a second of all threads in registers; `numbers` is "int8" or "float"."""

def clock_rate(seconds: float) -> float:
    """Cycles a second of the calling thread."""

def largest_logit(logits: _Float32) -> int:
    """The first index of the largest of (V,) logits; -1 if any is NaN or inf, -2 if all are -inf."""

def draw(logits: _Float32, temperature: float, top_k: int, top_p: float, min_p: float, uniform: float) -> int:
    """The token that a random number in [0, 1) stands for, after the filters."""

def likeliest_tokens(logits: _Float32, left_out: int) -> tuple[list[int], list[float], list[float]]:
    """Of each row of (R, V) logits the likeliest token but one (-1: none is left out), its probability among
    the others, and among all. The token is -1 or -2 where `largest_logit` is."""

def guess_tokens(
    keys: _UInt32, values: _UInt32, orders: int, classes: int, last: list[int], most: int, least: float
) -> tuple[list[int], list[int]]:
    """At most so many tokens by a table of n-grams, all together at least so likely; and their classes."""

class ThreadPool:
    """Threads that replay steps together; the caller is one of them."""

    def __init__(self, threads: int) -> None: ...
    @property
    def threads(self) -> int: ...

class Matrix:
    """A weight (M, K) repacked for the kernels of one instruction set; the given bytes are copied.

    `scales` (R, C), if given, are factors of `scale_rows` x `scale_columns` numbers each.
    """

    def __init__(
        self,
        pool: ThreadPool,
        isa: str,
        format: str,
        data: _Bytes,
        rows: int,
        columns: int,
        scales: _Float32 | None = None,
        scale_rows: int = 0,
        scale_columns: int = 0,
    ) -> None: ...
    @staticmethod
    def stack(isa: str, format: str, count: int, rows: int, columns: int) -> Matrix:
        """Room for the matrices (M, K) of so many experts, to be packed one by one."""
    def pack(
        self,
        pool: ThreadPool,
        data: _Bytes,
        scales: _Float32 | None = None,
        scale_rows: int = 0,
        scale_columns: int = 0,
    ) -> None:
        """Pack the next matrix of a stack."""
    @property
    def count(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def finite(self) -> bool:
        """Whether no number is NaN or infinite."""
    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...

class CacheStorage:
    """Keys and values of one cache group, in pages."""

    def __init__(
        self,
        layers: int,
        pages: int,
        heads_per_page: int,
        page_size: int = 32,
        key_width: int = ...,
        value_width: int = ...,
        value_in_key: bool = False,
        format: str = "f16",
    ) -> None: ...
    @property
    def bytes(self) -> int: ...
    def copy_entries(
        self, page_from: _Int32, slot_from: _Int32, page_to: _Int32, slot_to: _Int32
    ) -> None: ...
    def copy_head_entries(
        self, layer: int, head: int, page_from: _Int32, slot_from: _Int32, page_to: _Int32, slot_to: _Int32
    ) -> None:
        """Copy entries of one layer and one head of the pages, in order."""
    def read_entries(self, layer: int, head: int, pages: _Int32, count: int) -> tuple[_Float32, _Float32]:
        """Keys and values of the first `count` entries of a table with these pages."""
    def read_entry(self, layer: int, page: int, head: int, slot: int) -> tuple[_Float32, _Float32]: ...
    def write_entry(self, layer: int, page: int, head: int, slot: int, k: _Float32, v: _Float32) -> None: ...

class StateStorage:
    def __init__(self, layers: int, slots: int, size: int) -> None: ...
    @property
    def bytes(self) -> int: ...
    def copy(self, source: int, target: int) -> None: ...

class Executor:
    """A program as a list of nodes, replayed once a step."""

    def __init__(self, pool: ThreadPool, isa: str, activations: str, max_rows: int) -> None: ...
    def add_matrix(self, matrix: Matrix) -> int: ...
    def add_vector(self, values: _Float32) -> int: ...
    def add_table(
        self,
        format: str,
        data: _Bytes,
        rows: int,
        columns: int,
        scales: _Float32 | None = None,
        scale_rows: int = 0,
        scale_columns: int = 0,
    ) -> int: ...
    def add_row_set(self) -> int: ...
    def add_slots(self, widths: Sequence[int]) -> None: ...
    def add_buffer(self, slot: int, width: int, row_set: int) -> int: ...
    def add_input(self, buffer: int) -> int: ...
    def add_group(self, storage: CacheStorage, tables: int) -> int: ...
    def add_state(self, storage: StateStorage) -> int: ...
    def add_node(
        self,
        kernel: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        weights: Sequence[int],
        integers: Sequence[int],
        floats: Sequence[float],
        group: int = -1,
        row_set: int = 0,
    ) -> None: ...
    def run(
        self,
        tokens: _Int32,
        positions: _Int32,
        sequence: _Int32,
        row_sets: Sequence[_Int32],
        groups: Sequence[_GroupArrays],
        inputs: Sequence[_Float32],
        states: tuple[_Int32, _Int32] | None = None,
    ) -> None: ...
    def buffer(self, buffer: int) -> _Float32:
        """A copy of a buffer's rows after the last run."""

    def view(self, buffer: int) -> _Float32:
        """The buffer's rows themselves, which the next run overwrites."""
    def observation(self, number: int) -> list[tuple[int, _Float32]]:
        """What an observing node found in the last run: sequences of the batch with their (heads, slots)."""
    def profile(self, enable: bool) -> None: ...
    def timings(self) -> list[tuple[str, float]]: ...
