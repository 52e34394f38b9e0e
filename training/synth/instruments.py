"""Instruments: the table of those that have a voice, how one is played, and the bagpipes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from training.synth.recipes import recipe
from training.synth.signals import (
    Dice,
    Signal,
    add,
    colour,
    cycles_of,
    harmonics,
    peaks,
    samples,
    seconds_of,
    tone,
)
from training.synth.voices import (
    Voice,
    accordion,
    banjo,
    bass_guitar,
    cello,
    clarinet,
    electric_guitar,
    flute,
    guitar,
    harp,
    music_box,
    organ,
    piano,
    trumpet,
    violin,
    xylophone,
)


@dataclass(frozen=True)
class Instrument:
    """A voice, the roots of its tunes in Hz, and how it is played.

    `ring` is how many seconds a note sounds by itself; 0 means as long as it is held.
    """

    captions: tuple[str, ...]
    voice: Callable[[Dice], Voice]
    low: float
    high: float
    ring: float = 0.0
    ways: tuple[str, ...] = ("tune",)


TUNE_AND_CHORDS = ("tune", "tune", "chords")
TUNE_AND_LONG = ("tune", "tune", "long")
INSTRUMENTS: dict[str, Instrument] = {
    "guitar": Instrument(
        ("guitar", "acoustic guitar", "someone playing the guitar"),
        guitar, 82, 330, 1.2, ("tune", "chords", "arpeggio"),
    ),
    "electric guitar": Instrument(
        ("electric guitar", "distorted electric guitar", "rock guitar"), electric_guitar, 75, 200,
    ),
    "bass guitar": Instrument(
        ("bass guitar", "a bass line", "playing the bass"), bass_guitar, 38, 85, 0.9
    ),
    "harp": Instrument(
        ("harp", "harp playing", "plucking a harp"), harp, 120, 500, 1.4, ("tune", "arpeggio")
    ),
    "banjo": Instrument(
        ("banjo", "banjo playing", "bluegrass banjo"), banjo, 140, 320, 0.6, ("arpeggio", "tune")
    ),
    "piano": Instrument(
        ("piano", "piano music", "someone playing the piano"),
        piano, 110, 560, 1.2, (*TUNE_AND_CHORDS, "arpeggio"),
    ),
    "music box": Instrument(
        ("music box", "a music box tune", "a tinkling music box"), music_box, 520, 1150, 1.2
    ),
    "xylophone": Instrument(
        ("xylophone", "xylophone playing", "marimba"), xylophone, 350, 1100, 0.5
    ),
    "violin": Instrument(
        ("violin", "violin playing", "someone playing the violin"),
        violin, 200, 620, 0, TUNE_AND_LONG,
    ),
    "cello": Instrument(
        ("cello", "cello playing", "a bowed cello"),
        cello, 66, 180, 0, TUNE_AND_LONG,
    ),
    "flute": Instrument(
        ("flute", "flute playing", "a flute melody"),
        flute, 262, 900, 0, TUNE_AND_LONG,
    ),
    "clarinet": Instrument(
        ("clarinet", "clarinet playing", "a clarinet tune"),
        clarinet, 150, 500, 0, TUNE_AND_LONG,
    ),
    "trumpet": Instrument(
        ("trumpet", "trumpet playing", "brass fanfare"),
        trumpet, 165, 500, 0, TUNE_AND_LONG,
    ),
    "organ": Instrument(
        ("organ", "church organ", "pipe organ playing"), organ, 80, 330, 0, ("chords", "tune")
    ),
    "accordion": Instrument(
        ("accordion", "accordion playing", "accordion music"), accordion, 130, 400,
        0, TUNE_AND_CHORDS,
    ),
}  # fmt: skip

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "pentatonic": (0, 2, 4, 7, 9),
}


def degree(scale: Sequence[int], step: int) -> int:
    """Semitones of a step of a scale, any number of octaves up or down."""
    return 12 * (step // len(scale)) + scale[step % len(scale)]


def play(d: Dice, instrument: Instrument, n: int) -> Signal:
    """A short tune, chords, an arpeggio or long notes on one instrument."""
    voice, root = instrument.voice(d), d.between(instrument.low, instrument.high)
    way, beat = d.pick(instrument.ways), d.between(0.16, 0.7)
    scale, step, at = SCALES[d.pick(tuple(SCALES))], 0, samples(d.between(0.01, 0.1))
    out, rung = np.zeros(n), dict[int, Signal]()
    while at < n:
        steps, length = [step], beat * d.pick((1, 1, 1, 2, 0.5))
        if way == "chords":
            steps, length = [step, step + 2, step + 4], max(2 * beat, 0.35)
        elif way == "arpeggio":
            length = beat * 0.5
        elif way == "long":
            length = d.between(0.8, 4.0)
        held = instrument.ring or length * d.between(0.85, 1.0)
        strum = samples(d.between(0.005, 0.03)) if instrument.ring else 0
        for k, each in enumerate(steps):
            if not instrument.ring or each not in rung:  # what rings by itself may ring again
                pitch, m = root * 2 ** (degree(scale, each) / 12), min(samples(held), n - at)
                rung[each] = voice(pitch, max(m, 64), 1.0)
            add(out, at + k * strum, rung[each], d.between(0.6, 1.0))
        at += samples(length)
        leap = (-2, -1, -1, 1, 1, 2) if way == "tune" else (-2, 2, 4, -4, 3, -3)
        step = int(np.clip(step + d.pick(leap), -3, len(scale)))
    return out


def _player(instrument: Instrument) -> Callable[[Dice, int], Signal]:
    return lambda d, n: play(d, instrument, n)


for _name, _instrument in INSTRUMENTS.items():
    recipe(_name, *_instrument.captions)(_player(_instrument))


@recipe("bagpipes", "bagpipes", "bagpipe music", "a piper playing the bagpipes")
def bagpipes(d: Dice, n: int) -> Signal:
    """Drones that never stop under a reedy chanter that cannot pause, with grace notes."""
    root, time = d.between(190, 290), seconds_of(n)
    out = np.zeros(n)
    for ratio, gain in ((0.5, 0.5), (0.502, 0.4), (0.25, 0.5)):
        out += gain * tone(time * root * ratio, harmonics(d.between(0.5, 1.0)), root)
    beat, pitch, at = d.between(0.16, 0.5), np.full(n, root * 2), 0
    while at < n:
        m = samples(beat * d.pick((1, 1, 2)))
        pitch[at : at + m] = root * 2 ** (degree(SCALES["major"], d.count(0, 8)) / 12)
        pitch[at : at + samples(0.03)] = root * 2.25  # the grace note
        at += m
    chanter = tone(cycles_of(pitch), harmonics(d.between(0.2, 0.7), 40), float(pitch.max()))
    return out + colour(chanter, peaks((1200, 2, 1), (2600, 2, 0.8), floor=0.3))
