"""Quality and cost of eviction: every policy at every budget, on the same prompts.

What is measured and how was written down before: docs/decisions/0011-how-eviction-is-measured.md.
"""

from .figures import eviction_lines
from .prompts import Selected, chosen_sets
from .run import Quality, measure_quality

__all__ = ["Quality", "Selected", "chosen_sets", "eviction_lines", "measure_quality"]
