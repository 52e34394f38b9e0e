"""Do the pictures show what the prompts say? 120 prompts, read by somebody who has not seen them.

    python -m benchmarks.faithful make OUT          # the pictures, what the guide thinks, seconds
    python -m benchmarks.faithful blind OUT         # numbered sheets without prompts, and their key
    python -m benchmarks.faithful score OUT ANSWERS # what a blind reader named rightly

A reader gets the sheets alone and writes one JSON object a line for each cell: `sheet`, `cell`,
`first` and `second` guess, `colour`, `background`, `confidence` (0 to 3). Two real pictures on each
sheet check the reader. The guide's own opinion flatters (it was asked all along): it is printed to
show by how much.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Picture
from PIL import ImageDraw

from app.images import open_picture, to_pixels, to_tensor
from app.models import Models
from app.pipeline import embed_picture, run
from app.planner import settle
from app.request import make_request

HERE = Path(__file__).parent
CELLS, COLUMNS, SIDE, LINE = 20, 5, 192, 20  # of a sheet; sides in pixels
REAL = 2  # real pictures on each sheet


@dataclass(frozen=True)
class Question:
    """A prompt, its group, the names that count as right, and the colour asked for ('' if none)."""

    group: str
    prompt: str
    names: tuple[str, ...]
    colour: str


def questions(path: Path = HERE / "prompts.txt") -> list[Question]:
    """The committed prompts, in order."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    rows = [[part.strip() for part in line.split(";")] for line in lines]
    return [
        Question(group, prompt, tuple(n.strip() for n in names.split(",")), colour)
        for group, prompt, names, colour in rows
    ]


# --- Pictures ---------------------------------------------------------------------------------


def make(out: Path, settings: Mapping[str, Any], quality: str, seed: int) -> None:
    """Make a picture for each prompt; those that lie there already are kept."""
    out.mkdir(parents=True, exist_ok=True)
    models, seconds, report = Models(), {}, out / "report.json"
    asked = {"quality": quality, "settings": dict(settings), "seed": seed}
    if report.exists() and not asked.items() <= json.loads(report.read_text()).items():
        raise SystemExit(f"{out} holds pictures made in another way. Choose another folder.")
    report.write_text(json.dumps(asked))
    for number, question in enumerate(questions()):
        path = out / f"{number:03}.png"
        if path.exists():
            continue
        began = time.perf_counter()
        picture = paint({"prompt": question.prompt, "seed": seed, **settings}, quality, models)
        seconds[number] = time.perf_counter() - began
        picture.save(path)
        print(f"{number:3} {seconds[number]:5.1f} s  {question.prompt}", flush=True)
    found = {**asked, **opinion(out, models)}
    if seconds:
        found["seconds"] = float(np.median(list(seconds.values())))
    report.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def paint(given: Mapping[str, Any], quality: str, models: Models) -> Picture.Image:
    """The picture that a request ends with."""
    for step in run(settle(make_request(given, quality)), models):
        last = step
    return Picture.fromarray(to_pixels(last.settled()))


def pictures(out: Path) -> list[Path]:
    """The pictures of a folder, one for each prompt. Raises SystemExit when some are missing."""
    paths = [out / f"{number:03}.png" for number in range(len(questions()))]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise SystemExit(f"{out} lacks {', '.join(missing[:5])}. Make them first.")
    return paths


def opinion(out: Path, models: Models) -> dict[str, Any]:
    """How often the guide itself puts the own prompt first, or among five, of all; by group."""
    guide, asked = models.clip("pocket"), questions()
    seen = torch.cat([embed_picture(guide, to_tensor(open_picture(p))) for p in pictures(out)])
    scores = seen @ guide.embed_text([q.prompt for q in asked]).T
    rank = (scores > scores.diagonal()[:, None]).sum(dim=1).tolist()
    by_group: dict[str, list[int]] = defaultdict(list)
    for question, place in zip(asked, rank, strict=True):
        by_group[question.group].append(place)
    return {
        "guide first": sum(place == 0 for place in rank),
        "guide top five": sum(place < 5 for place in rank),
        "guide first by group": {
            group: f"{sum(p == 0 for p in places)}/{len(places)}"
            for group, places in by_group.items()
        },
    }


# --- Sheets for a blind reader ------------------------------------------------------------------


def blind(out: Path, real: Sequence[tuple[str, Picture.Image]], seed: int = 5) -> None:
    """Write sheet-NN.png, shuffled and without prompts, and key.json, which the reader never sees.

    `real`: names and pictures of true drawings; two are mixed into each sheet.
    """
    made = [(str(n), Picture.open(path)) for n, path in enumerate(pictures(out))]
    chance = np.random.default_rng(seed)
    order = [made[i] for i in chance.permutation(len(made))]
    share, key = CELLS - REAL, []
    for sheet, start in enumerate(range(0, len(order), share)):
        cells = order[start : start + share]
        cells += [(f"real {name}", image) for name, image in real[REAL * sheet :][:REAL]]
        cells = [cells[i] for i in chance.permutation(len(cells))]
        draw_sheet([image for _, image in cells]).save(out / f"sheet-{sheet:02}.png")
        key += [
            {"sheet": sheet, "cell": cell, "shows": shows} for cell, (shows, _) in enumerate(cells)
        ]
    (out / "key.json").write_text(json.dumps(key, indent=0) + "\n")
    print(f"{len(key)} cells on {sheet + 1} sheets in {out}")


