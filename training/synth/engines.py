"""Engines and journeys: on the road, in the air, on rails and at sea."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    clank,
    colour,
    cycles_of,
    damped,
    edges,
    fade,
    harmonics,
    hiss,
    hump,
    loud,
    peaks,
    ring,
    samples,
    scatter,
    scattered,
    seconds_of,
    sine,
    slope,
    tone,
    train_of,
    wander,
)


def firing(d: Dice, rate: Signal, cylinders: int, uneven: float, sharp: float) -> Signal:
    """Explosions of an engine, (n,): `rate` a second, no two cylinders alike, and their noise."""
    cycles = cycles_of(rate)
    which = cycles.astype(np.int64)
    gains = 1 + uneven * d.rng.normal(size=cylinders)
    each = gains[which % cylinders] * (1 + 0.12 * d.rng.normal(size=int(which[-1]) + 1))[which]
    late = uneven * 0.25 * d.rng.normal(size=cylinders)[which % cylinders]
    share = cycles - which
    pulse = each * np.exp((-sharp * np.abs(share - 0.15 - late.clip(-0.1, 0.3))).astype(np.float32))
    noise = d.rng.standard_normal(len(rate), dtype=np.float32)
    return pulse - pulse.mean() + 0.25 * pulse * noise


def exhaust(d: Dice, low: float) -> Callable[[Signal], Signal]:
    """The pipe and the silencer behind an engine."""
    tuned = peaks(
        (low, 2.0, 1.0),
        (low * d.between(2.2, 3.2), 2.5, 0.6),
        (low * d.between(5, 8), 2.5, 0.3),
        (d.between(1500, 3000), 1.5, 0.12),
        floor=0.03,
    )
    return lambda hertz: tuned(hertz) * (hertz / (hertz + 40))


@recipe("car", "car", "car engine running", "a car driving", "an engine revving")
def car(d: Dice, n: int) -> Signal:
    """Four to eight cylinders that idle, rev or climb through a gear."""
    share = np.arange(n) / n
    idle = d.between(22, 60)
    rev = d.pick((np.zeros(n), share, np.abs(wander(d, n, 0.9)), np.sin(np.pi * share) ** 2))
    rate = idle * (1 + d.between(0.8, 3.0) * rev) * (1 + 0.02 * wander(d, n, 6))
    motor = colour(firing(d, rate, d.pick((4, 6, 8)), 0.15, d.between(6, 14)), exhaust(d, 110))
    road = hiss(d, n, slope(0.8, 60, d.between(600, 2000)))
    level = 0.5 + 0.5 * rate / rate.max()
    return motor / motor.std() * level + d.between(0.05, 0.4) * road


@recipe("motorcycle", "motorcycle", "motorcycle engine", "a motorbike revving")
def motorcycle(d: Dice, n: int) -> Signal:
    """One or two cylinders, uneven and hardly muffled, with blips of the throttle."""
    time, rev = seconds_of(n), np.zeros(n)
    for at in beats(d, n, d.between(0.8, 1.8), 0.4) / RATE:
        off = time - at
        blip = np.where(off < 0, 0, (1 - np.exp(-off / 0.12)) * np.exp(-off / d.between(0.3, 0.9)))
        rev = np.maximum(rev, d.between(1.5, 4.5) * blip)
    rate = d.between(16, 42) * (1 + rev) * (1 + 0.03 * wander(d, n, 8))
    motor = firing(d, rate, 2, 0.35, d.between(9, 20))
    return np.tanh(2 * loud(colour(motor, exhaust(d, d.between(90, 180))))) * (0.5 + rev / 3)


@recipe("tractor", "tractor", "a tractor engine", "a diesel engine chugging")
def tractor(d: Dice, n: int) -> Signal:
    """A slow diesel: each firing a thump and a hard knock of the metal around it."""
    rate = d.between(9, 22) * (1 + 0.03 * wander(d, n, 1.5))
    thump = colour(firing(d, rate, 3, 0.3, d.between(5, 9)), exhaust(d, d.between(60, 110)))
    which = cycles_of(rate).astype(np.int64)
    starts = np.flatnonzero(np.diff(which)) if which[-1] else np.array([0])
    knocks = damped(
        d.spread(d.between(700, 1700), 0.2, len(starts)), np.full(len(starts), 0.008),
        d.spread(1.0, 0.5, len(starts)), 800,
    )  # fmt: skip
    return loud(thump) + d.between(0.1, 0.45) * loud(scatter(n, starts, knocks))


@recipe("chainsaw", "chainsaw", "a chainsaw cutting wood", "chainsaw revving")
def chainsaw(d: Dice, n: int) -> Signal:
    """A small two-stroke that screams when it runs free and labours when it bites."""
    bite = np.clip(wander(d, n, d.between(0.7, 1.6)) * 3, -1, 1)
    rate = d.between(85, 170) * (1 - 0.22 * bite + 0.02 * wander(d, n, 12))
    motor = firing(d, rate, 1, 0.0, d.between(12, 26))
    buzz = np.tanh(3 * loud(colour(motor, peaks((450, 1.5, 0.6), (1300, 2, 1), (2900, 2, 0.8)))))
    chips = hiss(d, n, hump(3500, 1)) * (1 + bite) / 2
    return buzz * (1 + 0.25 * bite) + d.between(0.05, 0.3) * chips


@recipe("airplane", "airplane", "jet plane flying overhead", "an aeroplane taking off")
def airplane(d: Dice, n: int) -> Signal:
    """The roar of a jet's stream and the whine of its fans, lower once it has passed."""
    time = seconds_of(n)
    passing = (time - d.rng.uniform(0.35, 0.65) * n / RATE) / d.between(0.8, 2.5)
    near = 1 / np.sqrt(1 + passing**2)
    shift = 1 - d.between(0.05, 0.2) * np.tanh(passing)
    low = hiss(d, n, slope(0.7, 60, d.between(500, 1100)))
    high = hiss(d, n, hump(d.between(1200, 2800), 1.2))
    whine = np.zeros(n)
    fan = d.between(1100, 2900)
    for ratio, gain in ((1, 1), (1.51, 0.4), (2, 0.4)):
        whine += gain * sine(cycles_of(fan * ratio * shift)) * (fan * ratio < TOP / 1.3)
    whine *= 1 + 0.4 * wander(d, n, 15)
    return low * near + d.between(0.3, 0.9) * high * near**2 + d.between(0.1, 0.6) * whine * near**2


