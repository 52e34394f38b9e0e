"""Edits to ask for: 20 of photographs, 80 of composed scenes, 24 of scenes with two things in them.

The scenes are composed of objects that no training of the models in weights/ has shown, on grounds,
in settings and before photographs; they need the trainings' cache (`python -m training data`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image as Picture

from app.images import Pixels
from benchmarks import photographs
from guidance.instruct import COLOURS
from guidance.styles import STYLES, WEATHERS

Region = NDArray[np.bool_]  # (h, w)

SIDE = 256  # pixels of a scene
PAIRS = 24
SHARES = {"recolour": 20, "replace": 16, "add": 10, "remove": 14, "restyle": 10, "weather": 10}
PAINTS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black", "white")
THINGS = ("cat", "dog", "car", "bus", "apple", "fish", "house", "tree", "star", "guitar", "owl")
ADDED = ("hat", "bird", "star", "heart", "balloon", "crown", "butterfly", "flower", "moon", "key")
STYLE_WORDS = {
    "pencil": "as a pencil drawing", "coloured_pencil": "as a coloured pencil drawing",
    "oil": "as an oil painting", "watercolour": "as a watercolour", "pixel_art": "as pixel art",
    "blueprint": "as a blueprint", "neon": "as a neon sign",
}  # fmt: skip
WEATHER_WORDS = {
    "snow": "add snow", "rain": "make it rain", "fog": "add fog", "night": "at night",
    "sunset": "at sunset", "sunny": "make it sunny",
}  # fmt: skip
# What the picture is after it, in words.
STYLES_SAID = {
    "pencil": "a pencil drawing", "coloured_pencil": "a coloured pencil drawing",
    "oil": "an oil painting", "watercolour": "a watercolour painting", "pixel_art": "pixel art",
    "blueprint": "a blueprint", "neon": "a neon sign",
}  # fmt: skip
WEATHERS_SAID = {
    "snow": "in the snow", "rain": "in the rain", "fog": "in the fog", "night": "at night",
    "sunset": "at sunset", "sunny": "in bright sunshine",
}  # fmt: skip
# What a reader may say instead.
SYNONYMS = {
    "pencil": ("pencil", "sketch", "black and white", "drawing", "grey", "gray", "monochrome"),
    "coloured_pencil": ("pencil", "sketch", "crayon", "drawing", "hatching", "strokes"),
    "oil": ("oil", "painting", "painted", "paint", "brush", "textured"),
    "watercolour": ("watercolour", "watercolor", "painting", "painted", "washed", "faded"),
    "pixel_art": ("pixel", "pixelated", "pixels", "blocky", "mosaic", "8 bit"),
    "blueprint": ("blueprint", "technical drawing", "outline", "line drawing"),
    "neon": ("neon", "glowing", "glow", "outline", "outlines"),
    "snow": ("snow", "snowy", "winter", "frost"),
    "rain": ("rain", "rainy", "raining", "streaks"),
    "fog": ("fog", "foggy", "mist", "misty", "haze", "hazy", "faded"),
    "night": ("night", "dark", "darker", "darkened", "nighttime"),
    "sunset": ("sunset", "sunrise", "dusk", "warm", "warmer", "orange", "evening", "reddish"),
    "sunny": ("sunny", "brighter", "bright", "sunshine", "sunlight", "warm", "warmer", "contrast"),
    "remove": ("removed", "gone", "disappeared", "vanished", "erased", "missing", "deleted"),
}


@dataclass(frozen=True, eq=False)
class Task:
    """A picture, what to do with it, where its object is, and words that say what has changed.

    `others`: things in the picture that nobody speaks of, by name. `ground`: the picture without
    its object, where that is known.
    """

    kind: str
    instruction: str
    thing: str  # the object's name
    pixels: Pixels
    object: Region
    says: tuple[str, ...]
    how: str = ""
    others: tuple[tuple[str, Region], ...] = ()
    ground: Pixels | None = None


def words(task: Task) -> tuple[str, str]:
    """What the picture shows before and after, in words."""
    before = article(task.thing)
    return before, _AFTER[task.kind](task, before)


_AFTER: dict[str, Callable[[Task, str], str]] = {
    "recolour": lambda task, _: article(f"{task.how} {task.thing}"),
    "replace": lambda task, _: article(task.how),
    "add": lambda task, before: f"{before} and {article(task.how)}",
    "remove": lambda _, __: "a plain background",
    "restyle": lambda task, before: f"{STYLES_SAID[task.how]} of {before}",
    "weather": lambda task, before: f"{before} {WEATHERS_SAID[task.how]}",
}


def article(name: str) -> str:
    """The name with its article."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def outlined() -> list[Task]:
    """The edits of photographs. Raises `Refused` when one is missing."""
    things = photographs.load()
    return [
        Task(
            one.kind,
            one.instruction,
            one.thing,
            one.pixels,
            one.object,
            SYNONYMS.get(one.how or one.kind, (one.how,)),
            one.how,
            tuple(_beside(one, things)),
        )
        for one in things
    ]


def _beside(one: photographs.Outlined, things: Sequence[photographs.Outlined]) -> Any:
    """What else is outlined in the same photograph, where the two do not overlap."""
    for other in things:
        if other.photograph == one.photograph and not (other.object & one.object).any():
            yield other.thing, other.object


