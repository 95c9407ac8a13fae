"""`bench start`: what it takes from the command to the first text."""

from __future__ import annotations

from fivefold.bench import measure_start, start_lines
from fivefold.engine import load

from .bench_group import JsonFile, Model, Rounds, bench, check_outputs, deliver
from .options import DEFAULT_MODEL, Activations, Isa, Kv, Threads, find_model, load_options


@bench.command("start")
def start(
    model: Model = DEFAULT_MODEL,
    rounds: Rounds = 5,
    isa: Isa = "auto",
    threads: Threads = 0,
    activations: Activations = "int8",
    kv: Kv = "f16",
    as_json: JsonFile = "",
) -> None:
    """Seconds from the command to the first text, model file on disk or in memory, and the peak of memory."""
    check_outputs(as_json, "")
    path = find_model(model)
    loaded = load(path, load_options(isa, threads, 0, activations, kv))
    chosen = ["--isa", isa, "--threads", str(threads), "--activations", activations, "--kv", kv]
    answer = measure_start(loaded, [str(path), *chosen], rounds)
    deliver(answer, start_lines(answer), as_json, "")
