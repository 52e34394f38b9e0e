"""The published layout at its real size: written as published, converted, loaded, stepped once.

Nobody here has the published weights, but everything else about them is known: the modules, the
sizes, the keys, the way their files are written. With random weights all of it is exercised, and
outputs and gradients are compared with the published modules' own.
"""

from __future__ import annotations

import collections
import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import yaml
from safetensors.torch import save_file
from taming.modules.diffusionmodules.model import Decoder, Encoder
from taming.modules.vqvae.quantize import GumbelQuantize, VectorQuantizer2
from torch import Tensor, nn
from torch.nn import functional as F

from app.catalog import CLIPS, GENERATORS, Entry
from app.convert import convert
from app.models import _configure
from generators import vqgan
from guidance import clip

CELLS = {"imagenet_16384": (2, 3), "openimages_gumbel_f8": (4, 6)}  # pictures of 32 x 48 pixels


class ModelCheckpoint:
    """A class of the training library, which the file names and the converter must not need."""


@dataclass
class Published:
    """The modules as published, the same weights loaded by us, and the latent both decode."""

    entry: Entry
    reference: nn.Module
    ours: vqgan.VQGAN
    cells: Tensor  # (1, 256, h, w): near their codes, as a latent on its way is
    codes: Tensor  # (1, 256, h, w): the codes themselves

    @property
    def gumbel(self) -> bool:
        return isinstance(self.reference.quantize, GumbelQuantize)


def reference(network: dict[str, Any]) -> nn.Module:
    """Put the published modules together as the published models do, with random weights."""
    params = network["model"]["params"]
    sizes, width, codes = params["ddconfig"], params["embed_dim"], params["n_embed"]
    model = nn.Module()
    torch.manual_seed(0)
    with contextlib.redirect_stdout(io.StringIO()):  # the published Decoder prints a greeting
        model.encoder, model.decoder = Encoder(**sizes), Decoder(**sizes)
    if network["model"]["target"].endswith("GumbelVQ"):
        model.quantize = GumbelQuantize(sizes["z_channels"], width, codes, kl_weight=1e-8)
        table = model.quantize.embed
    else:
        model.quantize = VectorQuantizer2(codes, width, beta=0.25)
        table = model.quantize.embedding
    nn.init.normal_(table.weight)  # so that neighbouring codes are told apart
    with torch.no_grad():
        model.decoder.conv_out.weight *= 0.3  # so that no pixel is clamped
    model.quant_conv = nn.Conv2d(sizes["z_channels"], width, 1)
    model.post_quant_conv = nn.Conv2d(width, sizes["z_channels"], 1)
    return model.eval().requires_grad_(False)


