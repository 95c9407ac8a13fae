"""Runs the load generator in its process: Python with the folder `load`, and nothing else of fivefold."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from fivefold.core.errors import FivefoldError

from .load.plan import Plan
from .load.record import Load

FOLDER = Path(__file__).parent
PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from load.generator import main; main()"


def generate_load(plan: Plan) -> Load:
    """The load of a plan, from beginning to end. FivefoldError if the generator fails."""
    # A file and no pipe: what it has to tell may be megabytes, and it should not wait for a reader.
    with tempfile.TemporaryFile("w+") as answer:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(FOLDER)], input=plan.to_json() + "\n",
            stdout=answer, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        answer.seek(0)
        told = answer.read()
    if done.returncode:
        last = done.stderr.strip().rsplit("\n", 1)[-1]
        raise FivefoldError(
            f"the load generator ended with status {done.returncode}: {last}", where=plan.base
        )
    return read_load(told, plan.base)


def read_load(told: str, base: str) -> Load:
    """What the generator has told. FivefoldError unless it is whole."""
    try:
        return Load.from_json(told)
    except (ValueError, LookupError, TypeError) as error:
        raise FivefoldError(
            f"the load generator's answer of {len(told)} characters is damaged ({error})", where=base,
            remedy="measure again, and check memory and disk",
        ) from None  # fmt: skip
