"""What edits come to: measures by kind, ways beside each other, and what others say of them.

Others are a blind reader, and the examiner, a network that shares nothing with those that guide
(`training/examiner.py`).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture
from scipy.stats import wilcoxon

from benchmarks import photographs
from benchmarks.edit_tasks import SETS, Region, Task, article, words
from benchmarks.edit_ways import OURS, WAYS
from benchmarks.faithful import names_it, read
from guidance import instruct

Row = dict[str, Any]
Rows = Mapping[int, Row]

# What is measured of an edit, and whether more of it is better.
MEASURES = {
    "guide": True,
    "examiner": True,
    "hue": False,
    "chroma": False,
    "shading": True,
    "from the ground": False,
    "moved inside": False,
    "moved outside": False,
    "kept outside": True,
    "seconds": False,
}
_MARGIN = 0.15  # around a thing that is shown to the examiner, of its longer side
_TOP_TEN, _NAMED = 10, 5  # a name is gone when it is not among ten; there when it is among five
_MARKS = "marks.json"


def rows(folder: Path) -> dict[int, Row]:
    """What was measured of the edits in a folder, by their numbers; the examiner's marks too."""
    found = {int(p.stem): json.loads(p.read_text()) for p in sorted(folder.glob("[0-9]*.json"))}
    marks = folder / _MARKS
    for number, mark in (json.loads(marks.read_text()) if marks.exists() else {}).items():
        found[int(number)]["examiner"] = mark["gain"]
    return found


def summary(found: Rows) -> dict[str, Any]:
    """Means and counts, of all and by kind."""
    every, by_kind = list(found.values()), defaultdict(list)
    for row in every:
        by_kind[row["kind"]].append(row)
    sought = [row for row in every if "iou" in row]
    told: dict[str, Any] = {
        "region from words": photographs.summary(sought) if sought else None,
        "guide prefers after": _share(row["guide prefers after"] for row in every),
    }
    given = [row["given"] for row in every if "given" in row]
    if given:
        told["outside equal"] = _share(row["outside equal"] for row in given)
    return {**told, **{kind: _of_kind(few) for kind, few in by_kind.items()}}


def _of_kind(few: Sequence[Row]) -> dict[str, Any]:
    seconds = [row["seconds"] for row in few]
    told: dict[str, Any] = {
        "guide prefers after": _share(row["guide prefers after"] for row in few),
        "seconds": [float(np.median(seconds)), max(seconds)],
        "not found by words": sum("refused" in row for row in few),
    }
    for what in ("iou", "best", *MEASURES):
        values = [row[what] for row in few if what in row and what != "seconds"]
        if values:
            told[what] = {
                "mean": round(float(np.mean(values)), 4),
                "median": round(float(np.median(values)), 4),
                "of": len(values),
            }
    given = [row["given"] for row in few if "shading" in row.get("given", {})]
    for name, colours in (("", few), ("given the mask, ", given)):
        if hues := [row["hue"] for row in colours if "hue" in row]:
            told[f"{name}hue within 25"] = _share(hue <= 25 for hue in hues)
        if shades := [row["shading"] for row in colours if "shading" in row]:
            told[f"{name}shading at least .9"] = _share(shade >= 0.9 for shade in shades)
    return told


def _share(values: Iterable[bool]) -> str:
    listed = [bool(value) for value in values]
    return f"{sum(listed)}/{len(listed)}"


# --- ways beside each other -----------------------------------------------------------------------


def compare(by_way: Mapping[str, Rows]) -> dict[str, Any]:
    """Each way beside ours, over the edits that both made: means, and for how many ours is better.

    `p` is that of Wilcoxon's signed ranks, two-sided; None where nothing differs.
    """
    told: dict[str, Any] = {}
    for way, found in by_way.items():
        if way == OURS:
            continue
        both = [(by_way[OURS][number], row) for number, row in found.items()]
        kinds = sorted({row["kind"] for row in found.values()})
        told[way] = {
            "what": WAYS[way].told,
            "all": _paired(both),
            **{kind: _paired([pair for pair in both if pair[0]["kind"] == kind]) for kind in kinds},
        }
    return told


def _paired(both: Sequence[tuple[Row, Row]]) -> dict[str, Any]:
    told = {}
    for what, more in MEASURES.items():
        pairs = [(mine[what], its[what]) for mine, its in both if what in mine and what in its]
        if not pairs:
            continue
        mine, its = np.array(pairs, float).T
        gain = (mine - its) * (1 if more else -1)
        told[what] = {
            "ours": round(float(mine.mean()), 4),
            "its": round(float(its.mean()), 4),
            "ours better": int((gain > 0).sum()),
            "its better": int((gain < 0).sum()),
            "of": len(pairs),
            "p": round(float(wilcoxon(gain).pvalue), 4) if gain.any() else None,
        }
    return told


