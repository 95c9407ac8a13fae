"""How many entries a layer and KV head keeps: a number, or a share of what there is.

Sinks and the window that a policy always keeps are inside it. What it means for a policy that gives heads
different numbers: their mean.
"""

from __future__ import annotations

from dataclasses import dataclass

from fivefold.core.errors import InputError


@dataclass(frozen=True, slots=True)
class Budget:
    """Entries if `value` is an integer, else a share between 0 and 1."""

    value: int | float

    def __post_init__(self) -> None:
        """InputError unless it is one of the two."""
        value = self.value
        whole = isinstance(value, int) and not isinstance(value, bool)
        share = isinstance(value, float) and 0 < value < 1
        if not share and not (whole and value >= 1):
            raise InputError(
                f"a budget cannot be {value!r}", where="budget",
                remedy="give a number of entries, such as 256, or a share between 0 and 1, such as 0.1",
            )  # fmt: skip

    @staticmethod
    def parse(value: object) -> Budget:
        """A budget from a number or from its text; InputError for anything else."""
        if isinstance(value, str):
            for kind in (int, float):
                try:
                    return Budget(kind(value))
                except ValueError:
                    continue
        return Budget(value)  # type: ignore[arg-type]

    def resolve(self, length: int) -> int:
        """Entries to keep of `length`: a share is rounded down, and at least one stays."""
        return self.value if isinstance(self.value, int) else max(1, int(self.value * length))

    def __str__(self) -> str:
        """As it is written."""
        return str(self.value)
