"""Keep what fuzzing found: of the inputs in build/fuzz, those that take a reader along a new way.

    .venv/bin/python fuzz/keep.py gguf safetensors folder tokenizer

Shorter inputs are tried first. A way is a step from one line of the package to the next.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import targets

ROOT = Path(__file__).parents[1]
PACKAGE = str(ROOT / "src" / "fivefold")
LONGEST, MOST = 6000, 150


def ways(name: str, room: targets.Room, data: bytes) -> set[tuple[str, int, int]]:
    """The steps of a reader over one input."""
    found: set[tuple[str, int, int]] = set()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        del event, argument
        file = frame.f_code.co_filename
        if not file.startswith(PACKAGE):
            return None
        before = frame.f_lineno

        def step(inner: FrameType, event: str, argument: Any) -> Any:
            nonlocal before
            del argument
            if event == "line":
                found.add((file, before, inner.f_lineno))
                before = inner.f_lineno
            return step

        return step

    sys.settrace(trace)
    try:
        with contextlib.suppress(Exception):
            targets.TARGETS[name](room, data)
    finally:
        sys.settrace(None)
    return found


def main() -> None:
    """Add to the corpus of each target that is named."""
    room = targets.Room()
    for name in sys.argv[1:]:
        corpus = ROOT / "fuzz" / "corpus" / name
        seen: set[tuple[str, int, int]] = set()
        for path in corpus.iterdir():
            seen |= ways(name, room, path.read_bytes())
        inputs = sorted((ROOT / "build" / "fuzz" / name).iterdir(), key=lambda path: path.stat().st_size)
        kept = 0
        for path in inputs:
            data = path.read_bytes()
            found = ways(name, room, data) if len(data) <= LONGEST else set()
            if found - seen and kept < MOST:
                seen |= found
                kept += 1
                (corpus / f"way-{path.name[:12]}").write_bytes(data)
        print(f"{name}: {kept} of {len(inputs)} inputs are new")
    room.close()


if __name__ == "__main__":
    main()
