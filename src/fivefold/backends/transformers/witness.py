"""What a model asks of attention, seen while it runs once: its layers, their sizes, and what their rows may
see.

For that it runs under an attention implementation of its own, whose masks are not arrays but the rule by
which Transformers would make them. The rule is asked about positions up to the end of the context, so that
a window that is longer than any prompt of a check is found too, and a mask of another form (chunks, both
directions) is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from fivefold.core.errors import UnsupportedError
from fivefold.core.layout import CacheGroup, CacheLayout

from .attention import check_arguments, scoring_of
from .pages import Tensor

NAME = "fivefold_witness"


@dataclass(frozen=True, slots=True)
class Layer:
    """What one layer keeps, and how far back its rows see (None: to the beginning)."""

    heads: int
    kv_heads: int
    key_width: int
    value_width: int
    window: int | None


@dataclass(slots=True)
class Witness:
    """The layers that came through attention, by number. `context`: positions up to which masks are asked."""

    context: int
    layers: dict[int, Layer]


CURRENT: ContextVar[Witness] = ContextVar("fivefold_witness")
"""Who watches on this thread."""


@dataclass(frozen=True, slots=True)
class SeenMask:
    """Stands for the mask of a layer: how far back it lets rows see."""

    window: int | None


def watched_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any = None, **rest: Any
) -> tuple[Tensor, None]:
    """Notes the layer; gives zeros (1, N, H, value width), for only shapes matter here."""
    check_arguments(module, None if isinstance(attention_mask, SeenMask) else attention_mask, rest)
    scoring_of(query, rest)
    layer = getattr(module, "layer_idx", None)
    if not isinstance(layer, int):
        raise UnsupportedError("its attention layers have no number")
    witness = CURRENT.get()
    if layer in witness.layers:
        raise UnsupportedError(f"its layer {layer} attends more than once in one pass")
    window = attention_mask.window if isinstance(attention_mask, SeenMask) else None
    if attention_mask is None and rest.get("sliding_window") is not None:
        raise UnsupportedError(f"its layer {layer} has a window and no mask that says how it is meant")
    heads, kv_heads = query.shape[1], key.shape[1]
    if heads % kv_heads or query.shape[0] != 1 or key.shape[2] != query.shape[2]:
        raise UnsupportedError(f"its layer {layer} attends to rows that are not those of the step")
    witness.layers[layer] = Layer(heads, kv_heads, key.shape[3], value.shape[3], window)
    return query.new_zeros(1, query.shape[2], heads, value.shape[3]), None


def watched_mask(*_: Any, mask_function: Callable[..., Tensor], **__: Any) -> SeenMask:
    """In place of a mask, what its rule says: a window, or all before; UnsupportedError otherwise."""
    context = CURRENT.get().context
    window = _width(mask_function, context - 1)
    asked = {0, 1, 2, context // 2, context - 1}
    if window < context:
        asked |= {window - 1, window, window + 1, 2 * window, 3 * window + 1}
    for position in sorted(one for one in asked if one < context):
        expected = min(window, position + 1)
        if _width(mask_function, position) != expected:
            raise UnsupportedError("its masks are neither causal nor windows of one length")
    return SeenMask(window if window < context else None)


def _width(mask: Callable[..., Tensor], position: int) -> int:
    """How many positions a row sees, itself the last of them; UnsupportedError if they are no such row."""
    zero, places = torch.tensor(0), torch.arange(position + 9)
    seen = mask(zero, zero, torch.tensor(position), places).expand(len(places)).nonzero()[:, 0]
    count = len(seen)
    if not count or int(seen[-1]) != position or int(seen[0]) != position - count + 1:
        raise UnsupportedError("its masks are neither causal nor windows of one length")
    return count


def watch(model: Any, context: int, device: str, layers: dict[int, Layer]) -> None:
    """Notes the layers of a model by number, in one pass of two tokens on a device."""
    tokens = torch.zeros(1, 2, dtype=torch.int64, device=device)
    witness = Witness(context, layers)
    token = CURRENT.set(witness)
    before = model.config._attn_implementation
    try:
        model.set_attn_implementation(NAME)
        with torch.inference_mode():
            model(
                input_ids=tokens, position_ids=torch.arange(2, device=device)[None],
                attention_mask=torch.ones_like(tokens), use_cache=False,
            )  # fmt: skip
    finally:
        model.set_attn_implementation(before)
        CURRENT.reset(token)


def layout_of(layers: Mapping[int, Layer], count: int) -> CacheLayout:
    """The cache groups of `count` layers; UnsupportedError unless all of them were seen."""
    missing = [str(layer) for layer in range(count) if layer not in layers]
    strange = [str(layer) for layer in layers if not 0 <= layer < count]
    if missing or strange:
        raise UnsupportedError(
            f"of its {count} layers {_some(missing or strange)} "
            + ("do not attend through Transformers' attention interface" if missing else "are too many")
        )
    kinds: dict[tuple[int, int, int, int | None], list[int]] = {}
    for number in range(count):
        layer = layers[number]
        kind = (layer.kv_heads, layer.key_width, layer.value_width, layer.window)
        kinds.setdefault(kind, []).append(number)
    return CacheLayout(
        tuple(
            CacheGroup(f"group-{place}", tuple(members), *kind[:3], window=kind[3])
            for place, (kind, members) in enumerate(kinds.items())
        )
    )


def _some(numbers: list[str]) -> str:
    shown = ", ".join(numbers[:8])
    return shown if len(numbers) <= 8 else f"{shown} and {len(numbers) - 8} more"


AttentionInterface.register(NAME, watched_attention)
AttentionMaskInterface.register(NAME, watched_mask)
