"""Counting a Program: FLOPs and bytes of a step, from the graph that really runs.

Takes a Program and the stored bytes of its weights; needs neither weights nor kernels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fivefold.core.batch import ALL
from fivefold.core.layout import CacheGroup
from fivefold.formats import ENTRY_FORMATS, EntryFormat
from fivefold.ops import Cost, Sizes
from fivefold.program import Node, Program


def step_cost(
    program: Program,
    stored: Mapping[str, float],
    rows: int,
    depth: int,
    logits: int = 1,
    entries: EntryFormat = ENTRY_FORMATS["f16"],
) -> Cost:
    """Cost of one step of `rows` causal rows of one sequence after `depth` positions.

    `stored` gives the bytes of each tensor by name (four a number where it is not named); `logits` is
    the number of rows that want logits, `entries` the format of the cache. Other row sets count as empty.
    A weight that several nodes read is counted each time, as it is read each time.
    """
    total = Cost()
    for node in program.nodes:
        sizes = _sizes(program, node, stored, (rows, depth, logits))
        total = total + node.declaration.cost(
            replace(sizes, entry_bytes=_entry_bytes(program, node, entries))
        )
    return total


def _entry_bytes(program: Program, node: Node, form: EntryFormat) -> float:
    """Bytes of one position in the cache of the node's layer; 0 for nodes that know no cache."""
    group = _group(program, node)
    if group is None:
        return 0.0
    return group.entry_bytes(form.number_bytes, form.scale_bytes) / len(group.layers)


def _sizes(program: Program, node: Node, stored: Mapping[str, float], step: tuple[int, int, int]) -> Sizes:
    rows, depth, logits = step
    pairs, entries = _seen(_group(program, node), rows, depth)
    counts = {ALL: rows, "logits": logits}
    weights = [program.weights[name] for name in node.weights if name is not None]
    names = (*node.inputs, *node.outputs)
    return Sizes(
        rows=counts.get(node.row_set, 0),
        widths=tuple(program.buffers[name].width for name in names),
        inputs=len(node.inputs),
        weight_shapes=tuple(weight.shape for weight in weights),
        weight_bytes=tuple(weight.share(stored.get) for weight in weights),
        attributes=node.attributes,
        pairs=pairs,
        entries=entries,
    )


def _group(program: Program, node: Node) -> CacheGroup | None:
    """The node's cache group; None for nodes that know no cache."""
    name = node.attributes.get("group")
    return program.layout.group(name) if isinstance(name, str) else None


def _seen(group: CacheGroup | None, rows: int, depth: int) -> tuple[float, float]:
    """Pairs of a row and an entry it sees, and distinct entries, of causal rows after `depth` positions."""
    pairs, entries = rows * depth + rows * (rows + 1) / 2, depth + rows
    if group is not None and group.chunk is not None:
        chunk = group.chunk
        return _in_chunks(entries, chunk) - _in_chunks(depth, chunk), entries - depth // chunk * chunk
    window = None if group is None else group.window
    if window is None or entries <= window:
        return pairs, entries
    full = min(rows, entries - window)  # rows before which there is more than they see
    short = rows - full
    return full * window + short * depth + short * (short + 1) / 2, min(entries, window + rows - 1)


def _in_chunks(rows: int, chunk: int) -> float:
    """What the first rows of a sequence see together, each of its own chunk alone."""
    whole, rest = divmod(rows, chunk)
    return whole * chunk * (chunk + 1) / 2 + rest * (rest + 1) / 2


def least_seconds(cost: Cost, bandwidth: float, flops: float) -> float:
    """The roofline: no step is faster than its bytes over bandwidth, or its FLOPs over peak."""
    return max((cost.weight_bytes + cost.cache_bytes) / bandwidth, cost.flops / flops)
