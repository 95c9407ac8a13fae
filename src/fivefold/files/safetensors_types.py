"""The table of safetensors types: what the headers of files call their number formats.

A row says what the format is called here and how many bits a number takes, which is all that is needed
to find where a tensor ends. It does not say that this build can compute with it: that is for `formats`
to answer, when the tensor is used. Names and sizes are those of safetensors 0.7.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SAFETENSORS_TYPES: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "F64": ("f64", 64),
        "F32": ("f32", 32),
        "F16": ("f16", 16),
        "BF16": ("bf16", 16),
        "F8_E4M3": ("f8_e4m3", 8),
        "F8_E5M2": ("f8_e5m2", 8),
        "F8_E4M3FNUZ": ("f8_e4m3fnuz", 8),
        "F8_E5M2FNUZ": ("f8_e5m2fnuz", 8),
        "F8_E8M0": ("f8_e8m0", 8),
        "F6_E2M3": ("f6_e2m3", 6),
        "F6_E3M2": ("f6_e3m2", 6),
        "F4": ("f4", 4),
        "C64": ("c64", 64),
        "I64": ("i64", 64),
        "I32": ("i32", 32),
        "I16": ("i16", 16),
        "I8": ("i8", 8),
        "U64": ("u64", 64),
        "U32": ("u32", 32),
        "U16": ("u16", 16),
        "U8": ("u8", 8),
        "BOOL": ("bool", 8),
    }
)
"""The format's name here, and the bits of one number, by the name in files."""

SAFETENSORS_FORMATS: Mapping[str, tuple[str, int]] = MappingProxyType(
    {form: (kind, bits) for kind, (form, bits) in SAFETENSORS_TYPES.items()}
)
"""The name in files, and the bits of one number, by the format's name here."""
