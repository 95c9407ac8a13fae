"""What the observing rows of a step found, by sequence and cache group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fivefold.core.batch import OBSERVERS, PEAK_OBSERVERS, Float32, Step
from fivefold.program import Program

Importance = dict[str, Float32]
"""By cache group: (layers, query heads, slots), attention summed over the observers, or its maximum."""


def observes(step: Step) -> bool:
    """Whether any row of the step observes."""
    return any(
        len(span.row_sets.get(name, ())) for span in step.spans for name in (OBSERVERS, PEAK_OBSERVERS)
    )


def importance_of(program: Program, results: Mapping[str, Any], step: Step) -> dict[int, Importance]:
    """The importance of each sequence that has observers, of an observed Program's results.

    Layers that read an earlier layer's entries count for that layer: sums are added up, of maxima the
    largest stays.
    """
    found: dict[int, Importance] = {}
    for node in program.nodes:
        if node.op != "observe":
            continue
        group = program.layout.group(str(node.attributes["group"]))
        kept_by = node.attributes["entries"]
        assert isinstance(kept_by, int)
        of_node = results.get(f"{node.layer}.{node.label}", {}).get("importance", {})
        for index, paid in of_node.items():
            of_sequence = found.setdefault(step.spans[index].sequence, {})
            if group.name not in of_sequence:
                of_sequence[group.name] = np.zeros((len(group.layers), *paid.shape), np.float32)
            into = of_sequence[group.name][group.layers.index(kept_by)]
            np.maximum(into, paid, out=into) if node.attributes["peak"] else np.add(into, paid, out=into)
    return found