@recipe("helicopter", "helicopter", "helicopter flying", "rotor blades of a helicopter")
def helicopter(d: Dice, n: int) -> Signal:
    """Blades slap the air ten to twenty times a second over the turbine's hum."""
    rate = d.between(9, 24) * (1 + 0.01 * wander(d, n, 0.5))
    cycles = cycles_of(rate)
    share = cycles - np.floor(cycles)
    slap = np.exp((-d.between(4, 10) * share).astype(np.float32)) * (1 - np.exp(-share * 60))
    thump = hiss(d, n, slope(0.9, 40, d.between(180, 500))) * slap
    chop = hiss(d, n, hump(d.between(600, 1600), 1.1)) * slap**2
    hum = d.between(300, 900)
    turbine = sine(seconds_of(n) * hum) + 0.5 * sine(seconds_of(n) * hum * 2.37)
    level = 1 + 0.35 * wander(d, n, 0.4)
    return level * (thump + d.between(0.25, 0.8) * chop + d.between(0.01, 0.08) * turbine)


@recipe("rocket", "rocket", "a rocket launch", "rocket lifting off")
def rocket(d: Dice, n: int) -> Signal:
    """A roar that grows and crackles: steep fronts of pressure that the stream throws off."""
    grow = np.minimum(seconds_of(n) / d.between(0.3, 2.0), 1) ** 1.5
    roar = hiss(d, n, slope(d.between(0.6, 1.0), 25, d.between(500, 1800)))
    starts = scattered(d, n, d.between(40, 140))
    m = samples(0.02)
    fronts = (
        d.spread(1.0, 0.9, len(starts))[:, None] * np.linspace(1, -1, m) * edges(m, 3e-4, 0.008)
    )
    crackle = scatter(n, starts, fronts)
    slow = 1 + 0.4 * wander(d, n, 7)
    return grow * slow * (roar + d.between(0.3, 0.9) * crackle / crackle.std())


