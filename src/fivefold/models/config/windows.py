"""Which layers see a window of positions only, as both kinds of checkpoint say it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fivefold.core.errors import UnsupportedError

from .keys import Keys

FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"
"""The kinds of layers in `layer_types`."""

Windows = tuple[int | None, ...]
"""The window of each layer; None sees all."""


def read_windows(keys: Keys, kinds: Sequence[str], window: int | None, near: str = SLIDING) -> Windows:
    """From a config.json: `window` is that of layers of the kind `near`, `kinds` what silence means."""
    found = keys.get("layer_types", list(kinds))
    known = (FULL, near) if window is not None else (FULL,)
    if not isinstance(found, list) or not all(kind in known for kind in found):
        raise UnsupportedError(f"key layer_types has other layers than {' and '.join(known)}",
                               where=keys.where, remedy="use a model with these alone")  # fmt: skip
    if len(found) != len(kinds):
        raise keys.malformed("layer_types", f"names {len(found)} layers of {len(kinds)}")
    return tuple(window if kind == near else None for kind in found)


def read_window(keys: Keys, silent: int | None) -> int | None:
    """sliding_window of a config.json: null means that there is none, `silent` is what its absence means."""
    if "sliding_window" not in keys:
        return silent
    return None if keys.get("sliding_window") is None else keys.size("sliding_window")


def read_late_windows(keys: Keys, layers: int) -> Windows:
    """From a config.json of the Qwen kind: windows if use_sliding_window says so, from layer
    max_window_layers on."""
    window = read_window(keys, 4096) if keys.flag("use_sliding_window", False) else None
    first = keys.number("max_window_layers", 28)
    near = [window is not None and number >= first for number in range(layers)]
    return read_windows(keys, [SLIDING if one else FULL for one in near], window)


def read_gguf_windows(keys: Keys, layers: int, window: int | None, pattern: int) -> Windows:
    """From GGUF metadata: each `pattern`-th layer sees all, unless the file says which do."""
    said = keys.get("attention.sliding_window_pattern")
    if isinstance(said, list | np.ndarray):
        near = [bool(one) for one in said]
        if len(near) != layers:
            raise keys.malformed("attention.sliding_window_pattern", f"names {len(near)} layers of {layers}")
    else:
        every = keys.size("attention.sliding_window_pattern", pattern)
        near = [bool((number + 1) % every) for number in range(layers)]
    return tuple(window if one else None for one in near)
