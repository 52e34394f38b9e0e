"""Weather, water and fire.

Bubbles are van den Doel, "Physically based models for liquid sounds" (2005); fire is Farnell,
"Designing Sound" (2010).
"""

from __future__ import annotations

import numpy as np
from scipy import fft

from training.synth.recipes import recipe
from training.synth.signals import (
    RATE,
    Dice,
    Signal,
    add,
    beats,
    cycles_of,
    damped,
    edges,
    fade,
    hiss,
    hump,
    loud,
    samples,
    scatter,
    scattered,
    seconds_of,
    sine,
    slope,
    wander,
)


def drops(d: Dice, n: int, rate: float, pitch: float, decay: float, octaves: float = 0.6) -> Signal:
    """Water drops: each a bubble that rings, shorter when it is smaller and so higher."""
    starts = scattered(d, n, rate)
    pitches = d.spread(pitch, octaves, len(starts))
    decays = decay * pitch / pitches
    gains = d.spread(1.0, 1.0, len(starts)) * pitch / pitches
    length = min(samples(5 * decay), n)
    return scatter(n, starts, damped(pitches, decays, gains, length, rise=d.between(2, 12)))


@recipe("rain", "rain", "heavy rain falling", "raindrops", "rain shower")
def rain(d: Dice, n: int) -> Signal:
    """Many small drops over the hiss of those too many to tell apart."""
    bed = hiss(d, n, hump(d.between(1500, 5000), d.between(1.2, 2.2)))
    near = drops(d, n, d.between(60, 1200), d.between(1200, 4500), d.between(0.001, 0.006))
    ticks = scattered(d, n, d.between(30, 400))
    clicks = d.rng.normal(size=(len(ticks), 24)) * np.exp(-np.arange(24) / d.between(2, 8))
    near = near / near.std() + d.between(0.2, 1.0) * loud(scatter(n, ticks, clicks), 5)
    return (bed + d.between(0.2, 1.2) * near) * (1 + 0.25 * wander(d, n, 0.7))


