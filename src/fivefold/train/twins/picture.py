"""What the curves of a twin's training are drawn as: the loss, bits a token held out, and how sure it is."""

from __future__ import annotations

from math import log

from fivefold.train.curves import COLOURS, GREY, Curve, Panel, held_out


def panels() -> tuple[Panel, Panel]:
    """Two panels: bits a token, and shares of tokens."""
    bits = [
        Curve(lambda line: line["loss"] / log(2), "a step", GREY, width=0.8),
        Curve(held_out(lambda held: float(held["bits"])), "held out, one after the other"),
    ]
    shares = [
        Curve(held_out(lambda held: float(held["right"])), "right", COLOURS[0]),
        Curve(held_out(lambda held: float(held["sure"])), "sure", COLOURS[1]),
        Curve(held_out(lambda held: float(held["sure_right"])), "right among the sure", COLOURS[2]),
    ]
    return Panel("bits a token", bits), Panel("share of tokens, held out", shares)
