"""Which layers turn heads by their positions, as a config.json says it."""

from __future__ import annotations

from .keys import Keys


def turning_layers(interval: int, layers: int) -> tuple[bool, ...]:
    """All layers turn heads but each `interval`-th."""
    return tuple((number + 1) % interval != 0 for number in range(layers))


def read_turning(keys: Keys, layers: int) -> tuple[bool, ...]:
    """no_rope_layers, which has 1 for layers that turn heads. It may be longer than there are layers."""
    said = keys.get("no_rope_layers")
    if not isinstance(said, list) or not all(type(one) is int and one in (0, 1) for one in said):
        raise keys.malformed("no_rope_layers", "is not a list of ones and zeros")
    if len(said) < layers:
        raise keys.malformed("no_rope_layers", f"names {len(said)} layers of {layers}")
    return tuple(one == 1 for one in said[:layers])
