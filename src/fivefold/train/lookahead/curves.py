"""The curves of a run: a JSON line for each noted step, and a picture of them.

A line has "step", "kl" (of the step's document) and "rate"; where the documents held out were looked at it
has "held_out" with their KL and recall at some budgets. The picture needs matplotlib, which the extra
`report` brings, and is left out without it.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

Line = Mapping[str, Any]


class Curves:
    """The lines of one run in a file, from step `after` on; those of later steps are cut off."""

    def __init__(self, path: Path, after: int) -> None:
        self._path = path
        self.lines: list[Line] = [one for one in _read(path) if one["step"] <= after] if after else []
        path.write_text("".join(map(_written, self.lines)), encoding="utf-8")

    def note(self, line: Line) -> None:
        """One more line."""
        self.lines.append(line)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_written(line))

    def draw(self, path: Path) -> bool:
        """A picture of the lines; false if matplotlib is not installed."""
        try:
            figure: Any = importlib.import_module("matplotlib.figure").Figure(
                figsize=(9.6, 4.0), layout="constrained"
            )
        except ImportError:
            return False
        left, right = figure.subplots(1, 2)
        steps = [line["step"] for line in self.lines]
        left.plot(steps, [line["kl"] for line in self.lines], color="#b8b8b8", linewidth=0.8, label="a step")
        held = [line for line in self.lines if "held_out" in line]
        seen = [line["step"] for line in held]
        left.plot(seen, [line["held_out"]["kl"] for line in held], color="#1f6f8b", label="held out")
        left.set(xlabel="step", ylabel="KL (nats)", yscale="log")
        for number, budget in enumerate(held[-1]["held_out"]["recall"] if held else ()):
            colour = ("#1f6f8b", "#d9a05b", "#8d79b5", "#7fa650")[number % 4]
            found = [line["held_out"]["recall"][budget] for line in held]
            right.plot(seen, found, color=colour, label=f"{budget} entries")
            single = [line["held_out"]["single"][budget] for line in held]
            right.plot(seen, single, color=colour, linestyle="--")
            right.axhline(held[-1]["held_out"]["best"][budget], color=colour, linestyle=":")
        right.set(xlabel="step", ylabel="recall (dashed: unpooled, dotted: the best)")
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(fontsize=8)
        figure.savefig(path, dpi=130)
        return True


def _read(path: Path) -> list[Line]:
    """The whole lines of a file; none if there is no file."""
    lines: list[Line] = []
    if path.exists():
        for text in path.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError, KeyError, TypeError):
                line = json.loads(text)
                int(line["step"])
                lines.append(line)
    return lines


def _written(line: Line) -> str:
    return json.dumps(line) + "\n"