def scenes(seed: int = 11) -> list[Task]:
    """The 80 edits of scenes, always the same."""
    studio, held, rng = _open(seed)
    kinds = [kind for kind, count in SHARES.items() for _ in range(count)]
    return [_task(kind, n, int(rng.choice(held)), studio, rng) for n, kind in enumerate(kinds)]


def pairs(seed: int = 12) -> list[Task]:
    """The 24 edits of scenes with two things, the other of which is to stay, always the same."""
    studio, held, rng = _open(seed)
    found = []
    for number, kind in enumerate(("recolour", "replace", "remove") * (PAIRS // 3)):
        one, other = (int(row) for row in rng.choice(held, 2, replace=False))
        found.append(_task(kind, number, one, studio, rng, other))
    return found


def _open(seed: int) -> tuple[Any, list[int], Generator]:
    """The studio of the trainings, rows of held-out drawings with a name of one word, chance."""
    from training.data import load  # the cache is there where the models are trained
    from training.scenes import Studio

    library = load()
    groups = ("animals", "food", "travel", "objects")
    held = [
        i
        for i, p in enumerate(library.pictures)
        if p.held_out and p.group in groups and len(p.name.split()) == 1
    ]
    return Studio(library, SIDE, variants=2), held, np.random.default_rng(seed)


def _task(
    kind: str, number: int, row: int, studio: Any, rng: Generator, other: int | None = None
) -> Task:
    name = studio.name(row)
    place = _scene(number, studio, rng, row, other)
    tone = studio.tone[row] * 255

    def ask(instruction: str, says: tuple[str, ...], how: str = "") -> Task:
        return Task(kind, instruction, name, says=says, how=how, **place)

    if kind == "recolour":
        far = [c for c in PAINTS if np.abs(np.array(COLOURS[c]) - tone).max() > 90]
        colour = str(rng.choice(far))
        return ask(f"make the {name} {colour}", (colour,), colour)
    if kind == "replace":
        thing = str(rng.choice([thing for thing in THINGS if thing != name]))
        return ask(f"replace the {name} with a {thing}", (thing,), thing)
    if kind == "add":
        thing = ADDED[number % len(ADDED)]
        return ask(f"add a {thing}", (thing,), thing)
    if kind == "remove":
        return ask(f"remove the {name}", SYNONYMS["remove"])
    words_of = STYLE_WORDS if kind == "restyle" else WEATHER_WORDS
    how = list(STYLES if kind == "restyle" else WEATHERS)[number % len(words_of)]
    return ask(words_of[how], SYNONYMS[how], how)


def _scene(number: int, studio: Any, rng: Generator, row: int, other: int | None) -> dict[str, Any]:
    """An object, or two beside each other, on a ground, in a setting or before a photograph."""
    from training.captions import choose
    from training.scenes import other_colour, paste, photograph, rgb, solid
    from training.settings import SETTINGS

    tones = [studio.tone[one] for one in (row, other) if one is not None]
    grounds = (
        lambda: solid(SIDE, rgb(*COLOURS[other_colour(rng, *tones)])),
        lambda: choose(rng, studio.settings[choose(rng, list(SETTINGS))]),
        lambda: photograph(rng, studio),
    )
    empty, cutout = grounds[number % 3](), studio.cutout(row)
    if other is None:
        at = rng.uniform(0.45, 0.65), (rng.uniform(0.38, 0.62), rng.uniform(0.42, 0.6))
        return _placed(paste(empty, cutout, *at), cutout, *at, ground=empty)
    left, right = (
        (rng.uniform(0.36, 0.44), (rng.uniform(*span), rng.uniform(0.42, 0.6)))
        for span in ((0.24, 0.28), (0.72, 0.76))
    )
    mine, its = (left, right) if rng.random() < 0.5 else (right, left)
    beside, name = studio.cutout(other), studio.name(other)
    ground = paste(empty, beside, *its)
    found = _placed(paste(ground, cutout, *mine), cutout, *mine, ground=ground)
    return {**found, "others": ((name, _where(beside, *its)),)}


def _placed(
    scene: Any, cutout: Picture.Image, side: float, centre: tuple[float, float], ground: Any
) -> dict[str, Any]:
    """What a task says of its picture."""
    shown, empty = ((x.clip(0, 1) * 255).round().astype(np.uint8) for x in (scene, ground))
    return {"pixels": shown, "object": _where(cutout, side, centre), "ground": empty}


def _where(cutout: Picture.Image, side: float, centre: tuple[float, float]) -> Region:
    """The pixels that a pasted drawing covers by more than half."""
    from training.scenes import paste

    white = Picture.merge("RGBA", [Picture.new("L", cutout.size, 255)] * 3 + [cutout.split()[3]])
    covered: Region = paste(np.zeros((SIDE, SIDE, 3)), white, side, centre)[..., 0] > 0.5
    return covered


# In the order in which they are reported; photographs are never averaged with scenes.
SETS: dict[str, Callable[[], list[Task]]] = {
    "photographs": outlined,
    "scenes": scenes,
    "pairs": pairs,
}
