"""Animals: what they sing, rub, croak, beat, hiss, purr and quack."""

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
    blasts,
    colour,
    cycles_of,
    edges,
    harmonics,
    hiss,
    hump,
    loud,
    peaks,
    samples,
    seconds_of,
    sine,
    tone,
    wander,
)


@recipe("bird", "bird", "bird singing", "birds chirping", "birdsong")
def bird(d: Dice, n: int) -> Signal:
    """Phrases of quick sweeps, whistled, each phrase made of one syllable or two."""
    out, at, centre = np.zeros(n), samples(d.between(0.02, 0.2)), d.between(2200, 5200)
    while at < n:
        syllables = []
        for _ in range(d.count(1, 2)):
            m = samples(d.between(0.04, 0.22))
            share = np.arange(m) / m
            ends = d.spread(centre, 0.25, 3)
            bow = ends[0] + (ends[1] - ends[0]) * share + (ends[2] - centre) * np.sin(np.pi * share)
            trill = d.pick((0, 0, 0.04)) * sine(share * m / RATE * d.between(25, 60))
            pitch = (bow * (1 + trill)).clip(1200, 7000)
            cycles = cycles_of(pitch)
            wave = sine(cycles) + 0.08 * sine(2 * cycles) * (pitch < TOP / 2)
            syllables.append(wave * edges(m, m / RATE * 0.3, m / RATE * 0.4))
        pause = samples(d.between(0.02, 0.12))
        for k in range(d.count(2, 7)):
            syllable = syllables[k % len(syllables)]
            add(out, at, syllable, d.between(0.6, 1))
            at += len(syllable) + pause
        at += samples(d.between(0.15, 0.9))
    return out


@recipe("cricket", "cricket", "crickets chirping", "crickets at night")
def cricket(d: Dice, n: int) -> Signal:
    """A file drawn over a comb: three to five pulses of one pure pitch, again and again."""
    out = np.zeros(n)
    for k in range(d.count(1, 3)):
        pitch, rate, teeth = d.between(3000, 5800), d.between(22, 48), d.count(3, 5)
        m = samples(0.7 / rate)
        rub = sine(seconds_of(m) * pitch)
        rub = rub + d.between(0.05, 0.5) * sine(seconds_of(m) * pitch * 1.62) * (pitch < 4400)
        pulse = rub * edges(m, m / RATE * 0.4, m / RATE * 0.4)
        for start in beats(d, n, teeth / rate * d.between(1.5, 4), 0.05):
            for tooth in range(teeth):
                gain = (0.6 + 0.4 * tooth / teeth) * (1.0 if k == 0 else 0.35)
                add(out, int(start) + samples(tooth / rate), pulse, gain)
    return out + d.between(0.001, 0.015) * hiss(d, n, hump(4500, 0.8))


@recipe("frog", "frog", "frog croaking", "frogs at a pond")
def frog(d: Dice, n: int) -> Signal:
    """Pulses of the throat, thirty to eighty a second, that a sac resonates; it swells."""
    rate, low = d.between(28, 85), d.between(380, 950)
    throat = peaks((low, 7, 1), (low * d.between(2.0, 2.8), 7, 0.6), floor=0.01)
    out, at = np.zeros(n), samples(d.between(0.02, 0.2))
    while at < n:
        m = samples(d.between(0.14, 0.5))
        share = np.arange(m) / m
        cycles = cycles_of(rate * (1 + 0.25 * share))
        pulse = np.exp((-9 * (cycles - np.floor(cycles))).astype(np.float32))
        croak = colour((pulse - pulse.mean()) * (1 + 0.2 * d.rng.normal(size=m)), throat)
        add(out, at, loud(croak) * edges(m, m / RATE * 0.5, 0.04))
        at += m + samples(d.between(0.1, 0.6))
    return out


@recipe("owl", "owl", "owl hooting", "an owl at night")
def owl(d: Dice, n: int) -> Signal:
    """Hollow hoots, nearly pure, that rise a little and fall: short ones, then a long one."""
    out, at, pitch = np.zeros(n), samples(d.between(0.02, 0.2)), d.between(260, 560)
    lengths = d.pick(((0.3, 0.14, 0.5), (0.2, 0.2, 0.45), (0.45,), (0.15, 0.15, 0.3, 0.3)))
    pace = d.between(0.75, 1.4)
    while at < n:
        for length in lengths:
            m = samples(length * pace)
            bow = 1 + d.between(0.02, 0.1) * (np.sin(np.pi * np.arange(m) / m) - 0.5)
            wobble = 1 + 0.008 * sine(seconds_of(m) * d.between(5, 11))
            cycles = cycles_of(pitch * bow * wobble)
            hoot = sine(cycles) + 0.12 * sine(2 * cycles) + 0.06 * sine(3 * cycles)
            hoot += d.between(0.01, 0.08) * hiss(d, m, hump(pitch * 1.5, 0.8))
            add(out, at, hoot * edges(m, 0.06, 0.09))
            at += m + samples(0.12 * pace)
        at += samples(d.between(0.35, 1.0))
    return out


def wings(d: Dice, n: int, pitch: float, power: float) -> Signal:
    """Wings that beat `pitch` times a second, on a wandering path."""
    path = pitch * (1 + d.between(0.03, 0.12) * wander(d, n, d.between(1, 4)))
    path = path * (1 + 0.01 * wander(d, n, 40))
    near = (0.6 + 0.4 * wander(d, n, d.between(0.5, 1.6))).clip(0.08, 1.2)
    gains = harmonics(power) * d.spread(1, 0.5, 60)
    return tone(cycles_of(path), gains, float(path.max())) * near


