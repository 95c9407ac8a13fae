"""The tables of a folder of bench/, from the JSON files in it.

    .venv/bin/python scripts/bench_page.py bench/zen4          # print them
    .venv/bin/python scripts/bench_page.py bench/zen4 --write  # put them into the folder's README.md

They stand between two comments of that page; `tests/house/test_bench_pages.py` holds them against the files.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from page_markers import with_tables

from fivefold.bench import OURS, polynomial

PEERS = ("llama.cpp", "openvino")
MOST_ROWS_SHOWN = 16
PLACES = {"cold": "on disk", "warm": "in memory"}

Answer = dict[str, Any]


def tables(folder: Path) -> str:
    """All tables, each with its heading."""
    found = {path.name: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    parts = [_sides(found), _growth(found), _kernels(found)]
    return "\n\n".join(part for part in parts if part) + "\n"


def page(folder: Path) -> str:
    """The folder's README.md with its tables made anew."""
    return with_tables(folder / "README.md", tables(folder))


def _sides(found: dict[str, Answer]) -> str:
    rows = [row for name, answer in found.items() for row in _lines(name, answer)]
    head = (
        "| what | kernels | memory, GB/s | fivefold | llama.cpp | OpenVINO GenAI | file |\n"
        + "|---" * 7
        + "|"
    )
    return "\n".join([head, *rows])


def _lines(name: str, answer: Answer) -> Iterator[str]:
    work = answer["work"]
    if work in ("decode", "prefill"):
        what = f"{work}, {answer['tokens']} tokens"
        yield _line(name, answer, what, _medians(answer["sides"]))
    elif work == "batch":
        what = f"{answer['requests']} requests at once, output while all write"
        yield _line(name, answer, what, _medians(answer["sides"]))
    elif work == "depth":
        for place, depth in enumerate(answer["depths"]):
            sides = {side: found["depths"][place]["median"] for side, found in answer["sides"].items()}
            yield _line(name, answer, f"decode at depth {depth}", sides)
    elif work == "serve" and answer["scenario"] == "steady":
        sides = answer["sides"]
        rates = {side: found["output_tokens_per_second"]["median"] for side, found in sides.items()}
        what = f"{answer['clients']} clients over HTTP, output"
        yield _line(name, answer, what, rates)
        waits = {side: found["ttft_seconds"]["p95"]["median"] for side, found in sides.items()}
        yield _line(name, answer, "the same: p95 of the time to a first token", waits, unit="s")
    elif work == "start":
        for kind, side in answer["sides"][OURS].items():
            first = {OURS: side["first_text_seconds"]["median"]}
            yield _line(
                name, answer, f"from the command to the first text, file {PLACES[kind]}", first, unit="s"
            )
        peak = {OURS: answer["sides"][OURS]["warm"]["peak_resident_bytes"]["median"] / 1e6}
        what = f"the most memory of it (bound {answer['resident_bound'] / 1e6:.0f} MB)"
        yield _line(name, answer, what, peak, unit="MB")
    elif work == "serve":
        gaps = {side: found["p99_ratio"]["median"] for side, found in answer["sides"].items()}
        what = f"{answer['clients']} writers while {answer['long_words']} words are read: p99 of the gap"
        yield _line(name, answer, what, gaps, unit="times")


def _medians(sides: Answer) -> dict[str, float]:
    return {side: found["median"] for side, found in sides.items()}


def _line(name: str, answer: Answer, what: str, sides: dict[str, float], unit: str = "tokens/s") -> str:
    """One row; a peer's figure with ours over it, or, of times, with it over ours."""
    form = re.search(r"\.(\w+)\.gguf$", answer["model"])
    kind = f"{what}, {form[1] if form else answer['model']}"
    if answer["cache_format"] != "f16":
        kind += f", {answer['cache_format']} entries"
    ours = sides[OURS]
    cells = [f"{ours:.0f} {unit}" if ours >= 100 else f"{ours:.3g} {unit}"]
    if answer["work"] == "decode":
        cells[0] += f", {answer['share_of_bandwidth']:.0%} of the memory"
    for peer in PEERS:
        theirs = sides.get(peer)
        if theirs is None:
            cells.append("")
            continue
        over = ours / theirs if unit == "tokens/s" else theirs / ours
        shown = f"{over:.2f}x" if over >= 1 else f"**{over:.2f}x**"
        cells.append(f"{theirs:.0f}: {shown}" if theirs >= 100 else f"{theirs:.3g}: {shown}")
    memory = f"{answer['read_bandwidth'] / 1e9:.0f}"
    return f"| {' | '.join([kind, answer['instruction_set'], memory, *cells, f'`{name}`'])} |"


def _growth(found: dict[str, Answer]) -> str:
    rows = [
        f"| {curve} | {answer['instruction_set']} | {_milliseconds(each['fit'])} "
        f"| {each['fit']['relative_residual']:.1%} | {each['fit']['largest_excess']:+.1%} at "
        f"{each['fit']['largest_excess_at']:.0f} | {each['fit']['largest_jump']:+.1%} at "
        f"{each['fit']['largest_jump_at']:.0f} | `{name}` |"
        for name, answer in found.items()
        if answer["work"] == "growth"
        for curve, each in answer["curves"].items()
        if each["fit"] is not None
    ]
    head = (
        "| time against | kernels | fit, ms | deviation | most above it | largest jump | file |\n"
        + "|---" * 7
        + "|"
    )
    return "\n".join([head, *rows]) if rows else ""


def _milliseconds(fit: Answer) -> str:
    line = polynomial([1e3 * each for each in fit["seconds"]], 3)
    if fit["floor_seconds"] is None:
        return line
    return f"{1e3 * fit['floor_seconds']:.3g} to {fit['flat_to']:.0f}, then {line}"


def _kernels(found: dict[str, Answer]) -> str:
    """T(m)/T(1) up to 16 rows, and products a cycle and thread with the most rows."""
    parts = []
    for name, answer in found.items():
        if answer["work"] != "kernels":
            continue
        forms = answer["formats"]
        shown = [
            line["rows"] for line in next(iter(forms.values()))["rows"] if line["rows"] <= MOST_ROWS_SHOWN
        ]
        head = f"| T(m)/T(1), {answer['instruction_set']}, `{name}` | memory, GB/s |"
        head += "".join(f" {rows} |" for rows in shown) + " products a cycle |\n"
        lines = [head + "|---" * (len(shown) + 3) + "|"]
        for form, each in forms.items():
            cells = [f"{line['over_one_row']:.2f}" for line in each["rows"] if line["rows"] in shown]
            last = each["rows"][-1]
            peak = each["peak_products_per_cycle"]
            most = f"{last['products_per_cycle']:.1f} of {peak:.0f} with {last['rows']} rows"
            lines.append(f"| {form} | {each['read_bandwidth'] / 1e9:.0f} | {' | '.join(cells)} | {most} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


if __name__ == "__main__":
    where = Path(sys.argv[1])
    if "--write" in sys.argv:
        (where / "README.md").write_text(page(where))
    else:
        print(tables(where), end="")
