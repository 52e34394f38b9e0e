"""Training of the pocket sound encoder: a sound comes to lie where the CLIP has its words.

Contrastive, as in CLIP (Radford et al. 2021), but the words and pictures stand still: the text and
picture towers are the pocket CLIP's, as Wav2CLIP (Wu et al., arXiv 2110.11499) does it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from guidance.audio import LABELS, whole
from guidance.audio_net import CONFIG, RATE, TOWER, WEIGHTS, WINDOW, Ear, Network
from training.course import Course, Report, State, adamw, in_half, pace, set_rates, write_weights
from training.course import train as train_course
from training.data import Library
from training.imagenet import efficientnet_lite
from training.measure import on_ground, prompts
from training.pupil import Pupil, quicken
from training.recordings import SPEECH, Recording
from training.synth import RECIPES, Wave, synthesise

LENGTH = round(RATE * WINDOW)
_UNSEEN = 0.2  # the part in the middle of a recording that is kept for tests
_LONG_ENOUGH = 1.5  # seconds: of a shorter one nothing is kept, it would be nothing
_MADE_SECONDS = 4.0
_ASKED = 3  # made sounds of each recipe in the exam
LEFT_OUT = "left_out.json"  # beside an encoder: the labels that it never heard
SIDE = 96  # px, of the drawings that the CLIP looks at


@dataclass(frozen=True)
class Plan(Course):
    """How long and how hard to train."""

    batch: int = 48
    rate: float = 1e-3
    tower_rate: float = 4e-4
    decay: float = 0.05
    ema: float = 0.995
    made: int = 80  # sounds of each recipe
    mixed: float = 0.3  # how many examples are two sounds at once
    heat: float = 0.05  # of the likelihood of labels
    names: float = 0.5  # weight of agreeing with the words about every other name
    shown: float = 0.25  # weight of the pictures
    near: float = 1.0  # weight of the plain distance


@dataclass(frozen=True, eq=False)
class Goals:
    """Where the labels lie in the CLIP's space, by their words and by drawings of them.

    `texts` and `pictures` (labels, d), `names` (vocabulary, d); a label without drawings has
    zeros.
    """

    labels: tuple[str, ...]
    texts: Tensor
    pictures: Tensor
    names: Tensor

    def to(self, device: str) -> Goals:
        """The same on a device."""
        places = (part.to(device) for part in (self.texts, self.pictures, self.names))
        return Goals(self.labels, *places)

    def nearest(self, heard: Tensor) -> Tensor:
        """(n, d) -> (n, labels): how near each label is."""
        return heard @ self.texts.T


def captions(label: str) -> list[str]:
    """What people call it; first the name that a drawing of it has."""
    name, *others = RECIPES[label].captions if label in RECIPES else (label,)
    if name.startswith("a "):
        return [name, *others]
    article = "an" if name[0] in "aeiou" else "a"
    return [name, f"{article} {name}", *others]


@torch.no_grad()
def find_goals(labels: Sequence[str], reader: Pupil, library: Library) -> Goals:
    """Where a trained CLIP has the labels' words, drawings of them, and every other name."""
    names = sorted({picture.name for picture in library.pictures})
    texts = torch.stack([prompts(reader, captions(label), "{}").mean(0) for label in labels])
    shown = torch.stack([_drawn(reader, library, captions(label)[0]) for label in labels])
    known = torch.cat(
        [prompts(reader, names[i : i + 256], "{}") for i in range(0, len(names), 256)]
    )
    return Goals(tuple(labels), F.normalize(texts, dim=1), F.normalize(shown, dim=1), known)


def _drawn(reader: Pupil, library: Library, name: str) -> Tensor:
    """(d,): the mean of all drawings of that name; zeros if there is none."""
    rows = [row for row, picture in enumerate(library.pictures) if picture.name == name]
    if not rows:
        return torch.zeros(reader.clip.visual.head.proj.weight.shape[0])
    return reader.embed_pictures(
        torch.stack([on_ground(library.rgba[r], SIDE) for r in rows])
    ).mean(0)


# --- sounds -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Album:
    """Waves by label, those that train and those that are kept for tests."""

    trained: dict[str, list[list[Wave]]] = field(default_factory=dict)  # by source
    kept: dict[str, list[Wave]] = field(default_factory=dict)


