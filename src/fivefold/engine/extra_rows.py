"""Which writers get rows for guesses: where the expected tokens of a second rise most.

Each writer needs one row, which brings one token. What further rows of it are worth, it says itself. They
are given in the order of their worth, over all writers, and as many as make the rate of the whole step
highest: few where a row costs much, and none where a full batch has used up what was free. Only worth and
seconds are known here: no decoding algorithm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

LEAST_GAIN = 1.02
"""By so much the rate must rise, for measured seconds are not exact."""


def extra_rows(
    worth: Sequence[Sequence[float]], rows: int, room: int, seconds: Callable[[int], float]
) -> tuple[list[int], float]:
    """For each writer its rows beyond the first, at most `room` together; and the tokens of a second then.

    worth    of each writer's further rows, never rising.
    rows     of the step without them.
    seconds  of a step by its rows.
    """
    offers = sorted(
        ((value, writer) for writer, each in enumerate(worth) for value in each),
        key=lambda offer: (-offer[0], offer[1]),
    )[: max(room, 0)]
    tokens = float(len(worth))
    plain = tokens / max(seconds(rows), 1e-9)
    best, count = plain * LEAST_GAIN, 0
    for more, (value, _) in enumerate(offers, start=1):
        tokens += value
        rate = tokens / max(seconds(rows + more), 1e-9)
        if rate > best:
            best, count = rate, more
    given = [0] * len(worth)
    for _, writer in offers[:count]:
        given[writer] += 1
    return given, best if count else plain
