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
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import soundfile
import soxr
import torch
import torch.nn.functional as F
from PIL import Image as Picture
from PIL import ImageDraw
from torch import Tensor

from app import listening, planner
from app.images import Pixels
from app.models import Models
from app.options import Asked
from app.pipeline import Inputs
from app.request import make_request
from app.sounds import open_sound
from benchmarks.__main__ import where
from benchmarks.examiner import FOLDER, nearness
from benchmarks.faithful import draw_sheet, names_it, read, real_pictures, setting
from guidance import audio_net, mood
from guidance.audio import LABELS, Wave
from guidance.audio_net import Ear
from guidance.clip import Clip
from guidance.speech import Speech
from training import data, examiner, recordings, sound
from training.examiner import Examiner
from training.recordings import SPEECH, Recording
from training.sound import LEFT_OUT, Question, captions
from training.synth import RATE, RECIPES, rhythm, synthesise

CLASSES = 50  # a sound is one of so many: chance is 2 %, and 10 % for one of five guesses
NAMES = 100  # the examiner chooses among so many
FIVE, TEN = 5, 10
SECONDS = 4.0  # of a synthesised sound
PICTURES, BLIND, REAL, JOINT, SAME, SPOKEN = 30, 20, 4, 20, 5, 20  # how many of each
RHYTHMS, NEAR = 100, 0.05  # and how near an onset has to be, in seconds
# What stands beside a sound: none of it is in a recording that is asked about.
TEXTS = (
    "a house", "a tree", "a red heart", "an apple", "a castle",
    "the moon", "a sunflower", "a sailboat", "an umbrella", "a cake",
)  # fmt: skip
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
_ARTICLES = frozenset("a an the".split())


def shuffled(names: Iterable[str]) -> list[str]:
    """Each name once, in an order that its hash alone decides."""
    return sorted(set(names), key=lambda name: hashlib.sha256(name.encode()).digest())


def choices(own: Sequence[str], first: Iterable[str], rest: Iterable[str], most: int) -> list[str]:
    """`most` names to choose among: what is right, then of `first`, then of the rest."""
    return list(dict.fromkeys([*own, *shuffled(first), *shuffled(rest)]))[:most]


def share(right: int, of: int) -> dict[str, Any]:
    """So many of so many."""
    return {"right": f"{right}/{of}", "share": round(right / of, 3) if of else None}


# --- Encoder --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Listener:
    """A sound encoder, the CLIP whose space it speaks, and the labels it was trained with."""

    ear: Ear
    clip: Clip
    labels: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    _texts: dict[str, Tensor] = field(default_factory=dict)

    def place(self, heard: Tensor, own: str, among: Sequence[str]) -> int:
        """How many others of `among` are as near to (d,) as the right label, or nearer."""
        mine = float(heard @ self._text(own))
        return sum(float(heard @ self._text(label)) >= mine for label in among if label != own)

    def _text(self, label: str) -> Tensor:
        """(d,), as `guidance.audio.embed_labels` does it, also of labels that it never met."""
        if label not in self._texts:
            embedded = self.clip.embed_text(captions(label)).mean(dim=0)
            self._texts[label] = F.normalize(embedded, dim=-1)
        return self._texts[label]


def open_listener(folder: Path, clip: Clip) -> Listener:
    """Read what `training.sound.export` wrote. Raises SystemExit when there is none."""
    if not (folder / audio_net.WEIGHTS).exists():
        raise SystemExit(f"No sound encoder in {folder}. Run `python -m training sound`.")
    known = tuple(json.loads((folder / LABELS.name).read_text()))
    absent = folder / LEFT_OUT
    left_out = tuple(json.loads(absent.read_text())) if absent.exists() else ()
    return Listener(audio_net.load(folder), clip, known, left_out)


