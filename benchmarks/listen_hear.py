"""Parts of `benchmarks.listen` that only hear: labels of sounds, spoken names, onsets."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch.nn.functional as F
from torch import Tensor

from app.models import Models
from benchmarks.listen_score import by_chance, share, write
from guidance import audio_net, mood
from guidance.audio import LABELS, Wave
from guidance.audio_net import Ear
from guidance.clip import Clip
from guidance.speech import Speech
from training import recordings, sound
from training.recordings import SPEECH, Recording
from training.sound import LEFT_OUT, Question, captions
from training.synth import RATE, RECIPES, rhythm, synthesise

CLASSES = 50  # a sound is one of so many: chance is 2 %, and 10 % for one of five guesses
FIVE, TEN = 5, 10
SECONDS = 4.0  # of a synthesised sound
RHYTHMS, NEAR = 100, 0.05  # and how near an onset has to be, in seconds
ARTICLES = frozenset("a an the".split())


def shuffled(names: Iterable[str]) -> list[str]:
    """Each name once, in an order that its hash alone decides."""
    return sorted(set(names), key=lambda name: hashlib.sha256(name.encode()).digest())


def choices(own: Sequence[str], first: Iterable[str], rest: Iterable[str], most: int) -> list[str]:
    """`most` names to choose among: what is right, then of `first`, then of the rest."""
    return list(dict.fromkeys([*own, *shuffled(first), *shuffled(rest)]))[:most]


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
        "top 1": share(sum(p < 1 for p in places), len(rows)) | by_chance(1 / len(few)),
        "top 5": share(sum(p < FIVE for p in places), len(rows)) | by_chance(FIVE / len(few)),
        f"top 5 of all {len(every)}": share(sum(r["of all"] < FIVE for r in rows), len(rows))
        | by_chance(FIVE / len(every)),
        "each": rows,
    }


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
        told[what] = {"mean": round(mean, 3), **by_chance(chance), "times": round(mean / chance, 2)}
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
    return [word for word in found if word not in ARTICLES]


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
