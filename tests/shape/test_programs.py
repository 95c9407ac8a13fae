"""Programs that are more than one pass over tokens: lookahead rows, drafters, experts, given rows, slices."""

from __future__ import annotations

from typing import Any

import numpy as np

from fivefold.core.batch import Step
from fivefold.core.layout import CacheGroup, CacheLayout
from fivefold.program import Builder, Program, ReferenceExecutor, Routing

HIDDEN, HEADS, SIZE, VOCABULARY = 8, 2, 4, 11
LAYOUT = CacheLayout((CacheGroup("main", (0, 1), 1, SIZE, SIZE, page_size=4),))


def observe(record: Builder, number: int, q: str, row_set: str) -> None:
    record.node(
        "observe", (record.gather_rows(q, row_set),), None, (None,), group="main", entries=number,
        heads=HEADS, scale=0.5, soft_cap=0.0, peak=0,
    )  # fmt: skip


def block(
    record: Builder, number: int, x: str, angles: str, importance: str = "", adapted: bool = False
) -> str:
    """Attention with rotary positions and a residual; `adapted` adds a low-rank part on lookahead rows."""
    with record.layer(number):
        q = record.linear(x, record.weight(f"{number}.q", HEADS * SIZE, HIDDEN))
        k = record.linear(x, record.weight(f"{number}.k", SIZE, HIDDEN))
        v = record.linear(x, record.weight(f"{number}.v", SIZE, HIDDEN))
        if adapted:
            some = record.gather_rows(x, "lookahead")
            down = record.weight(f"{number}.down", 2, HIDDEN)
            up = record.weight(f"{number}.up", HEADS * SIZE, 2)
            extra = record.linear(record.linear(some, down), up)
            q = record.node("scatter_add_rows", (q, extra), HEADS * SIZE, row_set="lookahead")
        q, k = record.rope(q, angles, HEADS, 0), record.rope(k, angles, 1, 0)
        o = record.attention(q, (k, v), group="main", heads=HEADS, scale=0.5)
        if importance:
            observe(record, number, q, importance)
        return record.add(x, record.linear(o, record.weight(f"{number}.o", HIDDEN, HEADS * SIZE)))


def model(importance: str = "", adapted: bool = False, image: bool = False) -> Program:
    record = Builder("main", LAYOUT)
    x = record.embed(record.weight("table", VOCABULARY, HIDDEN))
    if image:
        given = record.input("pixels", HIDDEN, "image")
        x = record.node("scatter_rows", (x, given), HIDDEN, row_set="image")
    angles = record.rope_angles(record.constant("frequency", np.array([1.0, 0.1], np.float32)), None, 1.0)
    for number in (0, 1):
        x = block(record, number, x, angles, importance, adapted)
    last = record.gather_rows(x, "logits")
    return record.build(record.linear(last, "table"))


def tokens_span(make_span: Any, sequence: int, tokens: list[int], start: int = 0, **rest: Any) -> Any:
    positions = range(start, start + len(tokens))
    sets = {"logits": list(range(len(tokens))), **rest.pop("row_sets", {})}
    return make_span(
        sequence, positions, [(0, p + 1) for p in positions], tokens=tokens, row_sets=sets, **rest
    )


def test_lookahead_rows_ride_along_and_tell_importance(world: Any, make_span: Any) -> None:
    prompt, ahead = [3, 1, 4, 1, 5], [9, 2]
    plain, adapted = model(), model("lookahead", adapted=True)
    alone, toy = world(LAYOUT), world(LAYOUT)
    sequence = alone.cache.open()
    expected = alone.run(plain, [tokens_span(make_span, sequence, prompt)]).buffers[plain.outputs[0]]
    toy.weights.update(alone.weights)
    sequence, other = toy.cache.open(), toy.cache.open()
    with_ahead = tokens_span(
        make_span, sequence, prompt + ahead, row_sets={"logits": range(5), "lookahead": [5, 6]}
    )
    neighbour = tokens_span(make_span, other, prompt)
    found = toy.run(adapted, [with_ahead, neighbour])
    rows = found.buffers[adapted.outputs[0]]
    np.testing.assert_array_equal(rows[:5], expected)
    np.testing.assert_array_equal(rows[5:], expected)
    for number in (0, 1):
        importance = found.results[f"{number}.observe"]["importance"]
        np.testing.assert_allclose(importance[0][:, :7].sum(), 2 * HEADS, rtol=1e-5)
        assert set(importance) == {0}
        assert importance[0][0, 6] > 0.0
    toy.commit(sequence, range(5))
    toy.commit(other, range(5))
    following = toy.run(plain, [tokens_span(make_span, s, [6], 5) for s in (sequence, other)])
    first, second = following.buffers[plain.outputs[0]]
    np.testing.assert_array_equal(first, second)


