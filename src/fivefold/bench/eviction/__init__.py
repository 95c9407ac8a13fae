"""Quality and cost of eviction: every policy at every budget, on the same prompts.

What is measured and how was written down before: docs/decisions/0011-how-eviction-is-measured.md.
"""

from .cost import Cost, cost_lines, measure_cost
from .figures import eviction_lines
from .picture import draw_eviction
from .prompts import Selected, chosen_sets
from .run import Quality, check_measured, measure_quality

__all__ = [
    "Cost", "Quality", "Selected", "check_measured", "chosen_sets", "cost_lines", "draw_eviction",
    "eviction_lines", "measure_cost", "measure_quality",
]  # fmt: skip
