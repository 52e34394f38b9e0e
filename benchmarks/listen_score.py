"""What was measured of listening, as shares, against the bars."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.__main__ import where
from benchmarks.faithful import names_it, read
from training.sound import captions

# What else a reader may say of a sound, beside what it is called: what makes it, or part of it.
MAKERS: dict[str, tuple[str, ...]] = {
    "accordion": ("accordionist", "concertina"),
    "alarm clock": ("clock", "alarm", "watch"),
    "applause": ("hand", "clapping", "audience", "crowd", "people"),
    "bell": ("gong", "monk", "temple"),
    "camera": ("photographer",),
    "car": ("engine", "motor", "vehicle", "automobile", "taxi"),
    "cello": ("cellist", "violin", "string instrument", "viola", "double bass"),
    "clarinet": ("clarinetist", "oboe", "flute", "woodwind"),
    "cymbal": ("drum kit", "drummer"),
    "dog": ("puppy", "hound"),
    "drum": ("drummer", "drumstick", "percussion"),
    "flute": ("flutist", "flautist", "recorder", "woodwind"),
    "frog": ("toad", "pond"),
    "guitar": ("guitarist", "string instrument", "ukulele"),
    "harp": ("harpist", "string instrument"),
    "heartbeat": ("heart", "chest"),
    "organ": ("church organ", "keyboard", "organist"),
    "piano": ("pianist", "keyboard"),
    "rain": ("raindrop", "cloud", "umbrella", "shower", "storm"),
    "train": ("locomotive", "railway", "rail"),
    "trumpet": ("trumpeter", "horn", "trombone", "brass"),
    "violin": ("violinist", "fiddle", "string instrument", "cello"),
}
PARTS = ("encoder", "speech", "pictures", "joint", "onsets")


def share(right: int, of: int) -> dict[str, Any]:
    """So many of so many."""
    return {"right": f"{right}/{of}", "share": round(right / of, 3) if of else None}


def by_chance(of: float) -> dict[str, float]:
    """What guessing would reach, to stand beside a share."""
    return {"chance": round(of, 3)}


# --- The blind reader -----------------------------------------------------------------------------


def score_blind(key: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]) -> Any:
    """How often a blind reader named the source of a sound, or something that makes it."""
    shown = {(row["sheet"], row["cell"]): row["shows"] for row in key}
    first, either, checks = [], [], []
    for answer in answers:
        label = shown.pop((answer["sheet"], answer["cell"]))
        if label.startswith("real "):
            name = label.removeprefix("real ")
            checks.append(_either(answer, (name, name.split()[-1])))
            continue
        names = (label, *captions(label), *MAKERS.get(label, ()))
        first.append(names_it(answer["first"], names))
        either.append(_either(answer, names))
    if shown:
        raise SystemExit(f"{len(shown)} cells have no answer.")
    return {
        "first guess": share(sum(first), len(first)),
        "either guess": share(sum(either), len(either)),
        "real pictures named": share(sum(checks), len(checks)),
    }


def _either(answer: Mapping[str, Any], names: Sequence[str]) -> bool:
    return names_it(answer["first"], names) or names_it(answer.get("second", ""), names)


def _spoken_as_typed(report: Any) -> float:
    """How far the share of spoken names is above that of typed ones."""
    pictures = report["speech"]["pictures"]
    return pictures["spoken"]["top 5"]["share"] - pictures["typed"]["top 5"]["share"]


# --- Bars -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """What is asked for: a figure of the report, and how much it has to be at least."""

    says: str
    least: float
    read: Callable[[Any], float | None]  # None where there was nothing to count


BARS = (
    Bar("other sources: top 5 of 50", 0.6, lambda r: r["encoder"]["sources"]["top 5"]["share"]),
    Bar("synthesis: top 5 of 50", 0.9, lambda r: r["encoder"]["synthesis"]["top 5"]["share"]),
    Bar("left-out classes: top 1, times chance", 3, lambda r: _times(r, "top 1")),
    Bar("left-out classes: top 5, times chance", 3, lambda r: _times(r, "top 5")),
    Bar("spoken names: noun heard", 0.6, lambda r: r["speech"]["noun"]["share"]),
    Bar("spoken names: examiner's top 5, less that of typed ones", 0, _spoken_as_typed),
    Bar(
        "sound to picture: examiner's top 5 of 100", 0.5, lambda r: r["pictures"]["top 5"]["share"]
    ),
    Bar("blind reader names the source", 0.4, lambda r: r["blind"]["either guess"]["share"]),
    Bar(
        "joint: both in the examiner's top 10 of 100",
        0.6,
        lambda r: r["joint"]["both in the first ten"]["share"],
    ),
    Bar(
        "joint: another sound, another picture",
        1,
        lambda r: r["joint"]["another sound with the same text"]["share"],
    ),
    Bar(
        "joint: renamed, exactly the same picture",
        1,
        lambda r: r["joint"]["same sound under another name"]["share"],
    ),
    Bar("onsets within 50 ms", 0.95, lambda r: r["onsets"]["found"]["share"]),
)


def _times(report: Any, what: str) -> float:
    return report["encoder"]["left out"][what]["times"]


def score(out: Path, answers: Path | None) -> dict[str, Any]:
    """Put the parts together. A bar of which nothing was measured is left out, and said so."""
    report: dict[str, Any] = {
        part: json.loads((out / f"{part}.json").read_text())
        for part in PARTS
        if (out / f"{part}.json").exists()
    }
    if answers:
        report["blind"] = score_blind(read(out / "key" / "blind.json"), read(answers))
    bars = []
    for bar in BARS:
        try:
            found = bar.read(report)
        except KeyError:  # nobody has run that part, or not with what it needs
            found = None
        if found is None:
            print(f"Not measured: {bar.says}.")
            continue
        bars.append(
            {"bar": bar.says, "least": bar.least, "found": round(found, 3)}
            | {"met": found >= bar.least}
        )
    report = {"bars": bars, **report}
    (out / "listen.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def write(out: Path, part: str, report: Mapping[str, Any]) -> None:
    """Leave a part as JSON, with the machine and the commit."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"where": where(), **report}, indent=1)
    (out / f"{part}.json").write_text(text + "\n")
    print(json.dumps(_short(report), indent=1), flush=True)


def _short(report: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is told of each."""
    return {
        what: _short(said) if isinstance(said, Mapping) else said
        for what, said in report.items()
        if what != "each"
    }