@recipe("bee", "bee", "honeybee buzzing", "bees buzzing", "a bumblebee")
def bee(d: Dice, n: int) -> Signal:
    """Some two hundred beats a second, rich up to a few kilohertz."""
    buzz, pitch = np.zeros(n), d.between(140, 300)
    for _ in range(d.pick((1, 1, 2, 4))):
        buzz += wings(d, n, pitch * d.spread(1, 0.08, 1)[0], d.between(0.7, 1.4))
    buzz *= 1 + d.between(0.1, 0.9) * d.rng.standard_normal(n, dtype=np.float32)  # the air is torn
    return colour(buzz, peaks((500, 1.5, 1), (1500, 1.5, 0.5), (3200, 2, 0.25), floor=0.05))


@recipe("mosquito", "mosquito", "mosquito buzzing", "the whine of a mosquito")
def mosquito(d: Dice, n: int) -> Signal:
    """Thin wings at twice or thrice a bee's rate: a whine."""
    return wings(d, n, d.between(420, 950), d.between(1.3, 2.4))


@recipe("snake", "snake", "snake hissing", "a rattlesnake")
def snake(d: Dice, n: int) -> Signal:
    """Breath through a narrow mouth; a rattlesnake shakes its tail fifty times a second."""
    noise = hiss(d, n, hump(d.between(3200, 6200), d.between(0.6, 1.1)))
    if d.chance(0.4):
        cycles = cycles_of(d.between(38, 80) * (1 + 0.08 * wander(d, n, 3)))
        shake = np.exp((-5 * (cycles - np.floor(cycles))).astype(np.float32))
        return noise * shake * (0.7 + 0.4 * wander(d, n, 1))
    return blasts(d, n, 0.4, 1.6, lambda m: noise[:m] * edges(len(noise[:m]), 0.1, m / RATE * 0.5))


VOWELS = ((420, 2300), (950, 1700), (550, 1050))  # first two formants of mi-a-ow, in Hz


def meow(d: Dice, n: int) -> Signal:
    """Mi-a-ow: the mouth opens and closes while the pitch rises and falls."""
    out, at, pitch, mouth = (
        np.zeros(n),
        samples(d.between(0.02, 0.2)),
        d.between(300, 750),
        d.between(0.85, 1.2),
    )
    while at < n:
        m = samples(d.between(0.35, 1.3))
        share = np.arange(m) / m
        path = pitch * (1 + d.between(0.1, 0.6) * np.sin(np.pi * share**0.8) - 0.15 * share)
        voice = tone(
            cycles_of(path * (1 + 0.01 * wander(d, m, 20))), harmonics(0.8), float(path.max())
        )
        voice = voice + 0.05 * d.rng.standard_normal(m, dtype=np.float32)
        call = np.zeros(m)
        for k, (first, second) in enumerate(VOWELS):
            shaped = colour(
                voice, peaks((first * mouth, 5, 1), (second * mouth, 6, 0.8), floor=0.05)
            )
            call += shaped * np.exp(-(((share - 0.1 - 0.4 * k) / 0.25) ** 2))
        add(out, at, loud(call) * edges(m, m / RATE * 0.2, m / RATE * 0.4), d.between(0.6, 1))
        at += m + samples(d.between(0.2, 1.2))
    return out


@recipe("cat", "cat", "a cat meowing or purring", "kitten")
def cat(d: Dice, n: int) -> Signal:
    """It meows or it purrs."""
    return d.pick((meow, purr))(d, n)


def purr(d: Dice, n: int) -> Signal:
    """A glottis that opens twenty-five times a second while breath goes in and out."""
    breath = seconds_of(n) / d.between(0.7, 1.6)
    inward = (breath.astype(int) % 2) == 0
    level = np.abs(np.sin(np.pi * breath)) * np.where(inward, 0.55, 1.0)
    rate = d.between(19, 33) * np.where(inward, 1.06, 1.0) * (1 + 0.03 * wander(d, n, 8))
    cycles = cycles_of(rate)
    pulse = np.exp((-d.between(4, 9) * (cycles - np.floor(cycles))).astype(np.float32))
    noise = hiss(d, n, hump(d.between(180, 420), 1.2)) + 0.25 * hiss(d, n, hump(1600, 1.2))
    return (0.05 + level) * pulse * noise


@recipe("duck", "duck", "duck quacking", "ducks on a pond")
def duck(d: Dice, n: int) -> Signal:
    """A nasal voice: rich pulses through two narrow formants, falling at the end."""
    out, at, pitch = np.zeros(n), samples(d.between(0.02, 0.2)), d.between(170, 330)
    bill = peaks((d.between(900, 1400), 5, 1), (d.between(2100, 3000), 5, 0.8), floor=0.06)
    while at < n:
        for _ in range(d.count(1, 5)):
            m = samples(d.between(0.1, 0.26))
            share = np.arange(m) / m
            path = pitch * (1 + 0.12 * np.sin(np.pi * share) - 0.2 * share)
            quack = tone(
                cycles_of(path * (1 + 0.03 * wander(d, m, 60))), harmonics(0.4), pitch * 1.2
            )
            quack = quack + 0.3 * d.rng.normal(size=m)
            add(out, at, loud(colour(quack, bill)) * edges(m, 0.02, 0.06), d.between(0.6, 1))
            at += m + samples(d.between(0.04, 0.14))
        at += samples(d.between(0.2, 0.8))
    return out
