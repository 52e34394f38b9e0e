"""Weights on disk, in half precision, become those of a network."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import nn


def fill(network: nn.Module, path: Path) -> None:
    """Fill a network from a safetensors file, in full precision.

    Raises ValueError, naming what does not fit, when the weights are another network's.
    """
    weights = {
        name: value.float() if value.is_floating_point() else value
        for name, value in load_file(path).items()
    }
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ValueError(f"The weights in {path.parent} are another network's: {error}") from error
