"""Break a studio on purpose, and say whether it kept what it promised.

    python -m scripts.reliability                 all parts, with the counts of docs/reliability.md
    python -m scripts.reliability kill --count 6 --seed 3
    python -m scripts.reliability --write-only    the page anew from its JSON

Each part has its time and stops by itself. The studio that is broken is one of its own, in a
temporary folder, and reached by no other machine; it starts again and again from the files as they
are, so change none meanwhile. The exit status is 1 when a figure is not met.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.__main__ import where
from scripts.reliability import crowds, faults, report
from scripts.reliability.faults import Plan, Say
from scripts.reliability.report import Found, Told
from scripts.reliability.studio import ROOT, Studio, TooLong

OUT = ROOT / "docs" / "reliability.json"


@dataclass(frozen=True)
class Part:
    """One kind of fault: its title, how it is done, how many, and for how many seconds at most."""

    title: str
    act: Callable[[Studio, Plan, Say], Found]
    count: int
    seconds: float


PARTS: dict[str, Part] = {
    "kill": Part("Processes killed, small jobs", faults.kills, 25, 2400),
    "pocket": Part(
        "Processes killed, jobs of the pocket models",
        partial(faults.kills, wishes=faults.POCKET),
        5,
        1200,
    ),
    "cancel": Part("A storm of cancels", crowds.cancels, 100, 1200),
    "term": Part("SIGTERM under load", faults.goodbyes, 5, 900),
    "visitors": Part("Visitors at once", crowds.visitors, 20, 600),
    "uploads": Part("A flood of files", crowds.uploads, 4000, 240),
    "slow": Part("Slow clients", crowds.slow, 50, 120),
}


def main() -> int:
    """Do the parts that were asked for."""
    asked = _arguments()
    page = asked.out.with_suffix(".md")
    titles = {name: part.title for name, part in PARTS.items()}
    if asked.remark:
        report.remark(asked.out, *asked.remark)
    if asked.write_only or asked.remark:
        _write(page, report.page(report.load(asked.out), titles))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and what we began is cleaned up
    with tempfile.TemporaryDirectory(prefix="reliability-") as folder:
        studio = Studio(Path(folder))
        try:
            say(f"the studio starts in {folder}")
            studio.start()
            studio.ready()
            met = [_do(name, studio, asked, titles) for name in asked.part or PARTS]
        except TooLong:
            studio.confess()
            raise
        finally:
            studio.close()
            if asked.log:
                asked.log.write_bytes(studio.log.read_bytes())
    return 0 if all(met) else 1


def _do(name: str, studio: Studio, asked: argparse.Namespace, titles: dict[str, str]) -> bool:
    part = PARTS[name]
    count, seconds = asked.count or part.count, asked.seconds or part.seconds
    say(f"{name}: {part.title}, {count}, at most {seconds:.0f} s")
    before, began = os.getloadavg()[0], time.monotonic()
    about = where()
    found = part.act(studio, Plan(count, asked.seed, seconds), partial(say, name))
    for figure in found.figures:
        say(name, f"{figure.what}: {figure.value} ({figure.wanted or 'told'}) {figure.examples}")
    told: Told = report.keep(
        asked.out,
        name,
        found,
        {
            **{key: about[key] for key in ("commit", "when", "cpu", "cores", "python", "torch")},
            "load": [before, os.getloadavg()[0]],
            "seconds": round(time.monotonic() - began),
            "seed": asked.seed,
        },
    )
    _write(asked.out.with_suffix(".md"), report.page(told, titles))
    say(name, "as wanted" if found.is_met else "NOT as wanted")
    return found.is_met


def say(*pieces: str) -> None:
    """Tell what happens, with the time."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {': '.join(pieces)}\n")
    sys.stdout.flush()


def _write(page: Path, text: str) -> None:
    page.write_text(text, encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.reliability",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("part", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; else all")
    parser.add_argument("--seed", type=int, default=0, help="of all that happens by chance")
    parser.add_argument("--count", type=int, help="how many kills, cancels, visitors, files")
    parser.add_argument("--seconds", type=float, help="for at most so long (each part)")
    parser.add_argument("--out", type=Path, default=OUT, help="the JSON; the page lies beside it")
    parser.add_argument("--log", type=Path, help="keep what the studio said")
    parser.add_argument(
        "--remark", nargs=2, metavar=("PART", "TEXT"), help="put a sentence beside its figures"
    )
    parser.add_argument("--write-only", action="store_true", help="only write the page anew")
    asked = parser.parse_args()
    if unknown := set(asked.part) - PARTS.keys():
        parser.error(
            f"There is no part {', '.join(sorted(unknown))}. There are {', '.join(PARTS)}."
        )
    return asked


if __name__ == "__main__":
    sys.exit(main())
