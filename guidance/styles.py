"""Filters for a whole picture: seven ways to draw it, and six kinds of weather.

Strokes grow with the shorter side of a large picture, and so do flakes, drops and shadows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import ndimage

Canvas = NDArray[np.floating[Any]]  # (h, w, 3), 0..1
Field = NDArray[np.floating[Any]]  # (h, w)
Filter = Callable[[Canvas, Generator], Canvas]
Shape = tuple[int, int]  # (h, w)
Span = tuple[float, float]

_ICON = 128  # pixels of the shorter side up to which a picture has few edges
_FINE = 200  # pixels of the shorter side up to which the thinnest stroke is one pixel


def rgb(*colour: int) -> Canvas:
    """A colour of 0..255 as (3,) in 0..1."""
    return np.array(colour, np.float32) / 255


def cover(canvas: Canvas, where: Field, colour: Canvas) -> Canvas:
    """Lay a colour over a canvas, as far as ``where`` (0..1) says."""
    w = np.asarray(where, np.float32).clip(0, 1)[..., None]
    return canvas * (1 - w) + colour * w


def clouds(shape: Shape, rng: Generator, cells: tuple[int, int]) -> Field:
    """Smooth noise in 0..1 from a coarse grid of (rows, columns)."""
    coarse = Image.fromarray(rng.random(cells, np.float32))
    return np.asarray(coarse.resize(shape[::-1], Image.Resampling.BICUBIC)).clip(0, 1)


def square(shape: Shape, count: int) -> tuple[int, int]:
    """Rows and columns of a grid of square cells, ``count`` of them along the shorter side."""
    height, width = (max(round(count * side / min(shape)), count) for side in shape)
    return height, width


def stroke(shape: Shape) -> float:
    """Width of the thinnest stroke in pixels."""
    return max(min(shape) / _FINE, 1.0)


def blur(field: Canvas, sigma: float) -> Canvas:
    """Blur a field or a canvas; wide blurs on fewer pixels, which nobody can tell."""
    shrink = max(sigma / 6, 1.0)
    height, width = field.shape[:2]
    soft = np.asarray(field, np.float32)
    if shrink > 1:
        small = (max(round(width / shrink), 1), max(round(height / shrink), 1))
        soft = cv2.resize(soft, small, interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(soft, (0, 0), sigma / shrink, borderType=cv2.BORDER_REFLECT)
    if shrink > 1:
        soft = cv2.resize(soft, (width, height), interpolation=cv2.INTER_CUBIC)
    return soft


def step(value: Field, low: float, high: float) -> Field:
    """From 0 at `low` smoothly to 1 at `high`."""
    t = ((value - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)


def light_of(canvas: Canvas) -> Field:
    """Brightness, (h, w) in 0..1."""
    brightness: Field = canvas @ np.array([0.3, 0.59, 0.11], np.float32)
    return brightness


def saturated(canvas: Canvas, amount: float) -> Canvas:
    """Colours that are so many times as strong: 0 leaves greys."""
    grey = light_of(canvas)[..., None]
    return (grey + (canvas - grey) * amount).clip(0, 1)


def patches(canvas: Canvas, width: float) -> Canvas:
    """Patches of one tone, about ``width`` strokes wide; small pictures stay as they are."""
    side = 2 * round(width * (stroke(canvas.shape[:2]) - 1)) + 1
    if side == 1:
        return canvas
    levels = (canvas.clip(0, 1) * 255).astype(np.uint8)
    return cv2.medianBlur(levels, side).astype(np.float32) / 255


def read(canvas: Canvas, down: Field, right: Field) -> Canvas:
    """Each pixel from another place, so many pixels away."""
    y, x = np.indices(down.shape, np.float32)
    places = (x + right).astype(np.float32), (y + down).astype(np.float32)
    return cv2.remap(canvas, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def edges_of(canvas: Canvas, width: float = 0.7) -> Field:
    """How sharply the colours change over ``width`` strokes, (h, w), about 0..1."""
    thin = stroke(canvas.shape[:2])
    soft = blur(patches(canvas, 1.2), width * thin)
    slopes = [ndimage.sobel(soft, axis) for axis in (0, 1)]  # smooths over the channels as well
    steepest: Field = np.hypot(*slopes).max(axis=-1) * thin * 0.8
    # a photograph, which is larger than an icon, has edges everywhere: draw those that stand out
    side = min(steepest.shape)
    usual = 0.75 * min(max(side / _ICON - 1, 0), 1) * blur(steepest, side / 12)
    return ((steepest - 0.9 * usual) / (1 + 1.2 * usual)).clip(0, 1)


def hatching(shape: Shape, rng: Generator) -> Field:
    """Slanting strokes of different strength, (h, w) in 0..1."""
    side, thin = max(shape), stroke(shape)
    grain = rng.random((side, side), np.float32)
    if thin > 1:
        grain = ndimage.gaussian_filter(grain, (5 * thin, 0.4 * thin), mode="wrap")
    else:
        grain = ndimage.gaussian_filter1d(grain, 5, axis=0)
    angle = np.radians(rng.choice([-1, 1]) * rng.uniform(25, 60))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    offset = -0.5 - turn @ ((np.array(shape) - 1) / 2)
    strokes = ndimage.affine_transform(
        grain, turn, offset, output_shape=shape, order=1, mode="grid-wrap"
    )
    low, high = np.percentile(strokes, (2, 98))
    return ((strokes - low) / max(float(high - low), 1e-6)).clip(0, 1)


def dodge(canvas: Canvas) -> Field:
    """Lines where the brightness changes and white elsewhere: the picture over its own blur."""
    light = light_of(patches(canvas, 1.2))
    soft = blur(light, min(min(light.shape) / 32, 4 * stroke(light.shape) ** 0.5))
    return (light / np.maximum(soft, 0.05)).clip(0, 1)


# --- ways to draw -------------------------------------------------------------------------------


def pencil(canvas: Canvas, rng: Generator) -> Canvas:
    """Grey lines and hatched shade on paper."""
    shade = (1 - light_of(canvas)) * hatching(canvas.shape[:2], rng) * 0.55
    ink = (1 - dodge(canvas)) * 1.6 + edges_of(canvas) * 0.7 + shade
    return cover(np.full_like(canvas, rng.uniform(0.93, 0.99)), ink, rgb(50, 50, 55))


def coloured_pencil(canvas: Canvas, rng: Generator) -> Canvas:
    """Coloured strokes through which the paper shows, with soft outlines."""
    strokes = 0.35 + 0.65 * hatching(canvas.shape[:2], rng)
    paper = np.full_like(canvas, 0.97)
    drawn = paper + (canvas - paper) * strokes[..., None]
    return cover(drawn, edges_of(canvas) * 0.6, canvas * 0.4)


def oil(canvas: Canvas, rng: Generator) -> Canvas:
    """Patches of one tone with raised, slanting brush strokes."""
    shape = canvas.shape[:2]
    thin, relief = stroke(shape), hatching(shape, rng) - 0.5
    few = patches(canvas, 2)
    if thin == 1:
        image = Image.fromarray((canvas.clip(0, 1) * 255).astype(np.uint8))
        few = np.asarray(image.filter(ImageFilter.ModeFilter(5)), np.float32) / 255
    dabs = read(few, *(2.5 * (thin - 1) * relief,) * 2)  # a brush pulls the borders along
    mixed = blur(dabs, 0.6) + 0.16 / thin**0.4 * relief[..., None]
    warm = mixed * np.array([1.02, 0.98, 0.9], np.float32)
    return warm.clip(0, 1).astype(np.float32)


def watercolour(canvas: Canvas, rng: Generator) -> Canvas:
    """Thin, uneven washes that run at their borders, on white paper."""
    shape = canvas.shape[:2]
    thin = stroke(shape)
    reach = min(min(shape) / 16, 8 * thin**0.5)
    wander = [(clouds(shape, rng, square(shape, 12)) - 0.5) * reach for _ in range(2)]
    runny = read(patches(canvas, 3), *wander)
    soft = blur(runny, thin**0.5)
    thinned = 1 - (1 - soft) * (0.45 + 0.4 * clouds(shape, rng, square(shape, 7)))[..., None]
    return cover(thinned, edges_of(runny, 1.2 / thin**0.5) * 0.35, soft * 0.6)


def pixel_art(canvas: Canvas, rng: Generator) -> Canvas:
    """Few large square pixels of few colours."""
    shape = canvas.shape[:2]
    thin = stroke(shape)
    image = Image.fromarray((canvas.clip(0, 1) * 255).astype(np.uint8))
    side = round(int(rng.integers(16, 29)) * thin**0.75)
    small = image.resize(square(shape, side)[::-1], Image.Resampling.BOX)
    count = round(int(rng.integers(8, 20)) * thin**0.5)
    few = small.quantize(count, Image.Quantize.MEDIANCUT).convert("RGB")
    return np.asarray(few.resize(image.size, Image.Resampling.NEAREST), np.float32) / 255


def blueprint(canvas: Canvas, rng: Generator) -> Canvas:
    """White lines on blue paper with a faint grid."""
    shape = canvas.shape[:2]
    thin = stroke(shape)
    apart, width = round(int(rng.integers(8, 14)) * thin), round(thin)
    paper = np.broadcast_to(rgb(25, 70, 150), canvas.shape).astype(np.float32).copy()
    down, across = (np.arange(side) % apart < width for side in shape)
    lines = (down[:, None] | across).astype(np.float32)
    paper = cover(paper, lines * 0.18, rgb(200, 220, 255))
    return cover(paper, edges_of(canvas, 0.5) * 1.5, rgb(235, 243, 255))


def neon(canvas: Canvas, rng: Generator) -> Canvas:
    """Glowing outlines in bright colours on black."""
    shape = canvas.shape[:2]
    edges = edges_of(canvas, 0.8)
    tubes = [rgb(255, 40, 150), rgb(40, 225, 255), rgb(120, 255, 80), rgb(255, 170, 40)]
    first, second = (tubes[int(k)] for k in rng.permutation(len(tubes))[:2])
    mix = clouds(shape, rng, (3, 3))[..., None]
    colour = first * mix + second * (1 - mix)
    glow = blur(edges, min(shape) / 24)[..., None]
    dark = np.broadcast_to(rgb(8, 6, 18), canvas.shape)
    return cover((dark + 1.2 * glow * colour).clip(0, 1), edges**1.5 * 1.4, 0.35 + 0.65 * colour)


STYLES: dict[str, Filter] = {
    f.__name__: f for f in (pencil, coloured_pencil, oil, watercolour, pixel_art, blueprint, neon)
}
WORDS: dict[str, tuple[str, ...]] = {
    "pencil": ("a pencil drawing of {}", "a pencil sketch of {}", "a sketch of {}"),
    "coloured_pencil": ("a colored pencil drawing of {}", "a drawing of {} in colored pencil"),
    "oil": ("an oil painting of {}", "a painting of {}", "oil painting of {}"),
    "watercolour": ("a watercolor painting of {}", "a watercolour of {}"),
    "pixel_art": ("pixel art of {}", "{} as pixel art", "an 8-bit picture of {}"),
    "blueprint": ("a blueprint of {}", "a technical drawing of {}"),
    "neon": ("a neon sign of {}", "{} in neon lights"),
}


# --- weather ------------------------------------------------------------------------------------


def down_of(shape: Shape) -> Field:
    """How far down each pixel is, 0..1: what is high is far away, or sky."""
    return np.broadcast_to(np.linspace(0, 1, shape[0], dtype=np.float32)[:, None], shape)


def scattered(
    shape: Shape, rng: Generator, count: float, radii: Span, fall: Span = (0, 0)
) -> Field:
    """Discs, or streaks where they fall (right, down): so many to a square of the shorter side.

    Lengths are parts of that side.
    """
    side, field = min(shape), np.zeros(shape, np.uint8)  # cv2 smooths no line of floats
    for y, x, size, light in rng.random((round(count * shape[0] * shape[1] / side**2), 4)):
        start = np.array([x * shape[1], y * shape[0]])
        ends = np.stack([start, start + np.array(fall) * side * (0.5 + size)])
        width = 2 * side * float(np.interp(size, [0, 1], radii))
        shown = (128 + 127 * light) * min(1, width)  # thinner than a pixel is fainter
        above, below = (ends * 16).round().astype(int).tolist()  # in sixteenths of a pixel
        cv2.line(field, above, below, shown, max(1, round(width)), cv2.LINE_AA, 4)
    return field.astype(np.float32) / 255


def snow(canvas: Canvas, rng: Generator) -> Canvas:
    """Cold light, white ground and ledges, flakes of three sizes."""
    shape, side, light = canvas.shape[:2], min(canvas.shape[:2]), light_of(canvas)
    # a ledge is darker than what is above it
    soft, thick = blur(light, side / 200), max(1, round(side / 70))
    above = np.pad(soft, ((thick, 0), (0, 0)), mode="edge")[:-thick]
    ledges = step(above - soft, 0.03, 0.2)
    # on the ground it lies on what the light falls on
    uneven = clouds(shape, rng, square(shape, 14))
    lit = step(light - blur(light, side / 40), -0.1, 0.06)
    ground = step(down_of(shape) + 0.3 * (uneven - 0.5), 0.5, 0.8) * (0.3 + 0.7 * lit)
    cold = saturated(canvas, 0.5) ** 0.9 * rgb(228, 238, 255)
    white = (0.7 + 0.35 * soft)[..., None] * rgb(238, 244, 255)
    fallen = cover(cold, np.maximum(ledges, ground) * 0.92, white.clip(0, 1))
    for count, radii in ((900, (0.0008, 0.0016)), (220, (0.002, 0.0035)), (26, (0.006, 0.01))):
        near = blur(scattered(shape, rng, count, radii), max(0.4, 0.35 * radii[0] * side))
        fallen = cover(fallen, near * 0.9, rgb(255, 255, 255))
    return fallen


def rain(canvas: Canvas, rng: Generator) -> Canvas:
    """Dark, cool and hazy, with fine slanting streaks."""
    shape, lean = canvas.shape[:2], rng.uniform(0.12, 0.28) * rng.choice([-1, 1])
    grey = saturated(canvas, 0.4) ** 1.15 * rgb(158, 168, 182)
    wet = cover(grey, 0.5 - 0.4 * down_of(shape), rgb(125, 137, 152))
    for count, radii, length in ((260, (0.0005, 0.001), 0.05), (70, (0.0009, 0.0016), 0.12)):
        streaks = scattered(shape, rng, count, radii, (lean * length, length))
        soft = blur(streaks, max(0.4, radii[0] * min(shape)))
        wet = cover(wet, soft * 0.4, rgb(215, 225, 238))
    return wet


def fog(canvas: Canvas, rng: Generator) -> Canvas:
    """Light grey, and more of it where the picture is far away."""
    shape, side = canvas.shape[:2], min(canvas.shape[:2])
    banks = clouds(shape, rng, square(shape, 4)) - 0.5
    thick = 0.84 - 0.45 * down_of(shape) ** 1.5 + 0.16 * banks
    far = blur(canvas, side / 150)
    soft = cover(canvas, thick * 0.8, far)
    return cover(saturated(soft, 0.7), thick, rgb(214, 219, 224))


def night(canvas: Canvas, rng: Generator) -> Canvas:
    """Dark and blue; small bright spots are lights and glow."""
    side, light = min(canvas.shape[:2]), light_of(canvas)
    # a sky by day is the brightest part, and at night it is not: divide by the surroundings
    around = blur(light, side / 12)
    dark = saturated(canvas, 0.55) ** 1.3 * rgb(70, 92, 150) / (0.55 + 1.5 * around)[..., None]
    size = 2 * round(side / 50) + 1
    # what is small and bright
    spots = cv2.morphologyEx(light, cv2.MORPH_TOPHAT, np.ones((size, size), np.uint8))
    warm = step(canvas[..., 0] - canvas[..., 2], -0.03, 0.1)  # sky between leaves is not
    lamps = step(spots, 0.25, 0.5) * step(light, 0.6, 0.85) * warm
    glow = blur(lamps, side / 40) * 1.6 + lamps
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in canvas.shape[:2])
    corners = 1 - 0.45 * step(np.hypot(y[:, None], x), 0.5, 1.4)
    shining = glow[..., None] * rgb(255, 205, 130) * 0.8
    return (dark * 0.95 * corners[..., None] + shining).clip(0, 1)


def sunset(canvas: Canvas, rng: Generator) -> Canvas:
    """Pink and orange from above, warm light, dark foreground."""
    down, light = down_of(canvas.shape[:2]), light_of(canvas)
    tones = [rgb(150, 85, 140), rgb(245, 130, 105), rgb(255, 165, 75), rgb(220, 115, 65)]
    sky = cv2.resize(np.stack(tones)[:, None], (1, len(canvas)), interpolation=cv2.INTER_LINEAR)
    dark = (1 - 0.45 * step(down, 0.45, 1))[..., None]
    warm = saturated(canvas, 0.8) ** 1.25 * rgb(255, 190, 130) * dark
    shining = step(light, 0.3, 0.8) * (1 - 0.6 * step(down, 0.5, 0.9))
    return cover(warm, shining * 0.75, sky * (0.35 + 0.75 * light)[..., None])


def sunny(canvas: Canvas, rng: Generator) -> Canvas:
    """Bright, warm and rich in contrast."""
    lit = canvas + 0.35 * (step(canvas, -0.05, 1) - canvas)
    warm = saturated(lit.clip(0, 1) ** 0.85, 1.35) * rgb(262, 254, 232)
    return cover(warm, 0.18 * (1 - down_of(canvas.shape[:2])), rgb(255, 244, 205)).clip(0, 1)


WEATHERS: dict[str, Filter] = {f.__name__: f for f in (snow, rain, fog, night, sunset, sunny)}
