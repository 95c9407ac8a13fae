"""Run by path in a peer's interpreter: load an engine once, then measure a round for each line on stdin.

The arguments are the engine's name and its options as JSON. The first line of the answer says what was
loaded, or why it was not; each further one has the seconds at which tokens came and how many each request
had by then. Whatever the engine prints goes to stderr. Only the standard library and the peer are used here.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import IO, Any


def main(arguments: list[str]) -> int:
    """Answer until stdin ends; 1 when the engine could not be loaded."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    name, options = arguments
    try:
        engine: Any = importlib.import_module(f"{name}_engine").Engine(**json.loads(options))
        tell(answers, {"version": engine.version})
    except Exception as error:
        tell(answers, {"error": f"{type(error).__name__}: {error}"})
        return 1
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            seconds, written = engine.run(asked["prompts"], asked["tokens"])
            tell(answers, {"seconds": seconds, "written": written})
        except Exception as error:
            tell(answers, {"error": f"{type(error).__name__}: {error}"})
    return 0


def tell(answers: IO[str], answer: dict[str, Any]) -> None:
    """One line of JSON."""
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
