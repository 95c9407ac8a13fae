"""nvfp4: parts of 16 numbers of E2M1 with one E4M3 scale each, and one float32 factor for the whole tensor.

Layout of a block of 64 (36 bytes), as GGUF stores it: the scales of its four parts, then 8 bytes for each
part; byte j of a part holds code j in its low and code j + 8 in its high nibble. A number is scale * E2M1.
Scales have no sign: that bit is ignored. 0x7f is NaN. The tensor's factor lies beside the blocks
(`Tensor.scales`), in GGUF in a tensor of its own. Source: NVIDIA's NVFP4, ggml-common.h (block_nvfp4).
"""

from __future__ import annotations

import numpy as np

from fivefold.core.errors import FivefoldError
from fivefold.formats import e2m1, e4m3
from fivefold.formats.format import Bytes, Float32, Format, stored_blocks, value_blocks

BLOCK = 64
BLOCK_BYTES = 36
PART = 16
PARTS = BLOCK // PART
LARGEST = np.float32(6.0 * 448.0)
"""The largest number that a part can hold."""


def unpack(data: Bytes, count: int) -> Float32:
    """Stored blocks -> float32 (count,), exact."""
    scales, codes = split(stored_blocks("nvfp4", data, count, BLOCK, BLOCK_BYTES))
    return (e4m3.VALUES[scales][:, None] * e2m1.VALUES[codes]).reshape(-1)


def pack(values: Float32) -> Bytes:
    """Float32 (count,) -> stored blocks: each part's scale is its largest magnitude over 6, nearest even.

    FivefoldError for a scale past 448: divide by the tensor's factor first.
    """
    parts = value_blocks("nvfp4", values, BLOCK).reshape(-1, PART)
    wanted = np.abs(parts).max(axis=1) / e2m1.LARGEST
    if (wanted > e4m3.MOST).any():
        index = int(np.flatnonzero(wanted > e4m3.MOST)[0])
        raise FivefoldError(
            f"part {index} needs a scale of {wanted[index]:g}, more than E4M3 can hold", where="nvfp4",
            remedy="divide by a factor for the whole tensor first",
        )  # fmt: skip
    return fit(parts, wanted)


def fit(parts: Float32, wanted: Float32) -> Bytes:
    """Parts (n, 16) -> stored blocks, with the scales nearest to those wanted (n,), the least for 0."""
    scales = np.maximum(e4m3.nearest(wanted), (wanted > 0).astype(np.uint8))
    return join(scales, codes_for(parts, e4m3.VALUES[scales]))


def codes_for(parts: Float32, scales: Float32) -> Bytes:
    """The nearest codes of parts (n, 16) with scales (n,); zeros where the scale is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = parts / scales[:, None]
    return e2m1.nearest(np.where(scales[:, None] > 0, scaled, np.float32(0.0)))


def split(blocks: Bytes) -> tuple[Bytes, Bytes]:
    """Stored blocks (blocks, 36) -> scales (parts,) without a sign and codes (parts, 16)."""
    packed = blocks[:, PARTS:].reshape(-1, PART // 2)
    codes: Bytes = np.concatenate([packed & 15, packed >> 4], axis=1)
    return (blocks[:, :PARTS] & np.uint8(0x7F)).reshape(-1), codes


def join(scales: Bytes, codes: Bytes) -> Bytes:
    """Scales (parts,) and codes (parts, 16) -> stored blocks, flat; the inverse of `split`."""
    packed = codes[:, : PART // 2] | codes[:, PART // 2 :] << 4
    return np.concatenate(
        [scales.reshape(-1, PARTS), packed.reshape(-1, BLOCK_BYTES - PARTS)], axis=1
    ).reshape(-1)


FORMAT = Format("nvfp4", BLOCK, BLOCK_BYTES, quantized=True, unpack=unpack, pack=pack)
