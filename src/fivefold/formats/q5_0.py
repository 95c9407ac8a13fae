"""q5_0: blocks of 32 five-bit codes around zero with one f16 scale.

Layout of a block (22 bytes): f16 d, 4 bytes of high bits (bit j of them is that of code j), then 16 bytes of
low nibbles; byte j holds code j in its low and code j + 16 in its high nibble. A number is d * (q - 16). GGUF
stores it so.
"""

from __future__ import annotations

from fivefold.formats.blocks import around_zero

FORMAT = around_zero("q5_0", 5)