def test_low_rank_weights_act_on_their_rows_alone(world: Any, make_span: Any) -> None:
    """In the first layer, lookahead rows see what a model with the merged weight sees, the others do not."""
    plain, adapted = model(), model(adapted=True)
    toy, tokens = world(LAYOUT), [3, 1, 4, 1, 5, 9, 2]
    first = next(n.outputs[0] for n in plain.nodes if n.op == "attention")
    tap = next(n.outputs[0] for n in adapted.nodes if n.op == "attention")
    given = tokens_span(make_span, toy.cache.open(), tokens, row_sets={"lookahead": [5, 6]})
    found = toy.run(adapted, [given], taps=[tap]).buffers[tap]
    expected = toy.run(plain, [tokens_span(make_span, toy.cache.open(), tokens)], taps=[first]).buffers[first]
    toy.weights["0.q"] = toy.weights["0.q"] + toy.weights["0.up"] @ toy.weights["0.down"]
    merged = toy.run(plain, [tokens_span(make_span, toy.cache.open(), tokens)], taps=[first]).buffers[first]
    np.testing.assert_array_equal(found[:5], expected[:5])
    np.testing.assert_allclose(found[5:], merged[5:], rtol=1e-5, atol=1e-6)
    assert np.abs(merged[5:] - expected[5:]).max() > 1e-3


def test_importance_is_the_attention_that_the_rows_paid(world: Any, make_span: Any, attend: Any) -> None:
    """Values that are unit vectors make attention's output its weights."""
    layout = CacheLayout((CacheGroup("main", (0,), 1, SIZE, 6),))
    record = Builder("probe", layout)
    q, k, v = (record.input(n, w) for n, w in (("q", 2 * SIZE), ("k", SIZE), ("v", 6)))
    with record.layer(0):
        o = record.attention(q, (k, v), group="main", heads=2, scale=0.5)
        observe(record, 0, q, "lookahead")
    program = record.build(o)
    toy = world(layout)
    rows = {"q": toy.rows(6, 2 * SIZE), "k": toy.rows(6, SIZE), "v": np.eye(6, dtype=np.float32)}
    given = make_span(
        toy.cache.open(),
        range(6),
        [(0, p + 1) for p in range(6)],
        row_sets={"lookahead": [4, 5]},
        inputs=rows,
    )
    found = toy.run(program, [given])
    paid = found.buffers[program.outputs[0]].reshape(6, 2, 6)[[4, 5]].sum(axis=0)
    importance = found.results["0.observe"]["importance"][0][:, :6]
    np.testing.assert_allclose(importance, paid, rtol=1e-5, atol=1e-6)


def test_a_tapped_hidden_state_feeds_a_drafter_that_shares_the_cache(
    world: Any, make_span: Any, attend: Any
) -> None:
    main = model()
    toy = world(LAYOUT)
    tap = next(n.outputs[0] for n in main.nodes if n.op == "add" and n.layer == 1)
    sequence, prompt = toy.cache.open(), [3, 1, 4, 1, 5, 9]
    found = toy.run(main, [tokens_span(make_span, sequence, prompt)], taps=[tap])
    hidden = found.buffers[tap]
    toy.commit(sequence, range(6))
    record = Builder("drafter", LAYOUT)
    x = record.input("hidden", HIDDEN)
    with record.layer(1):
        q = record.linear(x, record.weight("draft.q", HEADS * SIZE, HIDDEN))
        o = record.attention(q, (), group="main", heads=HEADS, scale=0.5)
    drafter = record.build(o)
    given = make_span(sequence, [6], [(0, 6)], inputs={"hidden": hidden[-1:]})
    drafted = toy.run(drafter, [given]).buffers[drafter.outputs[0]]
    toy.commit(sequence, [])
    keys = toy.storage._keys["main"][1, :, 0].reshape(-1, SIZE)
    values = toy.storage._values["main"][1, :, 0].reshape(-1, SIZE)
    filled = np.abs(keys).sum(axis=1) > 0
    assert filled.sum() == 6
    queries = (hidden[-1:] @ toy.weights["draft.q"].T).reshape(1, HEADS, SIZE)
    expected = attend(queries, keys[filled], values[filled], np.ones((1, 6), bool), 0.5)
    np.testing.assert_allclose(drafted, expected.reshape(1, -1), rtol=1e-5, atol=1e-6)


