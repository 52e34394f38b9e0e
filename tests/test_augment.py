"""Views show a picture fairly: every scale, no bias, nothing lost, and again when asked."""

from __future__ import annotations

import kornia.augmentation as K
import pytest
import torch

from generators.base import Image
from guidance.augment import (
    AUGMENTATIONS,
    METHODS,
    Views,
    after,
    colour,
    crop_boxes,
    draw_tints,
    draw_turns,
    sample,
    whole_frame,
)

PLAIN: dict = {"augment": (), "noise": 0.0}


def _picture(height: int = 48, width: int = 64) -> Image:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("method", METHODS)
def test_views_have_their_shape_and_stay_in_range(method: str) -> None:
    views = Views(6, 32, method, noise=1.0)(_picture())
    assert views.shape == (6, 3, 32, 32)
    assert 0 <= views.min() <= views.max() <= 1


@pytest.mark.parametrize("code", AUGMENTATIONS)
def test_each_augmentation_changes_the_picture_and_lets_gradients_through(code: str) -> None:
    picture = _picture().requires_grad_()
    torch.manual_seed(0)
    plain = Views(16, 32, **PLAIN)(picture)
    torch.manual_seed(0)
    changed = Views(16, 32, augment=(code,), noise=0.0)(picture)
    assert not torch.equal(plain, changed)
    changed.sum().backward()
    assert picture.grad.isfinite().all()
    assert picture.grad.abs().sum() > 0


@pytest.mark.parametrize("code", AUGMENTATIONS)
def test_what_was_drawn_can_be_shown_again(code: str) -> None:
    views = Views(5, 32, augment=(code,), noise=0.2)
    drawn = views.draw((48, 64))
    first = views.show(_picture(), drawn)
    torch.manual_seed(99)
    assert torch.equal(first, views.show(_picture(), drawn))


def test_views_come_from_the_seed_alone() -> None:
    views = Views(8, 32)
    torch.manual_seed(4)
    first = views(_picture())
    torch.manual_seed(4)
    assert torch.equal(first, views(_picture()))
    assert not torch.equal(first, views(_picture()))


def test_a_circle_stays_round_in_a_wide_picture() -> None:
    y, x = torch.meshgrid(torch.arange(64) - 31.5, torch.arange(128) - 63.5, indexing="ij")
    disc = ((x.square() + y.square()) < 28**2).float().expand(1, 3, 64, 128)
    seen = whole_frame(disc, 64)[0, 0] > 0.5
    tall, wide = seen.any(dim=1).sum(), seen.any(dim=0).sum()
    assert abs(int(tall) - int(wide)) <= 1


@pytest.mark.parametrize("method", ["crops", "original"])
def test_no_view_is_squashed(method: str) -> None:
    boxes = METHODS[method].boxes((100, 260), 64, 32)
    assert torch.equal(boxes[:, 2], boxes[:, 3])


@pytest.mark.parametrize("side", [224, 300, 1000])
def test_crops_vary_in_size_at_every_size(side: int) -> None:
    torch.manual_seed(0)
    sides = crop_boxes((side, side), 64, 224)[:, 2]
    assert sides.std() > 0.05 * side


def test_a_large_picture_shows_its_real_pixels() -> None:
    picture = _picture(300, 300)
    torch.manual_seed(0)
    boxes = crop_boxes((300, 300), 32, 64)
    native = boxes[:, 2] == 64
    assert native.sum() >= 3
    box = boxes[native][:1].round()
    top, left = int(box[0, 0]), int(box[0, 1])
    seen = sample(picture, box, torch.eye(3)[None], 64)
    assert torch.allclose(seen, picture[..., top : top + 64, left : left + 64], atol=1e-3)


def test_half_of_the_views_show_everything() -> None:
    boxes = crop_boxes((100, 200), 16, 32)
    assert (boxes[:, 2] == 200).sum() == 8


