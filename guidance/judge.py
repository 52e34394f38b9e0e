"""The judge: how well pictures show what was asked for, by a network that never guides.

What gradients of a network have drawn pleases that network, whatever it looks like. The judge reads
with the same words (a CLIP's text tower), but looks with a tower of its own that was trained apart,
without attacks, and shown spoiled pictures beside whole ones.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from timm.models import efficientnet
from torch import Tensor, nn

from generators.base import Image
from guidance.clip import Embedding
from guidance.weights import fill

SIDE = 96  # pixels that the tower looks at
TOWER = "tf_efficientnet_lite0"
CONFIG, WEIGHTS = "config.json", "model.safetensors"


class Network(nn.Module):
    """Pictures become directions in a CLIP's space."""

    def __init__(self, width: int, tower: str = TOWER) -> None:
        """Random weights; `width` numbers a direction, `tower` one of timm's EfficientNets."""
        super().__init__()
        self.tower = getattr(efficientnet, tower)(pretrained=False, num_classes=0)
        self.speak = nn.Linear(self.tower.num_features, width)

    def forward(self, pictures: Image) -> Embedding:
        """(n, 3, s, s), 0..1 -> (n, width), unit length."""
        return F.normalize(self.speak(self.tower(pictures * 2 - 1).float()), dim=-1)


class Judge:
    """A frozen judge."""

    def __init__(self, network: Network, *, space: str) -> None:
        """`space` names the CLIP whose words it reads."""
        self.network, self.space = network.eval().requires_grad_(False), space

    @torch.no_grad()
    def marks(self, pictures: Image, goal: Embedding) -> Tensor:
        """(n, 3, h, w), 0..1, and (1, d) -> (n,): the cosine of each with what was asked for."""
        small = F.interpolate(pictures.to(goal), (SIDE, SIDE), mode="bicubic", antialias=True)
        return self.network(small.clamp(0, 1)) @ goal[0]


def save_config(network: Network, path: Path, space: str, tower: str = TOWER) -> None:
    """Write what `load` needs to know beside the weights."""
    config = {"width": network.speak.out_features, "tower": tower, "space": space}
    (path / CONFIG).write_text(json.dumps(config) + "\n", encoding="utf-8")


def load(path: Path, device: str = "cpu") -> Judge:
    """Read a folder with `config.json` and `model.safetensors`, as `training.judge` writes it.

    Raises ValueError when the weights do not fit.
    """
    config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    network = Network(config["width"], config["tower"])
    fill(network, path / WEIGHTS)
    return Judge(network.to(device), space=config["space"])
