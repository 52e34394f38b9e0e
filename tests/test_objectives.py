"""Objectives say how far a picture is from where it should be, and which way is nearer."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from guidance import clip
from guidance.augment import Views
from guidance.objectives import (
    DISTANCES,
    Match,
    Target,
    Turn,
    chunked,
    cosine,
    named,
    palette,
    smoothness,
    spherical,
    symmetry,
)


@pytest.fixture(scope="module")
def seer(tiny_clip: Path) -> clip.Clip:
    return clip.load(tiny_clip)


def _unit(*shape: int, seed: int = 0) -> torch.Tensor:
    numbers = torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return F.normalize(numbers, dim=-1)


def _picture(seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(seed))


def _gradient(objective, picture: torch.Tensor) -> torch.Tensor:
    picture = picture.clone().requires_grad_()
    torch.manual_seed(0)
    objective(picture).total.backward()
    return picture.grad


def test_the_spherical_distance_is_half_the_squared_angle() -> None:
    views, goals = _unit(4, 8), _unit(3, 8, seed=1)
    expected = np.arccos(views.numpy() @ goals.numpy().T) ** 2 / 2
    assert np.allclose(spherical(views, goals).numpy(), expected)


def test_gradients_are_finite_for_equal_and_opposite_vectors() -> None:
    goal = _unit(1, 8).float()
    for view in (goal, -goal):
        for distance, _ in DISTANCES.values():
            leaf = view.clone().requires_grad_()
            distance(leaf, goal).sum().backward()
            assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("distance", [spherical, cosine])
def test_distances_have_the_right_gradient(distance) -> None:
    goals = _unit(3, 5, seed=1)
    assert torch.autograd.gradcheck(lambda v: distance(v, goals), _unit(2, 5).requires_grad_())


@pytest.mark.parametrize("name", DISTANCES)
def test_a_slope_is_the_derivative_of_its_distance(name: str) -> None:
    distance, slope = DISTANCES[name]
    goal = torch.tensor([[1.0, 0.0]], dtype=torch.float64)

    def at(angle: float) -> float:
        return distance(torch.tensor([[math.cos(angle), math.sin(angle)]]).double(), goal).item()

    assert slope(1.2) == pytest.approx((at(1.201) - at(1.199)) / 0.002, rel=1e-3)


def test_a_prompt_split_into_two_halves_pulls_the_same(seer: clip.Clip) -> None:
    goal, other = seer.embed_text(["a fox", "snow"])[:, None]
    whole = Match(seer, [Target("a", goal, 2.0), Target("b", other)], Views(3, seer.side))
    halves = [Target("a", goal), Target("a again", goal), Target("b", other)]
    split = Match(seer, halves, Views(3, seer.side))
    assert torch.allclose(_gradient(whole, _picture()), _gradient(split, _picture()), atol=1e-7)


def test_weights_count_by_their_share(seer: clip.Clip) -> None:
    goal = seer.embed_text(["a fox"])
    light = Match(seer, [Target("a", goal, 0.5)], Views(3, seer.side))
    heavy = Match(seer, [Target("a", goal, 5.0)], Views(3, seer.side))
    assert torch.allclose(_gradient(light, _picture()), _gradient(heavy, _picture()))


def test_a_negative_weight_pushes_the_other_way(seer: clip.Clip) -> None:
    goal = seer.embed_text(["a fox"])
    # noise and tints leave the range, where a clamp sees the sign
    views = Views(3, seer.side, augment=("Af", "Pe"), noise=0)
    pull = _gradient(Match(seer, [Target("a", goal, 1.0)], views), _picture())
    push = _gradient(Match(seer, [Target("a", goal, -1.0)], views), _picture())
    assert torch.allclose(pull, -push, atol=1e-7)


def test_pulling_ends_when_closer_than_the_stop_and_pushing_when_farther(seer: clip.Clip) -> None:
    goal = seer.embed_text(["a fox"])
    for weight, stop, moves in [
        (1.0, 0.0, True),
        (1.0, 9.0, False),
        (-1.0, 9.0, True),
        (-1.0, 0.0, False),
    ]:
        match = Match(seer, [Target("a", goal, weight, stop)], Views(3, seer.side))
        assert bool(_gradient(match, _picture()).abs().sum() > 0) == moves


def test_a_stop_is_compared_with_the_distance_itself(seer: clip.Clip) -> None:
    goal, views = seer.embed_text(["a fox"]), Views(1, seer.side, augment=(), noise=0)
    plain = Match(seer, [Target("a", goal, 1.0, slope=7.0)], views)
    torch.manual_seed(0)
    distance = 7 * plain(_picture()).total.item()
    for stop, moves in [(distance - 0.01, True), (distance + 0.01, False)]:
        match = Match(seer, [Target("a", goal, 3.0, stop, slope=7.0)], views)
        assert bool(_gradient(match, _picture()).abs().sum() > 0) == moves


@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
def test_another_chunk_size_gives_the_same_gradient(seer: clip.Clip, chunk: int) -> None:
    targets = [
        Target("a", seer.embed_text(["a fox"])),
        Target("b", seer.embed_text(["snow"]), -0.5),
    ]
    whole = Match(seer, targets, Views(7, seer.side))
    parts = Match(seer, targets, Views(7, seer.side), chunk=chunk)
    expected, found = _gradient(whole, _picture()), _gradient(parts, _picture())
    assert (expected - found).norm() <= 1e-5 * expected.norm()


def test_chunks_keep_the_gradient_of_the_sum_under_any_scale() -> None:
    views = torch.rand(5, 2, dtype=torch.float64, requires_grad=True)

    def total(v: torch.Tensor) -> torch.Tensor:
        return (
            3 * chunked(lambda piece: torch.stack([piece.sum(1) ** 2, piece[:, 0]], dim=1), v, 2)[0]
        )

    assert torch.autograd.gradcheck(total, views)


def test_terms_add_up_to_the_total(seer: clip.Clip) -> None:
    targets = [
        Target("a", seer.embed_text(["a fox"])),
        Target("b", seer.embed_text(["snow"]), -2.0),
    ]
    loss = Match(seer, targets, Views(4, seer.side), chunk=3)(_picture())
    assert sum(loss.terms.values()).item() == pytest.approx(loss.total.item(), rel=1e-5)


def test_looking_without_gradients_costs_no_backward_pass(seer: clip.Clip) -> None:
    match = Match(seer, [Target("a", seer.embed_text(["a fox"]))], Views(4, seer.side), chunk=2)
    with torch.no_grad():
        assert not match(_picture()).total.requires_grad


def test_the_directional_loss_ends_where_the_picture_turned_as_the_words_did(
    seer: clip.Clip,
) -> None:
    before, after = _picture(0), _picture(1)
    views = Views(1, seer.side, "latest", augment=(), noise=0)
    moved = seer.embed_image(views(after)) - seer.embed_image(views(before))
    turn = Turn(seer, before, F.normalize(moved, dim=-1), views)
    assert turn(after).total.item() == pytest.approx(0, abs=1e-5)
    assert turn(before).total.item() == pytest.approx(1, abs=1e-3)
    assert _gradient(turn, before + 0.01).isfinite().all()


def test_a_flat_picture_is_smooth_and_noise_is_not() -> None:
    assert smoothness(torch.full((1, 3, 8, 8), 0.3)) == 0
    assert smoothness(_picture()) > 0.3


def test_a_mirrored_picture_is_symmetric() -> None:
    half = _picture()
    assert symmetry(torch.cat([half, half.flip(-1)], dim=-1)) == 0
    assert symmetry(half) > 0.05


def test_a_picture_in_the_palettes_colours_costs_nothing() -> None:
    colours = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])
    picture = colours.T.reshape(1, 3, 1, 2)
    assert palette(picture, colours) == 0
    assert palette(picture, colours[:1]) == pytest.approx(1)


def test_a_weight_scales_a_named_objective() -> None:
    loss = named("smooth", 0.5, smoothness)(_picture())
    assert loss.total == 0.5 * smoothness(_picture())
    assert loss.terms["smooth"] == loss.total
