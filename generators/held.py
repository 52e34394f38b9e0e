"""A picture that changes in one place: any generator, held still outside a mask."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from generators.base import Generator, Image, Latent, Size


class Held:
    """A generator that begins with a guess and changes it only where a mask allows it.

    What the generator cannot reproduce of the guess (its residual) is carried along, so before the
    first update the picture is the guess itself, and fine detail outlives a coarse generator.
    """

    def __init__(self, generator: Generator, guess: Image, mask: Image, seed: int) -> None:
        """`guess` is where the run begins; it stays where `mask`, (1, 1, h, w) in 0..1, is 0."""
        self.inner, self.guess, self.mask = generator, guess, mask
        self.factor, self.step_size = generator.factor, generator.step_size
        size = (guess.shape[-2], guess.shape[-1])
        self.first = generator.project(generator.start(size, seed=seed, init=guess))
        self.local = generator.local
        self.free = torch.ones((), dtype=torch.bool)  # which cells may move
        if self.local:
            self.free = F.adaptive_max_pool2d(mask, self.first.shape[-2:]) > 0
        with torch.no_grad():
            self.residual = guess - generator.decode(self.first)

    def start(self, size: Size, *, seed: int, init: Image | None = None) -> Latent:
        """The latent of the guess, which was made once."""
        return self.first

    def decode(self, latent: Latent) -> Image:
        """The guess, changed where the mask allows it, in 0..1."""
        changed = (self.inner.decode(latent) + self.residual).clamp(0, 1)
        return torch.lerp(self.guess, changed, self.mask.expand_as(changed))

    def project(self, latent: Latent) -> Latent:
        """Bring back what moved; what may not move is as it was."""
        return torch.where(self.free, self.inner.project(latent), self.first)
