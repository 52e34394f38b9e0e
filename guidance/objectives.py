"""Objectives: each looks at a picture and returns a number, lower is better.

Words, pictures and sounds are all the same thing here: a `Target`, a direction in the space of one
CLIP. `Match` turns targets into an objective; the rest are functions of the picture alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from generators.base import Image
from guidance.augment import Views

_ANTIPODE = 1 - 1e-6  # of half the chord: the slope of the angle is infinite at 1


class Loss(NamedTuple):
    """A number to lower, and the named parts it is the sum of (for people to look at)."""

    total: Tensor  # scalar, differentiable
    terms: dict[str, Tensor]  # scalars, detached


Objective = Callable[[Image], Loss]


class Encoder(Protocol):
    """What `Match` needs of a CLIP."""

    side: int

    def embed_image(self, views: Image) -> Tensor:
        """(n, 3, side, side), 0..1 -> (n, d), unit length."""
        ...


@dataclass(frozen=True)
class Target:
    """Where to go (weight > 0) or what to keep away from (weight < 0).

    `embedding`: (1, d), unit length. `stop`: a distance of at least 0; pulling ends for a view that
    is closer, pushing ends for a view that is farther; None never ends. `slope`: how steep the
    distance is for an unrelated pair of this modality, so that equal weights pull equally.
    """

    name: str
    embedding: Tensor
    weight: float = 1.0
    stop: float | None = None
    slope: float = 1.0


def spherical(views: Tensor, goals: Tensor) -> Tensor:
    """Half the squared great-circle angle of unit vectors: (n, d), (t, d) -> (n, t).

    Its gradient does not fade near the goal, as the cosine's does.
    """
    chord = _norm(views[:, None] - goals[None])
    angle = 2 * (chord / 2).clamp(max=_ANTIPODE).asin()
    return angle.square() / 2


def cosine(views: Tensor, goals: Tensor) -> Tensor:
    """1 - cosine: (n, d), (t, d) -> (n, t)."""
    return 1 - views @ goals.T


def _norm(x: Tensor) -> Tensor:
    """Length along the last axis, with a finite gradient at zero."""
    return x.square().sum(dim=-1).clamp(min=1e-12).sqrt()


# name: the distance, and how steep it is at an angle
DISTANCES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[float], float]]] = {
    "spherical": (spherical, lambda angle: angle),
    "cosine": (cosine, math.sin),
}


class _Chunked(torch.autograd.Function):
    """A sum over views whose gradient was found chunk by chunk while the sum was made."""

    @staticmethod
    def forward(ctx: Any, views: Tensor, total: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return total.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return upstream * gradient, None, None


def chunked(measure: Callable[[Tensor], Tensor], views: Image, chunk: int) -> tuple[Tensor, Tensor]:
    """Sum `measure` over views, a chunk at a time, keeping the memory of one chunk only.

    `measure`: (c, 3, s, s) -> (c, t). Returns the sum over views and terms, differentiable once,
    and the (t,) sums over views, detached. All views exist before they are cut into chunks, so
    another chunk size gives the same result up to the order of summation.
    """
    wanted = torch.is_grad_enabled() and views.requires_grad
    leaf = views.detach().requires_grad_(wanted)
    parts = []
    for piece in leaf.split(chunk):
        values = measure(piece).sum(dim=0)  # (t,)
        if wanted:
            values.sum().backward()
        parts.append(values.detach())
    sums = torch.stack(parts).sum(dim=0)
    return (_Chunked.apply(views, sums.sum(), leaf.grad) if wanted else sums.sum()), sums


@dataclass
class Match:
    """How far the views of a picture are from the targets, weighted by their share of all weights.

    `weight` is the share of this CLIP among several. `chunk` views are embedded at a time.
    """

    clip: Encoder
    targets: Sequence[Target]
    views: Views
    distance: str = "spherical"
    weight: float = 1.0
    chunk: int = 1024
    _goals: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Stack the targets once."""
        self._goals = torch.cat([target.embedding for target in self.targets])
        device = self._goals.device
        total = sum(abs(target.weight) for target in self.targets)
        self._pull = torch.tensor(
            [self.weight * t.weight / t.slope / total for t in self.targets], device=device
        )
        never = [math.inf if t.weight < 0 else -1.0 for t in self.targets]
        stops = [n if t.stop is None else t.stop for t, n in zip(self.targets, never, strict=True)]
        self._stop = torch.tensor(stops, device=device)

    def __call__(self, image: Image) -> Loss:
        """(1, 3, h, w) -> the loss, one term a target."""
        views = self.views(image)
        total, sums = chunked(self._measure, views, self.chunk)
        terms = {t.name: part / len(views) for t, part in zip(self.targets, sums, strict=True)}
        return Loss(total / len(views), terms)

    def _measure(self, views: Image) -> Tensor:
        distance = DISTANCES[self.distance][0](self.clip.embed_image(views), self._goals)
        arrived = torch.where(self._pull > 0, distance <= self._stop, distance >= self._stop)
        return self._pull * torch.where(arrived, distance.detach(), distance)  # (n, t)


@dataclass
class Turn:
    """The directional loss: the picture should change as the words change.

    1 - cos(E(x) - E(x0), T(after) - T(before)) with E(x) and E(x0) seen through the same views
    (StyleGAN-NADA, arXiv 2108.00946). `direction`: (1, d).
    """

    clip: Encoder
    before: Image
    direction: Tensor
    views: Views
    name: str = "direction"
    weight: float = 1.0
    chunk: int = 1024

    def __call__(self, image: Image) -> Loss:
        """(1, 3, h, w) -> the loss."""
        drawn = self.views.draw((image.shape[-2], image.shape[-1]))
        before = F.interpolate(self.before.to(image), image.shape[-2:], mode="area")
        with torch.no_grad():
            old = self.views.show(before, drawn).split(self.chunk)
            starts = iter([self.clip.embed_image(views) for views in old])

        def measure(views: Image) -> Tensor:
            moved = self.clip.embed_image(views) - next(starts)
            return 1 - F.cosine_similarity(moved, self.direction, eps=1e-6)[:, None]

        views = self.views.show(image, drawn)
        total, _ = chunked(measure, views, self.chunk)
        total = self.weight * total / len(views)
        return Loss(total, {self.name: total.detach()})


def named(name: str, weight: float, measure: Callable[[Image], Tensor]) -> Objective:
    """An objective from a plain function of the picture."""

    def objective(image: Image) -> Loss:
        total = weight * measure(image)
        return Loss(total, {name: total.detach()})

    return objective


def smoothness(image: Image) -> Tensor:
    """Mean absolute difference of neighbouring pixels (total variation)."""
    return image.diff(dim=-1).abs().mean() + image.diff(dim=-2).abs().mean()


def symmetry(image: Image) -> Tensor:
    """Mean squared difference of the picture and its mirror image."""
    return (image - image.flip(-1)).square().mean()


def palette(image: Image, colours: Tensor) -> Tensor:
    """Mean squared distance of each pixel to the nearest of the colours, (k, 3), 0..1."""
    pixels = image.movedim(1, -1).reshape(-1, 1, 3)
    return (pixels - colours.to(image)).square().sum(dim=-1).min(dim=1).values.mean()