def test_embeddings_stand_in_for_tokens(world: Any, make_span: Any) -> None:
    """Given rows that are the embeddings of other tokens give the logits of those tokens."""
    toy = world(LAYOUT)
    plain, multimodal = model(), model(image=True)
    tokens = [3, 7, 8, 1]
    expected = toy.run(plain, [tokens_span(make_span, toy.cache.open(), tokens)]).buffers[plain.outputs[0]]
    pixels = toy.weights["table"][[7, 8]]
    given = tokens_span(
        make_span, toy.cache.open(), [3, 0, 0, 1], row_sets={"image": [1, 2]}, inputs={"pixels": pixels}
    )
    text = tokens_span(make_span, toy.cache.open(), tokens)
    found = toy.run(multimodal, [text, given]).buffers[multimodal.outputs[0]]
    np.testing.assert_array_equal(found[4:], expected)
    np.testing.assert_array_equal(found[:4], expected)


def test_a_weight_may_arrive_during_the_step(world: Any, make_span: Any) -> None:
    """Handles are resolved when their node runs: a later layer's weight is made after an earlier one ran."""
    toy = world(LAYOUT)
    program = model()
    sequence = toy.cache.open()
    batch_of = tokens_span(make_span, sequence, [3, 1])
    expected = toy.run(program, [batch_of]).buffers[program.outputs[0]]
    toy.commit(sequence, [])
    asked: list[str] = []

    def late(name: str) -> Any:
        if name == "1.q":
            assert "0.o" in asked, "the second layer was asked for before the first one ran"
        asked.append(name)
        return toy.weights[name].copy()

    executor = ReferenceExecutor(program, late, toy.storage)
    found = executor.run(toy.cache.prepare(Step((batch_of,)))).buffers[program.outputs[0]]
    np.testing.assert_array_equal(found, expected)
    assert asked.index("1.q") > asked.index("0.o")


def test_slices_in_turn_are_the_whole(world: Any, make_span: Any) -> None:
    toy = world(LAYOUT)
    program = model()
    first, second = program.slice(0, 1), program.slice(1, 2)
    assert first.layers == (0,)
    assert second.layers == (1,)
    assert not {"1.q", "1.k"} & set(first.weights)
    sequence = toy.cache.open()
    expected = toy.run(program, [tokens_span(make_span, sequence, [3, 1, 4])]).buffers[program.outputs[0]]
    toy.commit(sequence, [])
    handed = toy.run(first, [tokens_span(make_span, sequence, [3, 1, 4])]).buffers
    toy.commit(sequence, [])
    given = tokens_span(make_span, sequence, [3, 1, 4], inputs=dict(handed))
    found = toy.run(second, [given]).buffers[program.outputs[0]]
    np.testing.assert_array_equal(found, expected)


def test_experts_are_chosen_row_by_row(world: Any, make_span: Any) -> None:
    experts, inner = 5, 6
    layout = CacheLayout(())
    record = Builder("experts", layout)
    x = record.input("x", HIDDEN)
    with record.layer(0):
        logits = record.linear(x, record.weight("router", experts, HIDDEN))
        route = record.route(logits, 2, Routing("softmax_of_chosen"))
        up = record.expert_linear(x, route, record.weight("up", experts, inner, HIDDEN))
        down = record.expert_linear(up, route, record.weight("down", experts, HIDDEN, inner))
        y = record.expert_sum(down, route)
    program = record.build(y)
    toy = world(layout)
    rows = toy.rows(9, HIDDEN)
    given = make_span(toy.cache.open(), range(9), [(0, 1)] * 9, inputs={"x": rows})
    found = toy.run(program, [given]).buffers[program.outputs[0]]
    w, chosen = toy.weights, set()
    for row, output in zip(rows, found, strict=True):
        logits = w["router"] @ row
        best = sorted(range(experts), key=lambda e: -logits[e])[:2]
        chosen.add(tuple(best))
        shares = np.exp(logits[best]) / np.exp(logits[best]).sum()
        expected = sum(s * (w["down"][e] @ (w["up"][e] @ row)) for s, e in zip(shares, best, strict=True))
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)
    assert len(chosen) > 1
