"""Norm and rotation of rows with gradients of their own: the same sums in half the passes over memory.

Torch makes both of small steps on a processor, and keeps what each of them needs; for rows of a small model
that takes a fifth of a step of training.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """(..., N) by the root of each row's mean square, times (N,); as `functional.rms_norm`."""
    normed: Tensor = _Norm.apply(x, weight, eps)
    return normed


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(..., D) turned by angles whose cosines and sines (..., D / 2) fit its rows, pairs in halves."""
    found: Tensor = _Turn.apply(x, cos, sin)
    return found


class _Norm(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        width = x.shape[-1]
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        inverse = square.div_(width).add_(eps).rsqrt_()
        unit = x * inverse
        ctx.save_for_backward(unit, inverse, weight)
        return unit * weight

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, inverse, weight = ctx.saved_tensors
        width = weight.shape[0]
        along = (gradient * unit).reshape(-1, width)
        mean = (along @ weight).div_(-width).view(inverse.shape)
        return (gradient * weight).addcmul_(unit, mean).mul_(inverse), along.sum(0), None


class _Turn(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin, 1.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(gradient, cos, sin, -1.0), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, sign: float) -> Tensor:
    low, high = x.chunk(2, -1)
    made = torch.empty_like(x, memory_format=torch.contiguous_format)
    first, second = made.chunk(2, -1)
    torch.mul(low, cos, out=first).addcmul_(high, sin, value=-sign)
    torch.mul(high, cos, out=second).addcmul_(low, sin, value=sign)
    return made
