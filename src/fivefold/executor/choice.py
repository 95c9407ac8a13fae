"""The choice of a token in the compiled core: over a whole vocabulary, in a fraction of numpy's time.

Which rules there are, and the reference they are tested against, is `decode`'s matter.
"""

from __future__ import annotations

from fivefold._native import draw, largest_logit

__all__ = ["draw", "largest_logit"]
