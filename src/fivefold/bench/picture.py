"""Pictures of reports: bars of medians with the range of the rounds, curves over depth and over percentiles.

Drawn from the same answers that `--json` writes, by matplotlib, which the extra `report` brings. Nothing is
measured here.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fivefold.core.errors import FivefoldError, InputError

OURS_COLOUR = "#1f6f8b"
PEER_COLOURS = ("#b8b8b8", "#d9a05b", "#8d79b5", "#7fa650", "#c06c84")
SUFFIXES = (".png", ".svg", ".pdf")

Bars = Mapping[str, Mapping[str, Any]]
Points = Sequence[tuple[float, float, Sequence[float]]]


def check_picture(path: Path) -> None:
    """InputError, before anything is measured, if a picture could not be drawn or written there."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path.name!r} is no picture", where="--picture", remedy="let it end with .png")
    if not path.parent.is_dir():
        raise InputError("there is no such folder", where=f"--picture {path}", remedy="make it first")
    try:
        importlib.import_module("matplotlib")
    except ImportError:
        raise InputError(
            "pictures need matplotlib", where="--picture", remedy="install it: pip install 'fivefold[report]'"
        ) from None


def draw(answer: Mapping[str, Any], path: Path) -> None:
    """Draw the report of any bench command into `path`."""
    figure_class: Any = importlib.import_module("matplotlib.figure").Figure
    panels = _panels(answer)
    figure = figure_class(figsize=(5.2 * len(panels), 4.2), layout="constrained")
    for axes, (title, panel) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        if "curves" in panel:
            _curves(axes, panel)
        else:
            _bars(axes, panel)
    figure.suptitle(_heading(answer), fontsize=10)
    try:
        figure.savefig(path, dpi=130)
    except OSError as error:
        raise FivefoldError(
            f"cannot be written ({error.strerror or error})", where=str(path), remedy="check the folder"
        ) from None


def _heading(answer: Mapping[str, Any]) -> str:
    subject = answer.get("model") or f"matrix kernels ({answer['instruction_set']})"
    return f"{subject}, {answer['processor']}, {answer['threads']} threads"


