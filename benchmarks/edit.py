"""Does an edit do what was asked, and nothing else? 20 in photographs, 80 in composed scenes.

    python -m benchmarks.edit make OUT          # the edits, measures as JSON, sheets to look at
    python -m benchmarks.edit regions OUT       # only where words find their thing: minutes
    python -m benchmarks.edit score OUT ANSWERS --of scenes # what a blind reader said had changed

Photographs (`benchmarks/photographs.py`) come first and are never averaged with scenes. The scenes
are composed of objects that no training of the models in weights/ has shown, on grounds, in
settings and before photographs; they need the trainings' cache (`python -m training data`). A
reader sees before and after, never the instruction, and writes one JSON object a line: `sheet`,
`cell`, `change` (a few words). The guide's own opinion flatters: it steered.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw, ImageOps

from app import editing, planner
from app.images import Canonical, Pixels, to_tensor
from app.models import Models
from app.pipeline import embed_picture
from benchmarks import photographs
from benchmarks.faithful import names_it, read
from guidance.instruct import COLOURS, understand
from guidance.styles import STYLES, WEATHERS

SIDE = 256  # pixels of a scene
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
    """A picture, what to do with it, where its object is, and words that say what has changed."""

    kind: str
    instruction: str
    thing: str  # the object's name
    pixels: Pixels
    object: NDArray[np.bool_]
    says: tuple[str, ...]
    how: str = ""


def outlined() -> list[Task]:
    """The edits of photographs. Raises `Refused` when one is missing."""
    return [
        Task(t.kind, t.instruction, t.thing, t.pixels, t.object, says, t.how)
        for t in photographs.load()
        for says in [SYNONYMS.get(t.how or t.kind, (t.how,))]
    ]


def tasks(seed: int = 11) -> list[Task]:
    """The 80 edits of scenes, always the same."""
    from training.data import load  # the cache is there where the models are trained
    from training.scenes import Studio

    library, rng = load(), np.random.default_rng(seed)
    studio = Studio(library, SIDE, variants=2)
    groups = ("animals", "food", "travel", "objects")
    held = [
        i
        for i, p in enumerate(library.pictures)
        if p.held_out and p.group in groups and len(p.name.split()) == 1
    ]
    kinds = [kind for kind, count in SHARES.items() for _ in range(count)]
    return [_task(kind, n, int(rng.choice(held)), studio, rng) for n, kind in enumerate(kinds)]


def _task(kind: str, number: int, row: int, studio: Any, rng: Generator) -> Task:
    name = studio.library.pictures[row].name
    pixels, where = _scene(row, number, studio, rng)
    tone = studio.tone[row] * 255
    if kind == "recolour":
        far = [c for c in PAINTS if np.abs(np.array(COLOURS[c]) - tone).max() > 90]
        colour = str(rng.choice(far))
        return Task(kind, f"make the {name} {colour}", name, pixels, where, (colour,), colour)
    if kind == "replace":
        other = str(rng.choice([thing for thing in THINGS if thing != name]))
        words = f"replace the {name} with a {other}"
        return Task(kind, words, name, pixels, where, (other,), other)
    if kind == "add":
        other = ADDED[number % len(ADDED)]
        return Task(kind, f"add a {other}", name, pixels, where, (other,), other)
    if kind == "remove":
        return Task(kind, f"remove the {name}", name, pixels, where, SYNONYMS["remove"])
    words_of = STYLE_WORDS if kind == "restyle" else WEATHER_WORDS
    how = list(STYLES if kind == "restyle" else WEATHERS)[number % len(words_of)]
    return Task(kind, words_of[how], name, pixels, where, SYNONYMS[how], how)


def _scene(row: int, number: int, studio: Any, rng: Generator) -> tuple[Pixels, Any]:
    """An object on a ground, in a setting or before a photograph, and where it is."""
    from training.scenes import choose, other_colour, paste, photograph, rgb, solid
    from training.settings import SETTINGS

    grounds = (
        lambda: solid(SIDE, rgb(*COLOURS[other_colour(rng, studio.tone[row])])),
        lambda: choose(rng, studio.settings[choose(rng, list(SETTINGS))]),
        lambda: photograph(rng, studio),
    )
    ground, cutout = grounds[number % 3](), studio.cutout(row)
    side, centre = rng.uniform(0.45, 0.65), (rng.uniform(0.38, 0.62), rng.uniform(0.42, 0.6))
    white = Picture.merge("RGBA", [Picture.new("L", cutout.size, 255)] * 3 + [cutout.split()[3]])
    where = paste(np.zeros((SIDE, SIDE, 3), np.float32), white, side, centre)[..., 0] > 0.5
    scene = paste(ground, cutout, side, centre)
    return (scene.clip(0, 1) * 255).round().astype(np.uint8), where


# --- measures -------------------------------------------------------------------------------------


def make(out: Path, names: Sequence[str], quality: str, strength: float) -> None:
    """Carry the edits out and measure them; those that lie there already are kept."""
    models = Models()
    report: dict[str, Any] = {"quality": quality, "strength": strength}
    for name in names:
        report[name] = _make(out / name, SETS[name](), models, quality, strength)
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def _make(
    out: Path, asked: Sequence[Task], models: Models, quality: str, strength: float
) -> dict[str, Any]:
    """The edits of one set."""
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, task in enumerate(asked):
        place = out / f"{number:02}.json"
        if not place.exists():
            place.write_text(json.dumps(_edit(task, number, out, models, quality, strength)))
        rows.append(json.loads(place.read_text()))
        print(number, task.instruction, rows[-1], flush=True)
    _sheets(out, asked, rows)
    return summary(rows)


def regions(out: Path, names: Sequence[str]) -> dict[str, Any]:
    """Where words find the thing that an instruction names, against where it is."""
    clip, report = Models().clip("pocket", "float32"), {}
    for name in names:
        rows = []
        for task in SETS[name]():
            if understand(task.instruction).region:
                found = photographs.measure(task.pixels, task.object, task.instruction, clip)
                rows.append({"instruction": task.instruction, **found})
                print(rows[-1], flush=True)
        report[name] = {**photographs.summary(rows), "each": rows}
    out.mkdir(parents=True, exist_ok=True)
    (out / "regions.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def _edit(
    task: Task, number: int, out: Path, models: Models, quality: str, strength: float
) -> dict[str, Any]:
    """One edit: found by words (for the picture), and with its mask given (for the promise)."""
    clip, picture = models.clip("pocket", "float32"), Canonical(task.pixels)
    row: dict[str, Any] = {"kind": task.kind}
    began = time.perf_counter()
    proposal = _propose(task, picture, clip, row)
    changed = _carry_out(proposal, models, quality, strength)
    row["seconds"] = round(time.perf_counter() - began, 2)
    place = proposal.overlay()
    if understand(task.instruction).region:
        seen, is_sure = photographs.seek(task.pixels, task.instruction, clip)
        row |= photographs.judge(seen, is_sure, task.object)
        place = photographs.draw(task.pixels, task.object, seen)
    Picture.fromarray(task.pixels).save(out / f"{number:02}-before.png")
    Picture.fromarray(place).save(out / f"{number:02}-place.png")
    Picture.fromarray(changed).save(out / f"{number:02}-after.png")
    mask = task.object.astype(np.uint8) * 255
    given = editing.propose(picture, "scene", task.instruction, clip, mask=mask)
    kept = _carry_out(given, models, quality, strength)
    row["outside equal"] = bool(np.array_equal(kept[~task.object], task.pixels[~task.object]))
    row |= _opinion(task, changed, clip)
    if task.kind == "recolour":
        row |= _colours(task, kept)
    return row


def _propose(task: Task, picture: Canonical, clip: Any, row: dict[str, Any]) -> editing.Proposal:
    """By words; where those find nothing, with the mask, and that is noted."""
    try:
        return editing.propose(picture, "scene", task.instruction, clip)
    except editing.Refused as refused:
        row["refused"] = refused.code
        mask = task.object.astype(np.uint8) * 255
        return editing.propose(picture, "scene", task.instruction, clip, mask=mask)


def _carry_out(proposal: editing.Proposal, models: Models, quality: str, strength: float) -> Pixels:
    asked = editing.order(proposal, strength, quality, seed=7)
    request = planner.settle(asked.requests[0])
    for made in planner.make(request, models, asked.inputs):
        last = made
    return last.pixels()


def _opinion(task: Task, changed: Pixels, clip: Any) -> dict[str, Any]:
    """Whether the guide finds the words for after better than those for before."""
    before, after = (
        f"a {task.thing}",
        {
            "recolour": f"a {task.how} {task.thing}",
            "replace": f"a {task.how}",
            "add": f"a {task.thing} and a {task.how}",
            "remove": "a plain background",
            "restyle": editing._prompt(editing.instruct.understand(task.instruction, task.thing)),
            "weather": editing._prompt(editing.instruct.understand(task.instruction, task.thing)),
        }[task.kind],
    )
    seen = embed_picture(clip, to_tensor(changed))
    then, now = (seen @ clip.embed_text([before, after]).T)[0].tolist()
    return {"guide prefers after": now > then}


def _colours(task: Task, changed: Pixels) -> dict[str, Any]:
    """Hue's distance from the goal in degrees, and how the shading correlates with the old."""
    old, new = (
        cv2.cvtColor(p.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for p in (task.pixels, changed)
    )
    core = cv2.erode(task.object.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    goal = np.array([[COLOURS[task.how]]], np.uint8).astype(np.float32) / 255
    goal = cv2.cvtColor(goal, cv2.COLOR_RGB2LAB)[0, 0]
    mean = new[core][:, 1:].mean(axis=0)
    angle = np.degrees(np.arctan2(*mean[::-1]) - np.arctan2(*goal[:0:-1]))
    neutral = np.hypot(*goal[1:]) < 10
    apart = float(np.hypot(*mean)) if neutral else float(abs((angle + 180) % 360 - 180))
    likeness = float(np.corrcoef(old[core][:, 0], new[core][:, 0])[0, 1])
    return {("chroma" if neutral else "hue"): round(apart, 1), "shading": round(likeness, 3)}


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Bars by kind."""
    by_kind: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_kind[row["kind"]].append(row)
    told: dict[str, Any] = {
        "region from words": photographs.summary([row for row in rows if "iou" in row]),
        "outside equal": _share(rows, "outside equal"),
        "guide prefers after": _share(rows, "guide prefers after"),
    }
    for kind, few in by_kind.items():
        seconds = [row["seconds"] for row in few]
        told[kind] = {
            "guide prefers after": _share(few, "guide prefers after"),
            "seconds": [float(np.median(seconds)), max(seconds)],
            "not found by words": sum("refused" in row for row in few),
        }
        for what in ("iou", "best", "hue", "chroma", "shading"):
            found = [row[what] for row in few if what in row]
            if found:
                told[kind][what] = {
                    "mean": round(float(np.mean(found)), 3),
                    "median": float(np.median(found)),
                    "of": len(found),
                }
        if kind == "recolour":
            hues = [row["hue"] for row in few if "hue" in row]
            told[kind]["hue within 25"] = f"{sum(h <= 25 for h in hues)}/{len(hues)}"
            told[kind]["shading at least .9"] = _share(
                [{"good": row["shading"] >= 0.9} for row in few], "good"
            )
    return told


def _share(rows: Sequence[Mapping[str, Any]], what: str) -> str:
    return f"{sum(bool(row[what]) for row in rows)}/{len(rows)}"


# --- sheets ---------------------------------------------------------------------------------------

_CELL, _COLUMNS, _ROWS, _LINE = 160, 4, 5, 18


def _sheets(
    out: Path, asked: Sequence[Task], rows: Sequence[Mapping[str, Any]], seed: int = 5
) -> None:
    """Shuffled, without instructions; the key; and a sheet with all, and the IoU or "by hand"."""
    order = np.random.default_rng(seed).permutation(len(asked)).tolist()
    share, key = _COLUMNS * _ROWS, []
    for sheet, start in enumerate(range(0, len(order), share)):
        cells = order[start : start + share]
        _draw([(n, str(i)) for i, n in enumerate(cells)], out, ("before", "after")).save(
            out / f"sheet-{sheet}.png"
        )
        key += [{"sheet": sheet, "cell": i, "task": n} for i, n in enumerate(cells)]
    (out / "key.json").write_text(json.dumps(key) + "\n")
    told = []
    for number, (task, row) in enumerate(zip(asked, rows, strict=True)):
        place = "by hand" if "refused" in row else row.get("iou", "everywhere")
        told.append((number, f"{task.instruction} ({place})"))
    _draw(told, out, ("before", "place", "after")).save(out / "all.png")


def _draw(cells: Sequence[tuple[int, str]], out: Path, shown: Sequence[str]) -> Picture.Image:
    width = _CELL * len(shown) + 8
    rows = -(-len(cells) // _COLUMNS)
    sheet = Picture.new("RGB", (_COLUMNS * width, rows * (_CELL + _LINE)), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (number, text) in enumerate(cells):
        left, top = place % _COLUMNS * width, place // _COLUMNS * (_CELL + _LINE)
        pen.text((left + 4, top + 3), text, fill="black")
        for column, what in enumerate(shown):
            picture = Picture.open(out / f"{number:02}-{what}.png")
            whole = ImageOps.pad(picture, (_CELL, _CELL), color="white")
            sheet.paste(whole, (left + column * _CELL, top + _LINE))
    return sheet


def score(out: Path, answers: Path, name: str) -> dict[str, Any]:
    """How often a blind reader of one set's sheets said what had been asked for, by kind."""
    key = {(row["sheet"], row["cell"]): row["task"] for row in read(out / name / "key.json")}
    asked, right = SETS[name](), defaultdict(list)
    for answer in read(answers):
        task = asked[key.pop((answer["sheet"], answer["cell"]))]
        right[task.kind].append(names_it(answer["change"], task.says))
    if key:
        raise SystemExit(f"{len(key)} cells have no answer.")
    every = [one for rows in right.values() for one in rows]
    return {
        "right": f"{sum(every)}/{len(every)}",
        **{kind: f"{sum(rows)}/{len(rows)}" for kind, rows in right.items()},
    }


# In the order in which they are reported.
SETS: dict[str, Callable[[], list[Task]]] = {"photographs": outlined, "scenes": tasks}


def main() -> None:
    """One of the three."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.edit", description=__doc__)
    parser.add_argument("task", choices=["make", "regions", "score"])
    parser.add_argument("out", type=Path)
    parser.add_argument("answers", type=Path, nargs="?")
    parser.add_argument("--of", choices=SETS, help="one of the sets; without it both, one by one")
    parser.add_argument("--quality", default="normal")
    parser.add_argument("--strength", type=float, default=0.8)
    asked = parser.parse_args()
    names = [asked.of] if asked.of else list(SETS)
    if asked.task == "make":
        make(asked.out, names, asked.quality, asked.strength)
    elif asked.task == "regions":
        print(json.dumps(regions(asked.out, names), indent=1))
    elif asked.answers is None or asked.of is None:
        parser.error("score needs the file of answers, and --of: whose sheets were read")
    else:
        print(json.dumps(score(asked.out, asked.answers, asked.of), indent=1))


if __name__ == "__main__":
    main()
