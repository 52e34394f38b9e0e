"""What a recipe is, the table of all of them, and how one is recorded: a room, a microphone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy import fft

from training.synth.signals import (
    RATE,
    Dice,
    Signal,
    Wave,
    add,
    edges,
    fade,
    hiss,
    loud,
    samples,
    slope,
)

SHORTEST = 0.25  # seconds


@dataclass(frozen=True)
class Recipe:
    """A thing that sounds: phrases that are true of it, the plain noun first, and how to make it.

    `make(dice, n)` gives n samples of any loudness, as if heard close by in a dry room.
    """

    name: str
    captions: tuple[str, ...]
    make: Callable[[Dice, int], Signal]


RECIPES: dict[str, Recipe] = {}


def recipe(
    name: str, *captions: str
) -> Callable[[Callable[[Dice, int], Signal]], Callable[[Dice, int], Signal]]:
    """Enter a function as the recipe of `name`."""

    def enter(make: Callable[[Dice, int], Signal]) -> Callable[[Dice, int], Signal]:
        RECIPES[name] = Recipe(name, captions or (name,), make)
        return make

    return enter


def synthesise(name: str, rng: Generator, seconds: float = 4.0, *, unheard: bool = False) -> Wave:
    """Make the sound of a thing, (seconds · 16000,), with a peak of at most 1.

    The same `rng` gives the same sound. `unheard` draws every setting of the thing itself
    beyond what training uses.
    """
    if name not in RECIPES:
        raise ValueError(f"No sound called {name!r}. We have: {', '.join(RECIPES)}.")
    if seconds < SHORTEST:
        raise ValueError(
            f"A sound of {seconds} s is too short to tell. Ask for {SHORTEST} or more."
        )
    dry = RECIPES[name].make(Dice(rng, unheard), samples(seconds))
    return place(Dice(rng), dry)  # in the same rooms: the thing is new, the microphone is not


def place(d: Dice, dry: Signal) -> Wave:
    """Record a sound somewhere: air takes the highs, a room answers, the microphone has limits."""
    dry = stretch_of(d, loud(dry))
    n, tail = len(dry), samples(d.between(0.08, 1.0))
    size = fft.next_fast_len(n + 3 * tail, real=True)
    answer = d.rng.standard_normal(3 * tail, dtype=np.float32) * fade(3 * tail, tail / RATE)
    answer *= d.between(0.01, 0.25) / np.sqrt(np.sum(answer**2))
    answer[0] += 1
    spectrum = fft.rfft(dry.astype(np.float32), size) * fft.rfft(answer, size)
    heard = loud(fft.irfft(spectrum * microphone(d)(fft.rfftfreq(size, 1 / RATE)), size)[:n])
    floor = d.between(0.0002, 0.025) * hiss(d, n, slope(d.between(0.05, 0.8)))
    return loud(heard + floor, d.between(0.25, 1.0)).astype(np.float32).clip(-1, 1)


def stretch_of(d: Dice, x: Signal) -> Signal:
    """Leave a sound as it is or, in three of ten cases, let it end early, as short files do."""
    if d.chance(0.7):
        return x
    begun = int(np.argmax(np.abs(x) > 0.25 * np.abs(x).max()))
    kept = begun + samples(d.between(0.4, max(0.5, len(x) / RATE)))
    short = np.zeros(len(x))
    add(short, 0, x[:kept] * edges(min(kept, len(x)), 1e-4, d.between(0.03, 0.3)))
    return short


def microphone(d: Dice) -> Callable[[Signal], Signal]:
    """What distance and the recorder let through; one in six is an old file without highs."""
    air, bass = d.between(2500, 16_000), d.between(15, 120)
    limit = d.between(3500, 6500) if d.chance(0.16) else 20_000.0

    def curve(hertz: Signal) -> Signal:
        through = 1 / np.sqrt((1 + (hertz / air) ** 2) * (1 + (bass / (hertz + 1)) ** 2))
        return (through / (1 + (hertz / limit) ** 24)).astype(np.float32)

    return curve
