"""Sizes that would not fit the core's arithmetic are refused, and numbers that are none do no harm."""

from __future__ import annotations

import numpy as np
import pytest

from fivefold import _native
from fivefold.executor import draw

LARGEST = 2**31 - 1


@pytest.mark.parametrize("sizes", [(LARGEST, LARGEST, 1), (LARGEST, 1, LARGEST), (1, LARGEST, LARGEST)])
def test_a_cache_beyond_any_memory_is_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="does not fit into any memory"):
        _native.CacheStorage(*sizes, 32, 65536, 65536)


def test_a_row_wider_than_its_arithmetic_is_refused() -> None:
    engine = _native.Executor(_native.ThreadPool(1), "portable", "int8", 1)
    with pytest.raises(ValueError, match="wide"):
        engine.add_slots([LARGEST])


def test_a_group_of_more_heads_than_its_arithmetic_is_refused() -> None:
    engine = _native.Executor(_native.ThreadPool(1), "portable", "int8", 1)
    with pytest.raises(ValueError, match="too many heads"):
        engine.add_group(_native.CacheStorage(1, 1, 2, 32, 1, 1), LARGEST)


@pytest.mark.parametrize("temperature", [1e-42, float("inf"), float("nan"), 0.0, -1.0])
def test_a_temperature_without_an_inverse_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        draw(np.zeros(4, np.float32), temperature, 0, 1.0, 0.0, 0.5)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("isa", _native.isas())
def test_activations_that_are_no_numbers_are_multiplied(isa: str, number: float) -> None:
    pool = _native.ThreadPool(1)
    engine = _native.Executor(pool, isa, "int8", 1)
    engine.add_slots([32, 8])
    x, y = engine.add_buffer(0, 32, 0), engine.add_buffer(1, 8, 0)
    engine.add_input(x)
    stored = np.frombuffer(bytes(range(34)) * 8, np.uint8)
    weight = engine.add_matrix(_native.Matrix(pool, isa, "q8_0", stored, 8, 32))
    engine.add_node("linear", [x], [y], [weight], [], [])
    row = np.zeros(1, np.int32)
    engine.run(row, row, row, [], [], [np.full((1, 32), number, np.float32)])
    assert engine.buffer(y).shape == (1, 8)