def _panels(answer: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Titles and contents of the pictures beside each other."""
    if answer["work"] == "kernels":
        return _kernel_panels(answer)
    if answer["work"] == "growth":
        return _growth_panels(answer)
    if answer["work"] == "eviction-cost":
        return _eviction_cost_panels(answer)
    if answer["work"] == "parallel":
        return _parallel_panels(answer)
    sides = answer["sides"]
    if answer["work"] == "depth":
        curves = {
            name: [(each["depth"], each["median"], each["rounds"]) for each in side["depths"]]
            for name, side in sides.items()
        }
        return [("decode, tokens/s", {"curves": curves, "x": "entries in the cache", "y": "tokens/s"})]
    if answer["work"] == "serve":
        return _serve_panels(answer)
    if answer["work"] == "batch":
        whole = {name: side["whole"] for name, side in sides.items()}
        title = f"{answer['requests']} requests, all writing, tokens/s"
        return [(title, {"bars": sides}), ("with the reading of the prompts, tokens/s", {"bars": whole})]
    return [(f"{answer['work']}, {answer['tokens']} tokens, tokens/s", {"bars": sides})]


def _growth_panels(answer: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Each curve's milliseconds, and its fit dashed."""
    titles = {
        "depth": ("a decoding step", "entries in the cache"),
        "length": ("reading a prompt", "tokens"),
        "rows": ("a step of many sequences", "rows"),
    }
    panels = []
    for name, curve in answer["curves"].items():
        title, across = titles[name]
        points = [
            (place, each["median"] * 1e3, [one * 1e3 for one in each["rounds"]])
            for place, each in zip(curve["places"], curve["seconds"], strict=True)
        ]
        fit = (curve["fit"] or {}).get("seconds", ())
        fitted = [
            (place, value, [value])
            for place in curve["places"]
            for value in [1e3 * sum(each * place**power for power, each in enumerate(fit))]
        ]
        label = "measured (dashed: fit)"
        dashed = {label: fitted if fit else []}
        panels.append((f"{title}, ms", {"curves": {label: points}, "dashed": dashed, "x": across, "y": "ms"}))
    return panels


def _eviction_cost_panels(answer: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Milliseconds that choosing entries takes at each length, then the rates."""
    panels: list[tuple[str, dict[str, Any]]] = []
    for length, found in answer["first"].items():
        bars = {
            name.replace("_", "\n"): {
                "median": side["cost_seconds"]["median"] * 1e3,
                "rounds": [one * 1e3 for one in side["cost_seconds"]["rounds"]],
            }
            for name, side in found["sides"].items()
        }
        panels.append((f"{length} tokens: choosing and evicting, ms", {"bars": bars}))
    decode, talk = answer["decode"], answer["conversations"]
    panels.append((f"decode at {decode['depth']} by budget, tokens/s", {"bars": decode["sides"]}))
    bars = {f"{side['requests']}, {name}": side["together"] for name, side in talk["sides"].items()}
    panels.append((f"conversations of {talk['prompt_tokens']}, tokens/s", {"bars": bars}))
    return panels


def _parallel_panels(answer: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """How many times plain decoding each domain reaches, how often guesses are right, and steps by rows."""
    bars = {
        name: {"median": one["speedup"], "rounds": [one["low"], one["high"]]}
        for name, one in answer["domains"].items()
    }
    rights = {
        name: [
            (place, each["share"], [each["share"]])
            for place, each in enumerate(one["places"], start=1)
            if each["share"] is not None
        ]
        for name, one in answer["domains"].items()
    }
    rows = [(int(rows), one["over_one"], [one["over_one"]]) for rows, one in answer["rows"].items()]
    return [
        ("times plain decoding", {"bars": bars}),
        ("guesses that are right", {"curves": rights, "x": "place behind the last token", "y": "share"}),
        ("a step over that of one row", {"curves": {"step": rows}, "x": "rows", "y": "times"}),
    ]


def _kernel_panels(answer: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Over the rows: the time against that of one row, and the products of a cycle."""
    panels = []
    for title, key in (
        ("time over that of one row", "over_one_row"),
        ("products a cycle", "products_per_cycle"),
    ):
        curves = {
            form: [(line["rows"], line[key], [line[key]]) for line in found["rows"]]
            for form, found in answer["formats"].items()
        }
        panels.append((title, {"curves": curves, "x": "rows", "y": title}))
    return panels


def _serve_panels(answer: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Throughput, then the percentiles of what a client waits for."""
    sides = answer["sides"]
    if answer["scenario"] == "long-prefill":
        during = _percentile_curves({name: side["gap_seconds_during"] for name, side in sides.items()})
        before = _percentile_curves({name: side["gap_seconds_without"] for name, side in sides.items()})
        title = f"gap between chunks while {answer['long_words']} words are read (dashed: before)"
        return [(title, {**during, "dashed": before["curves"]})]
    return [
        (
            "output tokens/s",
            {"bars": {name: side["output_tokens_per_second"] for name, side in sides.items()}},
        ),
        *(
            (title, _percentile_curves({name: side[key] for name, side in sides.items()}))
            for title, key in (
                ("time to first token, ms", "ttft_seconds"),
                ("gap between chunks, ms", "gap_seconds"),
            )
        ),
    ]


def _percentile_curves(found: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Any]:
    """One curve for each side: milliseconds over p50 to p99."""
    curves = {
        name: [
            (at, value["median"] * 1e3, [each * 1e3 for each in value["rounds"]])
            for at, value in enumerate(percentiles.values())
        ]
        if percentiles
        else []
        for name, percentiles in found.items()
    }
    return {"curves": curves, "x": "percentile", "y": "ms", "ticks": ("50", "90", "95", "99"), "log": True}


def _colour(place: int) -> str:
    return OURS_COLOUR if place == 0 else PEER_COLOURS[(place - 1) % len(PEER_COLOURS)]


def _bars(axes: Any, panel: Mapping[str, Any]) -> None:
    """A bar for each side's median, a whisker from its lowest to its highest round."""
    sides: Bars = panel["bars"]
    for place, (_name, side) in enumerate(sides.items()):
        median = side["median"]
        whisker = [[median - min(side["rounds"])], [max(side["rounds"]) - median]]
        axes.bar(place, median, color=_colour(place), width=0.6, yerr=whisker, capsize=4, ecolor="#444444")
        axes.annotate(
            f"{median:.0f}", (place, max(side["rounds"])), (0, 4), textcoords="offset points", ha="center"
        )
    axes.set_xticks(range(len(sides)), list(sides))
    axes.margins(y=0.12)
    axes.set_ylim(bottom=0)


def _curves(axes: Any, panel: Mapping[str, Any]) -> None:
    """A curve through each side's medians, and a band from its lowest to its highest rounds."""
    curves: Mapping[str, Points] = panel["curves"]
    dashed: Mapping[str, Points] = panel.get("dashed", {})
    for place, (name, points) in enumerate(curves.items()):
        _curve(axes, points, _colour(place), label=name)
        _curve(axes, dashed.get(name, ()), _colour(place), linestyle="--")
    drawn = any(curves.values())
    if "ticks" in panel:
        axes.set_xticks(range(len(panel["ticks"])), panel["ticks"])
    axes.set_xlabel(panel["x"])
    axes.set_ylabel(panel["y"])
    if panel.get("log") and drawn:
        _logarithmic(axes)
    else:
        axes.set_ylim(bottom=0)
    if drawn:
        axes.legend(frameon=False)


def _curve(axes: Any, points: Points, colour: str, **style: Any) -> None:
    """One side's medians and the band of its rounds; nothing when there are no points."""
    if not points:
        return
    across = [x for x, _, _ in points]
    axes.plot(across, [median for _, median, _ in points], marker="o", color=colour, **style)
    low, high = [min(rounds) for *_, rounds in points], [max(rounds) for *_, rounds in points]
    axes.fill_between(across, low, high, color=colour, alpha=0.2, linewidth=0)


def _logarithmic(axes: Any) -> None:
    """A logarithmic scale with plain numbers, at least from one step below all values to one above."""
    ticker: Any = importlib.import_module("matplotlib.ticker")
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low / 2, high * 2)
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, place: f"{value:g}"))
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.grid(axis="y", color="#eeeeee")