def write_as_published(model: nn.Module, path: Path) -> None:
    """As Lightning wrote it: the losses' networks beside ours, and a class as a key."""
    losses = {f"loss.perceptual_loss.net.{n}.weight": torch.randn(64, 64) for n in range(5)}
    content = {
        "epoch": 11,
        "global_step": 300_000,
        "state_dict": collections.OrderedDict({**model.state_dict(), **losses}),
        "callbacks": {ModelCheckpoint: {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": 4.5e-6}]}],
    }
    torch.save(content, path)


@pytest.fixture(scope="module", params=CELLS)
def published(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Published:
    entry, place = GENERATORS[request.param], tmp_path_factory.mktemp(request.param)
    assert entry.network is not None
    model = reference(yaml.safe_load(yaml.safe_dump(dict(entry.network))))
    write_as_published(model, place / "last.ckpt")
    convert(place / "last.ckpt", place / "model.safetensors")
    (place / "last.ckpt").unlink()
    _configure(entry, place)
    ours = vqgan.load(place)
    (place / "model.safetensors").unlink()
    return Published(entry, model, ours, *latent(ours.codebook, CELLS[entry.name]))


def latent(codebook: Tensor, cells: tuple[int, int]) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    codes = codebook[torch.randint(len(codebook), cells)].permute(2, 0, 1)[None].contiguous()
    return codes + 0.1 * torch.randn_like(codes), codes


def test_all_weights_are_the_published_ones(published: Published) -> None:
    """Every parameter of the published modules is in ours, under its name, bit for bit."""
    theirs, mine = published.reference.state_dict(), published.ours.network.state_dict()
    assert theirs.keys() == mine.keys()
    assert all(torch.equal(theirs[name], mine[name]) for name in theirs)


def test_a_latent_is_snapped_to_the_published_codes(published: Published) -> None:
    if published.gumbel:  # its quantiser takes logits, not cells: the codes are all there is
        expected = published.codes
    else:
        expected, *_ = published.reference.quantize(published.cells)
    torch.testing.assert_close(published.ours.quantise(published.cells), expected)


def test_picture_and_gradient_are_the_published_ones(published: Published) -> None:
    codes = published.codes.clone().requires_grad_()
    cells = published.cells.clone().requires_grad_()
    model = published.reference
    expected = (model.decoder(model.post_quant_conv(codes)) + 1) / 2
    found = published.ours.decode(cells)
    assert found.shape == (1, 3, 32, 48)
    assert expected.min() > 0  # nothing is clamped, so that the gradients can be compared
    assert expected.max() < 1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)

    direction = torch.randn_like(expected)
    (expected * direction).sum().backward()
    (found * direction).sum().backward()
    assert codes.grad is not None
    assert cells.grad is not None
    difference = (cells.grad - codes.grad).norm() / codes.grad.norm()
    assert difference < 1e-4


def test_a_picture_is_encoded_as_published(published: Published) -> None:
    torch.manual_seed(2)
    image, model = torch.rand(1, 3, 32, 48), published.reference
    expected = model.quant_conv(model.encoder(image * 2 - 1))
    if published.gumbel:  # without the published noise: the likeliest code
        expected = model.quantize.embed(model.quantize.proj(expected).argmax(1)).permute(0, 3, 1, 2)
    found = published.ours.encode(image)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_one_step_of_adam_changes_the_picture(published: Published) -> None:
    ours = published.ours
    cells = ours.start((32, 48), seed=0).requires_grad_()
    before = ours.decode(cells)
    F.mse_loss(before, torch.zeros_like(before)).backward()
    assert cells.grad is not None
    assert (cells.grad.norm(dim=1) > 0).all()  # every cell is told where to go
    torch.optim.Adam([cells], lr=5.0).step()  # far enough to reach other codes
    moved = ours.project(cells.detach())
    assert torch.equal(ours.project(moved), moved)
    after = ours.decode(moved)
    assert after.isfinite().all()
    assert not torch.equal(after, before)


# --- CLIP ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guides(tmp_path_factory: pytest.TempPathFactory) -> tuple[open_clip.CLIP, clip.Clip]:
    """open_clip's ViT-B/32 with quick-GELU and random weights, and the same loaded by us."""
    entry, place = CLIPS["ViT-B-32-openai"], tmp_path_factory.mktemp("ViT-B-32-openai")
    assert entry.open_clip is not None
    torch.manual_seed(0)
    model = open_clip.create_model(entry.open_clip[0], load_weights=False)
    save_file(model.state_dict(), place / clip.WEIGHTS)
    _configure(entry, place)
    ours = clip.load(place, quick_gelu=entry.quick_gelu)
    (place / clip.WEIGHTS).unlink()
    return model.eval().requires_grad_(False), ours


def test_a_view_and_its_gradient_are_open_clips_own(
    guides: tuple[open_clip.CLIP, clip.Clip],
) -> None:
    theirs, ours = guides
    assert ours.side == 224
    torch.manual_seed(1)
    view = torch.rand(1, 3, 224, 224)
    mine, other = view.clone().requires_grad_(), view.clone().requires_grad_()
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(1, 3, 1, 1)
    expected = F.normalize(theirs.encode_image((other - mean) / std), dim=-1)
    found = ours.embed_image(mine)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)

    direction = torch.randn_like(expected)
    (expected * direction).sum().backward()
    (found * direction).sum().backward()
    assert mine.grad is not None
    assert other.grad is not None
    assert (mine.grad - other.grad).norm() / other.grad.norm() < 1e-3


def test_words_are_open_clips_own(guides: tuple[open_clip.CLIP, clip.Clip]) -> None:
    theirs, ours = guides
    words = ["a red apple", "the sea at night"]
    tokens = open_clip.get_tokenizer("ViT-B-32-quickgelu")(words)
    expected = F.normalize(theirs.encode_text(tokens), dim=-1)
    torch.testing.assert_close(ours.embed_text(words), expected, atol=1e-5, rtol=1e-4)


def test_the_activation_is_quick_gelu(guides: tuple[open_clip.CLIP, clip.Clip]) -> None:
    """The flag reaches the layers: the other activation would give other vectors and no error."""
    _, ours = guides
    kinds = {type(part).__name__ for part in ours.model.modules()}
    assert "QuickGELU" in kinds
    assert "GELU" not in kinds
