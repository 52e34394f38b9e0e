"""Held: any generator, kept still outside a mask; and Chroma, which moves colours alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from generators import vqgan
from generators.base import Generator
from generators.chroma import Chroma, from_oklab, to_oklab
from generators.fourier import Fourier
from generators.held import Held
from generators.pixels import Pixels
from generators.pyramid import Pyramid

SIZE = (32, 48)


def picture(seed: int) -> Tensor:
    return torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


def left_half() -> Tensor:
    mask = torch.zeros(1, 1, *SIZE)
    mask[..., :24] = 1
    return mask


@pytest.fixture(params=["vqgan", "pixels", "pyramid", "fourier", "chroma"])
def make(request: pytest.FixtureRequest, tiny_vqgan: Path) -> Callable[[Tensor], Generator]:
    makers: dict[str, Callable[[Tensor], Generator]] = {
        "vqgan": lambda guess: vqgan.load(tiny_vqgan),
        "pixels": lambda guess: Pixels(),
        "pyramid": lambda guess: Pyramid(),
        "fourier": lambda guess: Fourier(),
        "chroma": Chroma,
    }
    return makers[request.param]


def test_a_run_begins_with_the_guess_itself(make: Callable[[Tensor], Generator]) -> None:
    guess, mask = picture(1), left_half()
    held = Held(make(guess), guess, mask, seed=0)
    shown = held.decode(held.start(SIZE, seed=0))
    assert torch.allclose(shown, guess, atol=1e-5)


def test_outside_the_mask_nothing_moves(make: Callable[[Tensor], Generator]) -> None:
    guess, mask = picture(1), left_half()
    held = Held(make(guess), guess, mask, seed=0)
    chance = torch.Generator().manual_seed(5)
    moved = held.first + torch.randn(held.first.shape, generator=chance)
    shown = held.decode(held.project(moved))
    assert torch.equal(shown[..., 24:], guess[..., 24:])
    assert not torch.equal(shown[..., :24], held.decode(held.first)[..., :24])


def test_cells_that_may_not_move_are_as_they_were(tiny_vqgan: Path) -> None:
    mask = left_half()
    held = Held(vqgan.load(tiny_vqgan), picture(0), mask, seed=0)
    kept = held.project(held.first + 1)
    half = kept.shape[-1] // 2
    assert torch.equal(kept[..., half:], held.first[..., half:])
    assert not torch.equal(kept[..., :half], held.first[..., :half])


def test_projecting_twice_is_projecting_once(make: Callable[[Tensor], Generator]) -> None:
    held = Held(make(picture(1)), picture(1), left_half(), seed=0)
    once = held.project(held.first + 3)
    assert torch.equal(once, held.project(once))


# --- Chroma -----------------------------------------------------------------------------------


def test_oklab_knows_the_way_back() -> None:
    image = picture(3)
    assert torch.allclose(from_oklab(to_oklab(image)), image, atol=1e-4)


@pytest.mark.parametrize(
    ("colour", "lab"),  # https://bottosson.github.io/posts/oklab/, of sRGB's corners
    [
        ((1.0, 1.0, 1.0), (1.000, 0.000, 0.000)),
        ((1.0, 0.0, 0.0), (0.628, 0.225, 0.126)),
        ((0.0, 1.0, 0.0), (0.866, -0.234, 0.179)),
        ((0.0, 0.0, 1.0), (0.452, -0.032, -0.312)),
    ],
)
def test_oklab_has_the_published_values(colour: tuple[float, ...], lab: tuple[float, ...]) -> None:
    found = to_oklab(torch.tensor(colour).view(1, 3, 1, 1)).flatten()
    assert torch.allclose(found, torch.tensor(lab), atol=2e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_chroma_leaves_lightness_alone(seed: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    soft = 0.35 + 0.3 * torch.rand(1, 3, *SIZE, generator=chance)  # room for colours on all sides
    chroma = Chroma(soft)
    moved = 0.03 * torch.randn(1, 2, 4, 6, generator=chance).clamp(-1, 1)
    changed = to_oklab(chroma.decode(chroma.project(moved)))
    assert torch.allclose(changed[:, 0], to_oklab(soft)[:, 0], atol=0.01)


def test_chroma_has_a_gradient() -> None:
    chroma = Chroma(picture(1))
    latent = chroma.start(SIZE, seed=0).requires_grad_()
    chroma.decode(latent)[:, 0].mean().backward()
    assert latent.grad is not None
    assert latent.grad.abs().sum() > 0
