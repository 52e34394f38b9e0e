"""What does each lever do for the pictures? One is pulled at a time, on the same prompts and seeds.

    python -m benchmarks.levers make OUT [--only NAME ...]  # pictures of all levers, or of some
    python -m benchmarks.levers compare OUT [--to NAME]     # levers.json, and a sheet to look at

Every fourth of the prompts of `benchmarks.faithful`, two seeds each, draft quality. Each picture is
compared with that of the engine as it ships, or of another lever, same prompt and seed: how likely
the examiner thinks the own prompt (`benchmarks/examiner.py`), by Wilcoxon's signed ranks. With so
many levers a p of .05 comes by chance; it is printed to be read with that in mind.

Three levers want a CLIP that was trained for them:

    python -m training clip --out runs/clip-again
    python -m training clip --out runs/clip-radius --radius 0.75
    python -m training clip --out runs/clip-tower --tower lite1
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from PIL import Image as Picture
from scipy.stats import wilcoxon
from torch import Tensor

from app import pipeline
from app.images import to_pixels
from app.models import Models
from app.planner import settle
from app.request import make_request
from benchmarks import examiner, guides, prior
from benchmarks.faithful import Question, questions
from generators.base import Image
from generators.vqgan import VQGAN
from guidance.clip import Clip, Embedding
from guidance.draft import Draft, Thing, fitting
from guidance.judge import Judge
from training.data import load as load_library
from training.examiner import load
from training.scenes import Studio

EVERY, SEEDS, QUALITY = 4, (7, 8), "draft"
OTHERS = (100, 200, 300)  # what is added to a seed for three more tries
GLANCE = 5  # steps between two looks at a picture on its way
SHOWN = 10  # prompts on the sheet


class Made(NamedTuple):
    """A picture, (1, 3, h, w), and the seconds that it took."""

    picture: Tensor
    seconds: float


Lever = Callable[[str, int, Models], Made]  # prompt, seed, models
Choice = Callable[[str, Models, Sequence[Tensor]], int]  # prompt, models, pictures -> the best


# --- Levers -------------------------------------------------------------------------------------


def steps(prompt: str, seed: int, models: Models, **settings: Any) -> list[Tensor]:
    """Every fifth picture of a run, and the last."""
    request = settle(make_request({"prompt": prompt, "seed": seed, **settings}, QUALITY))
    return [
        step.settled()
        for step in pipeline.run(request, models)
        if step.last or step.index % GLANCE == 0
    ]


def asked(**settings: Any) -> Lever:
    """A request with other settings."""

    def make(prompt: str, seed: int, models: Models) -> Made:
        began = time.perf_counter()
        return Made(steps(prompt, seed, models, **settings)[-1], time.perf_counter() - began)

    return make


def strides(share: float) -> Lever:
    """Steps of another length, as a share of the generator's own."""

    def make(prompt: str, seed: int, models: Models) -> Made:
        length = models.generator("pocket", "float32").step_size
        return asked(step_size=share * length)(prompt, seed, models)

    return make


def best_of_four(choose: Choice) -> Lever:
    """The best of the picture that ships and three more, of other seeds."""

    def make(prompt: str, seed: int, models: Models) -> Made:
        made = _tries(prompt, seed, models)
        chosen = choose(prompt, models, [one.picture for one in made])
        return Made(made[chosen].picture, sum(one.seconds for one in made))

    return make


@lru_cache(1)
def _tries(prompt: str, seed: int, models: Models) -> tuple[Made, ...]:
    return tuple(asked()(prompt, seed + more, models) for more in (0, *OTHERS))


def best_step(choose: Choice) -> Lever:
    """The best picture of a run, not the last."""

    def make(prompt: str, seed: int, models: Models) -> Made:
        began = time.perf_counter()
        pictures = steps(prompt, seed, models)
        return Made(pictures[choose(prompt, models, pictures)], time.perf_counter() - began)

    return make


def by_judge(prompt: str, models: Models, pictures: Sequence[Tensor]) -> int:
    """As the program chooses."""
    chosen = pipeline.best(make_request({"prompt": prompt}), models, pictures)
    assert chosen is not None  # words pull
    return chosen


def by_guide(prompt: str, models: Models, pictures: Sequence[Tensor]) -> int:
    """By who has drawn them."""
    guide = models.clip("pocket")
    seen = torch.cat([pipeline.embed_picture(guide, picture) for picture in pictures])
    return int((seen @ guide.embed_text([prompt])[0]).argmax())