def collect(recordings: Iterable[Recording], made: int, seed: int) -> Album:
    """Recordings without their middles, and `made` sounds of each recipe."""
    by_source: dict[str, dict[str, list[Wave]]] = defaultdict(lambda: defaultdict(list))
    kept: dict[str, list[Wave]] = defaultdict(list)
    for recording in recordings:
        seen, unseen = split(recording.wave)
        by_source[recording.label][recording.source] += seen
        if unseen is not None:
            kept[recording.label].append(unseen)
    for name in RECIPES if made else ():
        chance = np.random.default_rng([seed, *name.encode()])
        waves = [synthesise(name, chance, _MADE_SECONDS) for _ in range(made)]
        by_source[name]["made"] += waves
    return Album({label: list(by.values()) for label, by in by_source.items()}, dict(kept))


def without(album: Album, labels: Iterable[str]) -> Album:
    """The same, but none of it is called that. Raises LookupError for what is not in it."""
    absent = set(labels)
    if unknown := absent - set(album.trained):
        raise LookupError(f"No sound is called {', '.join(sorted(unknown))}.")
    parts = ({k: v for k, v in part.items() if k not in absent} for part in vars(album).values())
    return Album(*parts)


def split(wave: Wave) -> tuple[list[Wave], Wave | None]:
    """The parts that train, and the middle that is kept, if the recording is long enough."""
    if len(wave) < _LONG_ENOUGH * RATE:
        return [wave], None
    half = round(len(wave) * _UNSEEN / 2)
    start, end = len(wave) // 2 - half, len(wave) // 2 + half
    return [wave[:start], wave[end:]], wave[start:end]


