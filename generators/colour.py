"""Colours whose three numbers vary apart from each other, so that no update pulls all at once."""

from __future__ import annotations

import torch
from torch import Tensor

from generators.base import Image

# Square root of the colour covariance of ImageNet's photographs (Olah, Mordvintsev and Schubert,
# "Feature Visualization", Distill 2017), scaled so that its longest column has length one.
_SPREAD = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
_SPREAD = _SPREAD / _SPREAD.norm(dim=0).max()
_EDGE = 1e-3  # a picture's black and white lie at infinity otherwise


def to_colour(decorrelated: Tensor) -> Image:
    """(b, 3, h, w) of any value -> a picture in 0..1."""
    mix = _SPREAD.to(decorrelated)
    return torch.einsum("kc,bchw->bkhw", mix, decorrelated).sigmoid()


def from_colour(image: Image) -> Tensor:
    """The inverse of `to_colour`, exact for colours at least .001 away from 0 and 1."""
    unmix = torch.linalg.inv(_SPREAD).to(image)
    return torch.einsum("kc,bchw->bkhw", unmix, image.clamp(_EDGE, 1 - _EDGE).logit())
