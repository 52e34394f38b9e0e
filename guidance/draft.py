"""A first picture in one pass: words, as a CLIP understands them, become a small picture.

The loop then starts from something that has a shape already. The idea is that of
feed_forward_vqgan_clip (mehdidc, 2021). Ours is an associative memory: attention over the names of
things it has seen drawn (as in Ramsauer et al., "Hopfield Networks is All You Need", arXiv
2008.02217), and a small network that makes a clean drawing of what is recalled. Colour and ground
are read from the words as well, so that they are what was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.base import Image, Size
from guidance.clip import Clip, Embedding
from guidance.instruct import Colour
from guidance.layout import Place
from guidance.paint import paint
from guidance.weights import fill

Cutout = Tensor  # (b, 4, 64, 64), colours times alpha, and alpha, 0..1

CONFIG, WEIGHTS = "config.json", "model.safetensors"
SIDE = 64  # pixels of a drawing
_RECALLED = 32  # pixels of what the memory holds of it
_CHOICE = 3  # manners of drawing that a seed chooses from: those that fit the words best
_WORSE = 0.05  # and of these none that fits less than the best by more (a cosine)
_ON_PLAIN, _IN_PLACE = Place(0.5, 0.5, 0.86), Place(0.5, 0.56, 0.68)  # of a single thing
_KNOWN = 30.0  # nats: a manner that lacks the thing has only names less likely by more (a cat: 130)
_GREY = torch.tensor([150, 160, 170]) / 255  # behind light things when no ground is named
_SAME = 0.25  # colours nearer than this are the same: a red apple keeps its green leaf


@dataclass(frozen=True)
class Shape:
    """How much a memory holds."""

    words: int  # numbers of an embedding
    names: int
    drawings: int
    manners: int  # of drawing
    paints: int  # colours that things may have
    grounds: int  # the first is what nobody named
    plain: int  # how many of the grounds are one colour; the others are places
    codes: int = 256  # numbers kept of a drawing


class Bent(nn.Module):
    """Two convolutions added to their input."""

    def __init__(self, width: int) -> None:
        """`width` channels in and out."""
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, h, w) -> the same."""
        return x + self.second(F.relu(self.first(F.relu(x))))


class Cleaner(nn.Module):
    """A blurred, ringing recollection becomes a drawing of twice its side."""

    def __init__(self, width: int = 48) -> None:
        """`width` channels; twice as many at half the side."""
        super().__init__()
        self.read = nn.Conv2d(4, width, 3, padding=1)
        self.fine = nn.Sequential(Bent(width), Bent(width))
        self.down = nn.Conv2d(width, 2 * width, 2, stride=2)
        self.coarse = nn.Sequential(*(Bent(2 * width) for _ in range(4)))
        self.up = nn.Conv2d(2 * width, 4 * width, 1)
        self.join = nn.Sequential(Bent(width), Bent(width))
        self.write = nn.Conv2d(width, 16, 3, padding=1)
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)  # type: ignore[arg-type]

    def forward(self, recalled: Tensor) -> Tensor:
        """(b, 4, s, s) -> (b, 4, 2 s, 2 s)."""
        fine = self.fine(self.read(recalled))
        coarse = self.up(F.relu(self.coarse(self.down(F.relu(fine)))))
        joined = self.join(fine + F.pixel_shuffle(coarse, 2))
        change = F.pixel_shuffle(self.write(F.relu(joined)), 2)
        return F.interpolate(recalled, scale_factor=2.0, mode="bilinear") + change