class JudgedDraft(Draft):
    """The same network; which of its drafts the loop begins with, says the judge."""

    def __init__(self, draft: Draft, judge: Judge) -> None:
        """Beside each other."""
        super().__init__(draft.network, space=draft.space)
        self.judge = judge

    def choose(
        self,
        pictures: Image,
        embedding: Embedding,
        clip: Clip,
        seed: int,
        things: Sequence[Thing] | None = None,
    ) -> tuple[int, float]:
        """The best by the judge; how well it fits is still the guide's word: the pull needs it."""
        best = int(self.judge.marks(pictures, embedding).argmax())
        return best, float(fitting(pictures[best : best + 1], embedding, clip))


class Instead:
    """The same models, but for some that are given."""

    def __init__(self, models: Models, **given: Callable[..., Any]) -> None:
        """Around them; ``given`` are methods by their names, as `Models` has them."""
        self._models = models
        vars(self).update(given)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._models, name)


def with_other(models: Models, **given: Callable[..., Any]) -> Models:
    """As `Instead`, for those who want `Models`."""
    return cast(Models, Instead(models, **given))


def judged_draft(prompt: str, seed: int, models: Models) -> Made:
    """Begin with the draft that the judge likes best."""

    def draft(name: str) -> Draft:
        return JudgedDraft(models.draft(name), models.judge(pipeline.JUDGE))

    return asked()(prompt, seed, with_other(models, draft=draft))


def guided(guide: Callable[[Models], Clip], *, alone: bool) -> Lever:
    """Another guide, alone or in an ensemble with the one that ships, half and half."""
    names = (guides.OTHER,) if alone else ("pocket", guides.OTHER)
    by_them = asked(clips=tuple({"name": name} for name in names))

    def make(prompt: str, seed: int, models: Models) -> Made:
        def clip(name: str, precision: str) -> Clip:
            return guide(models) if name == guides.OTHER else models.clip(name, precision)

        return by_them(prompt, seed, with_other(models, clip=clip))

    return make


def likely(share: float) -> Lever:
    """Cells that go a share of the way to what their neighbours lead one to expect, each step."""

    def make(prompt: str, seed: int, models: Models) -> Made:
        def generator(name: str, precision: str) -> prior.Likely:
            vqgan = cast(VQGAN, models.generator(name, precision))
            return prior.Likely(vqgan, _learned(vqgan), share)

        return asked()(prompt, seed, with_other(models, generator=generator))

    return make


@lru_cache(1)
def _learned(vqgan: VQGAN) -> prior.Expected:
    library = load_library().part(lambda picture: not picture.held_out)
    net = prior.Expected(vqgan.width)
    return prior.learn(net, vqgan, Studio(library, prior.SIDE))


SHIPS = "as it ships"
LEVERS: Mapping[str, Lever] = {
    SHIPS: asked(),
    "draft alone, one step": asked(steps=1),
    "no draft": asked(start="flat"),
    "no pull to the draft": asked(regularise={"pull": 0.0}),
    "pull x 3": asked(regularise={"pull": 12.0}),
    "twice the steps": asked(steps=60),
    "three times the views": asked(views=24),
    "no augmentations": asked(augment=(), noise=0.0),
    "coarse to fine": asked(coarse_to_fine=True),
    "averaged (EMA .9)": asked(ema=0.9),
    "steps half as long": strides(0.5),
    "steps twice as long": strides(2.0),
    "steps of one size": asked(schedule="constant"),
    "steps by cosine": asked(schedule="cosine"),
    "smoothness .3": asked(regularise={"smoothness": 0.3}),
    "no letters .3": asked(regularise={"text_off": 0.3}),
    "away from a mean caption": asked(negative="a picture:.3"),
    "plain cosine": asked(distance="cosine"),
    "latent over resolutions": asked(generator="pyramid"),
    "no latent: pixels": asked(generator="pixels"),
    "draft chosen by the judge": judged_draft,
    "best step, by the judge": best_step(by_judge),
    "best step, by the guide": best_step(by_guide),
    "best of four, by the judge": best_of_four(by_judge),
    "best of four, by the guide": best_of_four(by_guide),
    "a plain CLIP beside": guided(guides.plain, alone=False),
    "a plain CLIP alone": guided(guides.plain, alone=True),
    "words moved to pictures": guided(guides.moved, alone=True),
    "a CLIP of the same training": guided(guides.trained("clip-again"), alone=True),
    "a CLIP attacked half as far": guided(guides.trained("clip-radius"), alone=True),
    "a CLIP with a larger tower": guided(guides.trained("clip-tower"), alone=True),
    "a prior over codes, .1": likely(0.1),
    "a prior over codes, .3": likely(0.3),
}


