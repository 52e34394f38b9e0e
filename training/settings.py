"""Simple places, drawn procedurally: sky, sea, grass, snow, night and so on."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from guidance.styles import Canvas, Field, clouds, cover, rgb


def ramp(size: int, top: Canvas, bottom: Canvas) -> Canvas:
    """A vertical gradient."""
    t = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    return np.broadcast_to(top * (1 - t) + bottom * t, (size, size, 3)).copy()


def rows(size: int) -> Field:
    """Height of each pixel, 0 at the top to 1."""
    return np.broadcast_to(np.linspace(0, 1, size, dtype=np.float32)[:, None], (size, size))


def columns(size: int) -> Field:
    """Place of each pixel, 0 at the left to 1."""
    return rows(size).T


def disc(size: int, x: float, y: float, radius: float) -> Field:
    """A soft-edged disc."""
    distance = np.hypot(columns(size) - x, rows(size) - y)
    return ((radius - distance) * size).clip(0, 1)


def below(size: int, height: Field | float) -> Field:
    """Everything below a line."""
    return ((rows(size) - height) * size).clip(0, 1)


def ridge(size: int, rng: Generator, height: float, rough: float, peaks: int) -> Field:
    """A jagged line of mountains or trees, as a height for each column."""
    xs = np.linspace(0, 1, 2 * peaks + 1)
    ys = height + rough * np.where(np.arange(len(xs)) % 2, -1, 0.6) * rng.uniform(0.4, 1, len(xs))
    line = np.interp(np.linspace(0, 1, size), xs, ys).astype(np.float32)
    return np.broadcast_to(line, (size, size))


def stars(size: int, rng: Generator, share: float) -> Field:
    """Scattered points of different brightness."""
    lit = rng.random((size, size)) < share
    return (lit * rng.uniform(0.4, 1, (size, size))).astype(np.float32)


def sky(size: int, rng: Generator) -> Canvas:
    """Blue with white clouds."""
    canvas = ramp(size, rgb(70, 140, 225), rgb(175, 215, 245))
    return cover(canvas, (clouds((size, size), rng, (6, 4)) - 0.55) * 3, rgb(255, 255, 255))


def sea(size: int, rng: Generator) -> Canvas:
    """A horizon and waves."""
    canvas = ramp(size, rgb(130, 190, 240), rgb(205, 230, 245))
    line = rng.uniform(0.25, 0.45)
    water = ramp(size, rgb(40, 120, 190), rgb(10, 60, 130))
    waves = clouds((size, size), rng, (22, 5)) * 0.5
    water = cover(water, (waves - 0.25) * 1.2, rgb(130, 190, 230))
    return cover(canvas, below(size, line), water)


def grass(size: int, rng: Generator) -> Canvas:
    """A meadow under a blue sky."""
    canvas = ramp(size, rgb(120, 185, 240), rgb(210, 235, 250))
    blades = clouds((size, size), rng, (size // 3, size))
    meadow = cover(ramp(size, rgb(110, 190, 70), rgb(60, 140, 45)), blades * 0.4, rgb(35, 105, 30))
    return cover(canvas, below(size, rng.uniform(0.2, 0.55)), meadow)


def snow(size: int, rng: Generator) -> Canvas:
    """White ground, pale sky, flakes."""
    canvas = ramp(size, rgb(165, 185, 210), rgb(215, 225, 235))
    hill = rng.uniform(0.45, 0.65) + 0.05 * np.sin(
        columns(size) * rng.uniform(2, 6) + rng.uniform(0, 6)
    )
    canvas = cover(canvas, below(size, hill), ramp(size, rgb(250, 250, 252), rgb(225, 232, 242)))
    return cover(canvas, stars(size, rng, 0.02), rgb(255, 255, 255))


def night(size: int, rng: Generator) -> Canvas:
    """Dark blue, stars, sometimes the moon."""
    canvas = ramp(size, rgb(5, 8, 30), rgb(25, 35, 85))
    canvas = cover(canvas, stars(size, rng, 0.008), rgb(255, 255, 230))
    if rng.random() < 0.5:
        canvas = cover(canvas, disc(size, rng.uniform(0.15, 0.85), 0.15, 0.08), rgb(250, 245, 215))
    return canvas


def beach(size: int, rng: Generator) -> Canvas:
    """Sky, a band of sea, sand."""
    canvas = ramp(size, rgb(95, 170, 235), rgb(195, 230, 250))
    line = rng.uniform(0.25, 0.4)
    canvas = cover(canvas, below(size, line), rgb(30, 130, 195))
    shore = line + rng.uniform(0.12, 0.2) + 0.02 * np.sin(columns(size) * 9 + rng.uniform(0, 6))
    canvas = cover(canvas, below(size, shore - 0.02), rgb(225, 240, 245))
    sand = cover(
        ramp(size, rgb(240, 218, 165), rgb(222, 190, 130)),
        clouds((size, size), rng, (size, size)) * 0.15,
        rgb(150, 115, 70),
    )
    return cover(canvas, below(size, shore), sand)


def mountains(size: int, rng: Generator) -> Canvas:
    """Two chains of peaks, the far one with snow."""
    canvas = ramp(size, rgb(120, 175, 230), rgb(220, 235, 245))
    far = ridge(size, rng, 0.42, 0.22, int(rng.integers(2, 4)))
    canvas = cover(canvas, below(size, far), rgb(120, 130, 155))
    canvas = cover(canvas, below(size, far) * (1 - below(size, far + 0.07)), rgb(248, 250, 252))
    near = ridge(size, rng, 0.68, 0.14, int(rng.integers(3, 5)))
    return cover(canvas, below(size, near), rgb(*rng.permutation([[60, 95, 70], [75, 85, 105]])[0]))


def street(size: int, rng: Generator) -> Canvas:
    """A row of houses and a road."""
    canvas = ramp(size, rgb(165, 205, 235), rgb(225, 235, 240))
    edges = np.sort(rng.uniform(0, 1, 5))
    for left, right in zip([0, *edges], [*edges, 1], strict=True):
        wall = (columns(size) >= left) & (columns(size) < right)
        canvas = cover(
            canvas, wall * below(size, rng.uniform(0.08, 0.35)), rgb(*rng.integers(90, 220, 3))
        )
        panes = ((columns(size) * 16) % 2 > 1.1) & ((rows(size) * 16) % 2 > 1) & (rows(size) > 0.38)
        canvas = cover(canvas, wall * panes * (rows(size) < 0.58), rgb(70, 85, 110))
    canvas = cover(canvas, below(size, 0.6), rgb(175, 175, 175))
    canvas = cover(canvas, below(size, 0.66), rgb(75, 75, 80))
    dashes = (np.abs(rows(size) - 0.84) < 0.02) & ((columns(size) * 5) % 1 < 0.6)
    return cover(canvas, dashes, rgb(245, 240, 220))


def desert(size: int, rng: Generator) -> Canvas:
    """Dunes under a pale sky."""
    canvas = ramp(size, rgb(150, 200, 235), rgb(250, 230, 190))
    for height, colour in ((0.45, rgb(225, 175, 110)), (0.62, rgb(210, 150, 80))):
        dune = height + 0.07 * np.sin(columns(size) * rng.uniform(3, 6) + rng.uniform(0, 6))
        canvas = cover(canvas, below(size, dune), colour)
    return canvas


def forest(size: int, rng: Generator) -> Canvas:
    """Trunks between dark leaves."""
    canvas = cover(
        ramp(size, rgb(55, 110, 55), rgb(30, 65, 30)),
        clouds((size, size), rng, (12, 12)) * 0.8,
        rgb(20, 55, 25),
    )
    for x in rng.uniform(0, 1, 7):
        trunk = np.abs(columns(size) - x) < rng.uniform(0.015, 0.04)
        canvas = cover(canvas, trunk * (rows(size) < 0.85), rgb(80, 55, 35))
    leaves = (clouds((size, size), rng, (14, 14)) - 0.45) * 5 * (1 - rows(size))
    canvas = cover(canvas, leaves, rgb(75, 150, 65))
    return cover(canvas, below(size, 0.85), rgb(70, 90, 40))


def space(size: int, rng: Generator) -> Canvas:
    """Black, many stars, a faint nebula."""
    canvas = cover(
        ramp(size, rgb(5, 3, 15), rgb(8, 5, 20)),
        (clouds((size, size), rng, (4, 4)) - 0.5) * 0.9,
        rgb(*rng.permutation([120, 50, 150])),
    )
    return cover(canvas, stars(size, rng, 0.025), rgb(255, 255, 255))


def sunset(size: int, rng: Generator) -> Canvas:
    """Orange to violet, a low sun."""
    canvas = ramp(size, rgb(95, 60, 130), rgb(250, 165, 80))
    canvas = cover(
        canvas, disc(size, rng.uniform(0.2, 0.8), 0.6, rng.uniform(0.08, 0.14)), rgb(255, 225, 130)
    )
    return cover(canvas, below(size, rng.uniform(0.7, 0.8)), rgb(70, 35, 60))


SETTINGS: dict[str, Callable[[int, Generator], Canvas]] = {
    f.__name__: f
    for f in (sky, sea, grass, snow, night, beach, mountains, street, desert, forest, space, sunset)
}
# For a thing in the place, and for the place alone.
PHRASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sky": (("in the sky", "in a blue sky with clouds"), ("a blue sky with clouds", "the sky")),
    "sea": (("on the sea", "on the water", "at sea", "in the ocean"), ("the sea", "the ocean")),
    "grass": (
        ("on grass", "on the grass", "in a meadow", "in a field"),
        ("a green meadow", "grass"),
    ),
    "snow": (("in the snow", "in winter", "on snow"), ("a snowy landscape", "snow", "winter")),
    "night": (("at night", "under the stars", "in the night"), ("a starry night sky", "night")),
    "beach": (("on the beach", "on a beach", "on the sand"), ("a beach", "a beach by the sea")),
    "mountains": (("in the mountains", "in front of mountains"), ("mountains", "snowy mountains")),
    "street": (("on the street", "on a road", "in the city"), ("a street", "houses on a street")),
    "desert": (("in the desert", "in a desert"), ("a desert", "sand dunes")),
    "forest": (("in a forest", "in the woods"), ("a forest", "trees in a forest")),
    "space": (("in space", "in outer space"), ("outer space", "stars in space")),
    "sunset": (("at sunset", "in front of a sunset"), ("a sunset", "the sun going down")),
}