@recipe("steam locomotive", "locomotive", "steam train chuffing", "a steam engine puffing along")
def steam_locomotive(d: Dice, n: int) -> Signal:
    """Four puffs to a turn of the wheel, one of them the loudest, and the clank of the rods."""
    period, gains = d.between(0.12, 0.5), d.spread(1.0, 0.35, 4)
    m = samples(min(period * 1.1, 0.3))
    puff = edges(m, 0.012, m / RATE / 2) * fade(m, m / RATE / 3)
    low, high = d.between(250, 600), d.between(1200, 2600)
    out = d.between(0.02, 0.12) * hiss(d, n, slope(0.9, 50, 500))
    starts = beats(d, n, period)
    for k, start in enumerate(starts):
        noise = hiss(d, m, hump(low, 1.0)) + d.between(0.2, 0.6) * hiss(d, m, hump(high, 1.0))
        add(out, int(start), noise * puff, gains[k % 4])
    rods = clank(d, samples(0.1), d.between(500, 1100), 0.02, 5)
    return out + d.between(0.02, 0.3) * train_of(n, starts[::2] + m // 2, [loud(rods)])


@recipe("train", "train", "train rolling over the rails", "a railway train passing")
def train(d: Dice, n: int) -> Signal:
    """A rumble, and two axles over each joint of the rails: clack-clack, clack-clack."""
    out = hiss(d, n, slope(0.9, 45, d.between(250, 700))) * (1 + 0.25 * wander(d, n, 5))
    out += d.between(0.05, 0.3) * hiss(d, n, hump(d.between(900, 2500), 0.8))
    m, axle = samples(0.12), d.between(0.1, 0.22)
    period = axle * d.between(3, 5)
    clack = ring(
        d.spread(d.between(350, 900), 0.5, 7), d.spread(0.012, 0.4, 7), d.spread(1, 0.4, 7), m
    )
    clack = loud(clack, 1) + 0.5 * loud(hiss(d, m, hump(1800, 1.2)) * fade(m, 0.01))
    pairs = np.zeros(n)
    for start in beats(d, n, period):
        for k, gain in enumerate((1.0, 0.8)):
            add(pairs, int(start) + samples(k * axle), clack, gain)
    return out + d.between(2.0, 5.0) * pairs


def horn(
    d: Dice, n: int, pitches: Sequence[float], attack: float, power: float, breath: float
) -> Signal:
    """Pipes or discs that sound together while the blast lasts."""
    bend = 1 - 0.04 * np.exp(-seconds_of(n) / (attack + 0.02))
    out = np.zeros(n)
    for pitch in pitches:
        wobble = bend * (1 + 0.003 * wander(d, n, 4))
        out += tone(cycles_of(pitch * wobble), harmonics(power), pitch * 1.02)
    out += breath * hiss(d, n, hump(2.5 * pitches[0], 1.5))
    return out * edges(n, attack, attack + 0.03)


@recipe("train whistle", "steam train", "steam train whistle", "a train blowing its whistle")
def train_whistle(d: Dice, n: int) -> Signal:
    """A chime of three to five steam whistles, breathy, that bends up as the steam comes on."""
    root = d.between(300, 680)
    chord = root * np.array(d.pick(((1, 1.25, 1.5), (1, 1.19, 1.5, 1.78), (1, 1.26, 1.5, 1.68))))
    power, breath = d.between(1.5, 2.8), d.between(0.3, 1.0)
    return blasts(d, n, 0.4, 2.2, lambda m: horn(d, m, chord.tolist(), 0.08, power, breath))


@recipe("ship", "ship", "ship horn", "a foghorn", "a ferry blowing its horn")
def ship(d: Dice, n: int) -> Signal:
    """One deep and very rich tone that takes its time."""
    pitch, power = d.between(65, 210), d.between(0.6, 1.2)
    edge = d.between(500, 1400)
    blast = blasts(d, n, 1.2, 3.0, lambda m: horn(d, m, [pitch, pitch * 1.005], 0.15, power, 0.15))
    return colour(blast, lambda hertz: 1 / (1 + (hertz / edge) ** 2))


@recipe("car horn", "car horn", "a car honking", "traffic horns")
def car_horn(d: Dice, n: int) -> Signal:
    """Two discs a third apart, harsh, that start and stop at once."""
    low, power = d.between(300, 520), d.between(0.5, 1.1)
    chord = [low, low * d.between(1.18, 1.3)]
    body = peaks((d.between(1500, 2200), 1.5, 1), (d.between(2800, 3800), 3, 0.6), floor=0.25)
    return colour(blasts(d, n, 0.12, 1.3, lambda m: horn(d, m, chord, 0.01, power, 0.05)), body)
