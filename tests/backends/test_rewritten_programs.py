"""Programs that were rewritten: what other rows compute keeps its bits, and the reference agrees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fivefold.backends import NativeRunner, ReferenceRunner
from fivefold.core.batch import LOOKAHEAD, OBSERVERS, PEAK_OBSERVERS, Commit, Float32, Span, Step
from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import InputError
from fivefold.core.lookahead import LookaheadModule
from fivefold.executor import Settings
from fivefold.models import load_model
from fivefold.program import LowRank, looking_ahead, observed, plan_memory, split_layers

FAMILIES = ("llama", "qwen2")
PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]
ENTRIES = 256


def module_for(checkpoint: Checkpoint, rows: int = 4, rank: int = 2) -> LookaheadModule:
    """Random rows and pairs for every matrix of the blocks."""
    program = load_model(checkpoint).main
    random = np.random.default_rng(7)

    def drawn(*shape: int) -> Float32:
        return (0.3 * random.standard_normal(shape)).astype(np.float32)

    names = [n.weights[0] for n in program.nodes if n.op == "linear" and n.layer >= 0]
    shapes = {str(name): program.weights[str(name)].shape for name in names}
    pairs = {name: (drawn(rank, shape[1]), drawn(shape[0], rank)) for name, shape in shapes.items()}
    hidden = next(program.buffers[n.outputs[0]].width for n in program.nodes if n.op == "embed")
    return LookaheadModule(drawn(rows, hidden), pairs, 4.0, rank)


def native(checkpoint: Checkpoint, module: LookaheadModule | None = None, **kinds: Any) -> NativeRunner:
    model = load_model(checkpoint)
    model = split_layers(model) if kinds.pop("split", False) else model
    runner = NativeRunner(model, checkpoint, Settings("avx2", 2, "float", 64), ENTRIES, **kinds)
    runner.lookahead = module
    return runner


def reference(checkpoint: Checkpoint, module: LookaheadModule | None = None) -> ReferenceRunner:
    runner = ReferenceRunner(load_model(checkpoint), checkpoint, ENTRIES)
    runner.lookahead = module
    return runner


def looking(span: Span, module: LookaheadModule) -> Span:
    """The span's tokens with the module's rows behind them, which observe."""
    count, more = len(span.tokens), module.rows
    tokens = np.concatenate([span.tokens, np.zeros(more, np.int32)])
    wider = Span.causal(span.sequence, tokens, int(span.positions[0]), np.array([count - 1], np.int32))
    rows = np.arange(count, count + more, dtype=np.int32)
    sets = {**wider.row_sets, LOOKAHEAD: rows, OBSERVERS: rows}
    return replace(wider, row_sets=sets, inputs={LOOKAHEAD: module.embeddings})


def read(
    runner: Any, module: LookaheadModule | None, row_set: str = ""
) -> tuple[Float32, Float32, dict[str, Float32]]:
    """Logits of the prompt and of one token more, and what was observed."""
    sequence = runner.open()
    span = Span.causal(sequence, np.array(PROMPT, np.int32), 0)
    if module is not None:
        span = looking(span, module)
    elif row_set:
        last = np.arange(8, len(PROMPT), dtype=np.int32)
        span = replace(span, row_sets={**span.row_sets, row_set: last})
    first = runner.run(Step((span,)))
    runner.commit([Commit(sequence, np.arange(len(PROMPT), dtype=np.int32))])
    found = runner.importance(sequence) if module is not None or row_set else {}
    second = runner.run(Step((Span.causal(sequence, np.array([7], np.int32), len(PROMPT)),)))
    runner.commit([Commit(sequence, np.zeros(1, np.int32))])
    runner.check_integrity()
    return first, second, found


@pytest.fixture(params=FAMILIES)
def checkpoint(request: pytest.FixtureRequest, tiny: Any, save: Any) -> Checkpoint:
    shape = tiny(request.param, layers=2)
    made: Checkpoint = save(shape.metadata(), shape.arrays())
    return made


def test_lookahead_rows_change_nothing_and_leave_nothing(checkpoint: Checkpoint) -> None:
    module = module_for(checkpoint)
    plain = read(native(checkpoint), None)
    ahead = read(native(checkpoint, module), module)
    np.testing.assert_array_equal(ahead[0], plain[0])
    np.testing.assert_array_equal(ahead[1], plain[1])


def test_what_lookahead_rows_find_is_the_references(checkpoint: Checkpoint) -> None:
    module = module_for(checkpoint)
    ours, theirs = (read(make(checkpoint, module), module)[2] for make in (native, reference))
    for name, importance in theirs.items():
        assert ours[name].shape == importance.shape
        assert importance.shape[-1] == len(PROMPT)
        np.testing.assert_allclose(ours[name], importance, rtol=0.02, atol=5e-3)  # entries are f16 in one


def test_low_rank_parts_matter(checkpoint: Checkpoint) -> None:
    module = module_for(checkpoint)
    without = replace(module, pairs={})
    ours, bare = (read(reference(checkpoint, one), one)[2] for one in (module, without))
    assert max(np.abs(ours[name] - bare[name]).max() for name in ours) > 0.01


@pytest.mark.parametrize("row_set", [OBSERVERS, PEAK_OBSERVERS])
def test_rows_that_observe_change_nothing(checkpoint: Checkpoint, row_set: str) -> None:
    plain = read(native(checkpoint), None)
    watched = read(native(checkpoint), None, row_set)
    np.testing.assert_array_equal(watched[0], plain[0])
    expected = read(reference(checkpoint), None, row_set)[2]
    for name, importance in watched[2].items():
        np.testing.assert_allclose(importance, expected[name], rtol=0.02, atol=5e-3)


def test_page_tables_of_each_layer_give_the_same_bits(checkpoint: Checkpoint) -> None:
    plain, split = read(native(checkpoint), None), read(native(checkpoint, split=True), None)
    np.testing.assert_array_equal(split[0], plain[0])
    np.testing.assert_array_equal(split[1], plain[1])
    layout = split_layers(load_model(checkpoint)).layout
    assert [group.layers for group in layout.groups] == [(0,), (1,)]
    assert all(group.tables == group.kv_heads for group in layout.groups)


def test_a_pair_for_a_weight_that_is_not_there_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(InputError, match="no product of this model has the weight"):
        looking_ahead(load_model(checkpoint).main, {"blk.9.attn_q.weight": LowRank("down", "up", 2)})


def test_rows_are_added_in_place(checkpoint: Checkpoint) -> None:
    """What is added to gives its place to the sum, so that a rewritten Program needs hardly more memory."""
    program = load_model(checkpoint).main
    names = [str(n.weights[0]) for n in program.nodes if n.op == "linear" and n.layer >= 0]
    adapted = looking_ahead(program, {name: LowRank(f"{name}.d", f"{name}.u", 2) for name in names})
    memory = plan_memory(adapted)
    for node in adapted.nodes:
        if node.op == "scatter_add_rows":
            assert memory.slots[node.inputs[0]] == memory.slots[node.outputs[0]]
    assert observed(adapted).outputs == adapted.outputs