def test_shrinking_averages_pixels_instead_of_skipping_them() -> None:
    fine = (torch.arange(512) % 2).float().expand(1, 3, 512, 512)  # stripes of one pixel
    seen = whole_frame(fine, 32)
    assert (seen - 0.5).abs().max() < 0.01


def test_many_views_together_are_as_bright_as_the_picture() -> None:
    picture = _picture(64, 64)
    torch.manual_seed(0)
    views = Views(256, 32)(picture)
    assert (views.mean() - picture.mean()).abs() < 0.02


def test_the_classics_latest_method_brightens_and_ours_does_not() -> None:
    picture = _picture(64, 64)
    assert Views(4, 32, "latest", **PLAIN)(picture).mean() > picture.mean() + 0.1


def test_a_view_does_not_depend_on_the_others() -> None:
    picture = _picture()
    boxes = crop_boxes((48, 64), 6, 32)
    turns = Views(6, 32, augment=("Af", "Pe")).draw((48, 64)).turns
    pairs = zip(boxes, turns, strict=True)
    alone = [sample(picture, box[None], turn[None], 32) for box, turn in pairs]
    assert torch.allclose(sample(picture, boxes, turns, 32), torch.cat(alone), atol=1e-5)


def test_reading_boxes_has_the_right_gradient() -> None:
    picture = torch.rand(1, 3, 6, 5, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[0.0, 0.0, 6.0, 6.0], [1.0, 0.5, 3.0, 3.0]], dtype=torch.float64)
    turns = torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
    assert torch.autograd.gradcheck(lambda x: sample(x, boxes, turns, 2), picture)


@pytest.mark.parametrize(
    ("strength", "likeness"),
    [
        ((0.1, 0, 0, 0), 0.999),
        ((0, 0.1, 0, 0), 0.999),
        ((0, 0, 0.2, 0), 0.5),
        ((0, 0, 0, 0.05), 0.5),
    ],
    ids=["brightness", "contrast", "saturation", "hue"],
)
def test_a_tint_of_ours_goes_where_kornias_goes(strength: tuple, likeness: float) -> None:
    """Exactly for light; for hue and saturation it moves in another, linear, space of colours."""
    picture = 0.25 + 0.5 * torch.rand(32, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    jiggle = K.ColorJiggle(*strength, p=1)
    torch.manual_seed(0)
    ours = colour(picture, draw_tints(jiggle, picture.shape)) - picture
    torch.manual_seed(0)
    theirs = jiggle(picture) - picture
    assert torch.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > likeness
    assert ours.norm() / theirs.norm() == pytest.approx(1, abs=0.5)


def test_two_tints_are_one_after_the_other() -> None:
    picture = torch.rand(4, 3, 6, 6)
    torch.manual_seed(0)
    one, other = (draw_tints(K.ColorJiggle(*(0.2,) * 4, p=1), picture.shape) for _ in range(2))
    together = colour(picture, after(other, one))
    assert torch.allclose(together, colour(colour(picture, one), other), atol=1e-5)


def test_without_a_tint_colours_stay() -> None:
    picture = torch.rand(4, 3, 6, 6)
    never = K.ColorJiggle(0.1, 0.1, 0.1, 0.03, p=0.0)
    assert torch.allclose(colour(picture, draw_tints(never, picture.shape)), picture, atol=1e-5)


def test_a_turn_of_ours_shows_what_kornia_shows() -> None:
    picture = torch.zeros(1, 3, 40, 40)
    picture[..., 12:28, 14:26] = _picture(16, 12)  # a black border, where both fill with black
    rotation = K.RandomRotation((30, 30), p=1)
    torch.manual_seed(0)
    turn = draw_turns(rotation, picture.shape)
    ours = sample(picture, torch.tensor([[0.0, 0.0, 40.0, 40.0]]), turn, 40)
    assert torch.allclose(ours, rotation(picture), atol=1e-3)
