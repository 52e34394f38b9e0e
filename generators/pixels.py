"""The latent is the image itself. No weights; the simplest generator there can be."""

from __future__ import annotations

from generators.base import Image, Latent, Size, clamp_with_gradient, noise


class Pixels:
    """A picture whose every pixel moves freely. Latent: (1, 3, h, w), 0..1."""

    factor = 1
    step_size = 0.12
    local = True

    def __init__(self, device: str = "cpu") -> None:
        """Keep latents on this device."""
        self.device = device

    def start(self, size: Size, *, seed: int, init: Image | None = None) -> Latent:
        """Grey with a little noise, or the picture itself."""
        if init is not None:
            return init.to(self.device).clone()
        return (0.5 + 0.1 * noise((1, 3, *size), seed)).clamp(0, 1).to(self.device)

    def decode(self, latent: Latent) -> Image:
        """The latent, kept in range."""
        return clamp_with_gradient(latent)

    def project(self, latent: Latent) -> Latent:
        """Clamp to 0..1."""
        return latent.clamp(0, 1)
