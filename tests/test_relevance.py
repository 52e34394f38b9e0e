"""Relevance: words become a region. On the pocket CLIP, for it is what tells things apart."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch

from guidance import relevance
from guidance.clip import Clip
from guidance.relevance import Pixels, Region

BLUE, RED, YELLOW, GREEN = (60, 100, 220), (215, 40, 40), (250, 210, 40), (50, 165, 70)


@pytest.fixture(scope="module")
def reader(pocket_models: Any) -> Clip:
    return pocket_models.clip("pocket", "float32")


def canvas(colour: tuple[int, ...], height: int = 160, width: int = 160) -> Pixels:
    return np.full((height, width, 3), colour, np.uint8)


def disc(pixels: Pixels, x: int, y: int, radius: int, colour: tuple[int, ...]) -> Region:
    """Draw a disc; return where it is."""
    cv2.circle(pixels, (x, y), radius, colour, -1)
    where = np.zeros(pixels.shape[:2], np.uint8)
    cv2.circle(where, (x, y), radius, 1, -1)
    return where.astype(bool)


def overlap(one: Region, other: Region) -> float:
    """Intersection over union."""
    return float((one & other).sum() / (one | other).sum())


def test_the_one_thing_in_a_picture_is_found(reader: Clip) -> None:
    pixels = canvas(BLUE)
    where = disc(pixels, 90, 70, 34, RED)
    found = relevance.find(reader, pixels, relevance.describe(reader, "red circle"))
    assert found is not None
    assert overlap(found.region, where) > 0.9


def test_of_two_things_the_one_that_was_named(reader: Clip) -> None:
    pixels = canvas((250, 250, 250))
    red, green = disc(pixels, 42, 80, 30, RED), disc(pixels, 118, 80, 30, GREEN)
    for words, where in (("red circle", red), ("green circle", green)):
        found = relevance.find(reader, pixels, relevance.describe(reader, words))
        assert found is not None
        assert overlap(found.region, where) > 0.7, words


@pytest.mark.parametrize("size", [(40, 40), (64, 200), (400, 150)])
def test_a_region_has_the_size_of_its_picture(size: tuple[int, int], reader: Clip) -> None:
    pixels = canvas(BLUE, *size)
    disc(pixels, size[1] // 2, size[0] // 2, min(size) // 4, YELLOW)
    found = relevance.find(reader, pixels, relevance.describe(reader, "yellow circle"))
    assert found is not None
    assert found.region.shape == size


def test_where_there_is_nothing_nothing_is_found(reader: Clip) -> None:
    found = relevance.find(reader, canvas(BLUE), relevance.describe(reader, "a cat"))
    assert found is None or not 0.02 < found.region.mean() < 0.9


def test_the_same_picture_and_words_give_the_same_region(reader: Clip) -> None:
    pixels = canvas(GREEN)
    disc(pixels, 60, 90, 30, YELLOW)
    goal = relevance.describe(reader, "yellow circle")
    first, again = (relevance.find(reader, pixels, goal) for _ in range(2))
    assert first is not None
    assert again is not None
    assert np.array_equal(first.region, again.region)


def test_heat_is_where_the_crops_are_that_fit() -> None:
    boxes = relevance.crop_boxes(64, 64)
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    near = -(centres - torch.tensor([16.0, 48.0])).norm(dim=1)
    heat = relevance.spread(boxes, near, (64, 64))
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    assert heat.min() == 0
    assert heat.max() == 1
    assert row < 28
    assert column > 36


def test_crops_cover_a_picture_of_any_form() -> None:
    for height, width in ((64, 64), (40, 160), (200, 60)):
        boxes = relevance.crop_boxes(height, width)
        assert boxes[:, :2].min() >= 0
        assert (boxes[:, 0] + boxes[:, 2]).max() <= height + 1e-3
        assert (boxes[:, 1] + boxes[:, 3]).max() <= width + 1e-3
        seen = np.zeros((height, width), bool)
        for top, left, side, _ in boxes.round().int().tolist():
            seen[top : top + side, left : left + side] = True
        assert seen.all()


def test_a_cutout_lies_on_paper(reader: Clip) -> None:
    pixels = canvas(BLUE)
    where = disc(pixels, 40, 40, 20, RED)
    laid = relevance._lay(pixels, where, 96)
    assert laid[0, 0].tolist() == [250, 250, 250]
    assert np.abs(laid[48, 48] - RED).max() < 2


# --- pieces ---------------------------------------------------------------------------------------


def speckled(pixels: Pixels) -> Pixels:
    """The same with the grain of a photograph."""
    grain = np.random.default_rng(0).integers(-8, 9, pixels.shape)
    return (pixels.astype(int) + grain).clip(0, 255).astype(np.uint8)


def test_a_thing_of_one_colour_is_one_of_the_pieces() -> None:
    pixels = canvas(BLUE, 96, 128)
    wheres = [disc(pixels, 34, 40, 20, RED), disc(pixels, 92, 60, 14, YELLOW)]
    pieces = list(relevance._pieces(speckled(pixels)))
    for where in wheres:
        assert max(overlap(piece, where) for piece in pieces) > 0.9


def test_neighbours_of_like_colour_are_joined_first() -> None:
    row = np.array([0, 1, 50, 52, 90], np.float32)
    colours = np.repeat(row[None, :, None], 3, axis=2)
    sizes, joined = relevance._join(colours)
    assert [set(pair) for pair in joined] == [{0, 1}, {2, 3}, {6, 4}, {5, 7}]
    assert sizes == [1, 1, 1, 1, 1, 2, 2, 3, 5]


def test_what_has_an_edge_around_it_within_the_frame_is_more_of_a_thing() -> None:
    pixels = canvas(BLUE, 96, 128)
    whole = disc(pixels, 64, 48, 24, RED)
    steep = relevance._steepness(pixels)
    half, ground = whole & (np.arange(128) < 64), ~whole
    likes = [relevance._thingness(region, steep) for region in (whole, half, ground)]
    assert likes[0] == max(likes)
    shifted = np.roll(whole, 30, axis=1)  # as large, but over nothing
    assert relevance._thingness(shifted, steep) < likes[1]


def test_pieces_differ_from_each_other_and_are_few() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    pixels = cv2.resize(pixels, (128, 96), interpolation=cv2.INTER_CUBIC)
    pieces = relevance._best_pieces(pixels, relevance._steepness(pixels))
    assert 4 < len(pieces) <= relevance._PIECES
    for number, piece in enumerate(pieces):
        assert all(overlap(piece, other) < 0.92 for other in pieces[:number])


def test_a_picture_of_one_colour_has_no_piece_that_is_a_thing() -> None:
    flat = canvas(GREEN, 30, 40)
    assert relevance._best_pieces(flat, relevance._steepness(flat)) == []
