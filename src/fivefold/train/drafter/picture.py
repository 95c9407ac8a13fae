"""What the curves of a drafter's training are drawn as: the loss, and what guesses are worth by slot."""

from __future__ import annotations

from collections.abc import Sequence

from fivefold.train.curves import COLOURS, GREY, Curve, Line, Panel, held_out


def panels(lines: Sequence[Line]) -> tuple[Panel, Panel, Panel]:
    """Three panels for these lines: loss, agreement by slot, tokens of a round by the number of guesses."""
    loss = Panel(
        "cross-entropy (nats)",
        [Curve(lambda line: line["loss"], "a step", GREY, width=0.8),
         Curve(held_out(lambda held: held["loss"]), "held out")],
    )  # fmt: skip
    slots = next((len(line["held_out"]["agreement"]) for line in lines if "held_out" in line), 0)
    return (
        loss,
        Panel("agreement, held out", [_by_slot("agreement", slot, "slot") for slot in range(slots)]),
        Panel("tokens a round, held out", [_by_slot("tokens", slot, "guesses:") for slot in range(slots)]),
    )


def _by_slot(figure: str, slot: int, word: str) -> Curve:
    found = held_out(lambda held: float(held[figure][slot]))
    return Curve(found, f"{word} {slot + 1}", COLOURS[slot % len(COLOURS)])
