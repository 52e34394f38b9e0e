"""Captions: what is said of a picture, and the words that it takes."""

from collections.abc import Sequence
from typing import TypeVar

from numpy.random import Generator

from training.data import Picture

Colour = tuple[int, int, int]
T = TypeVar("T")

COLOURS: dict[str, Colour] = {
    "red": (220, 35, 35),
    "orange": (245, 135, 25),
    "yellow": (250, 215, 45),
    "green": (45, 165, 65),
    "blue": (45, 95, 220),
    "purple": (140, 65, 190),
    "pink": (245, 135, 190),
    "brown": (125, 78, 42),
    "black": (22, 22, 22),
    "white": (250, 250, 250),
    "gray": (130, 130, 130),
    "teal": (25, 150, 150),
    "light blue": (140, 200, 245),
    "dark blue": (20, 35, 95),
    "dark green": (15, 80, 40),
    "beige": (235, 220, 185),
}
PAINTS = list(COLOURS)[:12]  # what objects are painted with
FRAMES = ("{}",) * 6 + (
    "a drawing of {}",
    "a picture of {}",
    "an emoji of {}",
    "an icon of {}",
    "an illustration of {}",
    "clip art of {}",
)
GROUNDS = ("{} on a {} background", "{} with a {} background", "{}, {} background")


def choose(rng: Generator, options: Sequence[T]) -> T:
    """Pick one of a sequence (numpy's own choice turns it into an array first)."""
    return options[int(rng.integers(len(options)))]


def has_colour(text: str) -> bool:
    """Say whether a text names a colour."""
    words = text.replace("-", " ").split()
    return any(c in words for c in (*COLOURS, "grey", "gold", "golden", "silver", "rainbow"))


def article(thing: str) -> str:
    """Put 'a' or 'an' before a singular: 'an apple', 'grapes'."""
    last = thing.split(" with ")[0].split(",")[0].split()[-1]
    if last.endswith("s") and not last.endswith(("ss", "us", "is", "'s")):
        return thing
    return f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"


def plural(thing: str) -> str:
    """Make a plural: 'cup of coffee' to 'cups of coffee', 'cherry' to 'cherries'."""
    head, of, rest = thing.partition(" of ")
    irregular = {"mouse": "mice", "fish": "fish", "sheep": "sheep", "goose": "geese", "man": "men",
                 "woman": "women", "child": "children", "person": "people", "leaf": "leaves",
                 "knife": "knives", "foot": "feet", "tooth": "teeth", "deer": "deer",
                 "wolf": "wolves", "loaf": "loaves"}  # fmt: skip
    words = head.split()
    last = words[-1]
    if last in irregular:
        last = irregular[last]
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        last = f"{last[:-1]}ies"
    elif last.endswith(("s", "x", "ch", "sh")):
        last = last if last.endswith("s") and not last.endswith(("ss", "us")) else f"{last}es"
    else:
        last = f"{last}s"
    return " ".join([*words[:-1], last]) + of + rest


def describe(rng: Generator, p: Picture, colour: str = "") -> str:
    """Name what a picture shows, sometimes by another word; a painted thing by its name."""
    thing, chance = p.name, rng.random()
    if p.words and chance < 0.12:
        thing = choose(rng, p.words)
    elif p.words and chance < 0.22 and not colour:
        thing = f"{p.name}, {choose(rng, p.words)}"
    return f"{colour} {thing}" if colour else thing


def frame(rng: Generator, thing: str) -> str:
    """Put a thing into a caption: bare, with its article, or as 'a drawing of ...'."""
    if rng.random() < 0.2:
        return thing
    return str(choose(rng, FRAMES)).format(article(thing))


def spell(rng: Generator, colour: str) -> str:
    """Both spellings of gray."""
    return "grey" if colour == "gray" and rng.random() < 0.4 else colour


def on(rng: Generator, caption: str, background: str) -> str:
    """Mention the background, where it has a name."""
    return str(choose(rng, GROUNDS)).format(caption, background) if background else caption


def with_colour(caption: str, colour: str) -> str:
    """Fill a colour in for the star of a caption, and mend the article before it."""
    caption = caption.replace("an *", "a *")
    return caption.replace(
        "a *", f"an {colour}" if colour[0] in "aeiou" else f"a {colour}"
    ).replace("*", colour)