# --- Pictures -----------------------------------------------------------------------------------


def chosen() -> list[Question]:
    """Every fourth prompt: of all groups, about as often as they come."""
    return questions()[::EVERY]


def place(out: Path, lever: str, number: int, seed: int) -> Path:
    """Where a picture lies."""
    return out / f"{list(LEVERS).index(lever):02}" / f"{number:02}-{seed}.png"


def make(out: Path, levers: Sequence[str]) -> None:
    """Make what is not there yet; the levers take turns, so that all see the same machine."""
    models, log = Models(), out / "seconds.jsonl"
    for number, question in enumerate(chosen()):
        for seed in SEEDS:
            for lever in levers:
                path = place(out, lever, number, seed)
                if path.exists():
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                made = LEVERS[lever](question.prompt, seed, models)
                Picture.fromarray(to_pixels(made.picture)).save(path)
                with log.open("a") as file:
                    told = {"lever": lever, "seconds": round(made.seconds, 3)}
                    file.write(json.dumps(told) + "\n")
        print(f"{number:2} {question.prompt}", flush=True)


# --- Marks --------------------------------------------------------------------------------------


def compare(
    out: Path, base: str = SHIPS, folder: Path = examiner.FOLDER
) -> dict[str, dict[str, Any]]:
    """Each lever that was made in full: its marks, and paired with the one called ``base``.

    Raises KeyError when that one was not made.
    """
    net, among = load(folder), questions()
    asked = [question for question in chosen() for _ in SEEDS]
    seconds = _seconds(out / "seconds.jsonl")
    clean = examiner.Cleanliness(load_library())
    found: dict[str, dict[str, Any]] = {}
    likely: dict[str, np.ndarray] = {}
    for lever in LEVERS:
        shown = [place(out, lever, n, seed) for n in range(len(chosen())) for seed in SEEDS]
        if not all(path.exists() for path in shown):
            continue
        near = examiner.rivals(net, shown, asked, among)
        ranks = examiner.places(near)
        likely[lever] = (net.scale() * near).log_softmax(dim=1)[:, 0].numpy()
        found[lever] = {
            "first": f"{int((ranks == 0).sum())}/{len(shown)}",
            "top five": f"{int((ranks < 5).sum())}/{len(shown)}",
            "clean": round(clean.share(shown), 3),
            "seconds": round(float(np.median(seconds[lever])), 2),
        }
    for lever in found.keys() - {base}:
        found[lever] |= paired(likely[lever], likely[base])
    return found


def paired(likely: np.ndarray, base: np.ndarray) -> dict[str, Any]:
    """By how much the likelihood moves (median of pairs, as a logarithm), how often it rises, p."""
    apart = likely - base
    return {
        "moves": round(float(np.median(apart)), 2),
        "better": f"{int((apart > 0).sum())}/{len(apart)}",
        "p": float(f"{wilcoxon(apart).pvalue:.2g}") if apart.any() else 1.0,
    }


def _seconds(log: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for line in log.read_text().splitlines():
        row = json.loads(line)
        found.setdefault(row["lever"], []).append(row["seconds"])
    return found


def draw_sheet(out: Path, levers: Sequence[str], side: int = 96) -> Picture.Image:
    """A row for each lever, a column for each of the first prompts that are spread over all."""
    columns = np.linspace(0, len(chosen()) - 1, SHOWN).round().astype(int)
    sheet = Picture.new("RGB", (side * SHOWN, side * len(levers)), "white")
    for row, lever in enumerate(levers):
        for column, number in enumerate(columns):
            with Picture.open(place(out, lever, int(number), SEEDS[0])) as picture:
                sheet.paste(picture.resize((side, side)), (column * side, row * side))
    return sheet


def main() -> None:
    """Make, or compare."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.levers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("task", choices=["make", "compare"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(LEVERS), default=list(LEVERS))
    parser.add_argument("--to", choices=list(LEVERS), default=SHIPS, help="compared with")
    asked = parser.parse_args()
    if asked.task == "make":
        make(asked.out, asked.only)
        return
    found = compare(asked.out, asked.to)
    (asked.out / "levers.json").write_text(json.dumps(found, indent=1) + "\n")
    draw_sheet(asked.out, list(found)).save(asked.out / "levers.jpg", quality=88)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
