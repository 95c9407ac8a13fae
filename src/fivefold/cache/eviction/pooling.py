"""Scores pooled along slots: a neighbour of an important entry is important too (SnapKV, arXiv 2404.14469).

Text is made of pieces longer than a token, so entries are kept in runs. Windows are cut off at both ends, and
a mean is that of the slots which are there.
"""

from __future__ import annotations

import numpy as np

from fivefold.core.batch import Float32


def max_pool(scores: Float32, width: int) -> Float32:
    """(..., S) the highest score within `width` // 2 slots on each side; `width` is odd.

    Maxima of 1, 2, 4 and so on slots are made of one another, so that few passes do for any width.
    """
    reach = _reach(width)
    if not reach:
        return scores
    highest, covered = _padded(scores, reach, -np.inf), 1
    while covered < width:
        step = min(covered, width - covered)
        highest = np.maximum(highest[..., :-step], highest[..., step:])
        covered += step
    return highest


def average_pool(scores: Float32, width: int) -> Float32:
    """(..., S) the mean score within `width` // 2 slots on each side; `width` is odd."""
    reach, slots = _reach(width), scores.shape[-1]
    if not reach:
        return scores
    padded = _padded(scores, reach, 0)
    total = padded[..., :slots].copy()
    for shift in range(1, width):
        total += padded[..., shift : shift + slots]
    place = np.arange(slots)
    there = np.minimum(place + reach, slots - 1) - np.maximum(place - reach, 0) + 1
    total /= there.astype(np.float32)
    return total


def _reach(width: int) -> int:
    if width < 1 or width % 2 == 0:
        raise ValueError(f"scores are pooled over an odd number of slots, not {width}")
    return width // 2


def _padded(scores: Float32, reach: int, value: float) -> Float32:
    padded = np.full((*scores.shape[:-1], scores.shape[-1] + 2 * reach), value, np.float32)
    padded[..., reach : reach + scores.shape[-1]] = scores
    return padded
