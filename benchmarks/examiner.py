"""The examiner marks pictures: a network that shares nothing with those that made them.

    python -m benchmarks.examiner OUT [--examiner FOLDER]   # the pictures of benchmarks.faithful

It was trained apart (`python -m training examiner`: another tower from another start, words of its
own, no attacks) and has seen what the guide was never shown. It is the quick proxy between two
blind readings and no more: it too is a network. Beside its marks stand its ceiling, the same
question asked about true drawings of the same things, and its floor, each picture marked for the
prompt of another.

Cleanliness needs no words: the share of pictures that lie among real scenes in the features of an
ImageNet tower that no training here has touched (precision by nearest neighbours, Kynkäänniemi et
al. 2019, section 2).
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image as Picture
from torch import Tensor

from app.images import open_picture, to_tensor
from benchmarks.faithful import Question, names_it, pictures, questions
from training.captions import COLOURS, article, choose
from training.data import Library
from training.data import load as load_library
from training.examiner import SIDE, Examiner, load
from training.imagenet import efficientnet_lite
from training.measure import on_ground
from training.scenes import Studio, paste, solid

FOLDER = Path(__file__).parent / "examiner"  # config.json and model.safetensors
MORE = 1500  # names that nobody asked for
REAL, NEIGHBOURS, LARGE = 1200, 3, 192  # scenes, of which the third nearest counts; pixels a side

Shown = Path | Picture.Image | Tensor


@torch.no_grad()
def nearness(net: Examiner, shown: Sequence[Shown], texts: Sequence[str]) -> Tensor:
    """Cosine of each picture with each text: (n, m). Tensors are (3, h, w) in 0..1."""
    seen = [net.embed_pictures(_square(picture, SIDE)) for picture in shown]
    return torch.cat(seen) @ net.embed_texts(texts).T


def _square(shown: Shown, side: int) -> Tensor:
    """(1, 3, side, side) in 0..1: what is not square is squeezed."""
    if isinstance(shown, Path):
        picture = to_tensor(open_picture(shown))
    elif isinstance(shown, Tensor):
        picture = shown[None]
    else:
        picture = to_tensor(np.asarray(shown.convert("RGB")))
    small = F.interpolate(picture, (side, side), mode="bicubic", antialias=True)
    return small.clamp(0, 1)


# --- how near the own prompt is -----------------------------------------------------------------


def ranks(net: Examiner, shown: Sequence[Shown], asked: Sequence[Question]) -> list[int]:
    """For each picture how many other prompts and names are nearer than its own prompt."""
    return places(rivals(net, shown, asked, asked)).tolist()


def places(scores: Tensor) -> Tensor:
    """(n, 1 + m), as `rivals` gives them -> (n,): how many of the others are nearer."""
    return (scores[:, 1:] > scores[:, :1]).sum(dim=1)


def rivals(
    net: Examiner, shown: Sequence[Shown], asked: Sequence[Question], among: Sequence[Question]
) -> Tensor:
    """(n, 1 + prompts + names): how near each picture is to its own prompt, and to all others.

    What says the same as the own prompt ("cat", of "a kitten") is no rival: minus infinity.
    """
    more = names(load_library())
    texts = [question.prompt for question in among] + [article(name) for name in more]
    column = {question: number for number, question in enumerate(among)}
    own = torch.tensor([column[question] for question in asked])[:, None]
    alike = [[False] * len(among) + [names_it(name, q.names) for name in more] for q in asked]
    scores = nearness(net, shown, texts)
    others = scores.masked_fill(torch.tensor(alike).scatter(1, own, True), -torch.inf)
    return torch.cat([scores.gather(1, own), others], dim=1)


def names(library: Library, count: int = MORE, seed: int = 11) -> list[str]:
    """Names of drawings, drawn by chance."""
    known = sorted({picture.name for picture in library.pictures if picture.group})
    return list(np.random.default_rng(seed).choice(known, count, replace=False))


def marks(net: Examiner, shown: Sequence[Shown], asked: Sequence[Question]) -> dict[str, Any]:
    """Own prompt first, and among the top five, of all; things together, then by group."""
    ranked = dict(zip(asked, ranks(net, shown, asked), strict=True))
    things = [place for question, place in ranked.items() if question.group != "scene"]
    groups: dict[str, list[int]] = defaultdict(list)
    for question, place in ranked.items():
        groups[question.group].append(place)
    return {"things": _told(things), **{group: _told(found) for group, found in groups.items()}}


def _told(places: Sequence[int]) -> dict[str, str]:
    count = len(places)
    return {
        "first": f"{sum(place == 0 for place in places)}/{count}",
        "top five": f"{sum(place < 5 for place in places)}/{count}",
    }


def true_drawings(
    library: Library, asked: Iterable[Question], seed: int = 3
) -> tuple[list[Tensor], list[Question]]:
    """For each plain thing of which there is one: a drawing (3, s, s) on white, and its prompt."""
    chance = np.random.default_rng(seed)
    shown, known = [], []
    for question in asked:
        rows = [
            row
            for row, picture in enumerate(library.pictures)
            if picture.name in question.names and article(picture.name) == question.prompt
        ]
        if rows:
            shown.append(on_ground(library.rgba[chance.choice(rows)], LARGE))
            known.append(question)
    return shown, known


# --- cleanliness --------------------------------------------------------------------------------


class Cleanliness:
    """Which pictures lie among real scenes: drawings on plain colours and in places."""

    def __init__(self, library: Library, scenes: int = REAL) -> None:
        """Compose the scenes and measure how far each is from its neighbours."""
        self.tower = efficientnet_lite("lite1").eval().requires_grad_(False)
        shown = things(Studio(library, LARGE, variants=4), scenes + 100)
        self.real, self.others = self.look(shown[:scenes]), shown[scenes:]
        distances = torch.cdist(self.real, self.real)
        self.radius = distances.topk(NEIGHBOURS + 1, largest=False).values[:, -1]  # 0 is itself

    @torch.no_grad()
    def look(self, shown: Tensor) -> Tensor:
        """(n, 3, s, s) in 0..1 -> (n, 1280), of unit length."""
        found = [self.tower.forward_features(part * 2 - 1) for part in shown.split(25)]
        return F.normalize(torch.cat(found).mean(dim=(2, 3)), dim=-1)

    def share(self, shown: Iterable[Shown]) -> float:
        """How many of the pictures are nearer to a real scene than its third neighbour is."""
        seen = self.look(torch.cat([_square(picture, LARGE) for picture in shown]))
        near = torch.cdist(seen, self.real) <= self.radius
        return near.any(dim=1).float().mean().item()

    def told(self, shown: Sequence[Shown]) -> dict[str, float]:
        """The share of these pictures, of other real scenes (ceiling), and of two floors."""
        found: dict[str, Iterable[Shown]] = {
            "pictures": shown,
            "ceiling": self.others,
            "floor, blurred scenes": F.interpolate(_small(self.others), LARGE, mode="bilinear"),
            "floor, noise": torch.rand(self.others.shape, generator=torch.manual_seed(0)),
        }
        return {name: round(self.share(what), 3) for name, what in found.items()}


def things(studio: Studio, count: int, seed: int = 21) -> Tensor:
    """A drawing in the middle of a plain colour or a place, drawn by chance: (n, 3, s, s)."""
    chance = np.random.default_rng(seed)
    shown = []
    for _ in range(count):
        if chance.random() < 0.6:
            ground = solid(studio.size, studio.tint(chance, str(chance.choice(list(COLOURS)))))
        else:
            ground = choose(chance, studio.settings[str(chance.choice(list(studio.settings)))])
        drawing = studio.cutout(studio.pick(chance))
        shown.append(paste(ground, drawing, chance.uniform(0.6, 0.9), (0.5, 0.5)))
    return torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2).float()


def _small(shown: Tensor) -> Tensor:
    return F.interpolate(shown, 12, mode="area")


# --- all of it ----------------------------------------------------------------------------------


def report(net: Examiner, out: Path) -> dict[str, Any]:
    """All marks of a folder of pictures, with ceiling and floor."""
    asked, shown, library = questions(), pictures(out), load_library()
    drawings, known = true_drawings(library, asked)
    return {
        "marks": marks(net, shown, asked),
        "ceiling": marks(net, drawings, known),
        "floor": marks(net, shown[1:] + shown[:1], asked)["things"],
        "cleanliness": Cleanliness(library).told(shown),
    }


def main() -> None:
    """Print the marks as JSON, and keep them beside the pictures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.examiner", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--examiner", type=Path, default=FOLDER)
    asked = parser.parse_args()
    text = json.dumps(report(load(asked.examiner), asked.out), indent=1)
    (asked.out / "examiner.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
