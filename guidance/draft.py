"""A first picture in one pass: words, as a CLIP understands them, become a small picture.

The loop then starts from something that has a shape already. The idea is that of
feed_forward_vqgan_clip (mehdidc, 2021); ours draws pixels, so that any generator can start there.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from generators.base import Image, Size
from guidance.clip import Clip, Embedding

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_CHOICE = 3  # manners of drawing that a seed chooses from: those that fit the words best


class Bent(nn.Module):
    """Two convolutions added to their input, bent by what to draw (FiLM, arXiv 1709.07871)."""

    def __init__(self, width: int, idea: int) -> None:
        """`width` channels in and out; `idea` numbers say what is to be drawn."""
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.bend = nn.Linear(idea, 2 * width)

    def forward(self, x: Tensor, idea: Tensor) -> Tensor:
        """(b, width, h, w), (b, idea) -> (b, width, h, w)."""
        scale, shift = self.bend(idea)[..., None, None].chunk(2, dim=1)
        return x + self.second(F.relu(self.first(F.relu(x)) * (1 + scale) + shift))


class Network(nn.Module):
    """A unit vector and a manner of drawing -> a picture of 64 x 64."""

    centre: Tensor
    whiten: Tensor

    def __init__(
        self,
        words: int,
        manners: int,
        idea: int = 512,
        widths: tuple[int, ...] = (256, 192, 96, 48),
    ) -> None:
        """`words` numbers of an embedding, `manners` to draw in; `widths` at 4, 8, 16 and 32 px."""
        super().__init__()
        self.register_buffer("centre", torch.zeros(words))
        self.register_buffer("whiten", torch.eye(words) * words**0.5)
        self.read = nn.Linear(words, idea)
        self.manner = nn.Embedding(manners, idea)
        self.think = nn.Linear(idea, idea)
        self.begin = nn.Linear(idea, widths[0] * 16)
        pairs = zip(widths, (*widths[1:], 12), strict=True)
        self.blocks = nn.ModuleList(Bent(width, idea) for width in widths)
        self.ways = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in pairs)

    def forward(self, embeddings: Tensor, manners: Tensor) -> Tensor:
        """(b, words), (b,) -> (b, 3, 64, 64), about 0..1."""
        # embeddings of captions differ most in ground and colour: all directions get one weight,
        # or what the thing is would be learned last
        told = (embeddings - self.centre) @ self.whiten
        idea = F.gelu(self.read(told) + self.manner(manners))
        idea = F.gelu(self.think(idea))
        x = self.begin(idea).unflatten(1, (-1, 4, 4))
        for block, way in zip(self.blocks, self.ways, strict=True):
            x = way(F.relu(block(x, idea)))
            if way is not self.ways[-1]:
                x = F.interpolate(x, scale_factor=2.0)
        return F.pixel_shuffle(x, 2) + 0.5


class Draft:
    """A frozen network that draws what the embeddings of one CLIP say."""

    def __init__(self, network: Network, *, space: str) -> None:
        """`space` names the CLIP whose embeddings it reads."""
        self.network, self.space = network.eval().requires_grad_(False), space
        self.manners = network.manner.num_embeddings

    @torch.no_grad()
    def draw(self, embedding: Embedding) -> Image:
        """(1, d) -> (manners, 3, 64, 64), 0..1: the same thing in every manner."""
        manners = torch.arange(self.manners, device=embedding.device)
        return self.network(embedding.expand(self.manners, -1), manners).clamp(0, 1)

    @torch.no_grad()
    def start(self, embedding: Embedding, clip: Clip, size: Size, seed: int) -> Image:
        """(1, 3, *size): a draft that the clip finds fitting; the seed chooses among the best."""
        pictures = self.draw(embedding)
        seen = F.interpolate(pictures, (clip.side, clip.side), mode="bicubic").clamp(0, 1)
        fitting = (clip.embed_image(seen) @ embedding[0]).argsort(descending=True)
        chosen = pictures[fitting[seed % _CHOICE]][None]
        return extend(chosen, size)


def extend(picture: Image, size: Size) -> Image:
    """A square picture in the middle of a frame of any form; its border goes on to the edges."""
    side = min(size)
    inner = F.interpolate(picture, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    top, left = ((whole - side) // 2 for whole in size)
    return F.pad(inner, (left, size[1] - side - left, top, size[0] - side - top), mode="replicate")


def load(path: Path, device: str = "cpu") -> Draft:
    """Load a folder that holds `config.json` and `model.safetensors`.

    Raises ValueError when the weights belong to another network.
    """
    config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    network = Network(config["words"], config["manners"])
    weights = {key: value.float() for key, value in load_file(path / WEIGHTS).items()}
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ValueError(f"The weights in {path} belong to another network: {error}") from error
    return Draft(network.to(device), space=config["space"])
