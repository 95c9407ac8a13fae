"""Fuzz one Python target in this process. Arguments: the target's name, then some of libFuzzer's.

    .venv/bin/python fuzz/worker.py gguf -runs=100000 -seed=1 build/fuzz/gguf fuzz/corpus/gguf

Led by coverage, through atheris; with `-plain=1` at random over the inputs that are there, which is some
times as fast. `run.py` starts this; by hand it also shows what happens to an input: fuzz/worker.py gguf FILE.
"""

from __future__ import annotations

import importlib
import random
import sys
import time
import warnings
from pathlib import Path
from typing import Any

Options = dict[str, str]


def changes(name: str) -> Any:
    """How an input of this target is changed: (data, random) to data."""
    if name == "gguf":
        return importlib.import_module("change_gguf").change
    module = importlib.import_module("change_json")
    return module.change_safetensors if name == "safetensors" else module.change_sections


def led_by_coverage(name: str, arguments: list[str]) -> None:
    """Does not come back: libFuzzer ends the process."""
    import atheris  # noqa: PLC0415  # only here it is needed

    # The finder of an editable install hides the sources from atheris; what is fuzzed here is not compiled.
    sys.meta_path[:] = [one for one in sys.meta_path if not type(one).__module__.startswith("_editable_")]
    sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
    with atheris.instrument_imports(include=["fivefold"]):
        targets = importlib.import_module("targets")
    room, change = targets.Room(), changes(name)

    def changed(data: bytes, limit: int, seed: int) -> bytes:
        chosen = random.Random(seed)
        if chosen.random() < 0.02:
            return bytes(atheris.Mutate(data, limit))
        return bytes(change(data, chosen)[:limit])

    atheris.Setup(
        [sys.argv[0], *arguments], lambda data: targets.check(name, room, data), custom_mutator=changed
    )
    atheris.Fuzz()


def at_random(name: str, options: Options, folders: list[str]) -> int:
    """Change what the folders hold, as often or as long as the options say; 77 after a fault."""
    targets = importlib.import_module("targets")
    room, change = targets.Room(), changes(name)
    inputs = [path.read_bytes() for folder in folders for path in sorted(Path(folder).iterdir())]
    chosen = random.Random(int(options.get("seed", "1")))
    end = time.monotonic() + float(options.get("max_total_time", "1e9"))
    runs, limit = int(options.get("runs", "0")), int(options.get("max_len", "32768"))
    near = Path(options.get("artifact_prefix", "./") + "near")  # a fault that ends the process is here
    done, data = 0, b""
    try:
        while done < runs and time.monotonic() < end:
            data = chosen.choice(inputs)
            for _ in range(chosen.randrange(1, 9)):
                data = change(data, chosen)[:limit]
                if name == "tokenizer":
                    near.write_bytes(data)
                targets.check(name, room, data)
                done += 1
    except BaseException:
        near.with_name(f"crash-{name}-{options.get('seed')}").write_bytes(data)
        raise
    finally:
        print(f"stat::number_of_executed_units: {done}", file=sys.stderr)
        room.close()
    return 0


def main() -> int:
    """What the command line asks for."""
    name, *arguments = sys.argv[1:]
    warnings.simplefilter("error")
    options = dict(one[1:].split("=", 1) for one in arguments if one.startswith("-") and "=" in one)
    if options.get("plain") != "1":
        led_by_coverage(name, arguments)
    return at_random(name, options, [one for one in arguments if not one.startswith("-")])


if __name__ == "__main__":
    sys.exit(main())
