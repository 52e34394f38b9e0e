"""A picture whose lightness stays: only its colours move, softly. No weights.

Colours are those of Oklab (Ottosson 2020, https://bottosson.github.io/posts/oklab/), in which
equal lightness looks equally light.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from generators.base import Image, Latent, Size, clamp_with_gradient

# linear sRGB -> cone responses, and their cube roots -> lightness and two opponent colours
_CONES = torch.tensor(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_OPPONENTS = torch.tensor(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_REACH = 0.25  # how far a colour may move; pure blue is .32 away from grey


class Chroma:
    """One picture, recoloured. Latent: (1, 2, h / 8, w / 8), what is added to its colours."""

    factor = 8
    step_size = 0.002
    local = True

    def __init__(self, picture: Image) -> None:
        """Remember lightness and colours of `picture`, (1, 3, h, w)."""
        self.lab = to_oklab(picture)

    def start(self, size: Size, *, seed: int, init: Image | None = None) -> Latent:
        """Nothing added yet; `init` is the picture that it was made for."""
        rows, columns = (side // self.factor for side in size)
        return self.lab.new_zeros(1, 2, rows, columns)

    def decode(self, latent: Latent) -> Image:
        """The picture with other colours, in 0..1."""
        added = F.interpolate(latent, self.lab.shape[-2:], mode="bilinear")
        return clamp_with_gradient(from_oklab(self.lab + F.pad(added, (0, 0, 0, 0, 1, 0))))

    def project(self, latent: Latent) -> Latent:
        """Clamp to colours that exist."""
        return latent.clamp(-_REACH, _REACH)


def to_oklab(image: Image) -> Tensor:
    """(b, 3, h, w) in 0..1 -> lightness in 0..1 and two colours around 0."""
    linear = torch.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)
    cones = _mix(_CONES, linear).clamp(min=0) ** (1 / 3)
    return _mix(_OPPONENTS, cones)


def from_oklab(lab: Tensor) -> Tensor:
    """The inverse of `to_oklab`; colours that no screen can show come out beyond 0..1."""
    cones = _mix(torch.linalg.inv(_OPPONENTS), lab) ** 3
    linear = _mix(torch.linalg.inv(_CONES), cones)
    bright = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, 12.92 * linear, bright)


def _mix(matrix: Tensor, image: Tensor) -> Tensor:
    return torch.einsum("kc,bchw->bkhw", matrix.to(image), image)