def draw_sheet(images: Iterable[Picture.Image]) -> Picture.Image:
    """Numbered cells in rows of five."""
    images = list(images)
    rows = -(-len(images) // COLUMNS)
    sheet = Picture.new("RGB", (COLUMNS * SIDE, rows * (SIDE + LINE)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, image in enumerate(images):
        left, top = number % COLUMNS * SIDE, number // COLUMNS * (SIDE + LINE)
        sheet.paste(image.convert("RGB").resize((SIDE, SIDE)), (left, top + LINE))
        pen.text((left + 4, top + 4), str(number), fill="black")
    return sheet


def real_pictures(count: int, seed: int = 3) -> list[tuple[str, Picture.Image]]:
    """Held-out drawings on white from the trainings' cache, as a check of the reader."""
    from training.data import load  # the cache is there where the models are trained

    library = load()
    rows = [i for i, p in enumerate(library.pictures) if p.source == "fxemoji" and p.group]
    chosen = np.random.default_rng(seed).permutation(rows)[:count]
    found = []
    for i in chosen:
        drawing = Picture.fromarray(library.rgba[i])
        ground = Picture.new("RGBA", drawing.size, "white")
        found.append((library.pictures[i].name, Picture.alpha_composite(ground, drawing)))
    return found


# --- Scores -----------------------------------------------------------------------------------


def score(out: Path, answers: Path) -> dict[str, Any]:
    """Compare the answers with the key: objects and scenes apart, the reader's check beside."""
    key = {(row["sheet"], row["cell"]): row["shows"] for row in read(out / "key.json")}
    asked, found, checks = questions(), defaultdict(list), []
    for answer in read(answers):
        shows = key.pop((answer["sheet"], answer["cell"]))
        if shows.startswith("real "):
            names = (shows.removeprefix("real "), shows.split()[-1])
            checks.append(names_it(answer["first"], names) or names_it(answer["second"], names))
            continue
        question = asked[int(shows)]
        first = names_it(answer["first"], question.names)
        found[question.group].append(
            {
                "first": first,
                "either": first or names_it(answer["second"], question.names),
                "confident": first and answer["confidence"] >= 2,
                "colour": names_it(answer["colour"], (question.colour,))
                if question.colour
                else None,
            }
        )
    if key:
        raise SystemExit(f"{len(key)} cells have no answer.")
    objects = [row for group, rows in found.items() if group != "scene" for row in rows]
    return {
        "objects": tally(objects),
        "scenes": tally(found["scene"]),
        "by group": {group: tally(rows) for group, rows in found.items()},
        "real pictures named": f"{sum(checks)}/{len(checks)}",
    }


def names_it(guess: str, names: Iterable[str]) -> bool:
    """Whether a guess holds one of the names as whole words, singular or plural."""
    words = f" {' '.join(re.findall(r'[a-z0-9]+', guess.lower().replace('-', ' ')))} "
    return any(
        f" {form} " in words
        for name in names
        for form in (name.replace("-", " "), f"{name}s", f"{name}es")
    )


def tally(rows: Sequence[Mapping[str, bool | None]]) -> dict[str, str]:
    """Right answers of all that were asked."""
    told = {}
    for what in ("first", "either", "confident", "colour"):
        asked = [row[what] for row in rows if row[what] is not None]
        told[what] = f"{sum(map(bool, asked))}/{len(asked)}"
    return told


def read(path: Path) -> list[dict[str, Any]]:
    """A JSON list, or one JSON object a line."""
    text = path.read_text()
    if text.lstrip().startswith("["):
        return json.loads(text)
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def setting(typed: str) -> tuple[str, Any]:
    """`steps=40` or `start=flat` as a field of a request and its value."""
    field, _, value = typed.partition("=")
    try:
        return field, json.loads(value)
    except ValueError:
        return field, value


def main() -> None:
    """One of the three."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faithful", description=__doc__)
    parser.add_argument("task", choices=["make", "blind", "score"])
    parser.add_argument("out", type=Path)
    parser.add_argument("answers", type=Path, nargs="?")
    parser.add_argument("--quality", default="normal")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    asked = parser.parse_args()
    if asked.task == "make":
        settings = dict(setting(pair) for pair in asked.set)
        make(asked.out, settings, asked.quality, asked.seed)
    elif asked.task == "blind":
        blind(asked.out, real_pictures(2 * REAL * CELLS))
    elif asked.answers is None:
        parser.error("score needs the file of answers")
    else:
        print(json.dumps(score(asked.out, asked.answers), indent=1))


if __name__ == "__main__":
    main()
