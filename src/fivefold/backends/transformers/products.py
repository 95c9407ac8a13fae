"""Products of a few rows with float32 matrices, which torch by itself does slowly on x86-64.

torch hands them to MKL, which packs the matrix anew for each product of four rows and more: 8 rows take three
times as long as one. oneDNN, which torch brings as well, takes the matrix as it lies and 1.7 times as long
(docs/log.md). So the linear layers of a model are given another forward. Their weights stay what and where
they are. bf16 goes to oneDNN anyway.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from .pages import Tensor

FROM_ROWS = 4
"""Rows from which on oneDNN is faster."""


def speed_up(model: Any) -> None:
    """Give the float32 linear layers of a model oneDNN's products, where this torch has them."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return
    for module in model.modules():
        if type(module) is torch.nn.Linear and module.weight.dtype == torch.float32:
            module.forward = partial(_product, module)


def _product(layer: Any, rows: Tensor) -> Tensor:
    """Rows (..., K) times the layer's matrix (M, K), and its bias."""
    count = rows.numel() // rows.shape[-1]
    if count < FROM_ROWS:
        return torch.nn.functional.linear(rows, layer.weight, layer.bias)
    return torch.ops.mkldnn._linear_pointwise(rows.contiguous(), layer.weight, layer.bias, "none", [], "")
