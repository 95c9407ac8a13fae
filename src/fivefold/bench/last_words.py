"""What a process wrote, kept in a file without a name, so that its end can be explained."""

from __future__ import annotations

import tempfile
from typing import IO

LENGTH = 200


class LastWords:
    """A file for a process to write to; `last` reads the end of it."""

    def __init__(self) -> None:
        self.file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process

    def last(self) -> str:
        """The last line with anything in it."""
        self.file.seek(0)
        lines = self.file.read().decode(errors="replace").split("\n")
        found = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        return found[-LENGTH:]

    def close(self) -> None:
        """Forget it all."""
        self.file.close()
