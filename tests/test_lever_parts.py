"""What some levers need beside settings: other guides in the same space, a prior over codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks import guides, levers, prior
from benchmarks.levers import LEVERS
from generators import vqgan
from training.data import Library, Picture
from training.scenes import Studio, draw_shape


@pytest.fixture
def generator(tiny_vqgan: Path) -> vqgan.VQGAN:
    return vqgan.load(tiny_vqgan)


@pytest.fixture
def studio() -> Studio:
    """Two shapes, and a grey photograph."""
    shapes = ("circle", "star")
    pictures = tuple(Picture("noto", f"noto/{s}", s, (), "objects") for s in shapes)
    rgba = np.stack([np.asarray(draw_shape(s)) for s in shapes])
    grey = np.full((1, 256, 256, 3), 128, np.uint8)
    return Studio(Library(pictures, rgba, (), grey), 64)


def test_a_plain_clip_sees_with_the_eyes_of_the_judge_and_reads_the_same_words(
    pocket_models: Any,
) -> None:
    guide, judge = guides.plain(pocket_models), pocket_models.judge("pocket")
    picture = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    goal = guide.embed_text(["a cat"])
    assert torch.equal(goal, pocket_models.clip("pocket").embed_text(["a cat"]))
    marks = judge.marks(picture, goal)
    assert torch.allclose(guide.embed_image(picture) @ goal[0], marks, atol=1e-4)
    own = pocket_models.clip("pocket").embed_image(picture) @ goal[0]
    assert (own - marks).abs().max() > 0.01  # not the robust tower's opinion


def test_unrelated_pictures_are_looked_at_with_the_other_eyes(pocket_models: Any) -> None:
    clip = pocket_models.clip("pocket")
    goal = clip.embed_text(["a cat"])
    assert clip.unrelated_angle(goal) != guides.plain(pocket_models).unrelated_angle(goal)


def test_words_are_turned_to_where_their_pictures_live() -> None:
    chance = torch.Generator().manual_seed(2)
    words = F.normalize(torch.randn(200, 8, generator=chance), dim=-1)
    turn, _ = torch.linalg.qr(torch.randn(8, 8, generator=chance))
    pictures = F.normalize(words @ turn + 0.5, dim=-1)
    moved = guides.procrustes(words, pictures)(words)
    assert (moved * pictures).sum(dim=-1).mean() > 0.95
    assert (words * pictures).sum(dim=-1).mean() < 0.6


@pytest.mark.parametrize(
    ("lever", "names"),
    [
        ("a plain CLIP beside", {"pocket", guides.OTHER}),
        ("a plain CLIP alone", {guides.OTHER}),
    ],
)
def test_another_guide_comes_in_the_name_of_a_row(
    lever: str, names: set[str], pocket_models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take(request: Any, models: Any) -> Any:
        assert {guide.name for guide in request.clips} == names
        assert models.clip(guides.OTHER, "float32") is guides.plain(pocket_models)
        assert models.clip("pocket", "float32") is pocket_models.clip("pocket", "float32")
        assert models.judge("pocket") is pocket_models.judge("pocket")
        yield type("Step", (), {"index": 0, "last": True, "settled": lambda self: 5})()

    monkeypatch.setattr(levers.pipeline, "run", take)
    assert LEVERS[lever]("a cat", 7, pocket_models).picture == 5


def test_a_clip_that_was_trained_for_a_lever_looks_and_reads_alone(
    pocket_models: Any, tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words of the draft are still read by the one that ships."""

    def take(request: Any, models: Any) -> Any:
        (guide,) = request.clips
        assert models.clip(guide.name, "float32").model.visual.image_size != 96  # the tiny one
        assert models.clip("pocket", "float32") is pocket_models.clip("pocket", "float32")
        yield type("Step", (), {"index": 0, "last": True, "settled": lambda self: 5})()

    (tmp_path / "clip-radius").mkdir()
    (tmp_path / "clip-radius" / "clip").symlink_to(tiny_clip)
    monkeypatch.setattr(guides, "RUNS", tmp_path)
    monkeypatch.setattr(levers.pipeline, "run", take)
    lever = levers.guided(guides.trained("clip-radius"), alone=True)
    assert lever("a cat", 7, pocket_models).picture == 5


def test_a_prior_learns_what_cells_neighbours_lead_one_to_expect(
    pocket_models: Any, studio: Studio
) -> None:
    """A hidden half of scenes that it has not seen, against guessing the mean."""
    generator = pocket_models.generator("pocket", "float32")
    net = prior.Expected(generator.width, inner=32)
    net = prior.learn(net, generator, studio, steps=150, batch=4)
    cells = prior.cells_of(generator, studio, np.random.default_rng(99), batch=8)
    hidden = (torch.arange(cells.shape[-1]) % 2).expand(len(cells), 1, *cells.shape[-2:]).float()
    wrong = ((net.guess(cells, hidden) - cells) * hidden).square().mean()
    mean = ((cells.mean(dim=(0, 2, 3), keepdim=True) - cells) * hidden).square().mean()
    assert wrong < 0.8 * mean


def test_cells_go_a_share_of_the_way_to_what_is_expected(generator: vqgan.VQGAN) -> None:
    class Always(prior.Expected):
        def guess(self, cells: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
            return torch.full_like(cells, 0.25)

    net = Always(generator.width)
    latent = generator.start((64, 48), seed=3)
    for share in (0.0, 0.1, 1.0):
        moved = prior.Likely(generator, net, share).project(latent)
        assert torch.allclose(moved, torch.lerp(latent, torch.tensor(0.25), share), atol=1e-6)


def test_a_cell_is_guessed_without_looking_at_it(generator: vqgan.VQGAN) -> None:
    """Changing one cell changes what is expected of its neighbours, not of itself."""
    torch.manual_seed(0)
    net = prior.Expected(generator.width).eval()
    likely = prior.Likely(generator, net, 1.0)
    latent = generator.start((64, 64), seed=3)
    other = latent.clone()
    other[:, :, 4, 4] = latent[:, :, 0, 0]
    assert not torch.equal(other, latent)
    apart = (likely.project(latent) - likely.project(other)).abs().amax(dim=1)[0]
    assert apart[4, 4] == 0
    assert apart[4, 5] > 0
