"""Tables of how requests are decoded: of eviction, from what `fivefold bench eviction ... --json` printed,
with and without --cost; other figures (`bench depth`, `bench parallel`, `bench twins`) as the lines that
their commands print.

    .venv/bin/python scripts/decoding_tables.py bench/eviction            # print them
    .venv/bin/python scripts/decoding_tables.py bench/eviction --write    # put them into its README.md

A page has the tables between two comments; `tests/house/test_bench_pages.py` holds them against the files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from page_markers import with_tables

from fivefold.bench import speed_lines
from fivefold.bench.eviction import cost_lines
from fivefold.bench.parallel import parallel_lines
from fivefold.bench.twins import twins_lines

Answer = dict[str, Any]
LINES: dict[str, Callable[[Answer], Iterable[str]]] = {
    "eviction-cost": cost_lines, "depth": speed_lines, "parallel": parallel_lines,
    "twins": twins_lines,
}  # fmt: skip
"""How commands print their figures, where a page has them as they are."""
MEASURES = ("kl", "recall", "retrieval")


def tables(folder: Path) -> str:
    """The tables of all files of a folder, each below a line that says what it is of."""
    parts: list[str] = []
    for path in sorted(folder.glob("*.json")):
        answer = json.loads(path.read_text())
        made = _quality(answer) if answer["work"] == "eviction" else _lines(answer)
        parts.append("\n".join([f"From `{path.name}`: {_said(answer)}", "", *made]))
    return "\n\n".join(parts) + "\n"


def page(folder: Path) -> str:
    """The folder's README.md with its tables made anew."""
    return with_tables(folder / "README.md", tables(folder))


def _said(answer: Answer) -> str:
    where = f"{answer['processor']}, {answer['instruction_set']}, {answer['threads']} threads."
    if answer["work"] != "eviction":
        return where
    return (
        f"{answer['prompts']} prompts of {answer['documents']} documents, of which the full cache answers "
        f"{answer['solved']} of {answer['asked']} rightly; {where}"
    )


def _quality(answer: Answer) -> Iterator[str]:
    """A table for each budget: each policy, and what lookahead has more or less, with its verdict."""
    for budget, found in answer["budgets"].items():
        yield f"Budget {budget}:"
        yield ""
        head = "policy | recall | KL, median [quartiles] | KL, mean | retrieval [95 %]"
        yield f"| {head} | lookahead less this: KL | recall | retrieval |"
        yield "|---" * 8 + "|"
        for name, one in found["policies"].items():
            kl, right = one["kl"], one["retrieval"]
            shown = f"{right['solved']}/{right['of']} [{right['low']:.2f}, {right['high']:.2f}]"
            cells = [
                name, f"{one['recall']['mean']:.3f}",
                f"{kl['median']:.3f} [{kl['low']:.3f}, {kl['high']:.3f}]", f"{kl['mean']:.3f}",
                shown if right["of"] else "",
            ]  # fmt: skip
            compared = found.get("against", {}).get(name)
            cells += ["", "", ""] if compared is None else [_difference(compared[one]) for one in MEASURES]
            yield f"| {' | '.join(cells)} |"
        yield ""
    yield "By set, mean KL at 64 and 256 entries:"
    yield ""
    names = answer["policies"]
    yield f"| set | prompts | {' | '.join(names)} |"
    yield "|---" * (len(names) + 2) + "|"
    for name, own in answer["sets"].items():
        cells = [
            " / ".join(f"{own['budgets'][budget][policy]['kl']['mean']:.2f}" for budget in ("64", "256"))
            for policy in names
        ]
        yield f"| {name} | {own['prompts']} | {' | '.join(cells)} |"


def _difference(one: dict[str, Any] | None) -> str:
    if one is None:
        return ""
    return f"{one['mean']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}] {one['verdict']}"


def _lines(answer: Answer) -> Iterator[str]:
    """The lines that the command itself prints."""
    yield "```"
    yield from (LINES[answer["work"]])(answer)
    yield "```"


def main(arguments: list[str]) -> None:
    """Print the tables, or put them into the page."""
    named = [Path(each) for each in arguments if not each.startswith("--")]
    if len(named) != 1:
        sys.exit("name a folder of results")
    if "--write" in arguments:
        (named[0] / "README.md").write_text(page(named[0]))
    else:
        print(tables(named[0]), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
