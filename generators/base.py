"""What a generator is: three methods, and two gradients that several of them share."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

Image = Tensor  # (b, 3, h, w), float, 0..1
Latent = Tensor  # any shape its generator likes
Size = tuple[int, int]  # (height, width) in pixels


class Generator(Protocol):
    """Anything that turns a latent into a picture.

    `factor` divides every height and width it can make; `step_size` is the length of an update
    (in units of its latent) that suits it when nobody asks for another. `local`: whether each cell
    of its latent, (1, d, rows, columns), belongs to a place in the picture.
    """

    factor: int
    step_size: float
    local: bool

    def start(self, size: Size, *, seed: int, init: Image | None = None) -> Latent:
        """Return a latent to begin with: random, or the one that decodes to `init`."""
        ...

    def decode(self, latent: Latent) -> Image:
        """Return the picture of a latent, differentiable, in 0..1."""
        ...

    def project(self, latent: Latent) -> Latent:
        """Bring a latent back to where the generator knows its way; twice is once."""
        ...


class _ClampWithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        outside = x - x.clamp(0, 1)
        return gradient * (gradient * outside >= 0)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, latent: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


def clamp_with_gradient(x: Tensor) -> Image:
    """Clamp to 0..1; outside, let only the gradient through that would bring the pixel back.

    A plain clamp has no gradient outside, so a pixel that left the range would never return.
    """
    return _ClampWithGradient.apply(x)


def straight_through(value: Tensor, latent: Tensor) -> Tensor:
    """Return `value`; hand its gradient to `latent` unchanged (Bengio et al., arXiv 1308.3432)."""
    return _StraightThrough.apply(value, latent)


def noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal numbers from a seed, drawn on the CPU so that every device gets the same."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