def exams(
    trained: Sequence[Recording],
    tested: Sequence[Recording],
    labels: Sequence[str],
    seed: int,
    made: Sequence[str] = tuple(RECIPES),
) -> list[Question]:
    """Unheard sections, the same disguised, other sources, synthesis with unheard settings.

    Recordings whose label never trained are an exam of their own: "unknown".
    """
    chance = np.random.default_rng(seed)
    split = [(r.label, sound.split(r.wave)[1]) for r in trained if r.label != SPEECH]
    kept = [(label, section) for label, section in split if section is not None]
    return [
        *(Question("sections", label, wave) for label, wave in kept),
        *(Question("sections, disguised", label, sound.disguise(w, chance)) for label, w in kept),
        *(Question("sources" if r.label in labels else "unknown", r.label, r.wave) for r in tested),
        *(Question("synthesis", name, wave) for name in made for wave in _made(name, seed)),
    ]


def _made(name: str, seed: int, count: int = 3) -> list[Wave]:
    """Sounds of a recipe with settings that no training uses."""
    chance = np.random.default_rng([seed, 7_919, *name.encode()])  # none of the training's exam
    return [synthesise(name, chance, SECONDS, unheard=True) for _ in range(count)]


def mark(listener: Listener, asked: Sequence[Question], most: int = 1000) -> dict[str, Any]:
    """For each exam: how often the right label is the first, and among five, of 50 and of all.

    Of each exam at most so many questions, spread evenly, are asked.
    """
    by_exam: dict[str, list[Question]] = defaultdict(list)
    for question in asked:
        by_exam[question.exam].append(question)
    return {
        exam: _marked(listener, few[:: -(-len(few) // most)], {one.label for one in few})
        for exam, few in by_exam.items()
    }


def _marked(listener: Listener, asked: Sequence[Question], tested: set[str]) -> dict[str, Any]:
    every = {*listener.labels, *tested} - {SPEECH}
    rows = []
    for question in asked:
        heard = sound.hear(listener.ear, question.wave)
        few = choices([question.label], tested, every, CLASSES)
        rows.append(
            {
                "label": question.label,
                "place": listener.place(heard, question.label, few),
                "of": len(few),
                "of all": listener.place(heard, question.label, sorted(every)),
            }
        )
    places = [row["place"] for row in rows]
    return {
        "classes": len(few),
        "labels tested": len(tested),
        "top 1": share(sum(p < 1 for p in places), len(rows)) | _chance(1 / len(few)),
        "top 5": share(sum(p < FIVE for p in places), len(rows)) | _chance(FIVE / len(few)),
        f"top 5 of all {len(every)}": share(sum(r["of all"] < FIVE for r in rows), len(rows))
        | _chance(FIVE / len(every)),
        "each": rows,
    }


def _chance(of: float) -> dict[str, float]:
    return {"chance": round(of, 3)}


def mark_left_out(
    listener: Listener, trained: Sequence[Recording], tested: Sequence[Recording], seed: int
) -> dict[str, Any]:
    """The same for each class that the encoder never heard: whole recordings and synthesis."""
    told = {}
    for label in listener.left_out:
        asked = [Question("", label, r.wave) for r in (*trained, *tested) if r.label == label]
        asked += [Question("", label, w) for w in (_made(label, seed) if label in RECIPES else ())]
        if asked:  # all other classes compete, by hash as elsewhere
            found = _marked(listener, asked, {label})
            told[label] = {what: found[what] for what in ("top 1", "top 5")}
    return told


def sum_up_left_out(by_label: Mapping[str, Any]) -> dict[str, Any]:
    """The mean over classes, each counted alike, and how many times chance it is."""
    told: dict[str, Any] = {"classes": len(by_label), "each": dict(by_label)}
    for what in ("top 1", "top 5"):
        mean = float(np.mean([found[what]["share"] for found in by_label.values()]))
        chance = next(iter(by_label.values()))[what]["chance"]
        told[what] = {"mean": round(mean, 3), **_chance(chance), "times": round(mean / chance, 2)}
    return told


def hear_classes(out: Path, given: argparse.Namespace) -> None:
    """The encoder's part."""
    clip = Models().clip("pocket", "float32")
    listener = open_listener(given.encoder, clip)
    trained = list(takewhile(lambda r: r.label != SPEECH, recordings.trained_on(given.cache)))
    tested = list(recordings.tested_on(given.cache))
    report = mark(listener, exams(trained, tested, listener.labels, given.seed), given.most)
    by_label: dict[str, Any] = {}
    for folder in given.left_out:
        deaf = open_listener(folder, clip)
        if not deaf.left_out:
            raise SystemExit(f"{folder} does not say in {LEFT_OUT} what its training left out.")
        by_label |= mark_left_out(deaf, trained, tested, given.seed)
    if by_label:
        report["left out"] = sum_up_left_out(by_label)
    weights = hashlib.sha256((given.encoder / audio_net.WEIGHTS).read_bytes()).hexdigest()
    write(out, "encoder", {"weights": weights, **report})


# --- Speech ---------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    """Lower case, without punctuation and articles."""
    found = re.findall(r"[a-z0-9]+", text.lower().replace("-", " "))
    return [word for word in found if word not in _ARTICLES]


def forms(word: str) -> set[str]:
    """A word, and what it may be the plural of."""
    return {word, *(word.removesuffix(ending) for ending in ("s", "es") if len(word) > 3)}


def alike(one: str, other: str) -> bool:
    """Whether two words are the same but for a plural."""
    return not forms(one).isdisjoint(forms(other))


def noun(caption: str) -> str:
    """The last word of a name: "A red kangaroo." is a kangaroo."""
    return words(caption)[-1]


def understood(caption: str, transcript: str) -> dict[str, bool]:
    """Whether the noun was heard; every word of the name; the name and nothing else.

    The written name may be richer than what is said ("A brown hen." is spoken without its colour),
    so the noun counts; the others are stricter. One word may be heard as two ("mountain goat").
    """
    heard, name = words(transcript), words(caption)
    said = [*heard, *(a + b for a, b in pairwise(heard))]
    return {
        "noun": any(alike(noun(caption), word) for word in said),
        "whole name": all(any(alike(part, word) for word in said) for part in name),
        "nothing else": alike("".join(name), "".join(heard)),
    }


def transcribe(ear: Speech, spoken: Iterable[tuple[str, Wave]]) -> list[dict[str, Any]]:
    """What was understood of each spoken name; waves at the ear's rate."""
    rows = []
    for caption, wave in spoken:
        found = ear.hear(wave)
        row: dict[str, Any] = {"name": caption, "heard": found.text}
        if found.reason:
            row["reason"] = found.reason
        rows.append({**row, **understood(caption, found.text)})
    return rows


def sum_up_speech(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How often each measure was met."""
    measures = ("noun", "whole name", "nothing else")
    return {what: share(sum(row[what] for row in rows), len(rows)) for what in measures}


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
    if name.split()[0] in _ARTICLES or re.search(r"[^s]s$", name):
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def draw_sounds(out: Path, given: argparse.Namespace) -> None:
    """The part of pictures: from sounds alone."""
    models = Models()
    chosen = across(
        list(recordings.tested_on(given.cache)),
        list(known()),
        min(PICTURES, given.most),
    )
    folder, rows = prepare(out, "pictures", given.way, models), []
    for number, one in enumerate(chosen):
        file = record(folder / f"{number:02}.wav", one.wave)
        row = make(folder / f"{number:02}", file, "", models, given.way)
        rows.append({"label": one.label, "recording": one.key, **row})
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
        "top 1": share(sum(p < 1 for p in places), len(places)) | _chance(1 / len(few)),
        "top 5": share(sum(p < FIVE for p in places), len(places)) | _chance(FIVE / len(few)),
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
    chosen = across(
        list(recordings.tested_on(given.cache)),
        list(known()),
        min(JOINT, given.most),
    )
    folder, rows = prepare(out, "joint", given.way, models), []
    for number, one in enumerate(chosen):
        file = record(folder / f"{number:02}.wav", one.wave)
        text = TEXTS[number % len(TEXTS)]
        row = make(folder / f"{number:02}", file, text, models, given.way)
        rows.append({"label": one.label, "recording": one.key, **row})
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


# --- Onsets ---------------------------------------------------------------------------------------


def hear_onsets(out: Path, given: argparse.Namespace) -> None:
    """The part of beginnings."""
    write(out, "onsets", find_onsets(min(RHYTHMS, given.most), given.seed))


def find_onsets(count: int, seed: int) -> dict[str, Any]:
    """Of the onsets of `count` rhythms: those found within 50 ms; of those found: the true ones.

    Half of the rhythms have settings from the edges of what there is.
    """
    there = found = right = 0
    for number in range(count):
        chance = np.random.default_rng([seed, number])
        wave, true = rhythm(chance, unheard=number % 2 == 1)
        seen = mood.feel(soxr.resample(wave, RATE, mood.RATE)).onsets
        there, found, right = there + len(true), found + len(seen), right + matched(true, seen)
    return {
        "rhythms": count,
        "found": share(right, there),
        "true of those found": share(right, found),
    }


def matched(true: Sequence[float], seen: Sequence[float], near: float = NEAR) -> int:
    """How many of two ascending rows of times lie together, each used once."""
    left, count = list(seen), 0
    for time in true:
        while left and left[0] < time - near:
            left.pop(0)
        if left and left[0] <= time + near:
            left.pop(0)
            count += 1
    return count


# --- Sheets ---------------------------------------------------------------------------------------

_CELL, _COLUMNS, _LINE = 160, 4, 18  # pixels


def spectrogram(wave: Wave, side: int = _CELL) -> Pixels:
    """(side, side, 3): time to the right, pitch upwards (mel), the loudest bright; 60 dB deep."""
    bell = torch.hann_window(512)
    padded = torch.from_numpy(np.pad(wave, (0, max(0, 512 - len(wave)))))
    bins = torch.stft(padded, 512, 160, window=bell, center=False, return_complex=True)
    power = audio_net.mel_filters() @ bins.abs().square()
    level = 10 * (power / power.max().clamp(min=1e-12)).clamp(min=1e-6).log10()  # -60..0 dB
    grey = ((level / 60 + 1) * 255).byte().numpy()[::-1]
    large = cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(cv2.applyColorMap(large, cv2.COLORMAP_MAGMA), cv2.COLOR_BGR2RGB)


def show(
    out: Path, folder: Path, chosen: Sequence[Recording], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Sounds.png: each spectrogram beside its picture, what it is and what was heard."""
    width, height = 2 * _CELL + 8, _CELL + 2 * _LINE
    lines = -(-len(chosen) // _COLUMNS)
    sheet = Picture.new("RGB", (_COLUMNS * width, lines * height), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (one, row) in enumerate(zip(chosen, rows, strict=True)):
        left, top = number % _COLUMNS * width, number // _COLUMNS * height
        heard = ", ".join(f"{name} {chance:.0%}" for name, chance in row["names"][:2])
        pen.text((left + 4, top + 3), f"{number} {one.label} ({one.key})"[:50], fill="black")
        pen.text((left + 4, top + _LINE + 3), f"heard: {heard}"[:50], fill="black")
        sheet.paste(Picture.fromarray(spectrogram(one.wave)), (left, top + 2 * _LINE))
        picture = Picture.open(folder / f"{number:02}.png").convert("RGB").resize((_CELL, _CELL))
        sheet.paste(picture, (left + _CELL, top + 2 * _LINE))
    sheet.save(out / "sounds.png", optimize=True)


def hide(
    out: Path,
    folder: Path,
    labels: Sequence[str],
    real: Sequence[tuple[str, Picture.Image]],
    seed: int = 5,
) -> None:
    """Blind.png, shuffled and with nothing but numbers, and key/blind.json, not for the reader.

    `real`: names and pictures of true drawings, to check the reader.
    """
    cells = [(label, Picture.open(folder / f"{n:02}.png")) for n, label in enumerate(labels)]
    cells += [(f"real {name}", image) for name, image in real]
    order = np.random.default_rng(seed).permutation(len(cells)).tolist()
    draw_sheet(cells[n][1] for n in order).save(out / "blind.png")
    key = [{"sheet": 0, "cell": cell, "shows": cells[n][0]} for cell, n in enumerate(order)]
    (out / "key").mkdir(exist_ok=True)
    (out / "key" / "blind.json").write_text(json.dumps(key, indent=0) + "\n")


# --- Scores ---------------------------------------------------------------------------------------


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


PARTS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
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
    parser.add_argument("part", choices=[*PARTS, "score"])
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
    PARTS[given.part](given.out, given)


if __name__ == "__main__":
    main()
