"""What can be quantized to: a name on the command line and in recipes, and how it is stored.

The names are those of the `formats` table, but for fp8, which is E4M3 with scales beside the matrix: one for
each row, for the whole tensor, or for each 128 x 128 numbers. `keep` is no format: the tensor stays as it is
stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fivefold.core.errors import InputError
from fivefold.formats import FORMATS

KEEP = "keep"
"""In place of a format: the tensor stays as it is stored."""

_LIGHT = frozenset({"round"})
_SWEPT = _LIGHT | {"sweep"}
_FULL = _SWEPT | {"gptq"}


@dataclass(frozen=True, slots=True)
class Target:
    """One of them.

    name     as people call it.
    stored   the number format of the tensor's bytes.
    methods  the ways to choose its codes.
    scales   rows and columns of the numbers that share a scale beside the matrix; 0 is all there are.
             None for formats that have none, or one for the whole tensor (nvfp4).
    """

    name: str
    stored: str
    methods: frozenset[str]
    scales: tuple[int, int] | None = None

    @property
    def block(self) -> int:
        """Numbers of a block along K."""
        return FORMATS[self.stored].block

    @property
    def bits(self) -> float:
        """Bits of a number, without the scales beside the matrix."""
        return FORMATS[self.stored].bits


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        target.name: target
        for target in (
            Target("nvfp4", "nvfp4", _FULL),
            Target("mxfp4", "mxfp4", _FULL),
            Target("q4_0", "q4_0", _FULL),
            Target("q5_0", "q5_0", frozenset({"round", "gptq"})),
            Target("q8_0", "q8_0", _SWEPT),
            Target("fp8", "f8_e4m3", _LIGHT, (1, 0)),
            Target("fp8_tensor", "f8_e4m3", _LIGHT, (0, 0)),
            Target("fp8_block", "f8_e4m3", _LIGHT, (128, 128)),
            Target("f16", "f16", _LIGHT),
            Target("bf16", "bf16", _LIGHT),
            Target("f32", "f32", _LIGHT),
        )
    }
)
"""All of them by name."""


def target_of(name: str, where: str = "") -> Target:
    """The target of that name; InputError says where it was found and which there are."""
    if name not in TARGETS:
        raise InputError(
            f"format {name!r} cannot be quantized to",
            where=where,
            remedy=f"choose one of {', '.join(TARGETS)}",
        )
    return TARGETS[name]
