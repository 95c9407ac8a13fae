"""What several layers find in the entries of one: sums add up, of maxima the largest stays."""

from __future__ import annotations

import numpy as np
import pytest

from fivefold.backends.importance import importance_of
from fivefold.core.batch import OBSERVERS, PEAK_OBSERVERS, Span, Step
from fivefold.core.layout import CacheGroup, CacheLayout
from fivefold.program import Node, Program

LAYOUT = CacheLayout((CacheGroup("main", (0,), 1, 4, 4),))


def observing(layer: int, label: str) -> Node:
    """A node of some layer that observes the entries of layer 0."""
    attributes = {"group": "main", "entries": 0, "peak": int(label == PEAK_OBSERVERS)}
    return Node("observe", (), (), attributes=attributes, layer=layer, label=label)


@pytest.mark.parametrize(
    ("label", "expected"), [(OBSERVERS, [[0.5, 1.0, 0.75]]), (PEAK_OBSERVERS, [[0.25, 0.75, 0.5]])]
)
def test_layers_that_share_entries(label: str, expected: list[list[float]]) -> None:
    program = Program("main", (observing(0, label), observing(3, label)), {}, {}, LAYOUT)
    paid = (np.float32([[0.25, 0.25, 0.25]]), np.float32([[0.25, 0.75, 0.5]]))
    results = {
        f"{layer}.{label}": {"importance": {0: found}} for layer, found in zip((0, 3), paid, strict=True)
    }
    step = Step((Span.causal(7, np.zeros(1, np.int32), 3),))
    assert importance_of(program, results, step)[7]["main"].tolist() == [expected]
