"""The curves of a run: a JSON line for each noted step, and a picture of them.

A line has "step" and whatever figures the kind of training has; where what is held out was looked at it has
"held_out" too. The picture needs matplotlib, which the extra `report` brings, and is left out without it.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Line = Mapping[str, Any]

GREY, BLUE = "#b8b8b8", "#1f6f8b"
COLOURS = (BLUE, "#d9a05b", "#8d79b5", "#7fa650")


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve: a figure of the lines that have it, and how it is drawn."""

    figure: Callable[[Line], float | None]
    label: str = ""
    colour: str = BLUE
    style: str = "-"
    width: float = 1.5


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes: what goes up, the curves, and lines across it (height, colour)."""

    name: str
    curves: Sequence[Curve]
    across: Sequence[tuple[float, str]] = ()
    scale: str = "linear"


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

    def draw(self, path: Path, panels: Sequence[Panel]) -> bool:
        """A picture of the lines; false if there are none or matplotlib is not installed."""
        if not self.lines:
            return False
        try:
            figure: Any = importlib.import_module("matplotlib.figure").Figure(
                figsize=(4.8 * len(panels), 4.0), layout="constrained"
            )
        except ImportError:
            return False
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            for curve in panel.curves:
                found = [(line["step"], curve.figure(line)) for line in self.lines]
                points = [(step, value) for step, value in found if value is not None]
                axes.plot(
                    [step for step, _ in points], [value for _, value in points], color=curve.colour,
                    linestyle=curve.style, linewidth=curve.width, label=curve.label or None,
                )  # fmt: skip
            for height, colour in panel.across:
                axes.axhline(height, color=colour, linestyle=":")
            axes.set(xlabel="step", ylabel=panel.name, yscale=panel.scale)
            axes.spines[["top", "right"]].set_visible(False)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(fontsize=8)
        figure.savefig(path, dpi=130)
        return True


def held_out(figure: Callable[[Line], float]) -> Callable[[Line], float | None]:
    """A figure of what was held out, of the lines that have it."""
    return lambda line: figure(line["held_out"]) if "held_out" in line else None


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
