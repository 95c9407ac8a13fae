"""FBGEMM's FP8, as Meta published Llama 3.1 405B: one factor for each row of a matrix.

`activation_scale_ub` bounds the scale that activations are rounded with; here they are not rounded so.

Source: Transformers, integrations/fbgemm_fp8.py.
"""

from __future__ import annotations

from fivefold.files.quantized.declaration import Declaration, Declared
from fivefold.files.quantized.layouts import Fp8
from fivefold.files.quantized.patterns import Listed

METHODS = ("fbgemm_fp8",)


def read(config: Declaration) -> Declared:
    """The one scheme that the config declares."""
    config.refuse_unknown(
        {"quant_method", "activation_scale_ub", "modules_to_not_convert", "kv_cache_scheme"}
    )
    config.check_cache("kv_cache_scheme")
    kept, scheme = Listed(config.names("modules_to_not_convert")), Fp8("row")
    return Declared("FBGEMM's FP8", lambda module: None if module in kept else scheme)
