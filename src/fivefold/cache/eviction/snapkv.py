"""The attention of the prompt's last rows, pooled: SnapKV (Li et al., arXiv 2404.14469).

The end of a prompt is most often the question, so what it looks at is what the answer needs. Window 32 and a
maximum over 7 slots, as in the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass

from .scored import Scored


@dataclass(frozen=True, slots=True)
class SnapKV(Scored):
    """Rows of the window observe."""

    name: str = "snapkv"


POLICY = SnapKV()