class Network(nn.Module):
    """The memory: which drawings there are, and how words lead to them."""

    centre: Tensor
    shows: Tensor
    manner: Tensor
    paints: Tensor
    grounds: Tensor

    def __init__(self, shape: Shape) -> None:
        """An empty memory."""
        super().__init__()
        self.shape = shape
        self.register_buffer("centre", torch.zeros(shape.words))
        # linear discriminants: their softmax is the chance of each name, colour and ground
        self.name = nn.Linear(shape.words, shape.names)
        self.colour = nn.Linear(shape.words, 1 + shape.paints)  # the first: its own
        self.ground = nn.Linear(shape.words, shape.grounds)
        self.register_buffer("shows", torch.zeros(shape.drawings, dtype=torch.int32))  # a name
        self.register_buffer("manner", torch.zeros(shape.drawings, dtype=torch.int32))
        self.codes = nn.Parameter(torch.zeros(shape.drawings, shape.codes))
        self.basis = nn.Linear(shape.codes, 4 * _RECALLED**2)
        self.clean = Cleaner()
        self.register_buffer("paints", torch.zeros(shape.paints, 3))
        self.register_buffer("grounds", torch.zeros(shape.grounds, 3, SIDE, SIDE))

    def recall(self, embedding: Embedding) -> Tensor:
        """(1, d) -> (manners, codes): what the words bring to mind, in each manner of drawing."""
        chances = self.name(embedding - self.centre)[0]
        return torch.stack([self._recall(chances, m) for m in range(self.shape.manners)])

    def knows(self, embedding: Embedding) -> Tensor:
        """(1, d) -> (manners,): which of them have a drawing of what the words say.

        The others would bring the next best thing: a tiger, where no cat was drawn.
        """
        chances = self.name(embedding - self.centre)[0]
        best = [
            chances[self.shows[self.manner == m].long()].max() for m in range(self.shape.manners)
        ]
        return torch.stack(best) >= chances.max() - _KNOWN

    def _recall(self, chances: Tensor, manner: int) -> Tensor:
        mine = self.manner == manner
        attention = chances[self.shows[mine].long()].softmax(dim=0)
        return attention @ self.codes[mine]

    def picture(self, codes: Tensor) -> Tensor:
        """(b, codes) -> (b, 4, 32, 32): as it is remembered."""
        return self.basis(codes).unflatten(1, (4, _RECALLED, _RECALLED))

    def forward(self, codes: Tensor) -> Cutout:
        """(b, codes) -> (b, 4, 64, 64), about 0..1."""
        return self.clean(self.picture(codes))


class Thing(NamedTuple):
    """Something in a draft: what it is, where it stands (None: in the middle), and its colour.

    Without a colour it has that of its words.
    """

    words: Embedding
    place: Place | None = None
    colour: Colour | None = None


class Drafted(NamedTuple):
    """A first picture, and how well it fits what was asked for (a cosine)."""

    picture: Image
    fit: float


class Draft:
    """A frozen memory that draws what the embeddings of one CLIP say."""

    def __init__(self, network: Network, *, space: str) -> None:
        """`space` names the CLIP whose embeddings it reads."""
        self.network, self.space = network.eval().requires_grad_(False), space
        self.manners = network.shape.manners

    @torch.no_grad()
    def cutouts(self, embedding: Embedding, colour: Colour | None = None) -> Cutout:
        """(1, d) -> (manners, 4, 64, 64): the thing alone, in the colour given, or else named."""
        net = self.network
        found = net(net.recall(embedding)).cpu()
        alpha = found[:, 3:].clamp(0, 1)
        found = torch.cat((found[:, :3].clamp(min=0).minimum(alpha), alpha), dim=1)
        named = int(net.colour(embedding - net.centre).argmax())
        wanted = _tensor(colour) if colour else net.paints[named - 1].cpu() if named else None
        return found if wanted is None else torch.stack([_painted(one, wanted) for one in found])

    @torch.no_grad()
    def draw(
        self,
        embedding: Embedding,
        things: Sequence[Thing] | None = None,
        ground: Colour | None = None,
    ) -> Image:
        """(1, d) -> (manners, 3, 64, 64), 0..1: the same in every manner.

        `things`: what stands where, if that is not one thing in the middle that the words name;
        nothing can only stand in a place. `ground`: its colour, if it is not that of the words.
        """
        net = self.network
        chosen = int(net.ground(embedding - net.centre).argmax())
        if things is None or (not things and chosen < net.shape.plain):
            things = [Thing(embedding)]
        middle = _ON_PLAIN if ground or chosen < net.shape.plain else _IN_PLACE
        drawn = [
            (self.cutouts(thing.words, thing.colour), thing.place or middle) for thing in things
        ]
        behind = _tensor(ground)[:, None, None] if ground else net.grounds[chosen].cpu()
        picture = behind.expand(self.manners, 3, SIDE, SIDE)
        if not ground and chosen == 0:
            light = torch.stack([_tone(one).min() > 0.8 for one in drawn[0][0]])
            grey = _GREY[:, None, None].expand_as(picture)
            picture = torch.where(light[:, None, None, None], grey, picture)
        for cutouts, place in drawn:
            picture = lay(cutouts, picture, place)
        return picture.clamp(0, 1).to(embedding.device)

    @torch.no_grad()
    def start(
        self,
        embedding: Embedding,
        clip: Clip,
        size: Size,
        seed: int,
        things: Sequence[Thing] | None = None,
        ground: Colour | None = None,
    ) -> Drafted:
        """A draft, (1, 3, *size), that the clip finds fitting; the seed chooses among the best."""
        pictures = self.draw(embedding, things, ground)
        chosen, fit = self.choose(pictures, embedding, clip, seed, things)
        return Drafted(extend(pictures[chosen][None], size), fit)

    @torch.no_grad()
    def choose(
        self,
        pictures: Image,
        embedding: Embedding,
        clip: Clip,
        seed: int,
        things: Sequence[Thing] | None = None,
    ) -> tuple[int, float]:
        """Which of the manners, and how well it fits (a cosine).

        The seed chooses among those that have drawings of all the things, and of these among the
        ones that the clip likes best.
        """
        fits = fitting(pictures, embedding, clip)
        named = [thing.words for thing in things or [Thing(embedding)]]
        known = torch.stack([self.network.knows(words) for words in named]).all(dim=0)
        if known.any():
            fits = fits.masked_fill(~known, -1.0)
        fits, best = fits.sort(descending=True)
        rank = seed % int((fits[:_CHOICE] >= fits[0] - _WORSE).sum())
        return int(best[rank]), float(fits[rank])


