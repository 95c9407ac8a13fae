"""What a measurement says of the machine it was made on."""

from __future__ import annotations

import platform
from typing import Any

from fivefold.executor import Settings, processor

FEATURES = ("avx2", "fma", "avx512f", "avx512vnni", "avx512bf16", "avxvnni", "amx_int8", "neon", "dotprod", "i8mm")


def describe_machine(settings: Settings | None = None) -> dict[str, Any]:
    """Processor, its features that matter here, kernel and Python; with `settings`, what our side used."""
    found = processor()
    answer: dict[str, Any] = {
        "processor": found.name,
        "architecture": platform.machine(),
        "features": [name for name in found.features if name.replace("_", "") in _PLAIN],
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
    if settings is not None:
        answer |= {"instruction_set": settings.isa, "threads": settings.threads}
    return answer


_PLAIN = frozenset(name.replace("_", "") for name in FEATURES)
