"""How much memory models may take where nobody says it."""

from __future__ import annotations

from pathlib import Path

MOST = 8 * 10**9


def available_memory(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Half of what the machine has free, at most 8 GB."""
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return min(MOST, int(line.split()[1]) * 1024 // 2)
    except (OSError, ValueError, IndexError):
        return MOST // 4
    return MOST // 4
