"""The image as a sum of images at several resolutions. No weights, any size.

Summing over resolutions makes coarse shapes as easy to move as fine grain, so that a plain CLIP
draws structure instead of noise (Direct Ascent Synthesis, arXiv 2502.07753).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from generators.base import Image, Latent, Size, noise
from generators.colour import from_colour, to_colour


def level_sizes(size: Size) -> list[Size]:
    """Full size, then half of it again and again until a side is one pixel."""
    height, width = size
    levels = min(height, width).bit_length()
    return [(height >> level, width >> level) for level in range(levels)]


def _boxes(size: Size) -> list[tuple[slice, slice]]:
    """Where each level lies in the sheet: the picture, and its halves stacked to its right."""
    (height, width), *halves = level_sizes(size)
    boxes, top = [(slice(0, height), slice(0, width))], 0
    for h, w in halves:
        boxes.append((slice(top, top + h), slice(width, width + w)))
        top += h
    return boxes


def _enlarge(level: Tensor, size: Size) -> Tensor:
    return F.interpolate(level, size, mode="bilinear", align_corners=False)


class Pyramid:
    """A picture as the sum of its enlarged levels.

    Latent: (1, 3, h, w + ceil(w / 2)), one sheet of all levels side by side, as mip maps are kept.
    """

    factor = 1
    step_size = 0.2
    local = False

    def __init__(self, device: str = "cpu") -> None:
        """Keep latents on this device."""
        self.device = device

    def start(self, size: Size, *, seed: int, init: Image | None = None) -> Latent:
        """Faint noise at every resolution, or a picture: fine levels hold what coarse ones miss."""
        if init is None:
            return (0.1 * noise((1, 3, *_sheet(size)), seed)).to(self.device)
        rest = from_colour(init.to(self.device))
        size = (rest.shape[-2], rest.shape[-1])
        sheet = rest.new_zeros((1, 3, *_sheet(size)))
        levels = list(zip(_boxes(size), level_sizes(size), strict=True))
        for (rows, columns), level_size in reversed(levels):
            level = F.interpolate(rest, level_size, mode="area")
            sheet[..., rows, columns] = level
            rest = rest - _enlarge(level, size)
        return sheet

    def decode(self, latent: Latent) -> Image:
        """Enlarge every level to the full size, add them up, mix the colours."""
        size = _picture(latent)
        levels = [_enlarge(latent[..., rows, columns], size) for rows, columns in _boxes(size)]
        return to_colour(torch.stack(levels).sum(dim=0))

    def project(self, latent: Latent) -> Latent:
        """Every sheet is a picture: nothing to do."""
        return latent


def _sheet(size: Size) -> Size:
    height, width = size
    return height, width + (width + 1) // 2


def _picture(sheet: Tensor) -> Size:
    """The inverse of `_sheet`: w + ceil(w / 2) = s has the one solution w = floor(2 s / 3)."""
    return sheet.shape[-2], sheet.shape[-1] * 2 // 3