@recipe("thunder", "lightning", "thunder", "thunder rumbling in a storm", "thunderstorm")
def thunder(d: Dice, n: int) -> Signal:
    """A crack, then the rumble of a long crooked channel, heard bit by bit and ever duller."""
    out = np.zeros(n)
    start = int(d.rng.integers(0, min(n // 4, RATE // 2) + 1))
    m = n - start
    rumble, decay = np.zeros(m), d.between(0.8, 3.0)
    for at in np.sort(d.rng.exponential(decay / 2, d.count(8, 20))):
        clap = samples(d.between(0.15, 0.7))
        edge = d.between(90, 1600) * np.exp(-at / 3) + 60
        piece = hiss(d, clap, slope(1.0, 35, edge)) * edges(clap, 0.03, clap / RATE * 0.8)
        add(rumble, samples(at), piece, np.exp(-at / decay) * d.between(0.3, 1.0))
    bed = hiss(d, m, slope(1.4, 30, 250)) * fade(m, decay) * (1 + 0.6 * wander(d, m, 5))
    add(out, start, (rumble + 0.8 * bed) * edges(m, 0.02, 0.2))
    crack = samples(d.between(0.06, 1.2))
    if d.chance(0.7):
        snap = hiss(d, crack, slope(0.4, 150, 5000)) * fade(crack, crack / RATE / 7)
        add(out, start, snap * (1 + wander(d, crack, 60)), d.between(0.4, 2.5))
    return out + 0.02 * d.between(0.1, 1.0) * hiss(d, n, hump(3000, 1.8))


@recipe("wind", "wind", "wind blowing", "howling wind", "a windy day")
def wind(d: Dice, n: int) -> Signal:
    """Gusts: the harder it blows the higher the band of noise; edges and wires whistle."""
    gust = 0.55 + 0.45 * wander(d, n, d.between(0.3, 1.2))
    low = hiss(d, n, slope(1.2, 60, d.between(250, 600)))
    middle = hiss(d, n, hump(d.between(300, 700), 0.9))
    high = hiss(d, n, hump(d.between(900, 2200), 0.9))
    out = low * (0.4 + gust) + middle * gust**2 + d.between(0.2, 0.7) * high * gust**4
    for _ in range(d.count(0, 2)):  # a howl: a narrow band that rises with the gust
        pitch = d.between(300, 900) * (1 + 0.35 * wander(d, n, 0.8) + 0.25 * gust)
        rough = hiss(d, n, lambda hertz: np.exp(-((hertz / 12) ** 2)))
        out += d.between(0.15, 0.8) * sine(cycles_of(pitch)) * rough * gust**2
    return out


@recipe("ocean", "water wave", "ocean waves", "waves breaking on a beach", "the sea")
def ocean(d: Dice, n: int) -> Signal:
    """Swells that gather, break bright, and run out over the sand."""
    time, period = seconds_of(n), d.between(3.0, 8.0)
    out = 0.15 * hiss(d, n, slope(0.9, 60, 900))
    low, high = hiss(d, n, slope(0.8, 60, 700)), hiss(d, n, hump(d.between(1500, 4000), 1.4))
    rise, run = d.between(0.5, 1.4), d.between(0.7, 2.0)
    first = d.rng.uniform(0.3, 0.45) * min(period, n / RATE)
    for at in np.arange(first, n / RATE + rise * 3, period):
        off = time - at * d.rng.uniform(0.97, 1.03)
        swell = np.where(off < 0, np.exp(off / rise), np.exp(-off / run))
        wash = np.where(
            off < -0.1, np.exp((off + 0.1) / rise * 3), np.exp(-(off + 0.1) / run / 1.4)
        )
        out += d.between(0.6, 1.2) * (low * swell + d.between(0.4, 0.9) * high * wash)
    return out


@recipe("stream", "river", "a stream flowing", "running water", "water flowing in a brook")
def stream(d: Dice, n: int) -> Signal:
    """Bubbles without end over a soft rush."""
    bed = hiss(d, n, hump(d.between(500, 1500), 1.3)) * (1 + 0.3 * wander(d, n, 3))
    bubbles = drops(d, n, d.between(60, 260), d.between(450, 1300), d.between(0.008, 0.025))
    fine = drops(d, n, d.between(100, 500), d.between(1400, 3000), d.between(0.003, 0.008))
    out = bubbles / bubbles.std() + d.between(0.2, 0.7) * fine / fine.std()
    return out + d.between(0.15, 0.6) * bed


@recipe("water drop", "droplet", "dripping water", "a drop of water falling", "a dripping tap")
def water_drop(d: Dice, n: int) -> Signal:
    """The tick of the impact, then the bubble it traps, which rises as it nears the surface."""
    starts = beats(d, n, d.between(0.3, 1.6), d.between(0.02, 0.5))
    m, pitch = samples(0.25), d.between(500, 1800)
    plink = damped(
        d.spread(pitch, 0.12, len(starts)),
        d.spread(d.between(0.02, 0.06), 0.2, len(starts)),
        d.spread(1.0, 0.3, len(starts)),
        m,
        rise=d.between(3, 14),
    )
    delay = samples(d.between(0.008, 0.04))
    tick = d.rng.normal(size=(len(starts), 40)) * np.exp(-np.arange(40) / 6)
    out = scatter(n, starts + delay, plink) + d.between(0.1, 0.5) * scatter(n, starts, tick)
    echo = hiss(d, samples(1.2), hump(pitch, 1.5)) * fade(samples(1.2), d.between(0.08, 0.4))
    size = fft.next_fast_len(n + len(echo), real=True)
    cave = fft.irfft(fft.rfft(out, size) * fft.rfft(echo, size), size)[:n]
    return loud(out) + d.between(0.02, 0.3) * loud(cave)


@recipe("bubbles", "bubbles", "bubbles in water", "underwater bubbling", "blowing bubbles")
def bubbles(d: Dice, n: int) -> Signal:
    """Large bubbles, one after the other, each a low note that rises."""
    starts = scattered(d, n, d.between(5, 22))
    pitches = d.spread(d.between(220, 700), 0.45, len(starts))
    length = samples(0.3)
    decays = d.spread(d.between(0.025, 0.07), 0.2, len(starts)) * 400 / pitches
    rises = d.spread(d.between(4, 12), 0.4, len(starts))
    pulses = damped(
        pitches, decays.clip(0.01, 0.08), d.spread(1.0, 0.6, len(starts)), length, rises
    )
    out = scatter(n, starts, pulses * edges(length, 0.004, 0.05))
    return loud(out) + d.between(0.005, 0.05) * hiss(d, n, slope(0.8, 80, 900))


@recipe("fire", "fire", "campfire", "a crackling fire", "flames burning")
def fire(d: Dice, n: int) -> Signal:
    """Flames lap (low), gas hisses (high), and wood cracks in clusters (Farnell, chapter 34)."""
    lap = hiss(d, n, hump(d.between(60, 180), 1.0)) * (1 + 0.7 * wander(d, n, 6)) ** 2
    gas = hiss(d, n, hump(d.between(2500, 6000), 1.3)) * (0.6 + 0.4 * wander(d, n, 7)) ** 2
    starts = scattered(d, n, d.between(4, 16))
    bursts = np.repeat(starts, d.rng.integers(1, 6, len(starts)))
    bursts = (bursts + d.rng.exponential(0.02 * RATE, len(bursts))).astype(np.int64).clip(0, n - 1)
    length = 320
    grain = d.rng.normal(size=(len(bursts), length)) * 0.7
    grain += damped(
        d.spread(d.between(1200, 3500), 0.6, len(bursts)), np.full(len(bursts), 0.003),
        np.full(len(bursts), 1.5), length,
    )  # fmt: skip
    decays = d.spread(d.between(8, 30), 0.6, len(bursts))[:, None]
    gains = d.rng.pareto(1.8, len(bursts)).clip(0.05, 6)[:, None]
    crackle = scatter(n, bursts, gains * grain * np.exp(-np.arange(length) / decays))
    out = d.between(0.05, 0.25) * lap + d.between(0.01, 0.06) * gas
    return out + loud(crackle, d.between(0.6, 1.4))
