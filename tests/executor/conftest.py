"""What the tests of the compiled core share: executors of a few nodes; exact fused arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fivefold import _native
from fivefold.formats import FORMATS, e4m3
from fivefold.formats.superblock import read_bits, read_pairs

Array = npt.NDArray[Any]


def fused(a: Array, b: Array, c: Array) -> Array:
    """a * b + c rounded once to float32, from float64: the product is exact, the sum is rounded to odd."""
    product = a.astype(np.float64) * b.astype(np.float64)
    wide = c.astype(np.float64)
    total = product + wide
    virtual = total - product
    error = (product - (total - virtual)) + (wide - virtual)
    even = (total.view(np.int64) & 1) == 0
    toward = np.where(error > 0, np.inf, -np.inf)
    odd = np.where((error != 0) & even, np.nextafter(total, toward), total)
    return odd.astype(np.float32)


def rounded_rows(x: Array) -> tuple[Array, Array]:
    """Rows as int8 codes (N, K / 32, 32) and scales (N, K / 32), as the contract says, in float32."""
    blocks = x.reshape(len(x), -1, 32)
    scale = np.abs(blocks).max(axis=2) / np.float32(127)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1) / scale
    usable = np.isfinite(inverse)
    scale, inverse = np.where(usable, scale, 0), np.where(usable, inverse, 0)
    codes = np.rint(blocks * inverse[..., None].astype(np.float32))
    return codes.astype(np.int64), scale.astype(np.float32)


def half(blocks: Array, at: int) -> Array:
    """The f16 number at a byte of each block."""
    return blocks[..., at : at + 2].copy().view(np.float16)[..., 0].astype(np.float32)


def whole_numbers(name: str, blocks: Array) -> tuple[Array, Array, Array]:
    """What blocks (..., bytes) hold beside their f16 numbers: codes less their offset (..., parts, 16 or 32),
    scales and minima (..., parts)."""
    flat = blocks.reshape(-1, blocks.shape[-1])
    values = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113])
    if FORMATS[name].block == 32:
        codes = np.concatenate([flat[:, -16:] & 15, flat[:, -16:] >> 4], axis=1).astype(np.int64)
        if name == "q8_0":
            codes = flat[:, -32:].view(np.int8).astype(np.int64)
        elif name == "iq4_nl":
            codes = values[codes]
        elif name.startswith("q5"):
            codes += 16 * np.unpackbits(flat[:, -20:-16], axis=1, bitorder="little")
        codes -= {"q4_0": 8, "q5_0": 16}.get(name, 0)
        return codes[:, None], np.ones((len(flat), 1), np.int64), np.zeros((len(flat), 1), np.int64)
    minima = np.zeros((len(flat), 1), np.uint8)
    if name in {"q4_k", "q5_k"}:
        scales, minima = read_pairs(flat[:, 4:16])
        codes = read_bits(flat[:, -128:], 4, 32).astype(np.int64)
        codes += 16 * read_bits(flat[:, 16:48], 1, 32) if name == "q5_k" else 0
    elif name == "q2_k":
        scales, minima = flat[:, :16] & 15, flat[:, :16] >> 4
        codes = read_bits(flat[:, 16:80], 2, 32).astype(np.int64)
    elif name == "q3_k":
        scales = read_bits(flat[:, 96:104], 4, 8) + 16 * read_bits(flat[:, 104:108], 2, 4) - 32
        codes = read_bits(flat[:, 32:96], 2, 32).astype(np.int64) + 4 * read_bits(flat[:, :32], 1, 32) - 4
    elif name == "q6_k":
        scales = flat[:, 192:208].copy()
        codes = read_bits(flat[:, :128], 4, 64).astype(np.int64) - 32
        codes += 16 * read_bits(flat[:, 128:192], 2, 32)
    else:
        scales = read_bits(flat[:, 4:8], 4, 1) + 16 * read_bits(flat[:, 2:4], 2, 1) - 32
        codes = values[read_bits(flat[:, 8:], 4, 16)]
    whole = scales.view(np.int8).astype(np.int64)
    return codes.reshape(*whole.shape, -1), whole, np.broadcast_to(minima, whole.shape).astype(np.int64)


def four_bit_floats(name: str, blocks: Array) -> tuple[Array, Array, float]:
    """What blocks (..., bytes) of E2M1 hold: codes doubled (..., parts, 16 or 32), the scales as kernels take
    them (..., parts), and what outputs are multiplied by."""
    doubled = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12])
    flat = blocks.reshape(-1, blocks.shape[-1])
    if name == "mxfp4":
        codes = np.concatenate([flat[:, 1:] & 15, flat[:, 1:] >> 4], axis=1)[:, None]
        return doubled[codes], np.ldexp(np.float32(1), flat[:, :1].astype(np.int32) - 127), 0.5
    packed = flat[:, 4:].reshape(-1, 4, 8)
    codes = np.concatenate([packed & 15, packed >> 4], axis=2)
    return doubled[codes], e4m3.VALUES[flat[:, :4] & 0x7F] / np.float32(256), 128.0


def float_parts_linear(name: str, data: Array, outputs: int, x: Array) -> Array:
    """The same for formats whose parts have floats of their own."""
    blocks = data.reshape(outputs, -1, FORMATS[name].block_bytes)
    codes, scales, factor = four_bit_floats(name, blocks)
    halves = codes.shape[-1] == 16
    codes = codes.reshape(outputs, -1, codes.shape[-1])
    scales = scales.reshape(outputs, -1)
    rows, scale = rounded_rows(x)
    y = np.zeros((len(x), outputs), np.float32)
    for b in range(rows.shape[1]):
        if not halves:
            dots = (rows[:, b] @ codes[:, b].T).astype(np.float32)
            y = fused(dots, scales[None, :, b] * scale[:, b, None], y)
            continue
        low, high = (
            (rows[:, b, 16 * h : 16 * h + 16] @ codes[:, 2 * b + h].T).astype(np.float32) for h in (0, 1)
        )
        part = fused(
            high, np.broadcast_to(scales[None, :, 2 * b + 1], high.shape), low * scales[None, :, 2 * b]
        )
        y = fused(part, np.broadcast_to(scale[:, b, None], part.shape), y)
    return y * np.float32(factor)


def int8_linear(name: str, data: Array, outputs: int, x: Array) -> Array:
    """The int8 linear as the numeric contract defines it, one rounding at a time."""
    if name in {"mxfp4", "nvfp4"}:
        return float_parts_linear(name, data, outputs, x)
    row = FORMATS[name]
    blocks = data.reshape(outputs, -1, row.block_bytes)
    first = {"q2_k": 80, "q3_k": 108, "q6_k": 208}.get(name, 0)
    d, minima_there = half(blocks, first), name in {"q4_1", "q5_1", "q2_k", "q4_k", "q5_k"}
    second = half(blocks, first + 2) if minima_there else np.zeros_like(d)
    codes, scales, minima = (part.reshape(*d.shape, *part.shape[1:]) for part in whole_numbers(name, blocks))
    rows, scale = rounded_rows(x)
    sums = scale * rows.sum(axis=2).astype(np.float32)
    y = np.zeros((len(x), outputs), np.float32)
    for b in range(d.shape[1]):
        if row.block == 32:
            dots = (rows[:, b] @ codes[:, b, 0].T).astype(np.float32)
            y = fused(dots, d[None, :, b] * scale[:, b, None], y)
            if minima_there:
                y = fused(np.broadcast_to(second[None, :, b], y.shape), sums[:, b, None], y)
            continue
        product, least = np.zeros_like(y), np.zeros_like(y)
        size = codes.shape[3]
        for p in range(8):
            at = 8 * b + p
            cut = rows[:, at].reshape(len(x), -1, size)
            part = slice(p * 32 // size, (p + 1) * 32 // size)
            dots = np.einsum("nhk,mhk,mh->nm", cut, codes[:, b, part], scales[:, b, part])
            assert np.abs(dots).max() < 2**24
            product = fused(dots.astype(np.float32), scale[:, at, None], product)
            if size == 16:
                shift = np.einsum("nhk,mh->nm", cut, minima[:, b, part]).astype(np.float32)
                least = fused(shift, scale[:, at, None], least)
            else:
                low = minima[None, :, b, p].astype(np.float32)
                least = fused(np.broadcast_to(low, y.shape), sums[:, at, None], least)
        y = fused(np.broadcast_to(d[None, :, b], y.shape), product, y)
        if minima_there:
            y = fused(np.broadcast_to(-second[None, :, b], y.shape), least, y)
    return y


class Lab:
    """An executor under construction, for one instruction set and thread count."""

    fused = staticmethod(fused)

    def __init__(self, isa: str, threads: int = 1, activations: str = "int8", max_rows: int = 64) -> None:
        self.isa = isa
        self.pool = _native.ThreadPool(threads)
        self.executor = _native.Executor(self.pool, isa, activations, max_rows)
        self.slots = 0

    def buffer(self, width: int, row_set: int = 0) -> int:
        """A buffer in a slot of its own."""
        self.executor.add_slots([width])
        self.slots += 1
        return self.executor.add_buffer(self.slots - 1, width, row_set)

    def input(self, width: int, row_set: int = 0) -> int:
        """A buffer that is given at each run."""
        buffer = self.buffer(width, row_set)
        self.executor.add_input(buffer)
        return buffer

    def matrix(self, name: str, stored: Array, rows: int, columns: int) -> int:
        return self.executor.add_matrix(_native.Matrix(self.pool, self.isa, name, stored, rows, columns))

    def vector(self, values: Array) -> int:
        return self.executor.add_vector(np.ascontiguousarray(values, np.float32))

    def node(self, kernel: str, inputs: list[int], outputs: list[int], **rest: Any) -> None:
        """`weights`, `integers`, `floats`, `group` and `row_set` by name; empty when not given."""
        group, row_set = rest.pop("group", -1), rest.pop("row_set", 0)
        operands = [rest.pop(name, []) for name in ("weights", "integers", "floats")]
        assert not rest, rest
        self.executor.add_node(kernel, inputs, outputs, *operands, group=group, row_set=row_set)

    def run(self, *inputs: Array, rows: int | None = None, **rest: Any) -> None:
        """`tokens`, `positions`, `sequence`, `row_sets` and `groups` by name; zeros or empty otherwise."""
        count = len(inputs[0]) if rows is None else rows
        given = {name: rest.pop(name, None) for name in ("tokens", "positions", "sequence")}
        lines = [np.zeros(count, np.int32) if v is None else np.asarray(v, np.int32) for v in given.values()]
        sets = [np.asarray(s, np.int32) for s in rest.pop("row_sets", [])]
        groups = rest.pop("groups", [])
        assert not rest, rest
        self.executor.run(*lines, sets, groups, [np.ascontiguousarray(x, np.float32) for x in inputs])

    def result(self, buffer: int) -> Array:
        return self.executor.buffer(buffer)


def one_node(lab: Lab, kernel: str, inputs: list[Array], width: int, **rest: Any) -> Array:
    """The output of an executor of a single node over given inputs."""
    buffers = [lab.input(x.shape[1]) for x in inputs]
    out = lab.buffer(width)
    lab.node(kernel, buffers, [out], **rest)
    lab.run(*inputs)
    return lab.result(out)


@pytest.fixture
def lab() -> type[Lab]:
    return Lab


@pytest.fixture
def int8_model() -> Callable[[str, Array, int, Array], Array]:
    return int8_linear


@pytest.fixture
def run_node() -> Callable[..., Array]:
    return one_node


@pytest.fixture(params=_native.isas())
def isa(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stored() -> Callable[[str, int, int, int], tuple[Array, Array]]:
    """Random weights of a format: (stored bytes, float32 values (rows, columns))."""

    def make(name: str, rows: int, columns: int, seed: int = 0) -> tuple[Array, Array]:
        rng = np.random.default_rng(seed)
        values = rng.normal(0.0, 0.05, (rows, columns)).astype(np.float32)
        if rows > 1:
            values[1] *= 200.0
        data = FORMATS[name].pack(values.reshape(-1))
        return data, FORMATS[name].unpack(data, values.size).reshape(values.shape)

    return make
