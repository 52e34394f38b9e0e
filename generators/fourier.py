"""The image as a spectrum of decorrelated colours. No weights, any size.

Moving waves instead of pixels lets one update change the whole picture, and slow waves first
(Olah, Mordvintsev and Schubert, "Feature Visualization", Distill 2017).
"""

from __future__ import annotations

import torch
from torch import Tensor

from generators.base import Image, Latent, Size, noise
from generators.colour import from_colour, to_colour


def hartley(x: Tensor) -> Tensor:
    """The two-dimensional Hartley transform, orthonormal and its own inverse.

    It is the Fourier transform written in real numbers only, so a spectrum has the very shape of
    its picture at every size, odd ones too.
    """
    waves = torch.fft.fft2(x, norm="ortho")
    return waves.real - waves.imag


def falloff(height: int, width: int) -> Tensor:
    """How strongly each wave counts: 1 / frequency, as in photographs; mean square one."""
    y = torch.fft.fftfreq(height)[:, None]
    x = torch.fft.fftfreq(width)[None, :]
    frequency = (x.square() + y.square()).sqrt().clamp(min=1 / max(height, width))
    scale = 1 / frequency
    return scale / scale.square().mean().sqrt()  # (h, w)


class Fourier:
    """A picture as a sum of waves. Latent: (1, 3, h, w), unbounded, colours decorrelated."""

    factor = 1
    step_size = 0.6
    local = False

    def __init__(self, device: str = "cpu") -> None:
        """Keep latents on this device."""
        self.device = device

    def start(self, size: Size, *, seed: int, init: Image | None = None) -> Latent:
        """Soft coloured clouds around grey, or the spectrum of a picture."""
        if init is None:
            return (0.2 * noise((1, 3, *size), seed)).to(self.device)
        init = init.to(self.device)
        return hartley(from_colour(init)) / falloff(*init.shape[-2:]).to(init)

    def decode(self, latent: Latent) -> Image:
        """Add up the waves, mix the colours."""
        return to_colour(hartley(latent * falloff(*latent.shape[-2:]).to(latent)))

    def project(self, latent: Latent) -> Latent:
        """Every spectrum is a picture: nothing to do."""
        return latent
