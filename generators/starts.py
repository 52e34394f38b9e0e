"""Pictures to begin with: a plain ground or noise, the same for every generator."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from generators.base import Image, Size

_PAPER = 0.92  # light grey: on it a guide draws whole objects with quiet grounds around them


def flat(size: Size, seed: int) -> Image:
    """Light grey paper."""
    return torch.full((1, 3, *size), _PAPER)


def uniform(size: Size, seed: int) -> Image:
    """Every pixel a colour of its own."""
    return _draw((1, 3, *size), seed)


def gradient(size: Size, seed: int) -> Image:
    """Four random colours in the corners, blended between them."""
    corners = _draw((1, 3, 2, 2), seed)
    return F.interpolate(corners, size, mode="bilinear", align_corners=True)


def fractal(size: Size, seed: int) -> Image:
    """Clouds: noise of every scale, each octave half as fine and twice as strong as the last."""
    levels = range(1, min(size).bit_length())
    octaves = [
        _draw((1, 3, size[0] >> level, size[1] >> level), seed + level) - 0.5 for level in levels
    ]
    clouds = torch.zeros(1, 3, *size)
    for level, octave in zip(levels, octaves, strict=True):
        clouds += 2**level * F.interpolate(octave, size, mode="bicubic", align_corners=False)
    return (0.5 + 0.2 * clouds / clouds.std().clamp(min=1e-6)).clamp(0, 1)


def _draw(shape: tuple[int, ...], seed: int) -> Image:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


STARTS: dict[str, Callable[[Size, int], Image] | None] = {
    "flat": flat,
    "codes": None,  # the generator's own random latent
    "uniform": uniform,
    "fractal": fractal,
    "gradient": gradient,
}
