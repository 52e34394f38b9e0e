"""Held-out measures of a pocket CLIP: right captions, classes, synonyms, near misses."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from training.captions import article
from training.clip import attack
from training.data import Library, Picture
from training.pupil import Pupil
from training.scenes import (
    Batches,
    Recipe,
    Scene,
    Studio,
    counted,
    mean_colour,
    painted,
    paste,
    solid,
    stacked,
    two_colours,
)
from training.words import SYNONYMS

TEMPLATES = ("{}", "a drawing of {}", "an emoji of {}")
THINGS = ("animals", "food", "travel", "objects", "activities")
CLASSES = 50
RADIUS, STEPS = 1.5, 3  # of the stated attack: L2 on 96 px in 0..1, steps of gradient ascent
NEAR_MISSES: dict[str, Recipe] = {
    "colour": painted,
    "count": counted,
    "order": stacked,
    "swap": two_colours,
}


class Exam:
    """Fixed held-out scenes and drawings, drawn once, asked again and again."""

    def __init__(self, library: Library, size: int = 96, sheets: int = 3, pairs: int = 60) -> None:
        """Draw the questions from the held-out part of a library that still holds everything."""
        unseen = library.part(lambda p: p.held_out)
        unseen = replace(unseen, pictures=tuple(map(as_clipart, unseen.pictures)))
        studio = Studio(unseen, size)
        self.scenes = [Batches(studio, 100, seed=1)[i] for i in range(sheets)]
        self.pairs = {n: draw_pairs(r, studio, pairs) for n, r in NEAR_MISSES.items()}
        drawings = {p.name: i for i, p in enumerate(library.pictures)}
        drawings |= {p.name: i for i, p in enumerate(library.pictures) if p.source == "fxemoji"}
        self.classes = pick_classes(library)
        self.synonyms = {w: n for w, n in SYNONYMS.items() if n in drawings}
        self.pictures = {
            n: on_ground(library.rgba[drawings[n]], size)
            for n in (*self.classes, *self.synonyms.values())
        }

    def ask(self, net: Pupil) -> dict[str, float]:
        """All measures, as shares of right answers; the name says out of how many, or of 2."""
        net.eval()
        answers = [self.ask_captions(net, *scene, seed) for seed, scene in enumerate(self.scenes)]
        clean, attacked = zip(*answers, strict=True)
        with torch.no_grad():
            return {
                "caption_of_100": float(np.mean(clean)),
                "caption_of_100_attacked": float(np.mean(attacked)),
                f"class_of_{CLASSES}": self.ask_names(net, self.classes, self.classes, TEMPLATES),
                f"class_of_{CLASSES}_bare": self.ask_names(net, self.classes, self.classes, "{}"),
                f"synonym_of_{len(self.synonyms)}": self.ask_names(
                    net, list(self.synonyms.values()), list(self.synonyms), TEMPLATES
                ),
                f"synonym_word_of_{len(self.synonyms)}": right(
                    prompts(net, list(self.synonyms), "{}"),
                    prompts(net, list(self.synonyms.values()), "{}"),
                ),
                **{f"{n}_of_2": ask_pairs(net, *pairs) for n, pairs in self.pairs.items()},
            }

    def ask_captions(
        self, net: Pupil, pictures: Tensor, captions: list[str], seed: int
    ) -> tuple[float, float]:
        """Share of scenes whose own caption is the nearest, clean and under the stated attack."""
        pictures, chance = pictures.float() / 255, torch.Generator().manual_seed(seed)
        with torch.no_grad():
            texts = net.embed_texts(captions)
            clean = right(net.embed_pictures(pictures), texts)
        own = torch.arange(len(texts))
        moved = attack(net, pictures, texts, own, RADIUS, STEPS, chance)
        with torch.no_grad():
            return clean, right(net.embed_pictures(moved), texts)

    def ask_names(
        self, net: Pupil, shown: Sequence[str], words: Sequence[str], templates: Sequence[str]
    ) -> float:
        """Share of drawings for which the word of the same row is the nearest."""
        pictures = torch.stack([self.pictures[n] for n in shown])
        return right(net.embed_pictures(pictures), prompts(net, words, templates))


def as_clipart(p: Picture) -> Picture:
    """Give held-out stamps the group of clip art, so that recipes use them."""
    return replace(p, group="clipart") if p.group == "stamps" else p


def pick_classes(library: Library) -> list[str]:
    """Names of things that FxEmoji draws, in an order that has nothing to do with the alphabet."""
    names = {p.name for p in library.pictures if p.source == "fxemoji" and p.group in THINGS}
    return sorted(names, key=lambda n: hashlib.sha256(n.encode()).hexdigest())[:CLASSES]


def draw_pairs(recipe: Recipe, studio: Studio, n: int) -> tuple[Tensor, list[str]]:
    """Scenes and their near misses, rows 2i and 2i + 1: (2n, 3, s, s) in 0..1, and captions."""
    found: list[Scene] = []
    rng = np.random.default_rng(2)
    while len(found) < 2 * n:
        group = recipe(rng, studio)
        if len(group) == 2 and group[0].caption != group[1].caption:
            found += group
    pictures = torch.from_numpy(np.stack([s.picture for s in found])).permute(0, 3, 1, 2)
    return pictures, [s.caption for s in found]


def ask_pairs(net: Pupil, pictures: Tensor, captions: list[str]) -> float:
    """Share of scenes nearer to their own caption than to their near miss's."""
    texts = net.embed_texts(captions)
    nearness = net.embed_pictures(pictures) @ texts.T
    rows = torch.arange(len(texts))
    return (nearness[rows, rows] > nearness[rows, rows ^ 1]).float().mean().item()


def on_ground(rgba: NDArray[np.uint8], size: int) -> Tensor:
    """A drawing on white, or on gray if it is light itself; (3, s, s) in 0..1."""
    light = mean_colour(rgba).min() > 0.75
    canvas = solid(size, np.full(3, 0.5 if light else 1.0, np.float32))
    picture = paste(canvas, Image.fromarray(rgba), 0.9, (0.5, 0.5))
    return torch.from_numpy(picture).permute(2, 0, 1)


def prompts(net: Pupil, names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """One unit vector for each name: the mean over the templates; "{}" gives the bare names."""
    if templates == "{}":
        return net.embed_texts(list(names))
    vectors = [net.embed_texts([t.format(article(n)) for n in names]) for t in templates]
    return torch.nn.functional.normalize(torch.stack(vectors).mean(0), dim=-1)


def right(shown: Tensor, texts: Tensor) -> float:
    """Share of rows of ``shown`` (pictures or texts) nearest to the text of the same row."""
    return ((shown @ texts.T).argmax(1) == torch.arange(len(shown))).float().mean().item()
