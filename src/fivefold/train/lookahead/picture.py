"""What the curves of a lookahead module's training are drawn as: the loss, and recall by budget."""

from __future__ import annotations

from collections.abc import Sequence

from fivefold.train.curves import COLOURS, GREY, Curve, Line, Panel, held_out


def panels(lines: Sequence[Line]) -> tuple[Panel, Panel]:
    """Two panels for these lines, which have "kl", and "recall", "single" and "best" of what is held out."""
    loss = Panel(
        "KL (nats)",
        [Curve(lambda line: line["kl"], "a step", GREY, width=0.8),
         Curve(held_out(lambda held: held["kl"]), "held out")],
        scale="log",
    )  # fmt: skip
    held = [line["held_out"] for line in lines if "held_out" in line]
    curves, across = [], []
    for number, budget in enumerate(held[-1]["recall"] if held else ()):
        colour = COLOURS[number % len(COLOURS)]
        for figure, label, style in (("recall", f"{budget} entries", "-"), ("single", "", "--")):
            found = held_out(lambda one, figure=figure, budget=budget: one[figure][budget])  # type: ignore[misc]
            curves.append(Curve(found, label, colour, style))
        across.append((held[-1]["best"][budget], colour))
    return loss, Panel("recall (dashed: unpooled, dotted: the best)", curves, across)
