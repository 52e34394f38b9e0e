"""The classic loop, as VQGAN+CLIP programs have run it since 2021: what ours is measured against.

Written from the description of nerdyrodent/VQGAN-CLIP 592d555 in its default settings: full
precision, the published networks as they are, and every habit that costs time left in. Not for use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kornia.augmentation as K
import torch
import torch.nn.functional as F
from taming.modules.diffusionmodules.model import AttnBlock
from torch import Tensor, nn

from generators import vqgan
from generators.base import Image, Latent, clamp_with_gradient, straight_through

STEP_SIZE, NOISE = 0.1, 0.1
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def vector_quantise(x: Tensor, codebook: Tensor) -> Tensor:
    """(b, h, w, d) -> the nearest codes, by a one-hot product with the whole codebook."""
    squares = x.square().sum(dim=-1, keepdim=True) + codebook.square().sum(dim=1)
    nearest = (squares - 2 * x @ codebook.T).argmin(dim=-1)
    codes = F.one_hot(nearest, len(codebook)).to(x.dtype) @ codebook
    return straight_through(codes, x)


class Cutouts(nn.Module):
    """The method 'latest' with the augmentations `Af Pe Ji Er`: (1, 3, h, w) -> (n, 3, s, s)."""

    def __init__(self, count: int, side: int) -> None:
        """`count` cutouts of `side` pixels."""
        super().__init__()
        self.count = count
        self.average, self.largest = nn.AdaptiveAvgPool2d(side), nn.AdaptiveMaxPool2d(side)
        self.augment = nn.Sequential(
            K.RandomAffine(15, (0.1, 0.1), shear=5, p=0.7, padding_mode="zeros", keepdim=True),
            K.RandomPerspective(0.7, p=0.7),
            K.ColorJitter(0.1, 0.1, 0.1, 0.1, p=0.7),
            K.RandomErasing((0.1, 0.4), (0.3, 1 / 0.3), same_on_batch=True, p=0.7),
        )

    def forward(self, image: Image) -> Tensor:
        """The whole picture, pooled once for every cutout, augmented in one batch; noise on top."""
        pooled = [(self.average(image) + self.largest(image)) / 2 for _ in range(self.count)]
        views = self.augment(torch.cat(pooled))
        strength = views.new_empty(self.count, 1, 1, 1).uniform_(0, NOISE)
        return views + strength * torch.randn_like(views)


def prompt_loss(views: Tensor, goal: Tensor) -> Tensor:
    """Mean of 2 asin^2(|u - v| / 2): half the squared angle. (n, d), (t, d) -> scalar."""
    apart = F.normalize(views[:, None], dim=2) - F.normalize(goal[None], dim=2)
    return (apart.norm(dim=2) / 2).arcsin().square().mul(2).mean()


class Loop:
    """One run: `step` makes one update, the way the classic programs do."""

    def __init__(
        self,
        network: vqgan.Published,
        clip: Any,  # an open_clip model
        goal: Tensor,  # (t, d)
        *,
        size: int,
        cutouts: int,
        side: int,
        precision: torch.dtype = torch.float32,
    ) -> None:
        """Begin at random codes. `precision` is for the naive modern variant."""
        self.network = network.eval().requires_grad_(False)
        self.visual = clip.visual.eval().requires_grad_(False).to(precision)
        self.goal, self.precision = goal, precision
        self.codebook = network.codebook.detach().clone()
        self.low = self.codebook.min(dim=0).values[None, :, None, None]
        self.high = self.codebook.max(dim=0).values[None, :, None, None]
        for part in (network.decoder, network.post_quant_conv):
            part.to(precision)
        device = self.codebook.device
        self.mean, self.std = (torch.tensor(v, device=device)[:, None, None] for v in (MEAN, STD))
        self.cutouts = Cutouts(cutouts, side)
        cells = size // network.factor
        picks = torch.randint(len(self.codebook), (1, cells, cells), device=device)
        self.latent: Latent = self.codebook[picks].permute(0, 3, 1, 2).clone().requires_grad_()
        self.adam = torch.optim.Adam([self.latent], lr=STEP_SIZE)

    def synthesise(self) -> Image:
        """The picture of the latent."""
        codes = vector_quantise(self.latent.movedim(1, 3), self.codebook).movedim(3, 1)
        network = self.network
        decoded = network.decoder(network.post_quant_conv(codes.to(self.precision)))
        return clamp_with_gradient((decoded.float() + 1) / 2)

    def step(self) -> None:
        """One update."""
        self.adam.zero_grad(set_to_none=True)
        views = (self.cutouts(self.synthesise()) - self.mean) / self.std
        loss = prompt_loss(self.visual(views.to(self.precision)).float(), self.goal)
        loss.backward()
        self.adam.step()
        with torch.no_grad():
            self.latent.copy_(self.latent.maximum(self.low).minimum(self.high))


def fuse_attention(decoder: nn.Module) -> None:
    """Give the decoder torch's fused attention, as one would today; open_clip has it already."""
    for block in decoder.modules():
        if isinstance(block, AttnBlock):
            block.forward = _fused(block)


def _fused(block: AttnBlock) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        normal = block.norm(x)
        q, k, v = (part(normal).flatten(2).mT[:, None] for part in (block.q, block.k, block.v))
        seen = F.scaled_dot_product_attention(q, k, v)[:, 0].mT.unflatten(2, x.shape[2:])
        return x + block.proj_out(seen)

    return forward
