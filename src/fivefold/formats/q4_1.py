"""q4_1: blocks of 32 four-bit codes above a minimum, with one f16 scale and one f16 minimum.

Layout of a block (20 bytes): f16 d, f16 m, then 16 bytes; byte j holds code j in its low and code
j + 16 in its high nibble. A number is d * q + m. GGUF stores it so.
"""

from __future__ import annotations

from fivefold.formats.blocks import above_minimum

FORMAT = above_minimum("q4_1", 4)
