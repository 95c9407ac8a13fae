"""AdamW without decay (arXiv 1711.05101) on one vector, and the rate of each step.

The rate rises in a straight line, then falls to zero as half a cosine. Gradients longer than a bound are cut
to it. All that a run has beside its step number are the arrays here, so it is resumed with the same bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fivefold.core.batch import Float32


@dataclass(frozen=True, slots=True)
class Schedule:
    """Rates by step number, from 1 to `steps`."""

    rate: float
    warm_up: int
    steps: int

    def at(self, step: int) -> float:
        """The rate of that step."""
        if step <= self.warm_up:
            return self.rate * step / self.warm_up
        part = (step - self.warm_up) / max(self.steps - self.warm_up, 1)
        return self.rate * 0.5 * (1.0 + math.cos(math.pi * part))


class Adam:
    """The vector and the moments of its gradients."""

    def __init__(self, vector: Float32, clip: float) -> None:
        self.vector = torch.tensor(vector, requires_grad=True)
        self.first = torch.zeros(len(vector))
        self.second = torch.zeros(len(vector))
        self._clip = clip

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, gradient: Tensor, number: int, rate: float) -> float:
        """Move the vector against its gradient; the gradient's length before the cut."""
        length = float(gradient.norm())
        gradient = gradient * min(1.0, self._clip / max(length, 1e-12))
        fade, square_fade = 0.9, 0.95
        self.first.mul_(fade).add_(gradient, alpha=1 - fade)
        self.second.mul_(square_fade).addcmul_(gradient, gradient, value=1 - square_fade)
        size = (self.second / (1 - square_fade**number)).sqrt_().add_(1e-8)
        self.vector.addcdiv_(self.first, size, value=-rate / (1 - fade**number))
        return length

    def arrays(self) -> dict[str, Float32]:
        """All that is needed to go on."""
        held = {"vector": self.vector.detach(), "first": self.first, "second": self.second}
        return {name: tensor.numpy() for name, tensor in held.items()}

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def restore(self, arrays: dict[str, Float32]) -> None:
        """Go on from there; ValueError if the arrays have other lengths."""
        for name, tensor in (("vector", self.vector), ("first", self.first), ("second", self.second)):
            if arrays[name].shape != tuple(tensor.shape) or arrays[name].dtype != np.float32:
                raise ValueError(f"{name} has {arrays[name].shape} numbers")
            tensor.copy_(torch.from_numpy(arrays[name]))