def fitting(pictures: Image, embedding: Embedding, clip: Clip) -> Tensor:
    """(n,): how near square pictures (n, 3, s, s) are to (1, d) by a clip (cosines)."""
    seen = F.interpolate(pictures, (clip.side, clip.side), mode="bicubic").clamp(0, 1)
    return clip.embed_image(seen) @ embedding[0]


def _tensor(colour: Colour) -> Tensor:
    return torch.tensor(colour) / 255


def _painted(cutout: Tensor, colour: Tensor) -> Tensor:
    """(4, h, w) in another colour, unless it has that already."""
    if (_tone(cutout) - colour).abs().max() < _SAME:
        return cutout
    colours, alpha = cutout[:3], cutout[3:]
    straight = torch.cat((colours / alpha.clamp(min=1e-3), alpha)).permute(1, 2, 0).numpy()
    painted = torch.from_numpy(paint(straight, np.asarray(colour))).permute(2, 0, 1)
    return torch.cat((painted[:3] * alpha, alpha))


def _tone(cutout: Tensor) -> Tensor:
    """(3,): the mean colour of a thing."""
    return cutout[:3].sum(dim=(1, 2)) / cutout[3].sum().clamp(min=1e-3)


def lay(cutouts: Cutout, grounds: Image, place: Place) -> Image:
    """Lay things on square grounds, (b, 3, s, s)."""
    whole = grounds.shape[-1]
    small = round(place.side * whole)
    things = F.interpolate(cutouts, (small, small), mode="bilinear", antialias=True)
    left, top = (
        min(max(0, round(middle * whole - small / 2)), whole - small)
        for middle in (place.x, place.y)
    )
    things = F.pad(things, (left, whole - small - left, top, whole - small - top))
    return grounds * (1 - things[:, 3:]) + things[:, :3]


def extend(picture: Image, size: Size) -> Image:
    """A square picture in the middle of a frame of any form; its border goes on to the edges."""
    side = min(size)
    inner = F.interpolate(picture, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    top, left = ((whole - side) // 2 for whole in size)
    return F.pad(inner, (left, size[1] - side - left, top, size[0] - side - top), mode="replicate")


def save_config(network: Network, path: Path, space: str) -> None:
    """Write what `load` needs to know beside the weights."""
    config = {**asdict(network.shape), "space": space}
    (path / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load(path: Path, device: str = "cpu") -> Draft:
    """Load a folder that holds `config.json` and `model.safetensors`.

    Raises ValueError when the weights belong to another network.
    """
    config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    space = config.pop("space")
    network = Network(Shape(**config))
    fill(network, path / WEIGHTS)
    return Draft(network.to(device), space=space)
