"""Compose pictures whose captions are true, with near misses of colour, count and order."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from guidance.paint import paint as paint_drawing
from guidance.styles import STYLES, Canvas, rgb
from guidance.styles import WORDS as STYLE_WORDS
from training.captions import (
    COLOURS,
    PAINTS,
    article,
    choose,
    describe,
    frame,
    has_colour,
    on,
    plural,
    spell,
    with_colour,
)
from training.data import SIDE, Library
from training.settings import PHRASES, SETTINGS

SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond")
GROUP_SHARES = {
    "animals": 0.2,
    "objects": 0.19,
    "travel": 0.17,
    "food": 0.16,
    "clipart": 0.12,
    "activities": 0.07,
    "smileys": 0.06,
    "people": 0.06,
    "symbols": 0.02,
    "": 0.01,
}
PAINTABLE = ("animals", "food", "travel", "objects", "activities")
NUMBERS = {2: "two", 3: "three", 4: "four"}
CORNERS = {
    "top left": (0.25, 0.25),
    "top right": (0.75, 0.25),
    "bottom left": (0.25, 0.75),
    "bottom right": (0.75, 0.75),
}


@dataclass(frozen=True)
class Scene:
    """A picture, (s, s, 3) in 0..1, with a caption that is true of it."""

    picture: Canvas
    caption: str


class Studio:
    """The pictures at hand, indexed by what they show, and ready-made settings."""

    def __init__(self, library: Library, size: int, variants: int = 24) -> None:
        """Index the library; draw each setting a few times, since drawing is the slow part."""
        self.size, self.library = size, library
        self.names: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for i, p in enumerate(library.pictures):
            self.names[p.group if p.group in GROUP_SHARES else ""][p.name].append(i)
        self.name_lists = {group: list(names) for group, names in self.names.items()}
        self.groups = [g for g in GROUP_SHARES if g in self.names]
        shares = np.array([GROUP_SHARES[g] for g in self.groups])
        self.shares = shares / shares.sum()
        self.tone = np.stack([mean_colour(rgba) for rgba in library.rgba])
        rng = np.random.default_rng(0)
        self.settings = {
            n: [draw(size, rng) for _ in range(variants)] for n, draw in SETTINGS.items()
        }

    def pick(self, rng: Generator, groups: Sequence[str] = ()) -> int:
        """Choose a group, then a name, then a drawing, so that common names do not crowd."""
        chosen = [i for i, g in enumerate(self.groups) if not groups or g in groups]
        chosen = chosen or list(range(len(self.groups)))  # a source of one group has no other
        shares = self.shares[chosen] / self.shares[chosen].sum()
        group = self.groups[chosen[rng.choice(len(chosen), p=shares)]]
        name = choose(rng, self.name_lists[group])
        return int(choose(rng, self.names[group][name]))

    def pick_paintable(self, rng: Generator) -> int:
        """Choose a thing that may have any colour and whose name says none."""
        while True:
            i = self.pick(rng, PAINTABLE)
            if not has_colour(self.name(i)):
                return i

    def tint(self, rng: Generator, name: str) -> Canvas:
        """A colour by name, slightly varied, (3,) in 0..1."""
        return np.clip(rgb(*COLOURS[name]) + rng.normal(0, 0.025, 3), 0, 1).astype(np.float32)

    def name(self, i: int) -> str:
        """What a drawing shows."""
        return self.library.pictures[i].name

    def cutout(self, i: int) -> Image.Image:
        """The drawing with its alpha, (128, 128)."""
        return Image.fromarray(self.library.rgba[i])


# --- Pixels -----------------------------------------------------------------------------------


def mean_colour(rgba: NDArray[np.uint8]) -> Canvas:
    """Mean colour of the opaque part, (3,) in 0..1."""
    small = rgba[::4, ::4].astype(np.float32) / 255
    alpha = small[..., 3:]
    return (small[..., :3] * alpha).sum((0, 1)) / max(float(alpha.sum()), 1e-3)


def paint(cutout: Image.Image, colour: Canvas) -> Image.Image:
    """Give a drawing another colour and keep its shading."""
    painted = paint_drawing(np.asarray(cutout).astype(np.float32) / 255, colour)
    return Image.fromarray((painted * 255).astype(np.uint8))


def draw_shape(name: str) -> Image.Image:
    """Draw a plain shape in gray, (128, 128), on nothing."""
    big = Image.new("RGBA", (2 * SIDE, 2 * SIDE))
    pen, s = ImageDraw.Draw(big), 2 * SIDE
    gray = (150, 150, 150, 255)
    angles = np.arange(10) * np.pi / 5 - np.pi / 2
    reach = np.where(np.arange(10) % 2, 0.2, 0.49)
    t = np.linspace(0, 2 * np.pi, 60)
    outlines = {
        "square": [(0.03, 0.03), (0.97, 0.03), (0.97, 0.97), (0.03, 0.97)],
        "triangle": [(0.5, 0.03), (0.97, 0.93), (0.03, 0.93)],
        "diamond": [(0.5, 0.01), (0.9, 0.5), (0.5, 0.99), (0.1, 0.5)],
        "star": list(zip(0.5 + reach * np.cos(angles), 0.53 + reach * np.sin(angles), strict=True)),
        "circle": list(zip(0.5 + 0.48 * np.cos(t), 0.5 + 0.48 * np.sin(t), strict=True)),
        "heart": list(
            zip(
                0.5 + 0.48 * np.sin(t) ** 3,
                0.46
                - (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 34,
                strict=True,
            )
        ),
    }
    pen.polygon([(float(x) * s, float(y) * s) for x, y in outlines[name]], fill=gray)
    return big.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def paste(canvas: Canvas, cutout: Image.Image, side: float, centre: tuple[float, float]) -> Canvas:
    """Lay a drawing of a given side (share of the canvas) at a centre (shares) on a canvas."""
    s, px = len(canvas), max(4, round(side * len(canvas)))
    small = cutout.convert("RGBa").resize((px, px), Image.Resampling.BILINEAR)
    rgba = np.asarray(small, np.float32) / 255  # colours premultiplied by alpha
    left, top = (round(c * s - px / 2) for c in centre)
    x0, y0, x1, y1 = max(0, left), max(0, top), min(s, left + px), min(s, top + px)
    part = rgba[y0 - top : y1 - top, x0 - left : x1 - left]
    out = canvas.copy()
    out[y0:y1, x0:x1] = out[y0:y1, x0:x1] * (1 - part[..., 3:]) + part[..., :3]
    return out


def solid(size: int, colour: Canvas) -> Canvas:
    """One colour everywhere."""
    return np.broadcast_to(colour, (size, size, 3)).astype(np.float32).copy()


def other_colour(rng: Generator, *tones: Canvas, among: Sequence[str] = tuple(COLOURS)) -> str:
    """A colour that stands out from the given tones (each (3,) in 0..1)."""
    names = [
        n for n in among if all(np.abs(np.array(COLOURS[n]) / 255 - t).max() > 0.3 for t in tones)
    ]
    return str(choose(rng, names or ["white"]))


def ground(rng: Generator, studio: Studio, *tones: Canvas) -> tuple[Canvas, str]:
    """A background and what to call it: a named colour, or '' for one that is not mentioned."""
    size, chance = studio.size, rng.random()
    if chance < 0.2:
        white = studio.tint(rng, "white")
        if all(np.abs(white - t).max() > 0.2 for t in tones):
            return solid(size, white), "" if rng.random() < 0.7 else "white"
    if chance < 0.7:
        name = other_colour(rng, *tones)
        return solid(size, studio.tint(rng, name)), spell(rng, name) if rng.random() < 0.65 else ""
    if chance < 0.82:
        ends = [studio.tint(rng, other_colour(rng, *tones)) for _ in range(2)]
        ramp = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
        ramp = ramp if rng.random() < 0.5 else ramp.transpose(1, 0, 2)
        return (ends[0] * ramp + ends[1] * (1 - ramp)) * np.ones((size, size, 1), np.float32), ""
    if chance < 0.9 or not len(studio.library.backdrops):
        return choose(rng, studio.settings[choose(rng, list(SETTINGS))]), ""
    return photograph(rng, studio), ""


def photograph(rng: Generator, studio: Studio) -> Canvas:
    """A random crop of a photograph, sometimes out of focus, as photographers like it."""
    whole = studio.library.backdrops[rng.integers(len(studio.library.backdrops))]
    side = int(rng.integers(96, min(whole.shape[:2]) + 1))
    top, left = (int(rng.integers(0, n - side + 1)) for n in whole.shape[:2])
    crop = Image.fromarray(whole[top : top + side, left : left + side])
    if rng.random() < 0.4:
        crop = crop.resize((16, 16), Image.Resampling.BILINEAR)
    crop = crop.resize((studio.size, studio.size), Image.Resampling.BILINEAR)
    return np.asarray(crop, np.float32) / 255


def pose(rng: Generator, studio: Studio, cutout: Image.Image, name: str) -> Image.Image:
    """Mirror and lean a drawing a little, unless its name says which way it points."""
    if "left" in name or "right" in name:
        return cutout
    if rng.random() < 0.5:
        cutout = cutout.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.3:
        cutout = cutout.rotate(float(rng.uniform(-18, 18)), Image.Resampling.BILINEAR)
    return cutout


# --- Recipes: each makes one scene, or two that differ in one thing only ------------------------


def single(rng: Generator, studio: Studio, *, plain: bool = False) -> list[Scene]:
    """One thing, large, whole or slightly cut by the border; near miss: another background.

    ``plain`` captions name the thing with its article and nothing else.
    """
    i = studio.pick(rng)
    p = studio.library.pictures[i]
    cutout = pose(rng, studio, studio.cutout(i), p.name)
    side = float(rng.uniform(0.55, 1.0) if rng.random() < 0.8 else rng.uniform(1.0, 1.3))
    slack = abs(1 - side) / 2
    centre = tuple(0.5 + rng.uniform(-slack, slack, 2))
    caption = article(p.name) if plain else frame(rng, describe(rng, p))
    background, name = ground(rng, studio, studio.tone[i])
    scenes = [Scene(paste(background, cutout, side, centre), on(rng, caption, name))]
    if name and rng.random() < 0.3:
        second = other_colour(rng, studio.tone[i], background[0, 0])
        other = solid(studio.size, studio.tint(rng, second))
        scenes.append(Scene(paste(other, cutout, side, centre), on(rng, caption, second)))
    return scenes


def painted(rng: Generator, studio: Studio) -> list[Scene]:
    """A thing in a colour; near miss: the same in another colour."""
    i = studio.pick_paintable(rng)
    p = studio.library.pictures[i]
    cutout = pose(rng, studio, studio.cutout(i), p.name)
    first = str(choose(rng, PAINTS))
    second = other_colour(rng, np.array(COLOURS[first]) / 255, among=PAINTS)
    tones = [np.array(COLOURS[c], np.float32) / 255 for c in (first, second)]
    background, name = ground(rng, studio, *tones)
    side = float(rng.uniform(0.6, 1.0))
    thing = describe(rng, p, "*")
    caption = on(rng, frame(rng, thing), name)
    colours = (first, second) if rng.random() < 0.5 else (first,)
    return [
        Scene(
            paste(background, paint(cutout, studio.tint(rng, c)), side, (0.5, 0.5)),
            with_colour(caption, spell(rng, c)),
        )
        for c in colours
    ]


SIDES = {
    "to the left of": ((0.27, 0.5), (0.73, 0.5)),
    "to the right of": ((0.73, 0.5), (0.27, 0.5)),
    "above": ((0.5, 0.27), (0.5, 0.73)),
    "below": ((0.5, 0.73), (0.5, 0.27)),
}
TOGETHER = ("{} and {}", "{} next to {}", "{} beside {}", "{} with {}")


def pair(rng: Generator, studio: Studio) -> list[Scene]:
    """Two things; near miss: the two change places, and the caption says so."""
    i, j = studio.pick(rng), studio.pick(rng)
    names = [studio.name(k) for k in (i, j)]
    cutouts = [pose(rng, studio, studio.cutout(k), n) for k, n in zip((i, j), names, strict=True)]
    words = [article(n) for n in names]
    background, name = ground(rng, studio, studio.tone[i], studio.tone[j])
    return two(rng, background, name, cutouts, words)


def two_colours(rng: Generator, studio: Studio) -> list[Scene]:
    """The same thing in two colours, or two shapes; near miss: the colours change places."""
    first = str(choose(rng, PAINTS))
    second = other_colour(rng, np.array(COLOURS[first]) / 255, among=PAINTS)
    tones = [studio.tint(rng, c) for c in (first, second)]
    background, name = ground(rng, studio, *tones)
    if rng.random() < 0.6:
        shapes = [str(choose(rng, SHAPES)) for _ in range(2)]
        plain = [draw_shape(s) for s in shapes]
    else:
        i = studio.pick_paintable(rng)
        shapes = [studio.name(i)] * 2
        plain = [studio.cutout(i)] * 2
    cutouts = [paint(c, t) for c, t in zip(plain, tones, strict=True)]
    words = [article(f"{c} {s}") for c, s in zip((first, second), shapes, strict=True)]
    return two(rng, background, name, cutouts, words)


def two(
    rng: Generator, background: Canvas, name: str, cutouts: list[Image.Image], words: list[str]
) -> list[Scene]:
    """Lay two things side by side or one above the other."""
    relation = str(choose(rng, list(SIDES)))
    places, side = SIDES[relation], float(rng.uniform(0.4, 0.52))
    phrase = choose(rng, TOGETHER) if rng.random() < 0.5 else f"{{}} {relation} {{}}"
    swap = phrase not in TOGETHER and rng.random() < 0.6
    scenes = []
    for order in ((0, 1), (1, 0))[: 1 + swap]:
        canvas = background
        for k, place in zip(order, places, strict=True):
            canvas = paste(canvas, cutouts[k], side, place)
        scenes.append(Scene(canvas, on(rng, phrase.format(*(words[k] for k in order)), name)))
    return scenes


def stacked(rng: Generator, studio: Studio) -> list[Scene]:
    """A small shape on a large one; near miss: the colours the other way round."""
    small, large = (str(choose(rng, SHAPES[:2] if k else SHAPES)) for k in range(2))
    first = str(choose(rng, PAINTS))
    second = other_colour(rng, np.array(COLOURS[first]) / 255, among=PAINTS)
    tones = {c: studio.tint(rng, c) for c in (first, second)}
    background, name = ground(rng, studio, *tones.values())
    phrase = str(choose(rng, ("{} on {}", "{} inside {}", "{} in front of {}")))
    scenes = []
    for inner, outer in ((first, second), (second, first))[: 1 + (rng.random() < 0.7)]:
        canvas = paste(background, paint(draw_shape(large), tones[outer]), 0.86, (0.5, 0.5))
        canvas = paste(canvas, paint(draw_shape(small), tones[inner]), 0.42, (0.5, 0.52))
        words = article(f"{inner} {small}"), article(f"{outer} {large}")
        scenes.append(Scene(canvas, on(rng, phrase.format(*words), name)))
    return scenes


def counted(rng: Generator, studio: Studio) -> list[Scene]:
    """Two, three or four of a kind; near miss: one more or one less."""
    i = studio.pick(rng, PAINTABLE)
    name, colour = studio.name(i), ""
    cutout, tone = pose(rng, studio, studio.cutout(i), name), studio.tone[i]
    if not has_colour(name) and rng.random() < 0.4:
        colour = str(choose(rng, PAINTS))
        tone = studio.tint(rng, colour)
        cutout = paint(cutout, tone)
    background, ground_name = ground(rng, studio, tone)
    first = int(rng.integers(2, 5))
    second = choose(rng, [n for n in (1, 2, 3, 4) if n != first])
    scenes = []
    for n in (first, second)[: 1 + (rng.random() < 0.6)]:
        words = f"{colour} {name}".strip()
        caption = f"{NUMBERS[n]} {plural(words)}" if n > 1 else f"one {words}"
        canvas = background
        for x, y in spread(rng, n):
            canvas = paste(canvas, cutout, 0.42 if n < 4 else 0.38, (x, y))
        scenes.append(Scene(canvas, on(rng, caption, ground_name)))
    return scenes


def spread(rng: Generator, n: int) -> list[tuple[float, float]]:
    """Centres of n places that do not overlap: cells of a 2 x 2 grid, or a row of the middle."""
    cells = [(0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73)]
    chosen = rng.permutation(4)[:n]
    jitter = rng.uniform(-0.03, 0.03, (n, 2))
    return [
        (cells[c][0] + dx, cells[c][1] + dy) for c, (dx, dy) in zip(chosen, jitter, strict=True)
    ]


def placed(rng: Generator, studio: Studio) -> list[Scene]:
    """A small thing in a corner; near miss: another corner."""
    i = studio.pick(rng)
    name = studio.name(i)
    cutout = pose(rng, studio, studio.cutout(i), name)
    background, ground_name = ground(rng, studio, studio.tone[i])
    corners = [str(c) for c in rng.permutation(list(CORNERS))[: 1 + (rng.random() < 0.6)]]
    size, side = ("small", 0.34) if rng.random() < 0.5 else ("", 0.44)
    words = article(f"{size} {name}".strip())
    return [
        Scene(
            paste(background, cutout, side, CORNERS[c]),
            on(rng, f"{words} in the {c} corner", ground_name),
        )
        for c in corners
    ]


def setting(rng: Generator, studio: Studio, *, plain: bool = False) -> list[Scene]:
    """A thing somewhere, or the place alone; near miss: the same thing somewhere else.

    ``plain`` captions name the thing by its own name alone.
    """
    places = [str(s) for s in rng.permutation(list(SETTINGS))[: 1 + (rng.random() < 0.4)]]
    if rng.random() < 0.12:
        return [
            Scene(choose(rng, studio.settings[s]), str(choose(rng, PHRASES[s][1]))) for s in places
        ]
    i = studio.pick(rng, ("animals", "travel", "objects", "food", "people", "activities"))
    p = studio.library.pictures[i]
    cutout = pose(rng, studio, studio.cutout(i), p.name)
    side, x, y = float(rng.uniform(0.45, 0.8)), rng.uniform(0.4, 0.6), rng.uniform(0.5, 0.62)
    words = article(p.name if plain else describe(rng, p))
    return [
        Scene(
            paste(choose(rng, studio.settings[s]), cutout, side, (x, y)),
            f"{words} {choose(rng, PHRASES[s][0])}",
        )
        for s in places
    ]


def styled(rng: Generator, studio: Studio) -> list[Scene]:
    """A thing, a thing somewhere or a place in a style; near miss: the same in another style."""
    if rng.random() < 0.25:
        place = str(choose(rng, list(SETTINGS)))
        picture, words = choose(rng, studio.settings[place]), str(choose(rng, PHRASES[place][1]))
    else:
        scene = (setting if rng.random() < 0.35 else single)(rng, studio, plain=True)[0]
        picture, words = scene.picture, scene.caption
    styles = [str(s) for s in rng.permutation(list(STYLES))[: 1 + (rng.random() < 0.5)]]
    return [
        Scene(STYLES[s](picture, rng), str(choose(rng, STYLE_WORDS[s])).format(words))
        for s in styles
    ]


def empty(rng: Generator, studio: Studio) -> list[Scene]:
    """Nothing but a colour."""
    name = str(choose(rng, list(COLOURS)))
    templates = ("a * background", "plain *", "solid *", "a * surface", "*")
    caption = with_colour(str(choose(rng, templates)), spell(rng, name))
    return [Scene(solid(studio.size, studio.tint(rng, name)), caption)]


Recipe = Callable[[Generator, Studio], list[Scene]]
RECIPES: dict[Recipe, float] = {
    single: 0.44,
    painted: 0.15,
    pair: 0.08,
    two_colours: 0.04,
    stacked: 0.03,
    counted: 0.06,
    placed: 0.03,
    setting: 0.09,
    styled: 0.07,
    empty: 0.01,
}


def wear(rng: Generator, canvas: Canvas) -> Canvas:
    """Noise or blur, as pictures on the way have them."""
    chance, size = rng.random(), len(canvas)
    if chance < 0.2:
        noise = rng.normal(0, rng.uniform(0, 0.07), canvas.shape)
        return np.clip(canvas + noise, 0, 1).astype(np.float32)
    if chance < 0.35:
        small = int(size * rng.uniform(0.35, 0.7))
        image = Image.fromarray((canvas * 255).astype(np.uint8)).resize((small, small))
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), np.float32) / 255
    return canvas


def compose(rng: Generator, studio: Studio, *, worn: bool = True) -> list[Scene]:
    """Cook one recipe: one scene, or a scene and its near miss; ``worn`` ones as on the way."""
    recipes = list(RECIPES)
    scenes = recipes[rng.choice(len(recipes), p=np.array(list(RECIPES.values())))](rng, studio)
    finish = wear if worn else lambda rng, canvas: canvas
    return [replace(s, picture=finish(rng, np.clip(s.picture, 0, 1))) for s in scenes]


class Batches(torch.utils.data.Dataset[tuple[Tensor, list[str]]]):
    """Batch number t depends on the seed and on t alone, so a resumed training sees the same."""

    def __init__(self, studio: Studio, batch: int, seed: int) -> None:
        """Remember what to draw from, how many scenes make a batch, and the seed."""
        self.studio, self.batch, self.seed = studio, batch, seed

    def __getitem__(self, step: int) -> tuple[Tensor, list[str]]:
        """Pictures (n, 3, s, s) as bytes and their captions, no two alike."""
        rng = np.random.default_rng((self.seed, step))
        scenes: dict[str, Canvas] = {}
        while len(scenes) < self.batch:
            new = compose(rng, self.studio)
            if not any(s.caption in scenes for s in new):
                scenes.update((s.caption, s.picture) for s in new[: self.batch - len(scenes)])
        pictures = np.stack(list(scenes.values()))
        tensor = torch.from_numpy((pictures * 255).round().astype(np.uint8))
        return tensor.permute(0, 3, 1, 2), list(scenes)
