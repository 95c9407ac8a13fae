"""q4_0: blocks of 32 four-bit codes around zero with one f16 scale.

Layout of a block (18 bytes): f16 d, then 16 bytes; byte j holds code j in its low and code j + 16
in its high nibble. A number is d * (q - 8). GGUF stores it so.
"""

from __future__ import annotations

from fivefold.formats.blocks import around_zero

FORMAT = around_zero("q4_0", 4)
