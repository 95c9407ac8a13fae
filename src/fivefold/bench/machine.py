"""What a measurement says of the machine it was made on."""

from __future__ import annotations

import platform
from typing import Any

from fivefold.executor import processor


def describe_machine() -> dict[str, Any]:
    """Processor, its instruction sets, the operating system's kernel, and Python."""
    found = processor()
    return {
        "processor": found.name,
        "architecture": platform.machine(),
        "features": list(found.features),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
