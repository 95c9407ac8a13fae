"""What twins are asked: the beginnings of records, with what is right, as lines of JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from fivefold.core.errors import FileError


@dataclass(frozen=True, slots=True)
class Question:
    """What is given of a record and what was written, and the source package that it is of."""

    source: str
    given: str
    written: str


def read_questions(path: Path) -> list[Question]:
    """Those of a file, a JSON object a line; FileError if it holds none or something else."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        found = [Question(**json.loads(line)) for line in lines]
        if not all(isinstance(part, str) for one in found for part in (one.source, one.given, one.written)):
            raise TypeError("something is no text")
    except (OSError, ValueError, TypeError) as error:
        raise FileError(f"no questions can be read ({error})", where=str(path),
                        remedy="take the .jsonl of a corpus: fivefold train records") from None  # fmt: skip
    if not found:
        raise FileError("it has no questions", where=str(path), remedy="take another file")
    return found
