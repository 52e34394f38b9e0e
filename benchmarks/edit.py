"""Does an edit do what was asked, and nothing else? 20 in photographs, 104 in composed scenes.

    python -m benchmarks.edit make OUT              # the edits, measures as JSON, sheets to look at
    python -m benchmarks.edit make OUT --way plain  # the same in the way of the predecessors
    python -m benchmarks.edit make OUT --of scenes --few 4 --way ours --way retouch-only  # paired
    python -m benchmarks.edit compare OUT           # all ways in OUT side by side, a sheet
    python -m benchmarks.edit regions OUT             # only where words find their thing: minutes
    python -m benchmarks.edit score OUT --answers FILE --of scenes  # what a blind reader said
    python -m benchmarks.edit score OUT --examiner FOLDER  # marks of a network that never guided

Photographs (`benchmarks/photographs.py`) come first and are never averaged with scenes. A reader
sees before and after, never the instruction, and writes one JSON object a line: `sheet`, `cell`,
`change` (a few words). The guide's own opinion flatters: it steered.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageOps

from app import editing
from app.images import Canonical
from app.models import Models
from benchmarks import edit_score, photographs
from benchmarks.edit_measures import colours, measure, opinion
from benchmarks.edit_tasks import SETS, Task, words
from benchmarks.edit_ways import OURS, WAYS, Order
from guidance.clip import Clip
from guidance.instruct import understand

Row = dict[str, Any]
_RIGHT = 0.5  # intersection over union from which a person who is asked says yes


def make(
    out: Path, names: Sequence[str], ways: Sequence[str], few: int | None, **how: Any
) -> dict[str, Any]:
    """Carry edits out, each in all ways, and measure them; those that lie there already are kept.

    `few`: so many of each kind only, and no second run with the mask given. `how`: quality,
    strength and seed.
    """
    models, report = Models(), {way: dict(how) for way in ways}
    for name in names:
        asked = first(SETS[name](), few)
        for number, task in asked.items():
            _carry_out(out, name, number, task, models, ways, few is None, how)
        for way in ways:
            rows = edit_score.rows(out / way / name)
            report[way][name] = edit_score.summary(rows)
            _sheets(out / way / name, asked, rows)
    for way, told in report.items():
        (out / way / "report.json").write_text(json.dumps(told, indent=1) + "\n")
    return report


def first(tasks: Sequence[Task], few: int | None) -> dict[int, Task]:
    """The first so many of each kind, or all, by their numbers."""
    kinds = [task.kind for task in tasks]
    return {
        number: task
        for number, task in enumerate(tasks)
        if few is None or kinds[:number].count(task.kind) < few
    }


def _carry_out(
    out: Path,
    name: str,
    number: int,
    task: Task,
    models: Models,
    ways: Sequence[str],
    promised: bool,
    how: Mapping[str, Any],
) -> None:
    """One edit in all ways that have not made it yet; the place is sought once."""
    open_ = [way for way in ways if not (out / way / name / f"{number:02}.json").exists()]
    open_ = [way for way in open_ if task.kind in WAYS[way].kinds]
    if not open_:
        return
    clip, row = models.clip("pocket", "float32"), Row(kind=task.kind, instruction=task.instruction)
    seen = None
    if understand(task.instruction).region:
        seen, said = photographs.seek(task.pixels, task.instruction, clip)
        row |= photographs.judge(seen, said, task.object)
    began = time.perf_counter()
    proposal = _propose(task, clip, row)
    row["seconds to look"] = round(time.perf_counter() - began, 2)
    shown = proposal.overlay()
    if seen is not None:
        shown = photographs.draw(task.pixels, task.object, seen)
    for way in open_:
        folder = out / way / name
        folder.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        changed = WAYS[way](Order(proposal, words(task)[1], **how), models)
        made = {**row, "seconds": round(time.perf_counter() - began, 2)}
        made |= measure(task, changed, proposal.mask > 0) | opinion(task, changed, clip)
        if promised and way == OURS:
            made |= {"given": _promise(task, models, how)}
        for what, pixels in (("before", task.pixels), ("place", shown), ("after", changed)):
            Picture.fromarray(pixels).save(folder / f"{number:02}-{what}.png")
        (folder / f"{number:02}.json").write_text(json.dumps(made))
        print(way, name, number, made, flush=True)


def _propose(task: Task, clip: Clip, row: Row) -> editing.Proposal:
    """By words; where those find nothing, or a wrong place that is asked about, with the mask."""
    try:
        picture = Canonical(task.pixels)
        proposal = editing.propose(picture, "scene", task.instruction, clip, ask=True)
    except editing.Refused as refused:
        row["refused"] = refused.code
        return _given(task, clip)
    if proposal.doubt and row["iou"] < _RIGHT:
        row["refused"] = "by the person"
        return _given(task, clip)
    return proposal


def _given(task: Task, clip: Clip) -> editing.Proposal:
    """With the true place as the mask."""
    mask = task.object.astype(np.uint8) * 255
    return editing.propose(Canonical(task.pixels), "scene", task.instruction, clip, mask=mask)


def _promise(task: Task, models: Models, how: Mapping[str, Any]) -> Row:
    """With the mask given: whether not a bit differs outside; colours."""
    given = _given(task, models.clip("pocket", "float32"))
    kept = WAYS[OURS](Order(given, words(task)[1], **how), models)
    equal = np.array_equal(kept[~task.object], task.pixels[~task.object])
    return {"outside equal": equal} | (colours(task, kept) if task.kind == "recolour" else {})


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


# --- sheets ---------------------------------------------------------------------------------------

_CELL, _COLUMNS, _ROWS, _LINE = 160, 4, 5, 18
Shown = tuple[str, Sequence[Path]]  # a line of text, and pictures


def _sheets(out: Path, asked: Mapping[int, Task], rows: Mapping[int, Row], seed: int = 5) -> None:
    """Shuffled, without instructions; the key; and a sheet with all, and the IoU or "by hand"."""
    numbers = sorted(rows)
    order = [numbers[i] for i in np.random.default_rng(seed).permutation(len(numbers))]
    share, key = _COLUMNS * _ROWS, []
    for sheet, start in enumerate(range(0, len(order), share)):
        cells = order[start : start + share]
        _draw(
            (str(i), [out / f"{n:02}-{what}.png" for what in ("before", "after")])
            for i, n in enumerate(cells)
        ).save(out / f"sheet-{sheet}.png")
        key += [{"sheet": sheet, "cell": i, "task": n} for i, n in enumerate(cells)]
    (out / "key.json").write_text(json.dumps(key) + "\n")
    told = []
    for number in numbers:
        place = "by hand" if "refused" in rows[number] else rows[number].get("iou", "everywhere")
        shown = [out / f"{number:02}-{what}.png" for what in ("before", "place", "after")]
        told.append((f"{asked[number].instruction} ({place})", shown))
    _draw(told).save(out / "all.png")


def _draw(cells: Iterable[Shown]) -> Picture.Image:
    """Rows of pictures beside each other, their texts above them."""
    cells = list(cells)
    width = _CELL * max(len(shown) for _, shown in cells) + 8
    columns = max(1, min(_COLUMNS, 2000 // width))
    rows = -(-len(cells) // columns)
    sheet = Picture.new("RGB", (columns * width, rows * (_CELL + _LINE)), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (text, shown) in enumerate(cells):
        left, top = place % columns * width, place // columns * (_CELL + _LINE)
        pen.text((left + 4, top + 3), text, fill="black")
        for column, path in enumerate(shown):
            whole = ImageOps.pad(Picture.open(path), (_CELL, _CELL), color="white")
            sheet.paste(whole, (left + column * _CELL, top + _LINE))
    return sheet


def compare(out: Path, name: str) -> dict[str, Any]:
    """All ways that lie in a folder, each beside ours, edit by edit; and a sheet of them."""
    ways = [way for way in WAYS if (out / way / name).is_dir()]
    rows = {way: edit_score.rows(out / way / name) for way in ways}
    told = edit_score.compare(rows)
    (out / f"compare-{name}.json").write_text(json.dumps(told, indent=1) + "\n")
    (out / f"compare-{name}.md").write_text(edit_score.table(told))
    cells = []
    for number, row in rows[OURS].items():
        shown = [out / way / name / f"{number:02}-after.png" for way in ways]
        before = out / OURS / name / f"{number:02}-before.png"
        cells.append((row["instruction"], [before, *(path for path in shown if path.exists())]))
    _draw([(f"before, {', '.join(ways)}: {cells[0][0]}", cells[0][1]), *cells[1:]]).save(
        out / f"compare-{name}.png"
    )
    return told


def main() -> None:
    """One of the four."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.edit", description=__doc__)
    parser.add_argument("task", choices=["make", "compare", "regions", "score"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--of", choices=SETS, help="one of the sets; without it all, one by one")
    parser.add_argument("--way", choices=WAYS, action="append", help="may be given several times")
    parser.add_argument("--few", type=int, help="so many edits of each kind only")
    parser.add_argument("--quality", default="normal")
    parser.add_argument("--strength", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--answers", type=Path, help="of a blind reader of the sheets")
    parser.add_argument("--examiner", type=Path, help="the folder of an exported examiner")
    asked = parser.parse_args()
    names, ways = [asked.of] if asked.of else list(SETS), asked.way or [OURS]
    how = {"quality": asked.quality, "strength": asked.strength, "seed": asked.seed}
    told: Any
    if asked.task == "make":
        told = make(asked.out, names, ways, asked.few, **how)
    elif asked.task == "regions":
        told = regions(asked.out, names)
    elif asked.task == "compare":
        told = {
            name: compare(asked.out, name) for name in names if (asked.out / OURS / name).is_dir()
        }
    elif asked.examiner:
        told = edit_score.examine(asked.out, names, asked.examiner)
    elif asked.answers and asked.of:
        told = edit_score.read_answers(asked.out / ways[0] / asked.of, asked.answers, asked.of)
    else:
        parser.error("score needs --examiner FOLDER, or --answers FILE and --of: whose sheets")
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