def table(told: Mapping[str, Any]) -> str:
    """The comparison as Markdown: a row for each way, its mean beside ours on the same edits."""
    shown = [what for what in MEASURES if any(what in way["all"] for way in told.values())]
    lines = [["way", "edits", *shown], ["---", *("--:" for _ in range(len(shown) + 1))]]
    for name, way in told.items():
        count = max((cell["of"] for cell in way["all"].values()), default=0)
        cells = [_cell(way["all"].get(what)) for what in shown]
        lines.append([f"{name}: {way['what']}", str(count), *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    sure = "*" if found["p"] is not None and found["p"] < 0.05 else ""
    return f"{found['its']:.3g} / {found['ours']:.3g}{sure}"


# --- a blind reader -------------------------------------------------------------------------------


def read_answers(folder: Path, answers: Path, name: str) -> dict[str, Any]:
    """How often a blind reader of one set's sheets said what had been asked for, by kind."""
    key = {(row["sheet"], row["cell"]): row["task"] for row in read(folder / "key.json")}
    asked, right = SETS[name](), defaultdict(list)
    for answer in read(answers):
        task = asked[key.pop((answer["sheet"], answer["cell"]))]
        right[task.kind].append(names_it(answer["change"], task.says))
    if key:
        raise SystemExit(f"{len(key)} cells have no answer.")
    every = [one for found in right.values() for one in found]
    return {
        "right": f"{sum(every)}/{len(every)}",
        **{kind: f"{sum(found)}/{len(found)}" for kind, found in right.items()},
    }


# --- the examiner ---------------------------------------------------------------------------------

# Cosines (n, m) of n pictures with m texts.
Nearness = Callable[[Sequence[Picture.Image], Sequence[str]], Any]


def examine(out: Path, names: Sequence[str], examiner: Path) -> dict[str, Any]:
    """Mark all edits in a folder, of every way and set; the marks are kept beside them."""
    from functools import partial

    from benchmarks.examiner import nearness
    from training.examiner import load

    ask, report = partial(nearness, load(examiner)), defaultdict[str, Row](dict)
    for name in names:
        folders = {way: out / way / name for way in WAYS if (out / way / name).is_dir()}
        asked = SETS[name]() if folders else []
        for way, folder in folders.items():
            marks = {number: mark(ask, asked[number], folder, number) for number in rows(folder)}
            (folder / _MARKS).write_text(json.dumps(marks) + "\n")
            report[way][name] = marked(marks)
    (out / "examiner.json").write_text(json.dumps(report, indent=1) + "\n")
    return dict(report)


def mark(ask: Nearness, task: Task, folder: Path, number: int) -> Row:
    """What the examiner says of one edit.

    `done`: whether it finds the words for after nearer than those for before, in the crop of the
    thing where only that changes; of what is to be removed, whether its name is not among the ten
    nearest. `already`: the same of the picture as it was. `gain`: by how much the difference of the
    two cosines grew. `kept`: of others that it named before, whether it still does. `itself`: the
    same of a thing that is to stay what it is, a recoloured one by its name and new colour.
    """
    shown = [Picture.open(folder / f"{number:02}-{what}.png").convert("RGB") for what in _SHOWN]
    where = task.object if task.kind in ("recolour", "replace", "remove") else None
    crops = [_crop(picture, where) for picture in shown]
    before, after = words(task)
    then, now = (float(near[1] - near[0]) for near in ask(crops, [before, after]))
    found: Row = {"kind": task.kind, "gain": round(now - then, 4)}
    if task.kind == "remove":
        ranks = [_rank(ask, crop, task.thing) for crop in crops]
        found |= {"already": ranks[0] >= _TOP_TEN, "done": ranks[1] >= _TOP_TEN}
    else:
        found |= {"already": then > 0, "done": now > 0}
    found["kept"] = [
        _rank(ask, _crop(shown[1], region), name) < _NAMED
        for name, region in task.others
        if _rank(ask, _crop(shown[0], region), name) < _NAMED
    ]
    if task.kind in ("recolour", "add", "weather"):
        coloured = f"{task.how} " if task.kind == "recolour" else ""
        ranks = [
            _rank(ask, _crop(picture, task.object), task.thing, colour)
            for picture, colour in zip(shown, ("", coloured), strict=True)
        ]
        found["itself"] = [ranks[1] < _NAMED] if ranks[0] < _NAMED else []
    return found


_SHOWN = ("before", "after")


def _crop(picture: Picture.Image, where: Region | None) -> Picture.Image:
    """A square around a thing, as far as the picture goes; without a thing all of it."""
    if where is None:
        return picture
    spans = [np.flatnonzero(where.any(axis=axis)) for axis in (1, 0)]
    (top, bottom), (left, right) = ((int(span[0]), int(span[-1]) + 1) for span in spans)
    half = (0.5 + _MARGIN) * max(bottom - top, right - left)
    y, x = (top + bottom) / 2, (left + right) / 2
    box = (max(0, x - half), max(0, y - half))
    return picture.crop((*box, min(picture.width, x + half), min(picture.height, y + half)))


def _rank(ask: Nearness, picture: Picture.Image, name: str, colour: str = "") -> int:
    """How many names of other things, in this colour, are nearer than this one."""
    others = [other for other in instruct.things() if other != name]
    near = ask([picture], [article(colour + other) for other in (name, *others)])[0]
    return int((near > near[0]).sum())


def marked(marks: Mapping[int, Row]) -> dict[str, Any]:
    """Marks by kind, and of all."""
    by_kind: dict[str, list[Row]] = defaultdict(list)
    for row in marks.values():
        by_kind[row["kind"]].append(row)
    every = list(marks.values())
    return {"all": _counted(every), **{kind: _counted(few) for kind, few in by_kind.items()}}


def _counted(few: Sequence[Row]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "done": _share(row["done"] for row in few),
        "before the edit already": _share(row["already"] for row in few),
        "mean gain": round(float(np.mean([row["gain"] for row in few])), 4),
    }
    for what in ("kept", "itself"):
        if asked := [one for row in few for one in row.get(what, [])]:
            told[what] = _share(asked)
    return told
