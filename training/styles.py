"""Ways to draw a picture: pencil, oil, watercolour, pixels, blueprint, neon; and words for them."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter
from scipy import ndimage

from training.settings import Canvas, Field, clouds, cover, rgb

Style = Callable[[Canvas, Generator], Canvas]


def light_of(canvas: Canvas) -> Field:
    """Brightness, (s, s) in 0..1."""
    brightness: Field = canvas @ np.array([0.3, 0.59, 0.11], np.float32)
    return brightness


def edges_of(canvas: Canvas, blur: float = 0.7) -> Field:
    """How sharply the colours change, (s, s), about 0..1."""
    soft = ndimage.gaussian_filter(canvas, (blur, blur, 0))
    slopes = [ndimage.sobel(soft, axis) for axis in (0, 1)]
    steepest: Field = np.hypot(*slopes).max(axis=-1)
    return (steepest * 0.8).clip(0, 1)


def hatching(size: int, rng: Generator) -> Field:
    """Slanting strokes of different strength, (s, s) in 0..1."""
    grain = ndimage.gaussian_filter1d(rng.random((size, size), np.float32), 5, axis=0)
    slanted = ndimage.rotate(
        np.tile(grain, (2, 2)), rng.choice([-1, 1]) * rng.uniform(25, 60), reshape=False, order=1
    )
    start = size // 2
    strokes = slanted[start : start + size, start : start + size]
    low, high = np.percentile(strokes, (2, 98))
    return ((strokes - low) / max(float(high - low), 1e-6)).clip(0, 1)


def dodge(canvas: Canvas) -> Field:
    """Lines where the brightness changes and white elsewhere: the picture over its own blur."""
    light = light_of(canvas)
    soft = ndimage.gaussian_filter(light, len(canvas) / 32)
    return (light / np.maximum(soft, 0.05)).clip(0, 1)


def pencil(canvas: Canvas, rng: Generator) -> Canvas:
    """Grey lines and hatched shade on paper."""
    shade = (1 - light_of(canvas)) * hatching(len(canvas), rng) * 0.55
    ink = (1 - dodge(canvas)) * 1.6 + edges_of(canvas) * 0.7 + shade
    return cover(np.full_like(canvas, rng.uniform(0.93, 0.99)), ink, rgb(50, 50, 55))


def coloured_pencil(canvas: Canvas, rng: Generator) -> Canvas:
    """Coloured strokes through which the paper shows, with soft outlines."""
    strokes = 0.35 + 0.65 * hatching(len(canvas), rng)
    paper = np.full_like(canvas, 0.97)
    drawn = paper + (canvas - paper) * strokes[..., None]
    return cover(drawn, edges_of(canvas) * 0.6, canvas * 0.4)


def oil(canvas: Canvas, rng: Generator) -> Canvas:
    """Patches of one tone with raised, slanting brush strokes."""
    image = Image.fromarray((canvas.clip(0, 1) * 255).astype(np.uint8))
    patches = np.asarray(image.filter(ImageFilter.ModeFilter(5)), np.float32) / 255
    relief = hatching(len(canvas), rng) - 0.5
    mixed = ndimage.gaussian_filter(patches, (0.6, 0.6, 0)) + 0.16 * relief[..., None]
    warm = mixed * np.array([1.02, 0.98, 0.9], np.float32)
    return warm.clip(0, 1).astype(np.float32)


def watercolour(canvas: Canvas, rng: Generator) -> Canvas:
    """Thin, uneven washes that run at their borders, on white paper."""
    size = len(canvas)
    wander = [(clouds(size, rng, (12, 12)) - 0.5) * size / 16 for _ in range(2)]
    places = np.indices((size, size), np.float32) + np.stack(wander)
    channels = np.moveaxis(canvas, -1, 0)
    read = [ndimage.map_coordinates(c, places, order=1, mode="nearest") for c in channels]
    runny = np.stack(read, axis=-1)
    soft = ndimage.gaussian_filter(runny, (1, 1, 0))
    thin = 1 - (1 - soft) * (0.45 + 0.4 * clouds(size, rng, (7, 7)))[..., None]
    return cover(thin, edges_of(runny, 1.2) * 0.35, soft * 0.6)


def pixel_art(canvas: Canvas, rng: Generator) -> Canvas:
    """Few large square pixels of few colours."""
    image = Image.fromarray((canvas.clip(0, 1) * 255).astype(np.uint8))
    side = int(rng.integers(16, 29))
    small = image.resize((side, side), Image.Resampling.BOX)
    few = small.quantize(int(rng.integers(8, 20)), Image.Quantize.MEDIANCUT).convert("RGB")
    return np.asarray(few.resize(image.size, Image.Resampling.NEAREST), np.float32) / 255


def blueprint(canvas: Canvas, rng: Generator) -> Canvas:
    """White lines on blue paper with a faint grid."""
    size, step = len(canvas), int(rng.integers(8, 14))
    paper = np.broadcast_to(rgb(25, 70, 150), canvas.shape).astype(np.float32).copy()
    lines = np.zeros((size, size), np.float32)
    lines[::step], lines[:, ::step] = 1, 1
    paper = cover(paper, lines * 0.18, rgb(200, 220, 255))
    return cover(paper, edges_of(canvas, 0.5) * 1.5, rgb(235, 243, 255))


def neon(canvas: Canvas, rng: Generator) -> Canvas:
    """Glowing outlines in bright colours on black."""
    edges = edges_of(canvas, 0.8)
    tubes = [rgb(255, 40, 150), rgb(40, 225, 255), rgb(120, 255, 80), rgb(255, 170, 40)]
    first, second = (tubes[int(k)] for k in rng.permutation(len(tubes))[:2])
    mix = clouds(len(canvas), rng, (3, 3))[..., None]
    colour = first * mix + second * (1 - mix)
    glow = ndimage.gaussian_filter(edges, len(canvas) / 24)[..., None]
    dark = np.broadcast_to(rgb(8, 6, 18), canvas.shape)
    return cover((dark + 1.2 * glow * colour).clip(0, 1), edges**1.5 * 1.4, 0.35 + 0.65 * colour)


STYLES: dict[str, Style] = {
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
