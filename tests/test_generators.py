"""Every generator keeps the same promises, whatever its latent looks like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from generators import vqgan
from generators.base import Generator, clamp_with_gradient, straight_through
from generators.fourier import Fourier, hartley
from generators.pixels import Pixels
from generators.pyramid import Pyramid, level_sizes
from generators.starts import STARTS

POCKET = Path(__file__).parent.parent / "weights" / "vqgan"
WEIGHTLESS = {"pixels": Pixels, "fourier": Fourier, "pyramid": Pyramid}
NAMES = [*WEIGHTLESS, "pocket", "published"]


@pytest.fixture(scope="session")
def make(tiny_vqgan: Path) -> Callable[[str], Generator]:
    """Give `make(name)`."""
    folders = {"pocket": POCKET, "published": tiny_vqgan}
    return lambda name: WEIGHTLESS[name]() if name in WEIGHTLESS else vqgan.load(folders[name])


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_starts_from_the_same_latent(name: str, make: Callable) -> None:
    generator = make(name)
    torch.manual_seed(1)
    first = generator.start((32, 48), seed=0)
    torch.manual_seed(2)  # the global state must not matter
    assert torch.equal(first, generator.start((32, 48), seed=0))
    assert not torch.equal(first, generator.start((32, 48), seed=1))


@pytest.mark.parametrize("name", NAMES)
def test_a_latent_decodes_to_a_picture_of_its_size_in_range(name: str, make: Callable) -> None:
    generator = make(name)
    image = generator.decode(generator.start((32, 48), seed=0))
    assert image.shape == (1, 3, 32, 48)
    assert image.dtype == torch.float32
    assert 0 <= image.min() <= image.max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_moves_the_picture_where_it_points(name: str, make: Callable) -> None:
    generator = make(name)
    latent = generator.start((32, 32), seed=0).requires_grad_()
    adam = torch.optim.Adam([latent], lr=generator.step_size)
    brightness = []
    for _ in range(30):
        darkness = -generator.decode(latent).mean()
        brightness.append(-darkness.item())
        adam.zero_grad()
        darkness.backward()
        adam.step()
        with torch.no_grad():
            latent.copy_(generator.project(latent))
    assert brightness[-1] > brightness[0] + 0.002


@pytest.mark.parametrize("name", NAMES)
def test_projecting_twice_changes_nothing_more(name: str, make: Callable) -> None:
    generator = make(name)
    once = generator.project(generator.start((32, 32), seed=0) * 3 + 1)
    assert torch.equal(generator.project(once), once)


@pytest.mark.parametrize("name", WEIGHTLESS)
@pytest.mark.parametrize("size", [(64, 64), (33, 47), (31, 32), (1, 5)])
def test_without_weights_any_picture_can_be_started_from(name: str, size: tuple[int, int]) -> None:
    picture = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.05
    generator = WEIGHTLESS[name]()
    latent = generator.start(size, seed=0, init=picture)
    assert torch.allclose(generator.decode(latent), picture, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_picture_of_a_random_start(name: str, make: Callable, golden: Callable) -> None:
    image = make(name).decode(make(name).start((64, 64), seed=3))
    golden(f"start-{name}", _pixels(image))


def test_the_pocket_network_gives_a_flat_picture_back(make: Callable) -> None:
    generator = make("pocket")
    red = torch.tensor([0.8, 0.2, 0.2]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    again = generator.decode(generator.start((64, 64), seed=0, init=red))
    assert (again - red).abs().mean() < 0.06


def test_every_cell_is_snapped_to_its_nearest_code(make: Callable) -> None:
    generator = make("published")
    latent = torch.randn(1, 32, 4, 6, generator=torch.Generator().manual_seed(0))
    cells = latent.permute(0, 2, 3, 1).reshape(-1, 32)
    nearest = generator.codebook[torch.cdist(cells, generator.codebook).argmin(dim=1)]
    snapped = generator.quantise(latent).permute(0, 2, 3, 1).reshape(-1, 32)
    assert torch.equal(snapped, nearest)


def test_each_group_of_a_cell_is_snapped_on_its_own() -> None:
    torch.manual_seed(0)
    params = {"embed_dim": 6, "n_embed": 9, "groups": 3, "widths": [4, 4, 4]}
    generator = vqgan.VQGAN(vqgan.build({"model": {"target": "Pocket", "params": params}}))
    latent = torch.randn(1, 6, 2, 5)
    snapped = generator.quantise(latent)
    for group in range(3):
        part = slice(2 * group, 2 * group + 2)
        rows = latent[0, part].flatten(1).T
        nearest = generator.codebook[torch.cdist(rows, generator.codebook).argmin(dim=1)]
        assert torch.equal(snapped[0, part].flatten(1).T, nearest)
    assert torch.equal(generator.quantise(snapped), snapped)
    start = generator.start((16, 40), seed=1)
    assert torch.equal(generator.quantise(start), start)
    assert torch.equal(generator.project(start), start)


def test_the_gradient_passes_the_codes_unchanged() -> None:
    latent = torch.randn(2, 3, requires_grad=True)
    (straight_through(torch.zeros(2, 3), latent) * torch.arange(6.0).view(2, 3)).sum().backward()
    assert torch.equal(latent.grad, torch.arange(6.0).view(2, 3))


def test_a_gumbel_picture_encodes_alike_every_time(tiny_vqgan: Path) -> None:
    import yaml

    model = yaml.safe_load((tiny_vqgan / "config.yaml").read_text())["model"]
    model["target"] = "taming.models.vqgan.GumbelVQ"
    torch.manual_seed(0)
    generator = vqgan.VQGAN(vqgan.build({"model": model}))
    picture = torch.rand(1, 3, 32, 32)
    assert torch.equal(generator.encode(picture), generator.encode(picture))


def test_a_transformers_file_gives_the_vqgan_inside(tiny_vqgan: Path) -> None:
    import yaml

    model = yaml.safe_load((tiny_vqgan / "config.yaml").read_text())["model"]
    outer = {"target": "taming.models.cond_transformer.Net2NetTransformer"}
    network = vqgan.build({"model": {**outer, "params": {"first_stage_config": model}}})
    assert network.codebook.shape == (64, 32)


def test_a_yaml_cannot_name_a_class_to_import() -> None:
    with pytest.raises(ValueError, match=r"No network called 'system'\. We have: VQModel"):
        vqgan.build({"model": {"target": "os.system", "params": {}}})


def test_weights_of_another_network_are_refused_by_name(tiny_vqgan: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes((POCKET / "config.yaml").read_bytes())
    (tmp_path / "model.safetensors").write_bytes((tiny_vqgan / "model.safetensors").read_bytes())
    with pytest.raises(
        ValueError, match=r"another network \(missing: decoder.0.bias, .* more; unknown: "
    ):
        vqgan.load(tmp_path)


def test_outside_the_range_only_the_way_back_has_a_gradient() -> None:
    pixels = torch.tensor([-0.5, -0.5, 0.5, 0.5, 1.5, 1.5], requires_grad=True)
    clamp_with_gradient(pixels).backward(torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0]))
    # a gradient of +1 moves a pixel down: wrong for one that is too dark, right for one too bright
    assert pixels.grad.tolist() == [0, -1, 1, -1, 1, 0]


def test_the_hartley_transform_is_its_own_inverse() -> None:
    x = torch.randn(1, 3, 7, 10)
    assert torch.allclose(hartley(hartley(x)), x, atol=1e-5)


def test_a_pyramid_halves_until_one_pixel() -> None:
    assert level_sizes((8, 12)) == [(8, 12), (4, 6), (2, 3), (1, 1)]


@pytest.mark.parametrize("name", [name for name, draw in STARTS.items() if draw])
def test_starting_pictures_come_from_the_seed_alone(name: str) -> None:
    draw = STARTS[name]
    picture = draw((40, 24), 5)
    assert picture.shape == (1, 3, 40, 24)
    assert 0 <= picture.min() <= picture.max() <= 1
    assert torch.equal(picture, draw((40, 24), 5))
    assert name == "flat" or not torch.equal(picture, draw((40, 24), 6))


def _pixels(image: torch.Tensor):
    return (image[0].permute(1, 2, 0) * 255).round().byte().numpy()
