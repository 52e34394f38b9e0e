"""Parts of `benchmarks.listen` that draw what was heard, and the examiner's marks of it."""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch
from PIL import Image as Picture
from torch import Tensor

from app import listening, planner
from app.models import Models
from app.options import Asked
from app.pipeline import Inputs
from app.request import make_request
from app.sounds import open_sound
from benchmarks.examiner import nearness
from benchmarks.faithful import real_pictures
from benchmarks.listen_hear import (
    ARTICLES,
    FIVE,
    TEN,
    choices,
    noun,
    shuffled,
    sum_up_speech,
    transcribe,
)
from benchmarks.listen_score import by_chance, share, write
from benchmarks.listen_sheets import hide, show
from guidance.audio import LABELS, Wave
from training import recordings
from training.examiner import Examiner
from training.recordings import SPEECH, Recording
from training.sound import captions
from training.synth import RATE

NAMES = 100  # the examiner chooses among so many
PICTURES, BLIND, REAL, JOINT, SAME, SPOKEN = 30, 20, 4, 20, 5, 20  # how many of each
# What stands beside a sound: none of it is in a recording that is asked about.
TEXTS = (
    "a house", "a tree", "a red heart", "an apple", "a castle",
    "the moon", "a sunflower", "a sailboat", "an umbrella", "a cake",
)  # fmt: skip


# --- Spoken names ---------------------------------------------------------------------------------


def hear_names(out: Path, given: argparse.Namespace) -> None:
    """The part of speech: all names, then pictures of some that were heard rightly."""
    models, spoken = Models(), list(recordings.names_spoken(given.cache))
    rows = transcribe(models.speech(listening.SPEECH), spoken)
    report = {**sum_up_speech(rows), "each": rows}
    write(out, "speech", report)
    right = [one for one, row in zip(spoken, rows, strict=True) if row["noun"]]
    order = {caption: n for n, caption in enumerate(shuffled(caption for caption, _ in right))}
    chosen = sorted(right, key=lambda one: order[one[0]])[: min(SPOKEN, given.most)]
    pairs, folder = [], prepare(out, "speech", given.way, models)
    for number, (caption, wave) in enumerate(chosen):
        file = record(folder / f"{number:02}.wav", wave)
        said = make(folder / f"{number:02}-spoken", file, "", models, given.way)
        typed = make_typed(folder / f"{number:02}-typed", caption, models, given.way)
        pairs.append({"name": caption, "spoken": said["prompt"], "typed": typed["prompt"]})
    report["pictures"] = {"way": read_way(folder), "each": pairs}
    if pairs:
        report["pictures"] |= compare_spoken(given.marker, folder, pairs, known_names())
    write(out, "speech", report)


def compare_spoken(
    net: Examiner, folder: Path, pairs: Sequence[Mapping[str, str]], names: Sequence[str]
) -> dict[str, Any]:
    """How the examiner likes pictures of spoken names, beside those of typed ones."""
    told: dict[str, Any] = {}
    for what in ("spoken", "typed"):
        places, near = [], []
        for number, pair in enumerate(pairs):
            own = called(noun(pair["name"]))
            found = examine(
                net, folder / f"{number:02}-{what}.png", choices([own], names, (), NAMES)
            )
            places.append(place_of(found, 0))
            near.append(float(found[0]))
        five = share(sum(p < FIVE for p in places), len(places))
        told[what] = {"top 5": five, "nearness": round(float(np.mean(near)), 4)}
    return told


# --- Pictures -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """How pictures are made."""

    quality: str = "normal"
    seed: int = 7
    settings: Mapping[str, Any] = field(default_factory=dict)


def prepare(out: Path, part: str, way: Way, models: Models) -> Path:
    """A folder for the pictures of a part. Raises SystemExit when others lie in it."""
    folder = out / part
    folder.mkdir(parents=True, exist_ok=True)
    weights = models.hashes(listening.ENCODER, "sound")
    note, said = folder / "way.json", {**asdict(way), "encoder": weights}
    if note.exists() and json.loads(note.read_text()) != said:
        raise SystemExit(f"{folder} holds pictures made in another way. Choose another folder.")
    note.write_text(json.dumps(said) + "\n")
    return folder


def read_way(folder: Path) -> Any:
    """How the pictures of a folder were made, and the hash of the encoder that listened."""
    return json.loads((folder / "way.json").read_text())


