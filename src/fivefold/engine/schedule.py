"""How a step's rows are shared by the requests that read their prompts.

Writers come before all of this, and what is left of the step is the budget here. While several
prompts are read, each has its fair share, the oldest first and then the shortest, so that a short
prompt passes a long one and the long one still moves in every step. What one leaves goes to the others in
the same order. Only backlogs are known here: no pages, no decoding algorithm.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST_READERS = 4
"""Prompts that are read side by side; more would only make all of them late."""

LEAST_SHARE = 32
"""Rows that a prompt gets at least when the budget has them: a page."""


def shares(backlogs: Sequence[int], budget: int) -> dict[int, int]:
    """Rows for each prompt that is in the next step, by its index in `backlogs` (in order of arrival)."""
    if not backlogs or budget < 1:
        return {}
    later = sorted(range(1, len(backlogs)), key=lambda index: backlogs[index])
    queue = [0, *later][:MOST_READERS]
    fair = max(budget // len(queue), min(LEAST_SHARE, budget))
    rows = dict.fromkeys(queue, 0)
    for most in (fair, budget):
        for index in queue:
            more = min(backlogs[index] - rows[index], max(most - rows[index], 0), budget)
            rows[index] += more
            budget -= more
    return {index: count for index, count in rows.items() if count > 0}
