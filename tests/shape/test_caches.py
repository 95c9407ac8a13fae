"""Caches of other shapes: a latent one, tables per layer group and KV head, and recurrent state."""

from __future__ import annotations

from typing import Any

import numpy as np

from fivefold.core.layout import CacheGroup, CacheLayout, StateGroup
from fivefold.program import Builder, Program

HIDDEN = 10


def test_a_latent_cache_equals_the_expanded_attention(world: Any, make_span: Any, attend: Any) -> None:
    """MLA: one stored latent row serves as key (with its rotary part) and, without it, as value."""
    heads, nope, latent, rope, value = 3, 4, 6, 2, 5
    layout = CacheLayout((CacheGroup("latent", (0,), 1, latent + rope, latent, value_in_key=True),))
    toy = world(layout)
    w = {
        "q": toy.weight("q", (heads * (nope + rope), HIDDEN)),
        "kv": toy.weight("kv", (latent + rope, HIDDEN)),
        "k_up": toy.weight("k_up", (heads * nope, latent)),
        "v_up": toy.weight("v_up", (heads * value, latent)),
    }
    up = w["k_up"].reshape(heads, nope, latent)
    fold = np.zeros((heads * (latent + rope), heads * (nope + rope)), np.float32)
    for h in range(heads):
        rows, columns = h * (latent + rope), h * (nope + rope)
        fold[rows : rows + latent, columns : columns + nope] = up[h].T
        fold[rows + latent : rows + latent + rope, columns + nope : columns + nope + rope] = np.eye(rope)
    toy.weights["fold"] = fold
    record = Builder("mla", layout)
    x = record.input("x", HIDDEN)
    with record.layer(0):
        q = record.linear(x, record.weight("q", *w["q"].shape))
        q = record.linear(q, record.weight("fold", *fold.shape))
        entry = record.linear(x, record.weight("kv", *w["kv"].shape))
        o = record.attention(q, (entry,), group="latent", heads=heads, scale=0.3)
    program = record.build(o)
    sequence, rows = toy.cache.open(), toy.rows(9, HIDDEN)
    found = []
    for first, last in ((0, 6), (6, 9)):
        positions = list(range(first, last))
        given = make_span(
            sequence, positions, [(0, p + 1) for p in positions], inputs={"x": rows[first:last]}
        )
        found.append(toy.run(program, [given]).buffers[program.outputs[0]])
        toy.commit(sequence, range(last - first))
    attended = np.concatenate(found).reshape(9, heads, latent)
    ours = np.einsum("nhl,hvl->nhv", attended, w["v_up"].reshape(heads, value, latent))
    entries = rows @ w["kv"].T
    queries = (rows @ w["q"].T).reshape(9, heads, -1)
    causal = np.tril(np.ones((9, 9), bool))
    for h in range(heads):
        keys = np.concatenate([entries[:, :latent] @ up[h].T, entries[:, latent:]], axis=1)
        values = entries[:, :latent] @ w["v_up"].reshape(heads, value, latent)[h].T
        expected = attend(queries[:, h : h + 1], keys, values, causal, 0.3)[:, 0]
        np.testing.assert_allclose(ours[:, h], expected, rtol=2e-5, atol=2e-6)


def _per_head() -> tuple[CacheLayout, Program]:
    """Two layers in groups of their own; the first keeps a table a KV head, the second one for all."""
    size = 4
    layout = CacheLayout(
        (
            CacheGroup("heads", (0,), 2, size, size, tables=2, page_size=4),
            CacheGroup("whole", (1,), 2, size, size, page_size=4),
        )
    )
    record = Builder("groups", layout)
    x = record.input("x", HIDDEN)
    outputs = []
    for number, group in enumerate(("heads", "whole")):
        with record.layer(number):
            q = record.linear(x, record.weight(f"q{number}", 2 * size, HIDDEN))
            k = record.linear(x, record.weight(f"k{number}", 2 * size, HIDDEN))
            v = record.linear(x, record.weight(f"v{number}", 2 * size, HIDDEN))
            outputs.append(record.attention(q, (k, v), group=group, heads=2, scale=0.5))
    return layout, record.build(*outputs)


