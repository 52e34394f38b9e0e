"""Drums, cymbals, a gong and maracas.

Modes of membranes are Fletcher and Rossing, "The Physics of Musical Instruments" (1998).
"""

from __future__ import annotations

import numpy as np

from training.synth.recipes import recipe
from training.synth.signals import (
    RATE,
    TOP,
    Dice,
    Signal,
    add,
    beats,
    colour,
    edges,
    fade,
    hiss,
    hump,
    lines,
    loud,
    ring,
    samples,
    scatter,
    scattered,
    seconds_of,
    sine,
    train_of,
    wander,
)

MEMBRANE = np.array([1, 1.593, 2.135, 2.295, 2.653, 2.917, 3.155, 3.5, 3.6])


def drum_hit(
    d: Dice, m: int, pitch: float, decay: float, stick: float, bend: float = 0.3
) -> Signal:
    """A membrane: modes at the zeros of Bessel functions, sharp at first, the skin being tight."""
    time = seconds_of(m)
    warp = time + bend * 0.03 * (1 - np.exp(-time / 0.03))
    out = np.zeros(m)
    for k, ratio in enumerate(MEMBRANE):
        out += sine(pitch * ratio * warp) * fade(m, decay / ratio**1.2) * 0.75**k
    return loud(out) + stick * loud(hiss(d, m, hump(2200, 1.3)) * fade(m, 0.006))


def snare_hit(d: Dice, m: int, pitch: float, decay: float) -> Signal:
    """A drum whose wires rattle."""
    wires = hiss(d, m, hump(3800, 1.3)) * fade(m, decay)
    return 0.7 * drum_hit(d, m, pitch, 0.06, 0.3) + 0.8 * loud(wires)


def cymbal_hit(d: Dice, m: int, low: float, decay: float) -> Signal:
    """A plate: so many modes that it is nearly noise; the highs bloom, then go first."""
    body = lines(d, m, low, 2500, 120) * fade(m, decay)
    shine = lines(d, m, 2000, TOP, 400) + hiss(d, m, hump(5000, 0.9))
    bloom = 1 - 0.6 * np.exp(-seconds_of(m) / 0.03)
    return loud(0.4 * body + shine * bloom * fade(m, decay * 0.6)) * edges(m, 0.001, 0.05)


@recipe("drum", "drum", "drumming", "drums", "someone beating a drum")
def drum(d: Dice, n: int) -> Signal:
    """Hand drums or toms in a pattern with accents."""
    pitch, decay, stick = d.between(65, 260), d.between(0.08, 0.35), d.between(0.1, 0.5)
    beat = d.between(0.11, 0.34)
    bar = [d.pick((1.0, 0.5, 0.0)) for _ in range(d.pick((3, 4, 6, 8)))]
    bar[0] = 1.0
    hits = [drum_hit(d, samples(0.6), pitch * r, decay, stick) for r in (1, d.between(1.3, 1.8))]
    out = np.zeros(n)
    for k, start in enumerate(beats(d, n, beat, 0.05)):
        level = bar[k % len(bar)]
        add(out, int(start), hits[level < 1], level * d.between(0.8, 1.0))
    return out


@recipe("drum kit", "drum kit", "rock drums", "a drummer playing a beat")
def drum_kit(d: Dice, n: int) -> Signal:
    """Bass drum on one, snare on two and four, hi-hat in between."""
    step = d.between(0.1, 0.26)
    kick = drum_hit(d, samples(0.35), d.between(42, 75), d.between(0.07, 0.2), 0.25, bend=1.5)
    snare = snare_hit(d, samples(0.3), d.between(160, 260), d.between(0.04, 0.12))
    m = samples(0.12)
    hat = loud(hiss(d, m, hump(6000, 0.5)) + lines(d, m, 4000, TOP, 60)) * fade(
        m, d.between(0.01, 0.05)
    )
    kicks = {0, d.pick((3, 4, 5)), *d.pick(((), (6,), (7,)))}
    out = np.zeros(n)
    for k, start in enumerate(beats(d, n, step)):
        add(out, int(start), hat, 0.35)
        if k % 8 in kicks:
            add(out, int(start), kick)
        if k % 8 in (2, 6):
            add(out, int(start), snare, 0.8)
    return out


@recipe("snare drum", "snare drum", "a drum roll", "marching snare drum")
def snare_drum(d: Dice, n: int) -> Signal:
    """A roll, or a march."""
    pitch, decay = d.between(160, 300), d.between(0.04, 0.14)
    hits = [snare_hit(d, samples(0.3), pitch, decay) for _ in range(3)]
    if d.chance(0.5):
        gains = 0.4 + 0.6 * np.abs(wander(d, n, 0.8))
        return gains * train_of(n, beats(d, n, d.between(0.035, 0.085), 0.2), hits)
    out, accents = (
        np.zeros(n),
        d.pick(((1, 0.4, 0.4, 0.4), (1, 0, 0.5, 0.5), (1, 0, 0.8, 0.4, 0.4, 0.4))),
    )
    for k, start in enumerate(beats(d, n, d.between(0.1, 0.25), 0.04)):
        add(out, int(start), hits[k % 3], accents[k % len(accents)])
    return out


@recipe("cymbal", "cymbal", "cymbals crashing", "a crash cymbal")
def cymbal(d: Dice, n: int) -> Signal:
    """Crashes that hiss for seconds."""
    low, decay = d.between(250, 700), d.between(0.5, 2.2)
    crash = cymbal_hit(d, n, low, decay)
    return train_of(n, beats(d, n, d.between(0.6, 2.6), 0.2), [crash])


@recipe("gong", "gong", "a gong being struck", "a large gong")
def gong(d: Dice, n: int) -> Signal:
    """Low modes at once; energy creeps to the high ones, which bloom half a second later."""
    low, decay = d.between(70, 190), d.between(1.0, 3.5)
    time = seconds_of(n)
    base = ring(
        low * np.array([1, 1.52, 2.03, 2.7, 3.4]), np.full(5, decay), d.spread(1, 0.5, 5), n
    )
    bloom = (1 - np.exp(-time / d.between(0.08, 0.35))) * fade(n, decay * 0.6)
    shimmer = lines(d, n, low * 4, 4500, 160) * bloom
    strike = (loud(base) + d.between(0.1, 0.35) * shimmer) * edges(n, 0.01, 0.02)
    return train_of(n, beats(d, n, d.between(1.8, 6.0), 0.2), [strike])


@recipe("maracas", "maracas", "shaking maracas", "a shaker")
def maracas(d: Dice, n: int) -> Signal:
    """Seeds that hit a gourd, most of them at the end of each shake (Cook's PhISEM, 1997)."""
    shake, gourd = d.between(0.1, 0.32), hump(d.between(2800, 5600), 0.6)
    out = np.zeros(n)
    for k, start in enumerate(beats(d, n, shake, 0.05)):
        m = samples(min(shake, 0.16))
        grains = scattered(d, m, d.between(800, 2600))
        seeds = scatter(
            m, grains, d.rng.normal(size=(len(grains), 12)) * np.exp(-np.arange(12) / 3)
        )
        add(out, int(start), loud(seeds) * edges(m, 0.02, m / RATE * 0.7), 1.0 if k % 2 else 0.55)
    return colour(out, gourd)
