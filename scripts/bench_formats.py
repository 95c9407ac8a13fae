"""Measure each number format against llama.cpp on the same file, and print the table of docs/formats.md.

    .venv/bin/python scripts/bench_formats.py measure MODELS bench/zen4/formats --isa avx512 \\
        --peer LLAMA_CPP/bin --build "ggml 0.25.3, GGML_NATIVE"
    .venv/bin/python scripts/bench_formats.py table bench/zen4/formats

MODELS is the folder that make_bench_model.py fills. Each format is one run of `fivefold bench`, which
measures both programs and the memory in turn; its whole answer is kept in WORK-ISA.json, under the format's
name. A later run replaces those formats that it measures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from fivefold.formats import format_of

FORMATS = (
    "f32", "f16", "bf16", "q8_0", "q6_k", "q5_k", "q5_1", "q5_0", "q4_k", "q4_1", "q4_0", "iq4_nl", "iq4_xs",
    "q3_k", "q2_k",
)  # fmt: skip
WORKS = ("decode", "prefill")
ISAS = ("avx512", "avx2")


def measure(given: argparse.Namespace) -> None:
    """Run the benchmarks and keep their answers."""
    for work in given.works.split(","):
        kept = given.results / f"{work}-{given.isa}.json"
        answers: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
        for name in given.formats.split(","):
            with tempfile.NamedTemporaryFile(suffix=".json") as file:
                command = [
                    sys.executable, "-m", "fivefold", "bench", work, given.models / f"model-{name}.gguf",
                    "--isa", given.isa, "--peers", f"llama.cpp={given.peer}", "--rounds", str(given.rounds),
                    "--json", file.name,
                ]  # fmt: skip
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                answers[name] = {**json.load(file), "peer_build": given.build}
            ordered = {key: answers[key] for key in FORMATS if key in answers}
            kept.write_text(json.dumps(ordered, indent=1) + "\n")
            print(f"{work} {given.isa} {name}: {answers[name]['ratios']['llama.cpp']:.2f}", flush=True)


def cell(answer: dict[str, Any]) -> str:
    """Our rate, the peer's, and their ratio."""
    ours, peer = (answer["sides"][side]["median"] for side in ("fivefold", "llama.cpp"))
    share = f", {answer['share_of_bandwidth']:.0%}" if "share_of_bandwidth" in answer else ""
    return f"{ours:.0f}{share} / {peer:.0f} = **{answer['ratios']['llama.cpp']:.2f}**"


def table(given: argparse.Namespace) -> None:
    """Print the table in Markdown."""
    columns = [(work, isa) for work in WORKS for isa in ISAS]
    results = {
        pair: json.loads((given.results / f"{pair[0]}-{pair[1]}.json").read_text()) for pair in columns
    }
    print("| format | bits | " + " | ".join(f"{work}, {isa}" for work, isa in columns) + " |")
    print("|---|---|" + "---|" * len(columns))
    for name in FORMATS:
        cells = [cell(results[pair][name]) if name in results[pair] else "" for pair in columns]
        print(f"| {name} | {format_of(name).bits:.4g} | " + " | ".join(cells) + " |")


def main() -> None:
    """Measure or print, as the command line says."""
    options = argparse.ArgumentParser(description="Number formats against llama.cpp.")
    parts = options.add_subparsers(required=True)
    run = parts.add_parser("measure")
    run.add_argument("models", type=Path)
    run.add_argument("results", type=Path)
    run.add_argument("--isa", choices=ISAS, required=True)
    run.add_argument("--peer", type=Path, required=True, help="the folder of llama-bench")
    run.add_argument("--build", default="", help="what the peer was built from and for")
    run.add_argument("--formats", default=",".join(FORMATS))
    run.add_argument("--works", default=",".join(WORKS))
    run.add_argument("--rounds", type=int, default=5)
    run.set_defaults(act=measure)
    show = parts.add_parser("table")
    show.add_argument("results", type=Path)
    show.set_defaults(act=table)
    given = options.parse_args()
    given.act(given)


if __name__ == "__main__":
    main()
