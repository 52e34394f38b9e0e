"""Does the program hear rightly, and do its pictures show what was heard? Each part runs apart.

    python -m benchmarks.listen encoder OUT  # labels of sounds that did not train
    python -m benchmarks.listen speech OUT   # spoken names: the words, and pictures of them
    python -m benchmarks.listen pictures OUT # 30 recordings become pictures; a sheet without names
    python -m benchmarks.listen joint OUT    # 20 sounds with words beside; the same sound, renamed
    python -m benchmarks.listen onsets OUT   # where sounds begin in rhythms
    python -m benchmarks.listen score OUT [ANSWERS] # all that was measured, against the bars

Each writes OUT/<part>.json; pictures that lie there already are kept. A network that never guides
marks them (`benchmarks/examiner.py`). The recordings need the trainings' cache (`python -m training
data`). A blind reader gets OUT/blind.png alone, never OUT/key, and writes one JSON object a line:
`sheet` (0), `cell`, `first` and `second` guess of what makes the sound. `--left-out FOLDER`, any
number of times: an encoder that was trained without the labels in its left_out.json (a list).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from benchmarks.examiner import FOLDER
from benchmarks.faithful import setting
from benchmarks.listen_draw import Way, draw_joint, draw_sounds, hear_names
from benchmarks.listen_hear import hear_classes, hear_onsets
from benchmarks.listen_score import score
from guidance.audio import LABELS
from training import data, examiner
from training.examiner import Examiner

RUN: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "encoder": hear_classes,
    "speech": hear_names,
    "pictures": draw_sounds,
    "joint": draw_joint,
    "onsets": hear_onsets,
}


def open_examiner(folder: Path) -> Examiner:
    """Read the examiner. Raises SystemExit if it is not there."""
    if not (folder / examiner.WEIGHTS).exists():
        raise SystemExit(f"No examiner in {folder}. Run `python -m training examiner`.")
    return examiner.load(folder)


def main() -> None:
    """One of the parts, or the score."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.listen",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("part", choices=[*RUN, "score"])
    parser.add_argument("out", type=Path)
    parser.add_argument("answers", type=Path, nargs="?")
    parser.add_argument("--examiner", type=Path, default=FOLDER, help="who marks the pictures")
    parser.add_argument(
        "--encoder", type=Path, default=LABELS.parent, metavar="FOLDER", help="of the first part"
    )
    parser.add_argument("--left-out", type=Path, action="append", default=[], metavar="FOLDER")
    parser.add_argument("--cache", type=Path, default=data.CACHE)
    parser.add_argument("--quality", default="normal")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--most", type=int, default=1000, help="at most so many of each")
    given = parser.parse_args()
    if given.part == "score":
        print(json.dumps(score(given.out, given.answers)["bars"], indent=1))
        return
    given.way = Way(given.quality, given.seed, dict(setting(pair) for pair in given.set))
    given.marker = open_examiner(given.examiner)
    RUN[given.part](given.out, given)


if __name__ == "__main__":
    main()
