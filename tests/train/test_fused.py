"""Norm and rotation with gradients of their own, against torch's and against differences."""

from __future__ import annotations

import torch
from torch.nn import functional

from fivefold.train.fused import rms_norm, turned


def drawn(*shape: int) -> torch.Tensor:
    made = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, dtype=torch.float64, generator=made).requires_grad_()


def test_the_norm_is_that_of_torch_and_so_are_its_gradients() -> None:
    x, weight = drawn(2, 5, 3, 8), drawn(8)
    assert torch.autograd.gradcheck(lambda *given: rms_norm(*given, 1e-3), (x, weight))
    found, right = rms_norm(x, weight, 1e-3), functional.rms_norm(x, (8,), weight, 1e-3)
    torch.testing.assert_close(found, right, rtol=1e-12, atol=1e-12)
    aim = drawn(2, 5, 3, 8).detach()
    for one, other in zip(
        torch.autograd.grad((found * aim).sum(), (x, weight)),
        torch.autograd.grad((right * aim).sum(), (x, weight)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_rows_and_gradients_may_lie_in_another_order() -> None:
    x, weight, aim = drawn(2, 5, 8), drawn(8), drawn(5, 2, 8).detach()
    before = torch.autograd.grad((rms_norm(x.transpose(0, 1), weight, 1e-3) * aim).sum(), (x, weight))
    behind = torch.autograd.grad((rms_norm(x, weight, 1e-3).transpose(0, 1) * aim).sum(), (x, weight))
    torch.testing.assert_close(before, behind, rtol=1e-12, atol=1e-12)


def test_the_rotation_turns_pairs_in_halves() -> None:
    x, angle = drawn(2, 5, 3, 8), drawn(5, 1, 4).detach()
    assert torch.autograd.gradcheck(lambda rows: turned(rows, angle.cos(), angle.sin()), (x,))
    pairs = torch.complex(*x.chunk(2, -1)) * torch.polar(torch.ones_like(angle), angle)
    torch.testing.assert_close(turned(x, angle.cos(), angle.sin()), torch.cat([pairs.real, pairs.imag], -1))
