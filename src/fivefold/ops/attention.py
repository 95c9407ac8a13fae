"""Attention over a paged cache: storing a row's key and value, and attending.

Grouped queries share KV heads. A row sees the slots of its interval, minus what its bit mask
hides; intervals are per table, so KV heads may keep different entries. `entries` is the layer whose entries
are read: mostly the node's own, but some layers store none and read an earlier one's. With `value_in_key` the
value is the leading part of the key (a latent cache).

`observe` stands beside an attention and is given the queries of a row set: its result is how much attention
they pay to each slot, for each of the batch's sequences an array (query heads, slots), summed over the rows,
or the largest of them with `peak`. Eviction decides by it which entries stay.
"""

from __future__ import annotations

import numpy as np

from fivefold.core.batch import Float32, GroupView

from .op import Call, Cost, Op, Sizes


def _store(call: Call) -> tuple[Float32, ...]:
    group = str(call.attributes["group"])
    for index, row in enumerate(int(r) for r in call.rows):
        value = call.inputs[1][index] if len(call.inputs) > 1 else None  # a latent entry has none of its own
        call.cache.write(call.batch, group, call.layer, row, call.inputs[0][index], value)
    return ()


def visible_slots(view: GroupView, row: int, table: int) -> np.ndarray:
    """Which slots of a table a row sees, as ascending numbers."""
    slots = np.arange(view.start[row, table], view.stop[row, table])
    if view.mask is None or view.mask_from is None:
        return slots
    bit = slots - view.mask_from[row, table]
    word, shift = np.maximum(bit, 0) // 64, (np.maximum(bit, 0) % 64).astype(np.uint64)
    inside = np.minimum(word, view.mask.shape[1] - 1)
    seen = ((view.mask[row][inside] >> shift) & np.uint64(1)).astype(bool) & (word < view.mask.shape[1])
    chosen: np.ndarray = slots[(bit < 0) | seen]
    return chosen


def _row_head(call: Call, query: Float32, keys: Float32, head: int) -> Float32:
    """Attention weights of one query over its visible keys, (slots,), summing to 1 or less with a sink."""
    scores = (keys @ (query * np.float32(call.number("scale")))).astype(np.float64)
    cap = call.number("soft_cap")
    if cap:
        scores = cap * np.tanh(scores / cap)
    sink = None if call.weights[0] is None else float(call.weights[0][head])
    peak = max(scores.max(), -np.inf if sink is None else sink)
    weights = np.exp(scores - peak)
    total = weights.sum() + (0.0 if sink is None else np.exp(sink - peak))
    shares: Float32 = (weights / total).astype(np.float32)
    return shares


def _attend(call: Call) -> tuple[Float32, ...]:
    group, kept_by = str(call.attributes["group"]), call.integer("entries")
    view, heads = call.batch.groups[group], call.integer("heads")
    layout = call.cache.layout.group(group)
    share = heads // layout.kv_heads
    out = np.zeros((len(call.rows), heads, layout.value_width), np.float32)
    for index, row in enumerate(int(r) for r in call.rows):
        queries = call.inputs[0][index].reshape(heads, -1)
        for kv_head in range(layout.kv_heads):
            slots = visible_slots(view, row, kv_head // layout.heads_per_page)
            if not len(slots):
                continue
            keys, values = call.cache.read(call.batch, group, kept_by, row, kv_head, slots)
            for head in range(kv_head * share, (kv_head + 1) * share):
                weights = _row_head(call, queries[head], keys, head)
                out[index, head] = call.cache.weigh(group, weights, values, slots) @ values
    return (out.reshape(len(call.rows), -1),)


def _observe(call: Call) -> tuple[Float32, ...]:
    group, heads = str(call.attributes["group"]), call.integer("heads")
    view, layout = call.batch.groups[group], call.cache.layout.group(group)
    importance = call.results.setdefault("importance", {})
    for index, row in enumerate(int(r) for r in call.rows):
        queries = call.inputs[0][index].reshape(heads, -1)
        slots_in_all = view.tables.shape[2] * layout.page_size
        empty = np.zeros((heads, slots_in_all), np.float32)
        found = importance.setdefault(int(call.batch.sequence[row]), empty)
        for head in range(heads):
            kv_head = head * layout.kv_heads // heads
            slots = visible_slots(view, row, kv_head // layout.heads_per_page)
            if not len(slots):
                continue
            keys, _ = call.cache.read(call.batch, group, call.integer("entries"), row, kv_head, slots)
            weights = _row_head(call, queries[head], keys, head)
            before = found[head, slots]
            found[head, slots] = np.maximum(before, weights) if call.integer("peak") else before + weights
    return ()


def _observe_cost(sizes: Sizes) -> Cost:
    return Cost(flops=0.0 if not sizes.rows else 2.0 * sizes.pairs * sizes.widths[0])


def _store_cost(sizes: Sizes) -> Cost:
    return Cost(row_bytes=sizes.row_bytes(), cache_bytes=sizes.rows * sizes.entry_bytes)


def _attend_cost(sizes: Sizes) -> Cost:
    query, value = sizes.widths[0], sizes.output_width
    return Cost(
        flops=2.0 * sizes.pairs * (query + value),
        row_bytes=sizes.row_bytes(),
        cache_bytes=sizes.entries * sizes.entry_bytes,
    )


DECLARED = (
    Op(
        "attention_store",
        ("k", "v"),
        (),
        _store,
        _store_cost,
        attributes=("group",),
        kernel="attention_store",
        sequence=True,
    ),
    Op(
        "latent_store",
        ("k",),
        (),
        _store,
        _store_cost,
        attributes=("group",),
        kernel="attention_store",
        sequence=True,
    ),
    Op(
        "attention",
        ("q",),
        ("o",),
        _attend,
        _attend_cost,
        weights=("sinks?",),
        attributes=("group", "entries", "heads", "scale", "soft_cap"),
        kernel="attention",
        integers=("heads",),
        floats=("scale", "soft_cap"),
        sequence=True,
    ),
    Op(
        "observe",
        ("q",),
        (),
        _observe,
        _observe_cost,
        weights=("sinks?",),
        attributes=("group", "entries", "heads", "scale", "soft_cap", "peak"),
        kernel="observe",
        integers=("heads", "peak"),
        floats=("scale", "soft_cap"),
        sequence=True,
    ),
)