class Lessons(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Batches by number: waves (b, samples) and how much of each label is in them (b, labels)."""

    def __init__(self, album: Album, labels: Sequence[str], plan: Plan) -> None:
        """Every label comes equally often, and every source of a label."""
        self.album, self.labels, self.plan = album, tuple(labels), plan

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """The same number gives the same batch."""
        chance = np.random.default_rng([self.plan.seed, number])
        waves = np.zeros((self.plan.batch, LENGTH), np.float32)
        parts = np.zeros((self.plan.batch, len(self.labels)), np.float32)
        for row in range(self.plan.batch):
            first = int(chance.integers(len(self.labels)))
            wave, parts[row, first] = self._draw(first, chance), 1.0
            if chance.random() < self.plan.mixed:
                other, share = int(chance.integers(len(self.labels))), chance.uniform(0.2, 0.8)
                wave = share**0.5 * wave + (1 - share) ** 0.5 * self._draw(other, chance)
                parts[row] *= share
                parts[row, other] += 1 - share
            waves[row] = wave
        return torch.from_numpy(waves), torch.from_numpy(parts)

    def _draw(self, label: int, chance: np.random.Generator) -> Wave:
        sources = self.album.trained[self.labels[label]]
        waves = sources[chance.integers(len(sources))]
        return disguise(waves[chance.integers(len(waves))], chance)


def disguise(wave: Wave, chance: np.random.Generator) -> Wave:
    """(samples,) -> (LENGTH,): another pitch, place in time, room, microphone and noise; rms .1."""
    wave = place(retune(wave, float(np.exp(chance.uniform(-0.35, 0.35)))), chance)
    heard = colour(wave, chance)
    heard /= max(1e-6, float(np.sqrt(np.mean(heard**2))))
    noise = chance.standard_normal(LENGTH).astype(np.float32)
    if chance.random() < 0.5:  # pink: as much power in every octave
        noise = tilt(noise, -0.5)
    noise /= float(np.sqrt(np.mean(noise**2)))
    return (0.1 * (heard + 10 ** (-chance.uniform(8, 50) / 20) * noise)).astype(np.float32)


def retune(wave: Wave, speed: float) -> Wave:
    """Play it faster and higher (above 1) or slower and lower, as a tape would."""
    at = np.arange(0, len(wave) - 1, speed)
    return np.interp(at, np.arange(len(wave)), wave).astype(np.float32)


def place(wave: Wave, chance: np.random.Generator) -> Wave:
    """(LENGTH,): some part of a long sound; a short one somewhere in silence, or over and over."""
    if len(wave) >= LENGTH:
        start = int(chance.integers(len(wave) - LENGTH + 1))
        return wave[start : start + LENGTH]
    if chance.random() < 0.3:
        gap = np.zeros(int(chance.integers(RATE // 2)), np.float32)
        again = np.concatenate([wave, gap])
        return np.tile(again, LENGTH // len(again) + 1)[:LENGTH]
    placed = np.zeros(LENGTH, np.float32)
    start = int(chance.integers(LENGTH - len(wave) + 1)) if chance.random() < 0.5 else 0
    placed[start : start + len(wave)] = wave
    return placed


def colour(wave: Wave, chance: np.random.Generator) -> Wave:
    """A room (a tail of noise that dies away), a microphone (a curve, an end of its range)."""
    spectrum = np.fft.rfft(wave, 2 * LENGTH)
    hertz = np.fft.rfftfreq(2 * LENGTH, 1 / RATE)
    if chance.random() < 0.5:
        seconds = chance.uniform(0.05, 0.5)
        tail = chance.standard_normal(LENGTH) * np.exp(-np.arange(LENGTH) / RATE / seconds * 6.9)
        tail *= chance.uniform(0.1, 1.0) / np.sqrt(np.sum(tail**2))
        tail[0] += 1
        spectrum = spectrum * np.fft.rfft(tail, 2 * LENGTH)
    octaves = np.log2(np.maximum(hertz, 60) / 1000)
    curve = chance.uniform(-4, 4) * octaves  # dB
    for _ in range(3):
        waves, phase = chance.uniform(0.1, 0.8), chance.uniform(0, 2 * np.pi)
        curve += chance.normal(0, 4) * np.sin(2 * np.pi * waves * octaves + phase)
    spectrum = spectrum * 10 ** (curve / 20)
    if chance.random() < 0.3:
        spectrum = spectrum / (1 + (hertz / chance.uniform(2000, 7000)) ** 8)
    if chance.random() < 0.3:
        spectrum = spectrum / (1 + (chance.uniform(80, 400) / np.maximum(hertz, 1)) ** 8)
    return np.fft.irfft(spectrum)[:LENGTH].astype(np.float32)


def tilt(wave: Wave, slope: float) -> Wave:
    """Weigh each frequency by a power of itself."""
    hertz = np.fft.rfftfreq(len(wave), 1 / RATE)
    weighed = np.fft.rfft(wave) * np.maximum(hertz, 20.0) ** slope
    return np.fft.irfft(weighed, len(wave)).astype(np.float32)


# --- training -----------------------------------------------------------------------------------


def new_network(goals: Goals) -> Network:
    """A tower that has learned from photographs: of its three colours it keeps the sum."""
    net = Network(goals.texts.shape[1], len(goals.labels))
    net.goals.copy_(goals.texts)
    weights = efficientnet_lite("lite0").state_dict()
    weights["conv_stem.weight"] = weights["conv_stem.weight"].sum(1, keepdim=True)
    net.tower.load_state_dict({k: v for k, v in weights.items() if not k.startswith("classifier")})
    quicken(net.tower)
    return net


def new_state(net: Network, plan: Plan) -> State:
    """Begin with a net; its tower learns more gently."""
    net = net.to(plan.device)
    return State(net, adamw(net, plan.rate, plan.decay, gently={net.tower: plan.tower_rate}))


def cover(seen: Tensor, chance: torch.Generator) -> Tensor:
    """Hide a band of tones and a span of time of each (SpecAugment, Park et al. 2019)."""
    for axis, most in ((2, 12), (3, 40)):
        size = seen.shape[axis]
        length = torch.randint(0, most + 1, (len(seen), 1), generator=chance)
        start = (torch.rand(len(seen), 1, generator=chance) * (size - length)).long()
        at = torch.arange(size)
        hidden = (at >= start) & (at < start + length)
        shape = (len(seen), 1, size, 1) if axis == 2 else (len(seen), 1, 1, size)
        seen = seen.masked_fill(hidden.view(shape).to(seen.device), 0.0)
    return seen


def train_step(
    plan: Plan, state: State, goals: Goals, progress: float, batch: tuple[Tensor, Tensor]
) -> dict[str, float]:
    """Listen, compare with all labels, move; returns numbers for the log."""
    set_rates(state.optimiser, pace(progress, state.step, plan.warm_up))
    net, (waves, parts) = state.net.train(), batch
    chance = torch.Generator().manual_seed(plan.seed * 1_000_003 + state.step)
    with torch.no_grad():
        seen = cover(net.look(waves), chance)
    with in_half(seen):
        heard = net.name(seen)
    losses = compare(plan, goals, heard.float(), parts)
    state.move(sum(losses.values(), torch.zeros(())), 2.0, plan.ema)
    right = goals.nearest(heard.float()).argmax(1) == parts.argmax(1)
    return {k: v.item() for k, v in losses.items()} | {"right": right.float().mean().item()}


def compare(plan: Plan, goals: Goals, heard: Tensor, parts: Tensor) -> dict[str, Tensor]:
    """How far (n, d) is from what it should be; `parts` (n, labels) say what is in each."""
    wanted = F.normalize(parts @ goals.texts, dim=1)
    losses = {
        "label": F.cross_entropy(goals.nearest(heard) / plan.heat, parts),
        "near": plan.near * (1 - (heard * wanted).sum(1)).mean(),
    }
    if plan.names:
        same = (wanted @ goals.names.T / plan.heat).softmax(1)
        losses["names"] = plan.names * F.cross_entropy(heard @ goals.names.T / plan.heat, same)
    drawn = goals.pictures.norm(dim=1) > 0
    if plan.shown and drawn.any():
        shown = parts * drawn  # a share of what has drawings
        alike = (heard @ goals.pictures.T / plan.heat).masked_fill(~drawn, -1e4)
        losses["shown"] = plan.shown * F.cross_entropy(alike, shown)
    return losses


def train(
    plan: Plan, state: State, lessons: Lessons, goals: Goals, folder: Path, report: Report = dict
) -> None:
    """Train until the plan is done; write log.jsonl and checkpoint.pt into the folder."""
    goals = goals.to(plan.device)

    def take_step(progress: float, batch: tuple[Tensor, Tensor]) -> dict[str, float]:
        return train_step(plan, state, goals, progress, batch)

    train_course(plan, state, lessons, take_step, folder, report)


def export(
    net: Network, folder: Path, space: str, labels: Sequence[str], left_out: Sequence[str] = ()
) -> None:
    """Write config, half-precision weights and the names of what it knows, or never heard."""
    folder.mkdir(parents=True, exist_ok=True)
    width = net.speak.out_features
    config = {"width": width, "labels": len(net.goals), "tower": TOWER, "space": space}
    (folder / CONFIG).write_text(json.dumps(config) + "\n")
    called = {label: captions(label) for label in labels}
    (folder / LABELS.name).write_text(json.dumps(called, indent=1) + "\n")
    if left_out:
        (folder / LEFT_OUT).write_text(json.dumps(list(left_out)) + "\n")
    write_weights(net.state_dict(), folder / WEIGHTS)


# --- how well -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Question:
    """A sound that did not train, what it is, and which of the exams asks it."""

    exam: str
    label: str
    wave: Wave


def questions(album: Album, others: Iterable[Recording], seed: int) -> list[Question]:
    """Middles of known recordings, sounds made with unheard settings, other sources' recordings."""
    middles = [
        Question("sections", label, wave)
        for label, waves in album.kept.items()
        for wave in waves
        if label != SPEECH
    ]
    made = [Question("made", name, wave) for name, wave in _made(seed) if name in album.trained]
    foreign = [Question("sources", r.label, r.wave) for r in others if r.label in album.trained]
    return [*middles, *made, *foreign]


def _made(seed: int) -> Iterator[tuple[str, Wave]]:
    for name in RECIPES:
        chance = np.random.default_rng([seed + 1, *name.encode()])
        for _ in range(_ASKED):
            yield name, synthesise(name, chance, _MADE_SECONDS, unheard=True)


@torch.no_grad()
def hear(ear: Ear, wave: Wave) -> Tensor:
    """(d,), unit length: what the sound as a whole says."""
    return whole(ear, wave)[0]


def answers(net: Network, goals: Goals, asked: Sequence[Question]) -> dict[str, float]:
    """For each exam, the share of sounds whose label is the first, or one of five, of all."""
    ear = Ear(net, space="")
    places = defaultdict(list)
    for question in asked:
        nearness = goals.nearest(hear(ear, question.wave)[None])[0]
        mine = nearness[goals.labels.index(question.label)]
        places[question.exam].append(int((nearness > mine).sum()))
    return {
        f"{exam}_top{most}": float(np.mean(np.array(found) < most))
        for exam, found in places.items()
        for most in (1, 5)
    }
