"""VQGAN as a generator: cells of numbers, each snapped to a codebook, decoded to a picture.

Esser, Rombach and Ommer, "Taming Transformers for High-Resolution Image Synthesis", arXiv
2012.09841. The published modules hold the weights; we build them from their YAML ourselves,
because the published way would import and call whatever class the YAML names. In our own network a
cell may be several groups of numbers, each snapped on its own (product quantisation, Jegou, Douze
and Schmid 2011; one codebook for all): two codes a cell say twice as much.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file
from taming.modules.diffusionmodules import model as published
from taming.modules.vqvae.quantize import GumbelQuantize
from taming.modules.vqvae.quantize import VectorQuantizer2 as VectorQuantizer
from torch import Tensor, nn

from generators import pocket_net, vqgan_fast
from generators.base import Image, Latent, Size, clamp_with_gradient, straight_through

# The numbers of a YAML that describe the network; everything else in it is ignored.
_NETWORK = {
    *("ch", "ch_mult", "num_res_blocks", "attn_resolutions", "in_channels", "out_ch"),
    *("resolution", "z_channels", "double_z", "dropout"),
}


class Published(nn.Module):
    """The published network under its published names, so that its weights load strictly."""

    step_size = 0.2

    def __init__(self, params: Mapping[str, Any], *, gumbel: bool) -> None:
        """`params` as in the YAML: embed_dim, n_embed and ddconfig."""
        super().__init__()
        network = {key: params["ddconfig"][key] for key in _NETWORK if key in params["ddconfig"]}
        cells, width, codes = network["z_channels"], params["embed_dim"], params["n_embed"]
        self.width = width
        with contextlib.redirect_stdout(io.StringIO()):  # the published Decoder prints a greeting
            self.encoder = published.Encoder(**network)
            self.decoder = published.Decoder(**network)
        self.quantize = (
            GumbelQuantize(width, width, codes) if gumbel else VectorQuantizer(codes, width, 0.25)
        )
        self.quant_conv = nn.Conv2d(cells, width, 1)
        self.post_quant_conv = nn.Conv2d(width, cells, 1)
        self.factor = 2 ** (len(network["ch_mult"]) - 1)

    @property
    def codebook(self) -> Tensor:
        """(codes, width)."""
        table = self.quantize.embed if hasattr(self.quantize, "embed") else self.quantize.embedding
        return table.weight


class Pocket(nn.Module):
    """The network that ships with the project, under the same names."""

    factor = 8

    def __init__(self, params: Mapping[str, Any]) -> None:
        """`params`: embed_dim, n_embed, three widths, and groups (1 if it says nothing)."""
        super().__init__()
        widths, width = tuple(params["widths"]), params["embed_dim"]
        self.width = width
        self.encoder = pocket_net.Encoder(widths, width)
        self.decoder = pocket_net.Decoder(widths, width)
        self.quantize = nn.Module()
        self.quantize.embedding = nn.Embedding(params["n_embed"], width // params.get("groups", 1))
        self.quant_conv, self.post_quant_conv = nn.Identity(), nn.Identity()

    @property
    def codebook(self) -> Tensor:
        """(codes, width / groups)."""
        return self.quantize.embedding.weight  # type: ignore[union-attr,return-value]

    @property
    def step_size(self) -> float:
        """A share of how much its codes differ, for a training may end at any scale."""
        return 0.2 * float(self.codebook.std())


class VQGAN:
    """A generator over the cells of a VQGAN. Latent: (1, d, h / factor, w / factor)."""

    local = True

    def __init__(self, network: Published | Pocket, precision: torch.dtype = torch.float32) -> None:
        """Take a loaded network and freeze it; decode in `precision`, encode in full precision."""
        self.network = network.eval().requires_grad_(False)
        self.width, self.codebook = network.width, network.codebook.detach().float()
        self.groups = self.width // self.codebook.shape[1]
        self.low = self.codebook.min(dim=0).values.repeat(self.groups)
        self.high = self.codebook.max(dim=0).values.repeat(self.groups)
        self._lengths = self.codebook.square().sum(dim=1)
        self.factor, self.step_size = network.factor, network.step_size
        self.precision = precision
        self.decoder = vqgan_fast.arrange(network.decoder, network.post_quant_conv, precision)

    def start(self, size: Size, *, seed: int, init: Image | None = None) -> Latent:
        """Random codes in every cell, or the cells of a picture (before they are snapped)."""
        if init is not None:
            return self.encode(init.to(self.codebook.device))
        cells = (size[0] // self.factor, size[1] // self.factor)
        chance = torch.Generator().manual_seed(seed)
        picks = torch.randint(len(self.codebook), (*cells, self.groups), generator=chance)
        return self._codes(picks.to(self.codebook.device)[None])

    @torch.no_grad()
    def encode(self, image: Image) -> Latent:
        """(b, 3, h, w), 0..1 -> cells; of a Gumbel network the likeliest codes, without chance."""
        cells = self.network.quant_conv(self.network.encoder(image * 2 - 1))
        if isinstance(self.network.quantize, GumbelQuantize):
            return self._codes(self.network.quantize.proj(cells).argmax(dim=1)[..., None])
        return cells

    def quantise(self, latent: Latent) -> Tensor:
        """Snap each group of each cell to its nearest code; the gradient passes unchanged."""
        with torch.no_grad():
            cells = latent.permute(0, 2, 3, 1).float().unflatten(-1, (self.groups, -1))
            # |x - c|^2 without |x|^2, which is the same for every code; in one table, not three
            rows = cells.flatten(0, -2)
            distance = torch.addmm(self._lengths, rows, self.codebook.T, alpha=-2)
            snapped = self._codes(distance.argmin(dim=1).view(cells.shape[:-1]))
        return straight_through(snapped, latent)

    def decode(self, latent: Latent) -> Image:
        """Cells -> picture in 0..1."""
        decoded = self.decoder(self.quantise(latent).to(self.precision))
        return clamp_with_gradient((decoded.float() + 1) / 2)

    def project(self, latent: Latent) -> Latent:
        """Clamp every channel to the range of the codebook."""
        shape = (1, -1, 1, 1)
        return latent.clamp(self.low.view(shape), self.high.view(shape))

    def _codes(self, picks: Tensor) -> Tensor:
        """(b, h, w, groups) indices -> (b, d, h, w); rows by index, not by a one-hot product."""
        return self.codebook[picks].flatten(-2).permute(0, 3, 1, 2).contiguous()


def build(config: Mapping[str, Any]) -> Published | Pocket:
    """Build the network that a YAML describes, with random weights.

    Raises ValueError when the YAML names a kind of network that we do not know.
    """
    model = config["model"]
    target, params = str(model.get("target", "")), model["params"]
    if "first_stage_config" in params:  # a transformer's file holds the VQGAN inside
        return build({"model": params["first_stage_config"]})
    kind = target.rpartition(".")[2]
    builders: dict[str, Callable[[], Published | Pocket]] = {
        "VQModel": lambda: Published(params, gumbel=False),
        "GumbelVQ": lambda: Published(params, gumbel=True),
        "Pocket": lambda: Pocket(params),
    }
    if kind not in builders:
        raise ValueError(f"No network called {kind!r}. We have: {', '.join(builders)}.")
    return builders[kind]()


def load(path: Path, device: str = "cpu", precision: torch.dtype = torch.float32) -> VQGAN:
    """Load a folder that holds `config.yaml` and `model.safetensors`.

    Raises ValueError, naming the keys, when the weights belong to another network.
    """
    network = build(yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8")))
    weights = {key: value.float() for key, value in load_file(path / "model.safetensors").items()}
    refuse_other_weights(network.state_dict(), weights, path)
    network.load_state_dict(weights, strict=True)
    return VQGAN(network.to(device), precision)


def refuse_other_weights(
    ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], path: Path
) -> None:
    """Raise ValueError naming what is missing, unknown or of another shape."""
    shared = ours.keys() & theirs.keys()
    problems = {
        "missing": ours.keys() - theirs.keys(),
        "unknown": theirs.keys() - ours.keys(),
        "of another shape": {key for key in shared if ours[key].shape != theirs[key].shape},
    }
    told = [f"{what}: {_few(keys)}" for what, keys in problems.items() if keys]
    if told:
        raise ValueError(f"The weights in {path} belong to another network ({'; '.join(told)}).")


def _few(keys: set[str]) -> str:
    first = sorted(keys)[:3]
    rest = len(keys) - len(first)
    return ", ".join(first) + (f" and {rest} more" if rest else "")