def test_heads_keep_different_entries_and_slots_are_not_positions(
    world: Any, make_span: Any, attend: Any
) -> None:
    layout, program = _per_head()
    toy = world(layout)
    sequence, rows = toy.cache.open(), toy.rows(14, HIDDEN)
    first = make_span(sequence, list(range(11)), [(0, p + 1) for p in range(11)], inputs={"x": rows[:11]})
    toy.run(program, [first])
    toy.commit(sequence, range(11))
    kept = {("heads", 0): [0, 3, 4, 9, 10], ("heads", 1): [1, 10]}
    free = toy.cache.page_free("heads")
    for (group, table), slots in kept.items():
        toy.cache.retain(sequence, group, table, np.array(slots, np.int32))
        toy.cache.check_integrity()
    assert toy.cache.page_free("heads") == free + 1 + 2
    assert [toy.cache.length(sequence, "heads", table) for table in (0, 1)] == [5, 2]
    window = [(4, 12), (4, 13), (4, 14)]
    later = make_span(sequence, [11, 12, 13], window, inputs={"x": rows[11:]})
    found = toy.run(program, [later])
    toy.commit(sequence, range(3))
    for number, group in enumerate(("heads", "whole")):
        w = {name: toy.weights[f"{name}{number}"] for name in "qkv"}
        queries = (rows[11:] @ w["q"].T).reshape(3, 2, 4)
        output = found.buffers[program.outputs[number]].reshape(3, 2, 4)
        for head in (0, 1):
            old = kept.get((group, head), list(range(11)))
            positions = np.array([*old, 11, 12, 13])
            seen = (positions >= 4)[None, :] & (positions[None, :] < np.array([12, 13, 14])[:, None])
            part = slice(4 * head, 4 * head + 4)
            keys, values = (rows[positions] @ w["k"].T)[:, part], (rows[positions] @ w["v"].T)[:, part]
            expected = attend(queries[:, head : head + 1], keys, values, seen, 0.5)[:, 0]
            np.testing.assert_allclose(output[:, head], expected, rtol=2e-5, atol=2e-6)


def test_recurrent_state_goes_on_between_steps_and_sequences_do_not_mix(world: Any, make_span: Any) -> None:
    """Gated delta rule, cut in two ways, two sequences side by side, against a plain loop."""
    heads, shared, key, value = 4, 2, 3, 5
    layout = CacheLayout((), (StateGroup("delta", (0,), (heads, value, key)),))
    record = Builder("delta", layout)
    names = {"qkv": 2 * shared * key + heads * value, "gates": 2 * heads}
    inputs = tuple(record.input(name, width) for name, width in names.items())
    with record.layer(0):
        o = record.node(
            "delta_rule", inputs, heads * value, state="delta", key_heads=shared, value_heads=heads, tiled=0,
            output=heads * value,
        )  # fmt: skip
    program = record.build(o)
    toy = world(layout)
    given = [
        {
            n: np.abs(toy.rows(7, width)) * 0.5 if n == "gates" else toy.rows(7, width)
            for n, width in names.items()
        }
        for _ in range(2)
    ]
    sequences = [toy.cache.open() for _ in given]
    found: list[list[Any]] = [[], []]
    for first, last in ((0, 4), (4, 5), (5, 7)):
        count = last - first
        spans = [
            make_span(
                s, range(first, last), [(0, 1)] * count, inputs={n: a[first:last] for n, a in g.items()}
            )
            for s, g in zip(sequences, given, strict=True)
        ]
        rows = toy.run(program, spans).buffers[program.outputs[0]]
        for index, sequence in enumerate(sequences):
            found[index].append(rows[index * count : (index + 1) * count])
            toy.commit(sequence, range(count))
    for index, arrays in enumerate(given):
        expected = _delta(arrays["qkv"].astype(np.float64), arrays["gates"], (shared, heads), (key, value))
        np.testing.assert_allclose(np.concatenate(found[index]), expected, rtol=1e-4, atol=1e-5)


def _delta(rows: Any, gates: Any, counts: tuple[int, int], widths: tuple[int, int]) -> Any:
    """The recurrence of arXiv 2412.06464 in float64, head by head."""
    (shared, heads), (key, value) = counts, widths
    outputs = []
    for head in range(heads):
        at = head // (heads // shared) * key
        q, k = rows[:, at : at + key], rows[:, shared * key + at : shared * key + at + key]
        q, k = (one / np.sqrt((one**2).sum(axis=1, keepdims=True) + 1e-6) for one in (q, k))
        start = 2 * shared * key + head * value
        v = rows[:, start : start + value]
        state = np.zeros((value, key))
        done = []
        for row in range(len(rows)):
            a, b = gates[row, head], gates[row, heads + head]
            state = a * state @ (np.eye(key) - b * np.outer(k[row], k[row])) + b * np.outer(v[row], k[row])
            done.append(state @ q[row] / np.sqrt(key))
        outputs.append(np.array(done))
    return np.concatenate(outputs, axis=1)
