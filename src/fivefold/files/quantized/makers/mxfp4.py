"""MXFP4 as GPT-OSS has it: the matrices of all experts of a layer in one tensor of codes and one of scales.

`X_blocks` (E, M, K / 32, 16) and `X_scales` (E, M, K / 32) become one tensor `X.weight` (E, M, K): each
expert's matrix has its outputs as rows, unlike the float tensor that Transformers makes of them, which is (E,
K, M).

Source: Transformers, integrations/mxfp4.py; the README of GPT-OSS ("Precision format").
"""

from __future__ import annotations

from fivefold.files.quantized.declaration import Declaration, Declared
from fivefold.files.quantized.layouts import Mxfp4
from fivefold.files.quantized.patterns import Listed

METHODS = ("mxfp4",)


def read(config: Declaration) -> Declared:
    """The one scheme that the config declares."""
    config.refuse_unknown({"quant_method", "modules_to_not_convert", "dequantize"})
    kept, scheme = Listed(config.names("modules_to_not_convert")), Mxfp4("blocks", "scales", blocked=True)
    return Declared("MXFP4", lambda module: None if module in kept else scheme, joint="_")