def record(path: Path, wave: Wave, title: str = "") -> Path:
    """Write a wave of RATE as 16 bits; what it is stands in the file only when a title is given."""
    numbers = (wave.clip(-1, 1) * 32_767).round().astype(np.int16)  # each format rounds its own way
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        if title:
            file.title = file.comment = title
        file.write(numbers)
    return path


def make(place: Path, file: Path, text: str, models: Models, way: Way) -> dict[str, Any]:
    """Place.png from a file of sound as the program does by itself, and what steered it."""

    def asked() -> tuple[Asked, dict[str, Any]]:
        heard = listening.hear(open_sound(file), file.name, models)
        steering = listening.suggest(heard)
        order = listening.order(
            heard, steering, text, quality=way.quality, seed=way.seed, **way.settings
        )
        names = [[name, round(chance, 3)] for name, chance in heard.names or ()]
        return order, {"text": text, "names": names, **asdict(steering)}

    return _kept(place, asked, models)


def make_typed(place: Path, caption: str, models: Models, way: Way) -> dict[str, Any]:
    """Place.png from words alone."""

    def asked() -> tuple[Asked, dict[str, Any]]:
        given = {"prompt": listening.as_prompt(caption), "seed": way.seed, **way.settings}
        return Asked([make_request(given, way.quality)], Inputs(), []), {}

    return _kept(place, asked, models)


def _kept(
    place: Path, asked: Callable[[], tuple[Asked, dict[str, Any]]], models: Models
) -> dict[str, Any]:
    """Make a picture unless it lies there."""
    picture, note = place.with_suffix(".png"), place.with_suffix(".json")
    if not (picture.exists() and note.exists()):
        order, row = asked()
        request = planner.settle(order.requests[0])
        for made in planner.make(request, models, order.inputs):
            last = made
        Picture.fromarray(last.pixels()).save(picture)
        note.write_text(json.dumps({"prompt": request.prompt, **row}) + "\n")
        print(place.name, note.read_text().strip(), flush=True)
    return json.loads(note.read_text())


def across(tested: Sequence[Recording], labels: Sequence[str], most: int) -> list[Recording]:
    """Recordings of known things from other sources: one of each label, then the next ones."""
    turns: dict[str, int] = defaultdict(int)
    ranked = []
    for recording in tested:
        if recording.label in labels:
            ranked.append((turns[recording.label], recording))
            turns[recording.label] += 1
    order = {label: n for n, label in enumerate(shuffled(turns))}
    ranked.sort(key=lambda one: (one[0], order[one[1].label]))
    return [recording for _, recording in ranked[:most]]


def known() -> dict[str, list[str]]:
    """Labels of the shipped encoder and what they are called. Raises SystemExit without one."""
    if not LABELS.exists():
        raise SystemExit(f"No sound encoder in {LABELS.parent}. Run `python -m training sound`.")
    named: dict[str, list[str]] = json.loads(LABELS.read_text())
    return {label: names for label, names in named.items() if label != SPEECH}


def known_names() -> list[str]:
    """What the things are called whose sounds the encoder was trained with."""
    return sorted({called(names[0]) for names in known().values()})


def called(name: str) -> str:
    """A name with its article, as most captions have it that the examiner learned from."""
    if name.split()[0] in ARTICLES or re.search(r"[^s]s$", name):
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


class Drawn(NamedTuple):
    """Recordings of other sources, their pictures' folder, and what steered each."""

    chosen: list[Recording]
    folder: Path
    rows: list[dict[str, Any]]


def draw(
    out: Path,
    part: str,
    count: int,
    given: argparse.Namespace,
    models: Models,
    texts: Sequence[str],
) -> Drawn:
    """Pictures of so many recordings, the texts beside them in turn."""
    tested = list(recordings.tested_on(given.cache))
    chosen = across(tested, list(known()), min(count, given.most))
    folder, rows = prepare(out, part, given.way, models), []
    for number, one in enumerate(chosen):
        file = record(folder / f"{number:02}.wav", one.wave)
        text = texts[number % len(texts)]
        row = make(folder / f"{number:02}", file, text, models, given.way)
        rows.append({"label": one.label, "recording": one.key, **row})
    return Drawn(chosen, folder, rows)


def draw_sounds(out: Path, given: argparse.Namespace) -> None:
    """The part of pictures: from sounds alone."""
    chosen, folder, rows = draw(out, "pictures", PICTURES, given, Models(), ("",))
    show(out, folder, chosen, rows)
    hide(out, folder, [one.label for one in chosen][:BLIND], real_pictures(REAL))
    report: dict[str, Any] = {"way": read_way(folder), "each": rows}
    report |= mark_pictures(given.marker, folder, rows, known_names())
    write(out, "pictures", report)


