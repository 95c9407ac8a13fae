"""Recording a Program keeps widths, row sets and layers, and refuses operands that do not fit."""

from __future__ import annotations

import numpy as np
import pytest

from fivefold.core.errors import InputError
from fivefold.core.layout import CacheGroup, CacheLayout
from fivefold.ops import OPS
from fivefold.program import Builder, Program


def _two_layers() -> Program:
    layout = CacheLayout((CacheGroup("main", (0, 1), 1, 4, 4),))
    build = Builder("toy", layout)
    x = build.embed(build.weight("table", 10, 8))
    frequency = build.constant("frequency", np.ones(2, np.float32))
    angles = build.rope_angles(frequency, None, 1.0)
    for number in (0, 1):
        with build.layer(number):
            q = build.linear(x, build.weight(f"{number}.q", 8, 8))
            k = build.linear(x, build.weight(f"{number}.k", 4, 8))
            q = build.rope(q, angles, 2, 0)
            o = build.attention(q, (k, k), group="main", heads=2, scale=0.5)
            x = build.add(x, o)
    last = build.gather_rows(x, "logits")
    return build.build(build.linear(last, "table"))


def test_widths_and_row_sets() -> None:
    program = _two_layers()
    logits = program.buffers[program.outputs[0]]
    assert (logits.width, logits.row_set) == (10, "logits")
    assert program.row_sets == ("logits",)
    assert program.layers == (0, 1)


def test_a_slice_reads_what_the_layer_before_wrote() -> None:
    program = _two_layers()
    first, second = program.slice(0, 1), program.slice(1, 2)
    assert first.outputs == second.inputs
    assert second.outputs == program.outputs
    assert first.inputs == ()
    layered = [node for part in (first, second) for node in part.nodes if node.layer >= 0]
    assert layered == [node for node in program.nodes if node.layer >= 0]


def test_what_a_slice_computes_again_does_not_hang_on_labels() -> None:
    """Positions are known everywhere. What depends on tokens is handed on, whatever it is called."""
    build = Builder("toy", CacheLayout(()))
    x = first = build.node("embed", (), 8, (build.weight("table", 10, 8),), label="words")
    frequency = build.constant("frequency", np.ones(2, np.float32))
    angles = build.node("rope_angles", (), 4, (frequency, None), label="token angles", magnitude=1.0)
    for number in (0, 1):
        with build.layer(number):
            x = build.add(build.rope(x, angles, 2, 0), first)
    program = build.build(x)
    left, right = program.slice(0, 1), program.slice(1, 2)
    assert left.outputs == (first, right.nodes[1].inputs[0])
    assert set(right.inputs) == set(left.outputs)
    assert [node.op for node in right.nodes] == ["rope_angles", "rope", "add"]
    assert "table" not in right.weights


def test_a_weight_of_another_width_is_refused() -> None:
    build = Builder("toy", CacheLayout(()))
    x = build.embed(build.weight("table", 10, 8))
    with pytest.raises(InputError, match="takes rows of 9"):
        build.linear(x, build.weight("w", 3, 9))


def test_every_op_names_its_native_arguments_among_its_attributes() -> None:
    for op in OPS.values():
        assert set(op.integers) | set(op.floats) <= set(op.attributes), op.name
