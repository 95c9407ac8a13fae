"""Tables of the quality of models, from what `fivefold perplexity ... --json` printed.

    .venv/bin/python scripts/quality_table.py bench/quality            # print them
    .venv/bin/python scripts/quality_table.py bench/quality --write    # put them into the folder's README.md
    .venv/bin/python scripts/quality_table.py a.json b.json            # of these files

    fivefold perplexity A.gguf B.gguf --text eval.txt --reference R.gguf --json > bench/quality/eval.json

A file holds one model's figures or a list of them. Those of one text, reference and way of scoring make one
table, sorted by the bytes of the weights. A page has the tables between two comments;
`tests/house/test_bench_pages.py` holds them against the files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from page_markers import with_tables

HEAD = (
    "| model | bytes | bits a weight | perplexity | ln of the ratio | mean KL | p99 KL | top-1 | file |\n"
    + "|---" * 9
    + "|"
)
ALIKE = (
    "text", "text_sha256", "window", "skip", "positions", "reference", "reference_sha256",
    "reference_executor", "activations", "cache_format",
)  # fmt: skip
"""What figures of one table have in common."""

Answer = dict[str, Any]


def tables(where: Path | Iterable[Path]) -> str:
    """All tables, each below a line that says what it is of; `where` is a folder or files."""
    paths = sorted(where.glob("*.json")) if isinstance(where, Path) else list(where)
    groups: dict[tuple[Any, ...], list[tuple[Answer, str]]] = {}
    for path in paths:
        found = json.loads(path.read_text())
        for answer in found if isinstance(found, list) else [found]:
            key = tuple(answer[name] for name in ALIKE)
            groups.setdefault(key, []).append((answer, path.name))
    return "\n\n".join(_table(group) for group in groups.values()) + "\n"


def page(folder: Path) -> str:
    """The folder's README.md with its tables made anew."""
    return with_tables(folder / "README.md", tables(folder))


def _table(group: list[tuple[Answer, str]]) -> str:
    ordered = sorted(group, key=lambda each: (each[0]["weight_bytes"], each[0]["model"]))
    return "\n".join([_said(group[0][0]), "", HEAD, *(_row(answer, name) for answer, name in ordered)])


def _said(first: Answer) -> str:
    """What a table is of."""
    how = f"{first['activations']} activations, {first['cache_format']} entries"
    less = f" without their first {first['skip']} positions" if first["skip"] else ""
    said = f"`{first['text']}` (sha256 {first['text_sha256'][:12]}), {first['positions']:,} positions, "
    said += f"windows of {first['window']}{less}; {how}."
    if first["reference"] is None:
        return said
    perplexity = _with_error(first, "reference_perplexity", 3)
    executor = "the float32 executor" if first["reference_executor"] == "float32" else "float activations"
    return f"{said} Reference: {first['reference']} with {executor}, perplexity {perplexity}."


def _row(answer: Answer, name: str) -> str:
    cells = [
        f"`{answer['model']}`", f"{answer['weight_bytes']:,}", f"{answer['bits_per_weight']:.2f}",
        _with_error(answer, "perplexity", 3),
    ]  # fmt: skip
    if answer["reference"] is None:
        cells += [""] * 4
    else:
        cells += [
            _with_error(answer, "log_ratio", 4), _with_error(answer, "mean_kl", 5),
            f"{answer['p99_kl']:.4f}", f"{answer['top1_agreement']:.2%}",
        ]  # fmt: skip
    return f"| {' | '.join([*cells, f'`{name}`'])} |"


def _with_error(answer: Answer, key: str, places: int) -> str:
    return f"{answer[key]:.{places}f} ± {answer[f'{key}_error']:.{places}f}"


def main(arguments: list[str]) -> None:
    """Print tables, or put them into a page."""
    named = [Path(each) for each in arguments if not each.startswith("--")]
    if not named:
        sys.exit("name a folder of results, or their files")
    if "--write" in arguments:
        (named[0] / "README.md").write_text(page(named[0]))
    else:
        print(tables(named[0] if named[0].is_dir() else named), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
