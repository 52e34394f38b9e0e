"""A prior over codes, for the levers: what cells does a neighbourhood lead one to expect?

A small network learns to fill in hidden cells of composed scenes from those around them. In the
loop every step is followed by a small one towards what it expects: a prior by plugging in a network
that mends (Venkatakrishnan et al., "Plug-and-Play Priors", 2013).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from generators.base import Latent
from generators.pocket_net import Residual
from generators.vqgan import VQGAN
from training.course import pace
from training.scenes import Studio, single

STEPS, BATCH, SIDE, RATE, SEED = 800, 16, 128, 1e-3, 6


class Expected(nn.Sequential):
    """Cells with some hidden, and which: (b, d + 1, h, w) -> all cells, (b, d, h, w)."""

    def __init__(self, width: int, inner: int = 128) -> None:
        """``width``: numbers of a cell."""
        middle = [Residual(inner) for _ in range(5)]
        super().__init__(
            nn.Conv2d(width + 1, inner, 3, 1, 1), *middle, nn.Conv2d(inner, width, 3, 1, 1)
        )

    def guess(self, cells: Tensor, hidden: Tensor) -> Tensor:
        """``hidden``: (b, 1, h, w), 1 where a cell must not be seen."""
        guessed: Tensor = self(torch.cat([cells * (1 - hidden), hidden], dim=1))
        return guessed


class Likely(VQGAN):
    """The same generator; whatever moves its cells, they stay near what a neighbourhood expects."""

    def __init__(self, generator: VQGAN, prior: Expected, share: float) -> None:
        """``share``: of the way to what is expected, each step."""
        super().__init__(generator.network, generator.precision)
        self._prior, self._share = prior, share

    @torch.no_grad()
    def project(self, latent: Latent) -> Latent:
        """Half of the cells, as on a chess board, are guessed from the others, then those."""
        latent = super().project(latent)
        cells, (h, w) = self.quantise(latent), latent.shape[-2:]
        white = ((torch.arange(h)[:, None] + torch.arange(w)) % 2).to(latent)[None, None]
        guessed = self._prior.guess(cells, white) * white
        guessed = guessed + self._prior.guess(cells, 1 - white) * (1 - white)
        return latent.lerp(guessed, self._share)


def learn(
    prior: Expected, generator: VQGAN, studio: Studio, steps: int = STEPS, batch: int = BATCH
) -> Expected:
    """Train on cells of a studio's scenes."""
    torch.manual_seed(SEED)
    optimiser = torch.optim.AdamW(prior.parameters(), lr=RATE)
    spread = generator.codebook.var()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * pace(step / steps, step, 50)
        cells = cells_of(generator, studio, np.random.default_rng((SEED, step)), batch)
        share = torch.rand(len(cells), 1, 1, 1)
        hidden = (torch.rand(len(cells), 1, *cells.shape[-2:]) < share).float()
        error = (prior.guess(cells, hidden) - cells).square().mean(dim=1, keepdim=True)
        loss = (error * hidden).sum() / hidden.sum().clamp(min=1) / spread
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 100 == 0:
            print(f"prior over codes: step {step}, unexplained {loss.item():.3f}", flush=True)
    return prior.eval().requires_grad_(False)


@torch.no_grad()
def cells_of(generator: VQGAN, studio: Studio, rng: np.random.Generator, batch: int) -> Tensor:
    """A batch of scenes as snapped cells, (b, d, h, w)."""
    scenes = np.stack([single(rng, studio)[0].picture for _ in range(batch)]).clip(0, 1)
    pictures = torch.from_numpy(scenes).permute(0, 3, 1, 2).float()
    return generator.quantise(generator.encode(pictures))
