"""Rhythms and small pieces of music, of which onsets, tempo and key are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from training.synth.drums import drum_hit, snare_hit
from training.synth.instruments import SCALES, degree
from training.synth.signals import (
    RATE,
    Dice,
    Signal,
    Wave,
    add,
    clank,
    edges,
    fade,
    hiss,
    hump,
    loud,
    samples,
    seconds_of,
    sine,
    slope,
)
from training.synth.things import knock
from training.synth.voices import (
    Voice,
    bass_guitar,
    flute,
    guitar,
    music_box,
    piano,
    pluck,
    xylophone,
)


def _click(d: Dice) -> Signal:
    m = samples(0.05)
    return loud(clank(d, m, d.between(900, 3500), d.between(0.003, 0.012), 4))


def _beep(d: Dice) -> Signal:
    m = samples(d.between(0.05, 0.1))
    return sine(seconds_of(m) * d.between(500, 2400)) * edges(m, 0.002, 0.02)


def _plucked(d: Dice) -> Signal:
    return pluck(d, d.between(90, 500), samples(0.35), d.between(0.06, 0.15), 0.2, 0.2)


def _clap(d: Dice) -> Signal:
    m = samples(0.08)
    return loud(hiss(d, m, hump(d.between(1000, 2000), 0.8)) * fade(m, d.between(0.006, 0.015)))


STRIKES: dict[str, Callable[[Dice], Signal]] = {
    "clicks": _click,
    "beeps": _beep,
    "plucks": _plucked,
    "claps": _clap,
    "drums": lambda d: drum_hit(d, samples(0.3), d.between(70, 240), d.between(0.04, 0.1), 0.4),
    "snares": lambda d: snare_hit(d, samples(0.2), d.between(160, 280), d.between(0.03, 0.07)),
    "knocks": lambda d: knock(d, samples(0.15), d.between(120, 400), 0.02, 0.3),
    "bars": lambda d: (
        xylophone(d)(d.between(350, 1200), 4800, 1.0) * fade(4800, 0.08)
    ),  # damped by hand
}


def rhythm(
    rng: Generator, seconds: float = 8.0, *, unheard: bool = False
) -> tuple[Wave, tuple[float, ...]]:
    """A rhythm and the true times of its onsets in seconds, in order, 0.12 s apart or more.

    It may keep time, leave out beats, or follow no beat at all; one kind of strike or two; with
    accents and, half the time, noise behind it.
    """
    d = Dice(rng, unheard)
    n = samples(seconds)
    gaps = _gaps(d, seconds)
    times = d.between(0.1, 0.4) + np.concatenate([[0.0], np.cumsum(gaps)])
    starts = [samples(time) for time in times if time < seconds - 0.1]
    kinds = [d.pick(tuple(STRIKES)) for _ in range(d.count(1, 2))]
    sounds = [loud(STRIKES[kind](d)) for kind in kinds]
    out = np.zeros(n)
    for start in starts:
        add(out, start, d.pick(sounds), d.between(0.4, 1.0))
    noise = d.between(0.001, 0.04) if d.chance(0.5) else 0.0003
    out = loud(out) + noise * hiss(d, n, slope(d.between(0.1, 1.0)))
    wave = loud(out, d.between(0.3, 1.0)).astype(np.float32).clip(-1, 1)
    return wave, tuple(start / RATE for start in starts)


def _gaps(d: Dice, seconds: float) -> Signal:
    """Seconds between onsets, more than enough of them."""
    beat, many = d.between(0.2, 0.9), int(seconds / 0.12) + 2
    kind = d.pick(("steady", "steady", "pattern", "free"))
    if kind == "steady":
        return np.full(many, beat)
    if kind == "free":
        return np.maximum(0.12, d.spread(beat, 0.5, many))
    bar = [beat * d.pick((0.5, 1, 1, 1.5, 2)) for _ in range(d.count(2, 5))]
    return np.maximum(0.12, np.resize(bar, many))


TURNS = ((0, 3, 4, 0), (0, 5, 3, 4), (0, 3, 0, 4))  # chords of a bar each, by step of the scale


def chord_music(rng: Generator, seconds: float, *, minor: bool, tempo: float) -> Wave:
    """A small piece: chords on each beat, a bass on the first and third, a tune in between.

    `tempo` is beats a minute, 40 to 220. The chords are the first, fourth, fifth and sixth of the
    key, and the last note of each bar belongs to its chord, so the key can be heard.
    """
    if not 40 <= tempo <= 220:
        raise ValueError(f"A tempo of {tempo} is no music here. Ask for 40 to 220 beats a minute.")
    d, n, beat = Dice(rng), samples(seconds), 60 / tempo
    scale = SCALES["minor" if minor else "major"]
    turn, root = d.pick(TURNS), d.between(196, 330)
    chords, low, high = piano(d), bass_guitar(d), d.pick((music_box, xylophone, flute, guitar))(d)
    out, step = np.zeros(n), 7

    def note(voice: Voice, start: float, length: float, steps: int, gain: float) -> None:
        at = samples(start + 0.05)
        if at < n:
            pitch = root * 2 ** (degree(scale, steps) / 12)
            add(out, at, loud(voice(pitch, samples(length), 1.0)), gain)

    for k in range(int(seconds / beat) + 1):
        here, chord = k * beat, turn[k // 4 % len(turn)]
        for third in (0, 2, 4):
            note(chords, here, beat * 1.2, chord + third, 0.35 if k % 4 else 0.5)
        if k % 2 == 0:
            note(low, here, beat * 1.8, chord - 14, 0.6)
        nearest = [7 * o + chord + t for o in (0, 1, 2) for t in (0, 2, 4)]
        step = min(nearest, key=lambda s: (abs(s - step - d.pick((-2, -1, 1, 2))), s))
        step = int(np.clip(step, 4, 16))
        note(high, here, beat * 0.95, step, 0.5)
        if d.chance(0.4):
            note(high, here + beat / 2, beat * 0.5, step + d.pick((-1, 1)), 0.35)
    return loud(out, 0.8).astype(np.float32)
