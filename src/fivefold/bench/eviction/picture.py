"""A picture of eviction's quality: KL, recall and retrieval over the budget, a curve for each policy.

Drawn from the answer that `--json` writes, by matplotlib. Ours is thick; ceiling and floors are dashed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fivefold.bench.picture import OURS_COLOUR
from fivefold.core.errors import FivefoldError

from .figures import OURS

ENDS = {"oracle": "#222222", "random": "#bbbbbb", "window": "#888888"}
"""The ceiling and the floors."""
COLOURS = ("#d9a05b", "#8d79b5", "#7fa650", "#c06c84", "#5b7bd9", "#b0894f", "#4fa3a3", "#a34f4f", "#666633")
_LEAST = 1e-5

Value = Callable[[Mapping[str, Any]], tuple[float, float, float]]


def draw_eviction(answer: Mapping[str, Any], path: Path) -> None:
    """Three panels into `path`. FivefoldError if it cannot be written, or if nothing was measured."""
    if not answer["budgets"]:
        raise FivefoldError("no prompt has an answer that could be measured", where="--picture")
    figure_class: Any = importlib.import_module("matplotlib.figure").Figure
    figure = figure_class(figsize=(15, 4.6), layout="constrained")
    panels: tuple[tuple[str, Value, bool], ...] = (
        ("KL to the full cache, nats: mean, and quartiles of ours", _kl, True),
        ("recall of the true answer's attention: mean and quartiles of ours", _recall, False),
        ("answers still right: share, and 95 % interval of ours", _retrieval, False),
    )
    for axes, (title, value, logarithmic) in zip(figure.subplots(1, 3), panels, strict=True):
        _panel(axes, answer, value, logarithmic)
        axes.set_title(title, fontsize=10)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=9)
    figure.suptitle(
        f"{answer['model']}, {answer['prompts']} prompts, {answer['processor']}, {answer['instruction_set']}",
        fontsize=10,
    )
    try:
        figure.savefig(path, dpi=130)
    except OSError as error:
        raise FivefoldError(
            f"cannot be written ({error.strerror or error})", where=str(path), remedy="check the folder"
        ) from None


def _panel(axes: Any, answer: Mapping[str, Any], value: Value, logarithmic: bool) -> None:
    budgets = list(answer["budgets"])
    rivals = [name for name in answer["policies"] if name != OURS and name not in ENDS]
    for name in answer["policies"]:
        points = [value(answer["budgets"][budget]["policies"][name]) for budget in budgets]
        style: dict[str, Any] = {"color": OURS_COLOUR, "linewidth": 2.5, "zorder": 3}
        if name in ENDS:
            style = {"color": ENDS[name], "linestyle": "--"}
        elif name in rivals:
            style = {"color": COLOURS[rivals.index(name) % len(COLOURS)], "linewidth": 1.2}
        across = range(len(budgets))
        axes.plot(across, [middle for middle, _, _ in points], marker="o", markersize=3, label=name, **style)
        if name == OURS:
            low, high = [one for _, one, _ in points], [one for _, _, one in points]
            axes.fill_between(across, low, high, color=OURS_COLOUR, alpha=0.15, linewidth=0)
    axes.set_xticks(range(len(budgets)), budgets)
    axes.set_xlabel("entries kept by each layer and KV head")
    axes.spines[["top", "right"]].set_visible(False)
    if logarithmic:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.02)


def _kl(one: Mapping[str, Any]) -> tuple[float, float, float]:
    found = one["kl"]
    return max(found["mean"], _LEAST), max(found["low"], _LEAST), max(found["high"], _LEAST)


def _recall(one: Mapping[str, Any]) -> tuple[float, float, float]:
    found = one["recall"]
    return found["mean"], found["low"], found["high"]


def _retrieval(one: Mapping[str, Any]) -> tuple[float, float, float]:
    found = one["retrieval"]
    share = found["solved"] / found["of"] if found["of"] else float("nan")
    return share, found["low"], found["high"]
