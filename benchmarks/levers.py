"""What does each lever do for the pictures? One is pulled at a time, on the same prompts and seeds.

    python -m benchmarks.levers make OUT [--only NAME ...]  # pictures of all levers, or of some
    python -m benchmarks.levers compare OUT                 # levers.json, and a sheet to look at

Every fourth of the prompts of `benchmarks.faithful`, two seeds each, draft quality. Each picture is
compared with that of the engine as it ships, same prompt and seed: how likely the examiner thinks
the own prompt (`benchmarks/examiner.py`), by Wilcoxon's signed ranks. With so many levers a p of
.05 comes by chance; it is printed to be read with that in mind.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture
from scipy.stats import wilcoxon

from app.models import Models
from benchmarks import examiner
from benchmarks.faithful import Question, paint, questions
from training.data import load as load_library
from training.examiner import load

SHIPS = "as it ships"
# Fields of a request; what is not named is as it ships.
LEVERS: dict[str, dict[str, Any]] = {
    SHIPS: {},
    "draft alone, one step": {"steps": 1},
    "no draft": {"start": "flat"},
    "no pull to the draft": {"regularise": {"pull": 0.0}},
    "pull x 3": {"regularise": {"pull": 12.0}},
    "twice the steps": {"steps": 60},
    "three times the views": {"views": 24},
    "no augmentations": {"augment": (), "noise": 0.0},
    "coarse to fine": {"coarse_to_fine": True},
    "averaged (EMA .9)": {"ema": 0.9},
    "steps of one size": {"schedule": "constant"},
    "steps by cosine": {"schedule": "cosine"},
    "smoothness .3": {"regularise": {"smoothness": 0.3}},
    "no letters .3": {"regularise": {"text_off": 0.3}},
    "away from a mean caption": {"negative": "a picture:.3"},
    "plain cosine": {"distance": "cosine"},
    "latent over resolutions": {"generator": "pyramid"},
    "no latent: pixels": {"generator": "pixels"},
}
EVERY, SEEDS, QUALITY = 4, (7, 8), "draft"
SHOWN = 10  # prompts on the sheet


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
                began = time.perf_counter()
                given = {"prompt": question.prompt, "seed": seed, **LEVERS[lever]}
                picture = paint(given, QUALITY, models)
                told = {"lever": lever, "seconds": round(time.perf_counter() - began, 3)}
                picture.save(path)
                with log.open("a") as file:
                    file.write(json.dumps(told) + "\n")
        print(f"{number:2} {question.prompt}", flush=True)


def compare(out: Path, folder: Path = examiner.FOLDER) -> dict[str, Any]:
    """Each lever that was made in full: its marks, and paired with the engine as it ships."""
    net, among = load(folder), questions()
    asked = [question for question in chosen() for _ in SEEDS]
    seconds = _seconds(out / "seconds.jsonl")
    clean = examiner.Cleanliness(load_library())
    found: dict[str, Any] = {}
    base = np.zeros(0)
    for lever in LEVERS:
        shown = [place(out, lever, n, seed) for n in range(len(chosen())) for seed in SEEDS]
        if not all(path.exists() for path in shown):
            continue
        near = examiner.rivals(net, shown, asked, among)
        ranks = (near[:, 1:] > near[:, :1]).sum(dim=1)
        likely = examiner.likelihoods(net, shown, asked, among).numpy()
        base = likely if lever == SHIPS else base
        found[lever] = {
            "first": f"{int((ranks == 0).sum())}/{len(shown)}",
            "top five": f"{int((ranks < 5).sum())}/{len(shown)}",
            "clean": round(clean.share(shown), 3),
            "seconds": round(float(np.median(seconds[lever])), 2),
            **({} if lever == SHIPS else paired(likely, base)),
        }
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
    asked = parser.parse_args()
    if asked.task == "make":
        make(asked.out, asked.only)
        return
    found = compare(asked.out)
    (asked.out / "levers.json").write_text(json.dumps(found, indent=1) + "\n")
    draw_sheet(asked.out, list(found)).save(asked.out / "levers.jpg", quality=88)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
