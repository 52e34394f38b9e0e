"""Retouches: first guesses at an edit, drawn directly."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images

from guidance import retouch
from guidance.draft import Cutout
from guidance.retouch import Mask, Pixels
from guidance.styles import STYLES, WEATHERS

COLOURS = {
    "red": (220, 35, 35),
    "yellow": (250, 215, 45),
    "green": (45, 165, 65),
    "blue": (45, 95, 220),
    "purple": (140, 65, 190),
    "pink": (245, 135, 190),
    "brown": (125, 78, 42),
    "dark blue": (20, 35, 95),
    "beige": (235, 220, 185),
}
GREYS = {"black": (22, 22, 22), "gray": (130, 130, 130), "white": (250, 250, 250)}
SIZES = ((16, 16), (300, 40), (40, 300), (97, 128))


def photograph(name: str) -> Pixels:
    """(107, 160, 3): "china" or "flower"."""
    images = dict(zip(("china", "flower"), load_sample_images().images, strict=True))
    return cv2.resize(images[name], (160, 107), interpolation=cv2.INTER_AREA)


def bricks() -> Pixels:
    """Red bricks of different tones, light mortar, grain."""
    chance = np.random.default_rng(0)
    y, x = np.indices((107, 160))
    tones = chance.normal(0, 12, (10, 9))[y // 12, (x + 10 * (y // 12 % 2)) // 20]
    wall = np.stack([160 + tones, 80 + tones, 60 + tones], axis=-1)
    wall[(y % 12 < 2) | ((x + 10 * (y // 12 % 2)) % 20 < 2)] = 190
    return (wall + chance.normal(0, 6, (107, 160, 1))).clip(0, 255).astype(np.uint8)


def shaded(tone: int, spread: float) -> Pixels:
    """A grey sphere that fills the picture, lit from the left."""
    x = np.linspace(-1, 1, 160)[None] + np.linspace(-0.3, 0.3, 107)[:, None]
    grey = tone * (1 - spread * x) + np.random.default_rng(0).normal(0, 1.5, (107, 160))
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)


TEXTURES: dict[str, Callable[[], Pixels]] = {
    "china": lambda: photograph("china"),
    "flower": lambda: photograph("flower"),
    "bricks": bricks,
    "a white cup": lambda: shaded(215, 0.15),
    "a black cat": lambda: shaded(30, 0.5),
}


def spot(shape: tuple[int, int], share: float = 0.3) -> Mask:
    """A soft ellipse in the middle."""
    height, width = shape
    mask = np.zeros(shape, np.float32)
    axes = max(1, round(width * share)), max(1, round(height * share))
    cv2.ellipse(mask, (width // 2, height // 2), axes, 0, 0, 360, 1, -1)
    return cv2.GaussianBlur(mask, (0, 0), 1)


def noise(shape: tuple[int, int]) -> Pixels:
    return np.random.default_rng(1).integers(0, 256, (*shape, 3)).astype(np.uint8)


def drawing(thing: tuple[float, ...] = (0.85, 0.1, 0.1)) -> Cutout:
    """(1, 4, 64, 64): a square with a white stripe, alone."""
    picture = torch.zeros(1, 4, 64, 64)
    picture[:, :, 20:44, 12:52] = torch.tensor([*thing, 1.0]).view(1, 4, 1, 1)
    picture[:, :3, 30:33, 16:48] = 0.97
    return picture


Edit = Callable[[Pixels, Mask, float], Pixels]


def weather(name: str) -> Edit:
    return lambda pixels, mask, strength: retouch.weather(pixels, name, strength, 3)


def style(name: str) -> Edit:
    return lambda pixels, mask, strength: retouch.restyle(pixels, name, strength, 3)


EDITS: dict[str, Edit] = {
    "recolour": lambda pixels, mask, s: retouch.recolour(pixels, mask, COLOURS["red"], s),
    "insert": lambda pixels, mask, s: retouch.insert(pixels, mask, drawing(), s),
    **{name: weather(name) for name in WEATHERS},
    **{name: style(name) for name in STYLES},
}
ALL: dict[str, Edit] = {**EDITS, "erase": lambda pixels, mask, _: retouch.erase(pixels, mask)}


def lab(pixels: Pixels) -> NDArray[np.float32]:
    return cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


# --- all of them --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", SIZES)
def test_pictures_of_any_size_are_changed_and_inputs_are_not(
    name: str, shape: tuple[int, int]
) -> None:
    pixels, mask = noise(shape), spot(shape)
    before = pixels.copy(), mask.copy()
    pixels.setflags(write=False)
    mask.setflags(write=False)
    changed = ALL[name](pixels, mask, 0.8)
    assert changed.shape == pixels.shape
    assert changed.dtype == np.uint8
    assert not np.array_equal(changed, pixels)
    assert np.array_equal(pixels, before[0])
    assert np.array_equal(mask, before[1])


@pytest.mark.parametrize("name", EDITS)
def test_strength_zero_changes_nothing(name: str) -> None:
    pixels = photograph("flower")
    assert np.array_equal(EDITS[name](pixels, spot(pixels.shape[:2]), 0.0), pixels)


@pytest.mark.parametrize("name", EDITS)
def test_more_strength_changes_more(name: str) -> None:
    pixels = photograph("flower")
    little, much = (
        np.abs(EDITS[name](pixels, spot(pixels.shape[:2]), strength).astype(int) - pixels).mean()
        for strength in (0.3, 1.0)
    )
    assert 0 < little < much


@pytest.mark.parametrize("name", ["recolour", "insert", "erase"])
def test_an_empty_mask_changes_nothing(name: str) -> None:
    pixels = photograph("china")
    assert np.array_equal(ALL[name](pixels, np.zeros(pixels.shape[:2], np.float32), 1.0), pixels)


# --- another colour -----------------------------------------------------------------------------


@cache
def texture(name: str) -> Pixels:
    return TEXTURES[name]()


@pytest.mark.parametrize("strength", [0.8, 1.0])
@pytest.mark.parametrize("colour", [*COLOURS, *GREYS])
@pytest.mark.parametrize("name", TEXTURES)
def test_recolouring_keeps_the_shading(name: str, colour: str, strength: float) -> None:
    pixels, mask = texture(name), spot((107, 160))
    changed = retouch.recolour(pixels, mask, {**COLOURS, **GREYS}[colour], strength)
    before, after = (lab(p)[mask > 0.5][:, 0] for p in (pixels, changed))
    assert np.corrcoef(before, after)[0, 1] > 0.9


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("name", TEXTURES)
def test_recolouring_reaches_hue_and_chroma(name: str, colour: str) -> None:
    pixels, mask = texture(name), spot((107, 160))
    changed = retouch.recolour(pixels, mask, COLOURS[colour], 0.8)
    goal = lab(np.array([[COLOURS[colour]]], np.uint8))[0, 0, 1:]
    a, b = lab(changed)[mask > 0.5][:, 1:].mean(axis=0)
    apart = np.degrees(np.arctan2(b, a) - np.arctan2(goal[1], goal[0]))
    assert abs((apart + 180) % 360 - 180) < 25
    assert np.hypot(a, b) > 0.5 * np.hypot(*goal)


@pytest.mark.parametrize("colour", GREYS)
@pytest.mark.parametrize("name", TEXTURES)
def test_grey_goals_take_the_colour_out(name: str, colour: str) -> None:
    mask = spot((107, 160))
    changed = retouch.recolour(texture(name), mask, GREYS[colour], 1.0)
    assert np.hypot(*lab(changed)[mask > 0.5][:, 1:].T).mean() < 2


def test_a_black_thing_can_become_white_and_a_white_one_red() -> None:
    mask = spot((107, 160))
    white = retouch.recolour(texture("a black cat"), mask, GREYS["white"], 0.8)
    assert np.median(lab(white)[mask > 0.5][:, 0]) > 80
    red = retouch.recolour(texture("a white cup"), mask, COLOURS["red"], 0.8)
    light, *ab = np.median(lab(red)[mask > 0.5], axis=0)
    assert light < 65
    assert np.hypot(*ab) > 60  # pink has 45


def test_what_is_grey_in_a_coloured_thing_stays_grey() -> None:
    pixels = np.full((60, 60, 3), COLOURS["red"], np.uint8)
    pixels[40:50, 10:50] = 40
    changed = retouch.recolour(pixels, np.ones((60, 60), np.float32), COLOURS["blue"], 1.0)
    assert np.ptp(changed[45, 30].astype(int)) < 10
    assert changed[20, 30, 2] > 150


def test_recolouring_stays_inside_the_mask() -> None:
    pixels, mask = texture("flower"), spot((107, 160))
    changed = retouch.recolour(pixels, mask, COLOURS["green"], 1.0)
    assert np.array_equal(changed[mask == 0], pixels[mask == 0])


# --- nothing there any more ---------------------------------------------------------------------


def grounds() -> dict[str, Pixels]:
    y, x = np.indices((150, 200))
    sky = np.stack([90 + y / 2, 140 + y / 2, 230 + y / 10], axis=-1)
    grain = cv2.GaussianBlur(np.random.default_rng(0).random((150, 200)), (0, 0), 0.7, sigmaY=2)
    grass = 128 + 60 * (grain - grain.mean()) / grain.std()
    stripes = np.where(x % 20 < 10, 220, 150)
    grey = {"sky": sky, "grass": np.dstack([grass] * 3), "stripes": np.dstack([stripes] * 3)}
    return {name: ground.clip(0, 255).astype(np.uint8) for name, ground in grey.items()}


def test_erasing_leaves_the_rest_alone() -> None:
    pixels, mask = photograph("china"), spot((107, 160), 0.15)
    changed = retouch.erase(pixels, mask)
    far = cv2.dilate(mask, np.ones((9, 9))) == 0
    assert np.array_equal(changed[far], pixels[far])


@pytest.mark.parametrize("name", ["sky", "stripes"])
def test_a_regular_ground_goes_on_where_a_thing_was(name: str) -> None:
    ground = grounds()[name]
    mask = spot(ground.shape[:2], 0.25)
    pixels = np.where(mask[..., None] > 0.02, np.uint8(0), ground)
    changed = retouch.erase(pixels, mask)
    assert np.abs(changed.astype(int) - ground).mean(axis=-1)[mask > 0.02].mean() < 8


def test_erasing_keeps_the_grain_of_the_ground() -> None:
    ground = grounds()["grass"]
    mask = spot(ground.shape[:2], 0.25)
    changed = retouch.erase(np.where(mask[..., None] > 0.02, np.uint8(0), ground), mask)
    inside = mask > 0.5
    assert changed[inside].std() > 0.7 * ground[inside].std()
    assert abs(changed[inside].mean() - ground[inside].mean()) < 15


def test_nothing_is_known_about_a_picture_that_is_masked_everywhere() -> None:
    pixels = photograph("china")
    assert np.array_equal(retouch.erase(pixels, np.ones(pixels.shape[:2], np.float32)), pixels)


# --- something else instead ---------------------------------------------------------------------


def test_a_thing_stands_in_the_box_of_the_mask_and_nowhere_else() -> None:
    pixels = np.full((120, 200, 3), (90, 140, 90), np.uint8)
    mask = np.zeros((120, 200), np.float32)
    mask[30:90, 40:120] = 1
    changed = retouch.insert(pixels, mask, drawing(), 1.0)
    moved = np.abs(changed.astype(int) - pixels).max(axis=-1) > 40
    rows, columns = (np.flatnonzero(moved.any(axis=axis)) for axis in (1, 0))
    assert not moved[mask == 0].any()
    assert rows[-1] >= 86  # on the lower edge
    assert columns[-1] - columns[0] > 70  # about as wide as the box
    assert 78 <= (columns[0] + columns[-1]) / 2 <= 81  # in the middle
    assert rows[-1] - rows[0] == pytest.approx((columns[-1] - columns[0]) * 24 / 40, abs=4)


def test_a_thing_comes_without_its_ground_and_with_its_white_parts() -> None:
    pixels = np.full((120, 120, 3), (20, 40, 160), np.uint8)
    changed = retouch.insert(pixels, np.ones((120, 120), np.float32), drawing(), 1.0)
    assert np.abs(changed[:40].astype(int) - pixels[:40]).max() < 3
    middle = changed[:, 60].astype(int)
    assert ((middle > 200).all(axis=-1)).any()  # the stripe
    red_or_blue = np.ptp(middle, axis=-1) > 60
    assert (red_or_blue | (middle.min(axis=-1) > 120)).all()


def test_an_empty_drawing_changes_nothing() -> None:
    pixels = photograph("china")
    plain = torch.zeros(1, 4, 64, 64)
    mask = spot(pixels.shape[:2])
    assert np.array_equal(retouch.insert(pixels, mask, plain, 1.0), pixels)


# --- everywhere ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WEATHERS)
def test_the_same_seed_makes_the_same_weather(name: str) -> None:
    pixels = photograph("china")
    first, again = (retouch.weather(pixels, name, 0.8, 5) for _ in range(2))
    assert np.array_equal(first, again)


@pytest.mark.parametrize("name", STYLES)
def test_the_same_seed_makes_the_same_drawing(name: str) -> None:
    pixels = photograph("china")
    first, again = (retouch.restyle(pixels, name, 0.8, 5) for _ in range(2))
    assert np.array_equal(first, again)


@pytest.mark.parametrize("name", ["snow", "rain", "fog"])
def test_another_seed_makes_other_weather(name: str) -> None:
    pixels = photograph("china")
    first, other = (retouch.weather(pixels, name, 0.8, seed) for seed in (5, 6))
    assert not np.array_equal(first, other)


def test_weather_looks_like_itself() -> None:
    pixels = photograph("china")
    seen = {name: lab(retouch.weather(pixels, name, 0.8, 0)) for name in WEATHERS}
    light = {name: picture[..., 0] for name, picture in seen.items()}
    before = lab(pixels)
    assert light["night"].mean() < 0.5 * before[..., 0].mean()
    assert light["rain"].mean() < before[..., 0].mean() < light["sunny"].mean()
    assert light["fog"].std() < 0.6 * before[..., 0].std()
    assert light["fog"][:30].std() < light["fog"][-30:].std()
    assert light["snow"][-30:].mean() > before[-30:, :, 0].mean() + 10
    assert seen["sunset"][:30, :, 1].mean() > 15  # the sky is red
    assert seen["rain"][..., 2].mean() < before[..., 2].mean()  # cooler
    chroma = {name: np.hypot(*seen[name][..., 1:].transpose(2, 0, 1)).mean() for name in seen}
    assert chroma["sunny"] > np.hypot(*before[..., 1:].transpose(2, 0, 1)).mean()


@pytest.mark.parametrize("name", ["blueprint", "neon", *WEATHERS])
def test_effects_grow_with_the_picture(name: str) -> None:
    """A photograph three times as large becomes about the same picture."""
    effect = retouch.weather if name in WEATHERS else retouch.restyle
    photo = load_sample_images().images[1][20:420, 100:500]
    small, large = (
        cv2.resize(drawn, (40, 40), interpolation=cv2.INTER_AREA).astype(int)
        for drawn in (effect(cv2.resize(photo, (n, n)), name, 1.0, 3) for n in (240, 720))
    )
    assert np.abs(small - large).mean() < 20


@pytest.mark.parametrize("name", ["pencil", "coloured_pencil", "oil"])
def test_strokes_are_wider_on_a_larger_picture(name: str) -> None:
    grey = (np.full((n, n, 3), 90, np.uint8) for n in (200, 1000))
    small, large = (retouch.restyle(plain, name, 1.0, 3).astype(int) for plain in grey)
    assert np.abs(np.diff(large, axis=1)).mean() < 0.5 * np.abs(np.diff(small, axis=1)).mean()
