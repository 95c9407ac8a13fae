"""The command `bench`: decode and prefill, with peers in the same alternating run."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from fivefold.bench import Measure, Side, alternate, decode_rate, llama_cpp, prefill_rate
from fivefold.core.errors import FivefoldError, InputError
from fivefold.engine import LoadedModel
from fivefold.executor import processor, read_bandwidth
from fivefold.ops import Cost
from fivefold.plan import step_cost

from .options import DEFAULT_MODEL, Activations, Isa, Threads, load_options, open_model
from .terminal import app


class Work(StrEnum):
    """What is measured."""

    decode = "decode"
    prefill = "prefill"


@app.command("bench")
def bench(
    work: Annotated[Work, typer.Argument(help="decode or prefill.")],
    model: Annotated[str, typer.Argument(help="A pulled name, a folder or a .gguf file.")] = DEFAULT_MODEL,
    peers: Annotated[str, typer.Option(help="llama.cpp=PATH of llama-bench or its folder.")] = "",
    tokens: Annotated[int, typer.Option(min=0, help="Tokens a round; 0: 128 decoded or 512 read.")] = 0,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    isa: Isa = "auto",
    threads: Threads = 0,
    activations: Activations = "int8",
    as_json: Annotated[str, typer.Option("--json", help="A file for the figures, or - for stdout.")] = "",
) -> None:
    """Measure tokens a second, the machine's read bandwidth, and peers, in turn; medians and ratios."""
    count = tokens or (128 if work is Work.decode else 512)
    _check_writable(as_json)
    loaded = open_model(model, load_options(isa, threads, 0, activations))
    if count > loaded.context:
        raise InputError(
            f"{count} tokens are more than the context of {loaded.context}", where="--tokens",
            remedy="give fewer",
        )  # fmt: skip
    rate = decode_rate if work is Work.decode else prefill_rate
    sides: dict[str, Measure] = {"fivefold": lambda: rate(loaded.runner, count)}
    for peer in filter(None, peers.split(",")):
        name, _, path = peer.partition("=")
        if name != "llama.cpp" or not path:
            raise InputError(f"{peer!r} is not known", where="--peers", remedy="give llama.cpp=PATH")
        sides[name] = _peer(Path(path), loaded, work, count)
    cost = _cost(loaded, work, count)
    sides["memory"] = lambda: read_bandwidth(loaded.settings.threads, int(cost.weight_bytes), 0.2)
    *measured, memory = alternate(sides, rounds)
    answer = _report(loaded, work, count, measured, (cost, memory.median))
    if as_json == "-":
        typer.echo(json.dumps(answer))
        return
    if as_json:
        Path(as_json).write_text(json.dumps(answer, indent=1) + "\n")
    _print(answer)


def _check_writable(name: str) -> None:
    """Refuse a file for the figures that could not be written, before anything is measured."""
    if name and name != "-" and not Path(name).parent.is_dir():
        raise InputError("there is no such folder", where=f"--json {name}", remedy="make it first")


def _peer(tool: Path, loaded: LoadedModel, work: Work, count: int) -> Measure:
    """llama.cpp's measure; what its tool prints is not ours, so it is not trusted to be figures."""
    measure = llama_cpp(tool, loaded.checkpoint.path, work.value, count, loaded.settings.threads)

    def checked() -> float:
        try:
            return measure()
        except (ValueError, LookupError, TypeError, OSError) as error:
            raise FivefoldError(
                f"llama-bench gave no figures ({error})", where=str(tool), remedy="check that it runs"
            ) from None

    return checked


def _cost(loaded: LoadedModel, work: Work, count: int) -> Cost:
    """What a step takes: one token at half the depth that decoding reaches, or the whole prompt."""
    stored = {tensor.name: float(len(tensor.data)) for tensor in loaded.checkpoint.tensors.values()}
    rows, depth = (1, count // 2) if work is Work.decode else (count, 0)
    return step_cost(loaded.model.main, stored, rows, depth)


def _report(
    loaded: LoadedModel, work: Work, count: int, sides: list[Side], step: tuple[Cost, float]
) -> dict[str, Any]:
    """The figures; `step` is a step's cost and the bandwidth measured in the same rounds."""
    cost, bandwidth = step
    bytes_read = int(cost.weight_bytes + cost.cache_bytes)
    ours = sides[0].median
    answer: dict[str, Any] = {
        "work": work.value,
        "model": loaded.checkpoint.path.name,
        "sha256": _sha256(loaded.checkpoint.path),
        "tokens": count,
        "processor": processor().name,
        "instruction_set": loaded.settings.isa,
        "threads": loaded.settings.threads,
        "activations": loaded.settings.activations,
        "read_bandwidth": round(bandwidth),
        "step_bytes": bytes_read,
        "step_flops": int(cost.flops),
        "sides": {
            s.name: {"median": round(s.median, 2), "rounds": [round(r, 2) for r in s.rates]} for s in sides
        },
        "ratios": {side.name: round(ours / side.median, 3) for side in sides[1:]},
    }
    if work is Work.decode:
        answer["share_of_bandwidth"] = round(ours * bytes_read / bandwidth, 3)
    return answer


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _print(answer: dict[str, Any]) -> None:
    typer.echo(
        f"{answer['processor']}, {answer['instruction_set']}, {answer['threads']} threads, "
        f"reads {answer['read_bandwidth'] / 1e9:.1f} GB/s over the model's own size"
    )
    for name, side in answer["sides"].items():
        low, high = min(side["rounds"]), max(side["rounds"])
        ratio = answer["ratios"].get(name)
        versus = f"   we are {ratio:.2f}x" if ratio else ""
        typer.echo(
            f"{answer['work']} {answer['tokens']}  {name:<12}{side['median']:>9.1f} tokens/s "
            f"({low:.1f} to {high:.1f}){versus}"
        )
    if "share_of_bandwidth" in answer:
        share = f"{answer['share_of_bandwidth']:.0%} of the bandwidth"
        typer.echo(f"a step reads {answer['step_bytes'] / 1e6:.1f} MB: {share}")
