"""q5_1: blocks of 32 five-bit codes above a minimum, with one f16 scale and one f16 minimum.

Layout of a block (24 bytes): f16 d, f16 m, then high bits and low nibbles as in q5_0. A number is
d * q + m. GGUF stores it so.
"""

from __future__ import annotations

from fivefold.formats.blocks import above_minimum

FORMAT = above_minimum("q5_1", 5)