def mark_pictures(
    net: Examiner, folder: Path, rows: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> dict[str, Any]:
    """How often the right name is among the examiner's first, and first five, of a hundred."""
    places = []
    for number, row in enumerate(rows):
        few = choices([name_of(row)], names, (), NAMES)
        places.append(place_of(examine(net, folder / f"{number:02}.png", few), 0))
    return {
        "names": len(few),
        "top 1": share(sum(p < 1 for p in places), len(places)) | by_chance(1 / len(few)),
        "top 5": share(sum(p < FIVE for p in places), len(places)) | by_chance(FIVE / len(few)),
        "places": places,
    }


def examine(net: Examiner, picture: Path, names: Sequence[str]) -> Tensor:
    """(names,): how near the examiner finds each to a picture."""
    return nearness(net, [picture], names)[0]


def name_of(row: Mapping[str, Any]) -> str:
    """What the thing is called whose sound a row is of."""
    return called(captions(row["label"])[0])


def place_of(nearness: Tensor, own: int) -> int:
    """How many others are as near, or nearer."""
    return int((nearness >= nearness[own]).sum()) - 1


# --- Joint ----------------------------------------------------------------------------------------


def draw_joint(out: Path, given: argparse.Namespace) -> None:
    """The part of sounds with words beside them."""
    models = Models()
    chosen, folder, rows = draw(out, "joint", JOINT, given, models, TEXTS)
    for number, one in enumerate(chosen[:SAME]):
        title = f"{one.label} {number:02}"
        file = record(folder / f"{title}.flac", one.wave, title)
        text = TEXTS[number % len(TEXTS)]
        make(folder / f"{number:02}-renamed", file, text, models, given.way)
    report: dict[str, Any] = {
        "way": read_way(folder),
        "same sound under another name": same(folder, len(chosen[:SAME])),
        "another sound with the same text": others(folder, rows),
        "each": rows,
    }
    report |= mark_joint(given.marker, folder, rows, known_names())
    write(out, "joint", report)


def same(folder: Path, count: int) -> dict[str, Any]:
    """How often the very same picture came from a file with another name, format and title."""
    equal = [
        np.array_equal(_pixels(folder / f"{n:02}.png"), _pixels(folder / f"{n:02}-renamed.png"))
        for n in range(count)
    ]
    return share(sum(equal), len(equal))


def others(folder: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How often two sounds with one text gave two pictures, and how far apart (grey levels)."""
    apart = [
        float(np.abs(_pixels(folder / f"{a:02}.png") - _pixels(folder / f"{b:02}.png")).mean())
        for a, b in _twins(rows)
    ]
    told = share(sum(distance > 0 for distance in apart), len(apart))
    return {**told, "median distance": round(float(np.median(apart)), 2) if apart else None}


def _twins(rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Numbers of pictures with the same text and other sounds."""
    by_text: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        by_text[row["text"]].append(number)
    return [
        (a, b)
        for few in by_text.values()
        for a, b in pairwise(few)
        if rows[a]["label"] != rows[b]["label"]
    ]


def _pixels(path: Path) -> Any:
    return np.asarray(Picture.open(path).convert("RGB")).astype(int)


def mark_joint(
    net: Examiner, folder: Path, rows: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> dict[str, Any]:
    """How often sound and text are both among the examiner's first ten of a hundred names.

    And whether it tells twins apart: two pictures with one text, by their sounds' names.
    """
    places = []
    for number, row in enumerate(rows):
        few = choices([name_of(row), row["text"]], names, (), NAMES)
        found = examine(net, folder / f"{number:02}.png", few)
        places.append([place_of(found, 0), place_of(found, 1)])
    apart = []
    for a, b in _twins(rows):
        mine = [name_of(rows[n]) for n in (a, b)]
        seen = torch.stack([examine(net, folder / f"{n:02}.png", mine) for n in (a, b)])
        apart.append(float(seen.diagonal().sum()) > float(seen.flip(1).diagonal().sum()))
    count = len(places)
    return {
        "names": len(few),
        "both in the first ten": share(sum(max(both) < TEN for both in places), count),
        "sound in the first ten": share(sum(heard < TEN for heard, _ in places), count),
        "text in the first ten": share(sum(read < TEN for _, read in places), count),
        "one in ten by chance": round(TEN / len(few), 3),
        "twins told apart": share(sum(apart), len(apart)),
        "places": places,
    }
