"""E2M1, the four-bit floats of MXFP4 and NVFP4: a sign and 0, 0.5, 1, 1.5, 2, 3, 4 or 6.

As in OCP's Microscaling formats.
"""

from __future__ import annotations

import numpy as np

from fivefold.formats.format import Bytes, Float32

VALUES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
"""What the codes stand for; 8 is minus zero."""

LARGEST = np.float32(6.0)

_BETWEEN = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], np.float32)
_UP = np.nextafter(_BETWEEN, np.float32(10.0))
# On ties the even code is taken: those between 0 and 1, 2 and 3, 4 and 5, 6 and 7 go down, the others up.
_LIMITS = np.where(np.arange(7) % 2 == 0, _UP, _BETWEEN).astype(np.float32)


def nearest(scaled: Float32) -> Bytes:
    """The code of the number nearest to each, the even one on ties; past 6 that of 6. Zeros have no sign."""
    codes = np.searchsorted(_LIMITS, np.abs(scaled), side="right").astype(np.uint8)
    return codes | np.where((scaled < 0) & (codes > 0), np.uint8(8), np.uint8(0))
