"""Sounds of known things, made from mathematics alone.

Each recipe follows how the real thing sounds and draws its settings anew each time: modes that
ring and die (bells, bars, drums), strings that are plucked, drops that trap bubbles, noise that
air or fire shapes, pulses that an engine fires. Much of it is in Farnell, "Designing Sound"
(2010); bubbles are van den Doel, "Physically based models for liquid sounds" (2005), plucked
strings Karplus and Strong (1983), modes of bars, membranes and bells Fletcher and Rossing, "The
Physics of Musical Instruments" (1998).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import fft

RATE = 16_000  # samples a second
TOP = 7_200.0  # Hz: no partial above it, so that nothing folds back at 8 kHz
SHORTEST = 0.25  # seconds

Wave = NDArray[np.float32]  # (samples,), -1..1
Signal = NDArray[Any]  # the same while it is made, of any loudness
Voice = Callable[[float, int, float], Signal]  # pitch in Hz, samples, loudness 0..1
T = TypeVar("T")


# --- Chance -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dice:
    """Draws the settings of a sound. `unheard` draws from the edges, which training never uses."""

    rng: Generator
    unheard: bool = False

    def between(self, low: float, high: float) -> float:
        """Draw from the middle of a range, or from its edges; by octaves when both are above 0.

        The range says what the thing can be. Training hears 0.15..0.85 of it, and `unheard` is
        the rest but a thin gap.
        """
        if self.unheard:
            share = self.rng.uniform(0, 0.12) + (0.88 if self.rng.random() < 0.5 else 0)
        else:
            share = self.rng.uniform(0.15, 0.85)
        if low > 0:
            return float(low * (high / low) ** share)
        return float(low + (high - low) * share)

    def count(self, low: int, high: int) -> int:
        """Draw a whole number, both ends included."""
        return int(self.rng.integers(low, high + 1))

    def pick(self, options: Sequence[T]) -> T:
        """Choose one of a sequence."""
        return options[int(self.rng.integers(len(options)))]

    def chance(self, share: float) -> bool:
        """Say yes in `share` of all cases."""
        return bool(self.rng.random() < share)

    def spread(self, centre: float, octaves: float, n: int) -> Signal:
        """Draw n numbers around a centre, (n,), with a standard deviation in octaves."""
        return centre * 2 ** (octaves * np.clip(self.rng.normal(size=n), -2.5, 2.5))


# --- Time -------------------------------------------------------------------------------------


def seconds_of(n: int) -> Signal:
    """Give the time of each sample in seconds, (n,)."""
    return np.arange(n) / RATE


def samples(seconds: float) -> int:
    """Round a duration to samples, one at least."""
    return max(1, round(seconds * RATE))


def beats(d: Dice, n: int, period: float, jitter: float = 0.0) -> NDArray[np.int64]:
    """Starts, in samples, of what comes every `period` seconds; jitter is a share of it."""
    first = d.rng.uniform(0.01, min(period, 0.3, n / RATE / 2))
    times = np.arange(first, n / RATE - 0.02, period)
    times[1:] += jitter * period * d.rng.uniform(-0.5, 0.5, len(times) - 1)  # the first comes soon
    return np.clip(times * RATE, 0, n - 1).astype(np.int64)


def scattered(d: Dice, n: int, rate: float) -> NDArray[np.int64]:
    """Starts, in samples, of what comes by chance `rate` times a second; the first one soon."""
    count = max(1, int(d.rng.poisson(rate * n / RATE)))
    starts = np.sort(d.rng.integers(0, max(1, n - RATE // 50), count))
    starts[0] = min(starts[0], RATE // 5, n // 4)
    return starts


def add(out: Signal, start: int, piece: Signal, gain: float = 1.0) -> None:
    """Lay a piece into a sound, cut off where the sound ends."""
    end = min(len(out), start + len(piece))
    if start < end:
        out[start:end] += gain * piece[: end - start]


def scatter(n: int, starts: NDArray[np.int64], pulses: Signal) -> Signal:
    """Lay many short pulses, (m, length), into n samples at once."""
    length = pulses.shape[1]
    where = starts[:, None] + np.arange(length)
    return np.bincount(where.ravel(), pulses.ravel(), minlength=n + length)[:n]


def edges(n: int, attack: float, release: float) -> Signal:
    """A rise and a fall in seconds, (n,), 0..1, rounded so that neither clicks."""
    at = np.arange(n)
    shape = np.minimum((at + 1) / (attack * RATE), (n - at) / (release * RATE)).clip(0, 1)
    return shape * shape * (3 - 2 * shape)


def fade(n: int, decay: float) -> Signal:
    """An exponential decay that falls by e in `decay` seconds, (n,)."""
    return np.exp((-seconds_of(n) / decay).astype(np.float32))


def wander(d: Dice, n: int, rate: float) -> Signal:
    """A smooth random curve, (n,), mostly within -1..1, that turns about `rate` times a second."""
    at = seconds_of(n) * rate
    points = np.clip(d.rng.normal(0, 0.6, int(at[-1]) + 3), -1.2, 1.2)
    left = at.astype(np.int64)
    share = at - left
    share = share * share * (3 - 2 * share)
    return points[left] * (1 - share) + points[left + 1] * share


# --- Tones ------------------------------------------------------------------------------------


def sine(cycles: Signal) -> Signal:
    """The sine of a phase counted in cycles; whole cycles are dropped before precision is."""
    return np.sin((2 * np.pi * (cycles - np.floor(cycles))).astype(np.float32))


def cycles_of(pitch: Signal) -> Signal:
    """The phase, in cycles, of a pitch that changes, (n,) in Hz."""
    return np.cumsum(pitch) / RATE


def tone(cycles: Signal, gains: Signal, highest: float) -> Signal:
    """A periodic wave of harmonics 1, 2, ...; `highest` is the highest pitch it will be given."""
    size = 4096
    kept = gains[: max(1, min(len(gains), int(TOP / highest)))]
    spectrum = np.zeros(size // 2 + 1, complex)
    spectrum[1 : len(kept) + 1] = -0.5j * size * kept
    table = fft.irfft(spectrum)
    return table[((cycles - np.floor(cycles)) * size).astype(np.int64) % size]


def harmonics(power: float, count: int = 60) -> Signal:
    """Gains 1/k^power of `count` harmonics: 1 a sawtooth, 2 a mild tone."""
    return np.arange(1, count + 1.0) ** -power


def ring(pitches: Signal, decays: Signal, gains: Signal, n: int) -> Signal:
    """Modes that start together and die, each at its own rate (seconds to fall by e)."""
    out, time = np.zeros(n), seconds_of(n)
    for pitch, decay, gain in zip(pitches, decays, gains, strict=True):
        if 20 < pitch < TOP:
            m = min(n, samples(6 * decay))
            out[:m] += gain * sine(pitch * time[:m]) * fade(m, decay)
    return out


def damped(
    pitches: Signal, decays: Signal, gains: Signal, n: int, rise: float | Signal = 0.0
) -> Signal:
    """Many short rings of one mode, (m, n). `rise` is how many times a second the pitch doubles."""
    time = seconds_of(n)[None]
    rise = np.broadcast_to(rise, pitches.shape)[:, None]
    cycles = np.minimum(pitches, TOP)[:, None] * time * (1 + rise * time / 2)
    return gains[:, None] * sine(cycles) * np.exp((-time / decays[:, None]).astype(np.float32))


# --- Noise and colour -------------------------------------------------------------------------


def hiss(d: Dice, n: int, curve: Callable[[Signal], Signal]) -> Signal:
    """Noise, (n,) with a mean square of 1, whose spectrum follows `curve` of Hz."""
    size = fft.next_fast_len(max(n, 64), real=True)
    hertz = fft.rfftfreq(size, 1 / RATE)
    drawn = d.rng.standard_normal((2, len(hertz)), dtype=np.float32)
    out = fft.irfft((drawn[0] + 1j * drawn[1]) * curve(hertz).astype(np.float32), size)[:n]
    return out / (np.sqrt(np.mean(out**2)) + 1e-9)


def hump(centre: float, octaves: float) -> Callable[[Signal], Signal]:
    """A band around a centre in Hz that falls by e at `octaves` from it."""
    return lambda hertz: np.exp(-((np.log2((hertz + 1) / centre) / octaves) ** 2))


def slope(power: float, low: float = 30.0, high: float = 8000.0) -> Callable[[Signal], Signal]:
    """A fall like 1/f^power between two corners in Hz, soft beyond both."""

    def curve(hertz: Signal) -> Signal:
        below = 1 / np.sqrt(1 + (low / (hertz + 1)) ** 4)
        return below * (hertz + low) ** -power / (1 + (hertz / high) ** 4)

    return curve


def peaks(*modes: tuple[float, float, float], floor: float = 0.1) -> Callable[[Signal], Signal]:
    """Resonances (Hz, quality, gain) above a floor."""

    def curve(hertz: Signal) -> Signal:
        gain = np.full(hertz.shape, floor)
        for centre, quality, height in modes:
            off = quality * (hertz / centre - centre / (hertz + 1))
            gain += height / np.sqrt(1 + off**2)
        return gain

    return curve


def colour(x: Signal, curve: Callable[[Signal], Signal]) -> Signal:
    """Filter a sound by a gain that depends on Hz."""
    size = fft.next_fast_len(len(x) + 512, real=True)
    spectrum = fft.rfft(x.astype(np.float32), size)
    gain = curve(fft.rfftfreq(size, 1 / RATE)).astype(np.float32)
    return fft.irfft(spectrum * gain, size)[: len(x)]


def lines(d: Dice, n: int, low: float, high: float, count: int) -> Signal:
    """A dense inharmonic cluster, (n,): `count` steady partials between two pitches."""
    size = fft.next_fast_len(n, real=True)
    spectrum = np.zeros(size // 2 + 1, np.complex64)
    at = np.exp(d.rng.uniform(np.log(low), np.log(min(high, TOP)), count)) * size / RATE
    phases = d.rng.uniform(0, 2 * np.pi, count)
    spectrum[at.astype(np.int64).clip(1, size // 2)] = np.exp(1j * phases)
    out = fft.irfft(spectrum, size)[:n]
    return out / (np.sqrt(np.mean(out**2)) + 1e-9)


def loud(x: Signal, peak: float = 1.0) -> Signal:
    """Bring a sound to a peak."""
    return x * (peak / (np.abs(x).max() + 1e-9))


# --- Recipes ----------------------------------------------------------------------------------


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


# --- Weather and water ------------------------------------------------------------------------


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


# --- Bells, clocks and signals ----------------------------------------------------------------

# Partials of a bell against its prime, and how long each rings against the hum.
CHURCH = np.array([0.5, 1, 1.2, 1.5, 2, 2.5, 2.67, 3, 4, 5.33, 6.7])
CHURCH_GAINS = np.array([0.55, 0.65, 0.75, 0.3, 1, 0.25, 0.25, 0.3, 0.35, 0.2, 0.1])
FREE_BAR = np.array([1, 2.756, 5.404, 8.933])
MEMBRANE = np.array([1, 1.593, 2.135, 2.295, 2.653, 2.917, 3.155, 3.5, 3.6])


def bell(d: Dice, prime: float, decay: float, n: int) -> Signal:
    """A cast bell: hum, prime, minor third, fifth, octave; each splits in two and so beats."""
    pitches = prime * CHURCH * d.spread(1.0, 0.008, len(CHURCH))
    decays = decay * (0.5 / CHURCH) ** 0.75
    split = d.spread(0.0012 * prime, 0.5, len(CHURCH))
    both = np.concatenate([pitches, pitches + split * 2])
    gains = CHURCH_GAINS * d.spread(1.0, 0.4, len(CHURCH))
    return ring(both, np.tile(decays, 2), np.concatenate([gains, gains * 0.6]), n)


def clank(d: Dice, n: int, pitch: float, decay: float, count: int = 8) -> Signal:
    """Something small and metal that is struck: inharmonic modes, high ones dying first."""
    ratios = np.cumsum(d.rng.uniform(0.25, 0.9, count)) + 0.5
    ratios = ratios / ratios[0]
    decays = decay / ratios**0.7
    return ring(pitch * ratios, decays, d.spread(1.0, 0.6, count) / ratios**0.5, n)


def train_of(n: int, starts: Sequence[int] | NDArray[np.int64], pieces: Sequence[Signal]) -> Signal:
    """Lay pieces in turn, one at each start."""
    out = np.zeros(n)
    for k, start in enumerate(starts):
        add(out, int(start), pieces[k % len(pieces)])
    return out


@recipe("church bell", "church", "church bell", "church bells tolling", "a large bell ringing")
def church_bell(d: Dice, n: int) -> Signal:
    """A bell of a few hundred hertz, tolled every second or two."""
    prime, decay = d.between(130, 560), d.between(1.5, 5.0)
    toll = bell(d, prime, decay, n)
    if d.chance(0.3):
        other = bell(d, prime * d.pick((0.75, 0.8, 1.25, 1.33)), decay, n)
        return train_of(n, beats(d, n, d.between(0.6, 1.3), 0.1), [toll, other])
    return train_of(n, beats(d, n, d.between(0.9, 2.6), 0.05), [toll])


@recipe("bell", "bell", "hand bell", "ringing a small bell", "bell ringing")
def hand_bell(d: Dice, n: int) -> Signal:
    """A small bell, swung to and fro."""
    pitch, decay = d.between(900, 2600), d.between(0.25, 1.2)
    m = samples(min(4 * decay, n / RATE))
    ratios = np.array([1, 2.0, 2.7, 3.0, 4.2, 5.4]) * d.spread(1, 0.03, 6)
    gains = np.array([1, 0.6, 0.3, 0.4, 0.2, 0.1])
    strikes = [
        ring(pitch * ratios, decay / ratios**0.8, gains * d.spread(1, 0.5, 6), m) for _ in range(2)
    ]
    return train_of(n, beats(d, n, d.between(0.14, 0.7), 0.15), strikes)


@recipe("sleigh bells", "sleigh", "jingle bells", "sleigh bells jingling")
def sleigh_bells(d: Dice, n: int) -> Signal:
    """Dozens of small bells, shaken together."""
    shakes = beats(d, n, d.between(0.16, 0.45), 0.05)
    starts = np.repeat(shakes, d.count(8, 20))
    starts = (starts + d.rng.exponential(0.018 * RATE, len(starts))).astype(np.int64).clip(0, n - 1)
    palette = d.spread(d.between(2600, 4600), 0.3, 24)
    pitches = palette[d.rng.integers(0, 24, len(starts))]
    decays = d.spread(d.between(0.02, 0.1), 0.4, len(starts))
    return scatter(n, starts, damped(pitches, decays, d.spread(1, 0.7, len(starts)), 3000))


@recipe("bicycle bell", "bicycle", "bicycle bell", "ringing a bike bell")
def bicycle_bell(d: Dice, n: int) -> Signal:
    """A thumb lever: a quick rattle of strikes on a dome, rung twice or so."""
    pitch, decay = d.between(1500, 3400), d.between(0.15, 0.7)
    dome = clank(d, samples(min(5 * decay, 2)), pitch, decay, 5)
    rattle = d.between(0.025, 0.07)
    out = np.zeros(n)
    for start in beats(d, n, d.between(0.5, 1.4), 0.1):
        for k in range(d.count(3, 6)):
            add(out, int(start) + samples(k * rattle), dome, 0.8**k)
    return out


def hammered(d: Dice, n: int, pitch: float, decay: float, rate: float) -> Signal:
    """Two gongs with a hammer that flies between them."""
    m = samples(min(6 * decay, 1.0))
    gongs = [clank(d, m, pitch, decay), clank(d, m, pitch * d.between(1.05, 1.3), decay)]
    return train_of(n, beats(d, n, 1 / rate, 0.06), gongs)


def gated(d: Dice, n: int, on: float, off: float) -> Signal:
    """On and off by turns, (n,), 0 or 1 with soft edges, on at first."""
    gate = np.zeros(n)
    for start in np.arange(d.rng.uniform(0, 0.1), n / RATE - 0.02, on + off):
        add(gate, samples(start), edges(samples(on), 0.003, 0.006))
    return gate


@recipe("alarm clock", "alarm clock", "alarm clock ringing", "an alarm going off")
def alarm_clock(d: Dice, n: int) -> Signal:
    """Twin bells hammered fast, or the four beeps of a digital one."""
    if d.chance(0.6):
        return hammered(d, n, d.between(1400, 3200), d.between(0.05, 0.3), d.between(14, 32))
    pitch, beep = d.between(1500, 3200), d.between(0.05, 0.11)
    wave = tone(np.full(n, pitch / RATE).cumsum(), harmonics(d.between(0.8, 2))[:4], pitch)
    pause = d.between(0.3, 0.6)
    return wave * gated(d, n, beep, beep) * gated(d, n, 8 * beep - 0.004, pause)


@recipe("clock", "clock", "ticking clock", "clock ticking", "tick tock of a clock")
def clock(d: Dice, n: int) -> Signal:
    """An escapement: tick and tock by turns, each a few tiny impacts in a case that rings."""
    m, case, ticks = samples(0.08), d.between(1200, 3600), []
    for k in range(2):
        pitch = case * (1.0 if k else d.between(1.08, 1.35))
        tick = clank(d, m, pitch, d.between(0.003, 0.012), 6)
        tick[:60] += d.rng.normal(size=60) * np.exp(-np.arange(60) / 10) * d.between(0.3, 1)
        twin = tick.copy()
        add(twin, samples(d.between(0.006, 0.02)), tick, d.between(0.2, 0.7))
        ticks.append(twin)
    return train_of(n, beats(d, n, d.between(0.18, 1.0)), ticks)


@recipe("telephone", "telephone", "telephone ringing", "phone ringing")
def telephone(d: Dice, n: int) -> Signal:
    """Two gongs hammered twenty times a second, or a warble of two tones; rings and rests."""
    gate = gated(d, n, d.between(0.5, 1.8), d.between(0.25, 1.0))
    if d.chance(0.6):
        gongs = hammered(d, n, d.between(900, 1800), d.between(0.08, 0.3), d.between(18, 28))
        return gongs * gate
    low = d.between(400, 1100)
    high, time = low * d.between(1.15, 1.35), seconds_of(n)
    warble = (sine(time * d.between(10, 26)) > 0).astype(float)
    pitch = low + (high - low) * warble
    return tone(cycles_of(pitch), harmonics(1.6)[:6], high) * gate


@recipe("doorbell", "doorbell", "a doorbell ringing", "ding dong at the door")
def doorbell(d: Dice, n: int) -> Signal:
    """Ding, dong: two long bars, the second a third lower."""
    high, decay = d.between(480, 1100), d.between(0.35, 1.1)
    gap = samples(d.between(0.3, 0.8))
    m = samples(4 * decay)
    bars = [
        ring(pitch * FREE_BAR, decay / FREE_BAR, np.array([1, 0.3, 0.12, 0.04]), m)
        for pitch in (high, high * d.pick((0.794, 0.84)))
    ]
    out = np.zeros(n)
    for start in np.arange(samples(d.between(0.02, 0.2)), n, samples(d.between(1.6, 3.2))):
        add(out, int(start), bars[0])
        add(out, int(start) + gap, bars[1], 0.9)
    return out


def wail(d: Dice, n: int) -> Signal:
    """The pitch of a siren, (n,): a slow wail, a quick yelp, or two tones by turns."""
    time, phase = seconds_of(n), d.rng.random()
    low = d.between(260, 850)
    kind = d.pick(("wail", "yelp", "two tones"))
    if kind == "two tones":
        high = low * d.between(1.2, 1.5)
        turn = sine(time * d.between(0.6, 1.3) + phase)
        return low + (high - low) * np.clip(turn * 40 + 0.5, 0, 1)
    rate = d.between(0.25, 0.5) if kind == "wail" else d.between(2.0, 4.5)
    saw = (time * rate + phase) % 1
    rise = np.where(saw < 0.6, np.sin(np.pi / 2 * saw / 0.6), np.cos(np.pi / 2 * (saw - 0.6) / 0.4))
    return low * d.between(1.8, 2.9) ** rise


@recipe("siren", "police car", "siren", "ambulance", "fire engine", "a wailing siren")
def siren(d: Dice, n: int) -> Signal:
    """A horn driven by a tone whose pitch moves, passing by or not."""
    pitch = wail(d, n) * (1 - 0.03 * d.pick((0, 1)) * np.tanh(seconds_of(n) - n / RATE / 2))
    source = tone(cycles_of(pitch), harmonics(d.between(0.7, 1.5)), float(pitch.max()))
    horn = colour(source, peaks((d.between(800, 1300), 1.5, 1), (d.between(2200, 3200), 3, 0.7)))
    return horn * (1 + 0.3 * wander(d, n, 0.6)) + d.between(0.003, 0.04) * hiss(d, n, slope(0.8))


@recipe("beep", "beep", "electronic beeping", "a machine that beeps")
def beep(d: Dice, n: int) -> Signal:
    """The same short tone again and again."""
    pitch = d.between(600, 2600)
    on = d.between(0.06, 0.4)
    wave = tone(seconds_of(n) * pitch, harmonics(d.between(1.2, 4))[:: d.pick((1, 2))], pitch * 2)
    return wave * gated(d, n, on, on * d.between(0.7, 3.5))


@recipe("robot", "robot", "a robot beeping and chirping", "a talking robot")
def robot(d: Dice, n: int) -> Signal:
    """Quick whistles, trills and steps of one electronic voice."""
    out, at = np.zeros(n), samples(d.between(0.01, 0.1))
    centre = d.between(500, 1700)
    while at < n:
        m = samples(d.between(0.05, 0.28))
        time = seconds_of(m)
        start, end = d.spread(centre, 0.6, 2)
        pitch = start * (end / start) ** (time / time[-1] * d.pick((0, 1, 1)))
        trill = d.pick((0, 0, 0.15, 0.4)) * sine(time * d.between(14, 45))
        pitch = (pitch * (1 + trill)).clip(100, 6000)
        wave = tone(cycles_of(pitch), harmonics(d.between(1, 3))[:5], float(pitch.max()))
        add(out, at, wave * edges(m, 0.004, 0.008), d.between(0.5, 1))
        at += m + samples(d.pick((0.005, 0.01, 0.03, 0.15)))
    return out


@recipe("video game", "video game", "8-bit video game sounds", "an arcade game")
def video_game(d: Dice, n: int) -> Signal:
    """Square waves of an old console: coins, jumps, lasers, tunes and crashes of stepped noise."""
    out, at = np.zeros(n), samples(d.between(0.01, 0.1))
    duty = d.pick((0.5, 0.25, 0.125))
    gains = np.sin(np.pi * duty * np.arange(1, 60)) / np.arange(1, 60)
    root = d.between(240, 700)
    while at < n:
        kind = d.pick(("coin", "jump", "laser", "tune", "tune", "crash"))
        m = samples(d.between(0.15, 0.5))
        share = np.arange(m) / m
        if kind == "crash":
            step = d.count(3, 12)
            noise = np.repeat(d.rng.choice([-1.0, 1.0], m // step + 1), step)[:m]
            add(out, at, noise * (1 - share) ** 2, 0.4)
        else:
            scale = root * 2 ** (np.array([0, 4, 7, 12, 16, 19, 24]) / 12)
            steps = d.count(4, 8)
            pitch = {
                "coin": np.where(share < 0.2, root * 3, root * 4),
                "jump": root * (1 + 2 * share),
                "laser": root * 5 * 0.15**share,
                "tune": scale[d.rng.integers(0, 7, steps)][(share * steps).astype(int)],
            }[kind]
            wave = tone(cycles_of(pitch), gains, float(pitch.max())) * edges(m, 0.002, 0.02)
            add(out, at, wave * (1 - 0.6 * share), d.between(0.5, 1))
        at += m + samples(d.pick((0.01, 0.05, 0.15)))
    return out


@recipe("flying saucer", "flying saucer", "a ufo hovering", "alien spaceship")
def flying_saucer(d: Dice, n: int) -> Signal:
    """The theremin of the films: a pure tone with a wide, slow wobble."""
    wobble = sine(seconds_of(n) * d.between(2.5, 9))
    pitch = d.between(350, 1300) * 2 ** (d.between(0.08, 0.5) * wobble + 0.4 * wander(d, n, 0.5))
    wave = tone(cycles_of(pitch), harmonics(d.between(2, 4))[:6], float(pitch.max()))
    return wave * (1 + 0.3 * wobble) + d.between(0.005, 0.05) * hiss(d, n, hump(800, 1))


@recipe("whistle", "whistle", "a referee's whistle", "blowing a whistle")
def whistle(d: Dice, n: int) -> Signal:
    """A pea whistle: two close tones that the pea chops thirty times a second, and breath."""
    pitch, trill, out = d.between(2000, 3900), d.between(18, 48), np.zeros(n)
    at = samples(d.between(0.02, 0.2))
    while at < n:
        m = samples(d.between(0.15, 1.2))
        time = seconds_of(m)
        pea = sine(time * trill + 0.1 * wander(d, m, 8))
        bend = 1 - 0.06 * np.exp(-time / 0.03) + 0.02 * pea
        wave = sine(cycles_of(pitch * bend)) + 0.5 * sine(cycles_of(pitch * 1.09 * bend))
        wave = wave * (1 + 0.6 * pea) + d.between(0.05, 0.25) * hiss(d, m, hump(pitch, 0.6))
        add(out, at, wave * edges(m, 0.015, 0.05))
        at += m + samples(d.between(0.1, 0.5))
    return out


# --- Engines and journeys ---------------------------------------------------------------------


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


def blasts(d: Dice, n: int, low: float, high: float, make: Callable[[int], Signal]) -> Signal:
    """One blast after another, each of `low` to `high` seconds."""
    out, at = np.zeros(n), samples(d.between(0.02, 0.15))
    while at < n:
        m = samples(d.between(low, high))
        add(out, at, make(m))
        at += m + samples(d.between(0.12, 0.6))
    return out


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


# --- Hands, feet and things -------------------------------------------------------------------


def knock(d: Dice, m: int, pitch: float, decay: float, click: float) -> Signal:
    """A blow on a board: a few dull modes and the click of the contact."""
    ratios = np.array([1, 1.6, 2.3, 3.1, 4.4]) * d.spread(1, 0.08, 5)
    wood = ring(pitch * ratios, decay / ratios**0.6, d.spread(1, 0.4, 5) / ratios**0.7, m)
    return loud(wood) + click * loud(hiss(d, m, hump(1800, 1.5)) * fade(m, 0.003))


@recipe("footsteps", "footprints", "footsteps", "someone walking", "walking shoes")
def footsteps(d: Dice, n: int) -> Signal:
    """Heel, then sole, left and right: on boards, on stone or on gravel."""
    ground, out = d.pick(("boards", "stone", "gravel")), np.zeros(n)
    pitch = d.between(80, 220)
    for k, start in enumerate(beats(d, n, d.between(0.33, 0.8), 0.08)):
        m = samples(0.22)
        tilt = 1 + 0.1 * (k % 2)
        if ground == "gravel":
            grains = scattered(d, m, 500)
            pulses = d.rng.normal(size=(len(grains), 30)) * np.exp(-np.arange(30) / 5)
            crunch = scatter(m, grains, pulses) * edges(m, 0.03, 0.15)
            step = loud(crunch) + 0.5 * knock(d, m, pitch, 0.02, 0.0)
        else:
            hard = {"boards": 0.2, "stone": 0.8}[ground] * d.between(0.6, 1.4)
            step = knock(d, m, pitch * tilt, d.between(0.012, 0.035), hard)
            sole = hiss(d, m, hump(900, 1.3)) * edges(m, 0.06, 0.14)
            add(step, samples(d.between(0.06, 0.12)), sole, 0.05)
        add(out, int(start), step, d.between(0.7, 1))
    return out


@recipe("door", "door", "knocking on a door", "someone knocks at the door")
def door(d: Dice, n: int) -> Signal:
    """Three to five knuckles on a panel, and again."""
    pitch, decay, gap = d.between(110, 420), d.between(0.012, 0.04), d.between(0.13, 0.32)
    out, at = np.zeros(n), samples(d.between(0.02, 0.2))
    while at < n:
        for _ in range(d.count(3, 5)):
            blow = knock(d, samples(0.2), pitch * d.between(0.94, 1.06), decay, d.between(0.1, 0.4))
            add(out, at, blow, d.between(0.7, 1))
            at += samples(gap * d.between(0.93, 1.07))
        at += samples(d.between(0.35, 1.0))
    return out


@recipe("hammer", "hammer", "hammering a nail", "hammer blows")
def hammer(d: Dice, n: int) -> Signal:
    """Steel on steel rings high and short, the wood beneath thuds, and the nail rises in pitch."""
    steel, wood, decay = d.between(1500, 3600), d.between(140, 380), d.between(0.015, 0.07)
    out = np.zeros(n)
    for k, start in enumerate(beats(d, n, d.between(0.25, 0.75), 0.1)):
        m = samples(0.3)
        blow = loud(clank(d, m, steel * 1.02**k, decay, 7)) * d.between(0.5, 1)
        add(out, int(start), blow + knock(d, m, wood, 0.025, 0.6), d.between(0.75, 1))
    return out


@recipe("saw", "carpentry saw", "sawing wood", "a hand saw cutting wood")
def saw(d: Dice, n: int) -> Signal:
    """To and fro: teeth that catch, quicker in the middle of a stroke, and the blade's own tone."""
    stroke = d.between(0.22, 0.7)
    turn = seconds_of(n) / stroke + d.rng.random() * 0.3
    speed = np.abs(np.sin(np.pi * turn)) ** 0.7
    push = 1 - 0.5 * (turn.astype(int) % 2)
    teeth = cycles_of(d.between(90, 260) * (0.4 + speed))
    catch = np.exp((-6 * (teeth - np.floor(teeth))).astype(np.float32))
    noise = hiss(d, n, hump(d.between(1400, 3600), 0.9)) + 0.4 * hiss(d, n, hump(700, 0.6))
    return noise * speed * push * (0.3 + catch)


@recipe("scissors", "scissors", "cutting paper with scissors", "snipping scissors")
def scissors(d: Dice, n: int) -> Signal:
    """Blades slide, ever higher, and close with a click."""
    out, slide = np.zeros(n), d.between(0.08, 0.28)
    for start in beats(d, n, slide * d.between(1.8, 3.0), 0.15):
        m = samples(slide)
        share = np.arange(m) / m
        dull, bright = hiss(d, m, hump(3000, 0.6)), hiss(d, m, hump(5500, 0.5))
        add(out, int(start), (dull * (1 - share) + bright * share) * (0.2 + share) * 0.25)
        snip = clank(d, samples(0.06), d.between(2600, 4200), 0.008, 5)
        add(out, int(start) + m, loud(snip), d.between(0.6, 1.4))
    return out


@recipe("keyboard", "keyboard", "typing on a keyboard", "computer keyboard")
def keyboard(d: Dice, n: int) -> Signal:
    """Keys go down and come up: two light clicks of plastic, unevenly in time."""
    out, pitch, at = np.zeros(n), d.between(1300, 3000), samples(0.05)
    down_up, pace = d.between(0.05, 0.1), d.between(0.09, 0.24)
    while at < n:
        m, size = samples(0.05), d.spread(1.0, 0.1, 1)[0]
        click = hiss(d, m, hump(pitch * size, 0.9)) * fade(m, d.between(0.002, 0.006))
        thud = ring(np.array([250 * size]), np.array([0.008]), np.ones(1), m)
        add(out, at, loud(click) + 0.5 * thud, d.between(0.6, 1))
        add(out, at + samples(down_up), loud(click), d.between(0.15, 0.4))
        at += samples(pace * d.pick((0.7, 1, 1, 1.3, 2.2)) * d.between(0.85, 1.15))
    return out


@recipe("camera", "camera", "camera shutter", "taking a photo")
def camera(d: Dice, n: int) -> Signal:
    """Mirror up, curtain, mirror down: two bursts of clicks, sometimes with a motor."""
    out, gap = np.zeros(n), d.between(0.05, 0.18)
    m, pitch = samples(0.08), d.between(1600, 3600)
    whirr = d.chance(0.4)
    for start in beats(d, n, d.between(0.6, 1.8), 0.3):
        for k in range(2):
            for bounce in range(d.count(2, 3)):
                click = hiss(d, m, hump(pitch * (1 - 0.2 * k), 1.2)) * fade(m, 0.005)
                at = int(start) + samples(k * gap + bounce * d.between(0.006, 0.02))
                add(out, at, loud(click) + 0.6 * clank(d, m, pitch, 0.006, 4), 0.6**bounce)
        if whirr:
            w = samples(d.between(0.15, 0.35))
            motor = tone(cycles_of(np.linspace(180, 420, w)), harmonics(1.5, 12), 420)
            add(out, int(start) + samples(2 * gap), motor * edges(w, 0.02, 0.03), 0.1)
    return out


@recipe("heartbeat", "beating heart", "heartbeat", "a heart beating")
def heartbeat(d: Dice, n: int) -> Signal:
    """Lub-dub: two soft thumps, the second shorter, higher and a third of a beat later."""
    period, pitch = d.between(0.5, 1.15), d.between(38, 75)
    m, gap = samples(0.3), d.between(0.27, 0.36)
    out = d.between(0.002, 0.02) * hiss(d, n, slope(1.0, 30, 200))
    thumps = [
        (ring(pitch * k * np.array([1, 1.7, 2.6]), np.array([0.05, 0.035, 0.02]) / k, gains, m))
        * edges(m, 0.012, 0.1)
        for k, gains in ((1.0, np.array([1, 0.6, 0.3])), (1.35, np.array([0.6, 0.45, 0.25])))
    ]
    for start in beats(d, n, period, 0.04):
        add(out, int(start), thumps[0], d.between(0.9, 1.1))
        add(out, int(start) + samples(gap * period**0.5), thumps[1], d.between(0.8, 1.1))
    return out


@recipe("applause", "clapping hands", "applause", "people clapping", "an audience clapping")
def applause(d: Dice, n: int) -> Signal:
    """Cupped hands: short bursts of noise with a pitch of their own, from a few to a whole hall."""
    people, out = round(d.between(3, 70)), np.zeros(n)
    starts, pitches = [], []
    for _ in range(people):
        mine = beats(d, n, d.between(0.18, 0.4), 0.2)
        starts.append(mine)
        pitches.append(np.full(len(mine), d.spread(1300, 0.4, 1)[0]))
    at, length = np.concatenate(starts), 360
    noise = d.rng.normal(size=(len(at), length)) * 0.5
    decays = np.full(len(at), d.between(0.003, 0.007))
    body = damped(np.concatenate(pitches), decays, d.spread(1, 0.4, len(at)), length)
    body += noise * np.exp(-np.arange(length) / (decays[:, None] * RATE)) * 0.8
    out = scatter(n, at, body)
    hall = hiss(d, n, hump(1500, 1.2)) * people / 70 * d.between(0.1, 0.6)
    return out / out.std() + hall


def boom(d: Dice, n: int, decay: float, edge: float) -> Signal:
    """A blast: everything at once, the highs gone first, then debris and roll."""
    blast = hiss(d, n, slope(0.3, 30, 6000)) * fade(n, decay * 0.06)
    body = hiss(d, n, slope(0.8, 30, edge)) * fade(n, decay * 0.35)
    roll = hiss(d, n, slope(1.3, 25, edge / 3)) * fade(n, decay) * (1 + 0.4 * wander(d, n, 8))
    punch = sine(cycles_of(45 + 90 * fade(n, 0.05))) * fade(n, decay * 0.25)
    return (blast + 0.8 * body + 0.5 * roll + 1.2 * punch) * edges(n, 0.002, 0.05)


@recipe("explosion", "explosion", "bomb", "a loud explosion", "something blows up")
def explosion(d: Dice, n: int) -> Signal:
    """One blast or two."""
    out = np.zeros(n)
    for start in beats(d, n, d.between(1.3, 6.0), 0.3)[:3]:
        decay = d.between(0.4, 1.8)
        m = min(n, samples(4 * decay))
        blast = boom(d, m, decay, d.between(250, 900))
        starts = scattered(d, m, 40)
        bits = d.rng.normal(size=(len(starts), 60)) * np.exp(-np.arange(60) / 10)
        debris = scatter(m, starts, bits) * fade(m, 0.7)
        add(out, int(start), loud(blast) + d.between(0.02, 0.15) * loud(debris))
    return out


@recipe("fireworks", "fireworks", "fireworks exploding", "a firework display")
def fireworks(d: Dice, n: int) -> Signal:
    """A rocket whistles up, a pause, a boom in the sky and the crackle of its stars."""
    out = np.zeros(n)
    for start in beats(d, n, d.between(0.6, 1.8), 0.6):
        at = int(start)
        if d.chance(0.6):
            m = samples(d.between(0.35, 0.9))
            pitch = np.linspace(d.between(1200, 2600), d.between(2000, 3800), m)
            up = sine(cycles_of(pitch * (1 + 0.01 * wander(d, m, 40))))
            up = up + 0.6 * hiss(d, m, hump(2500, 1))
            add(out, at, up * edges(m, m / RATE * 0.6, 0.05), d.between(0.03, 0.15))
            at += m + samples(0.05)
        add(out, at, loud(boom(d, samples(1.2), d.between(0.2, 0.6), d.between(400, 1200))))
        if d.chance(0.7):
            m = samples(d.between(0.5, 1.4))
            starts = scattered(d, m, d.between(40, 160))
            length = samples(0.012)
            pops = d.rng.normal(size=(len(starts), length)) * fade(length, 0.002)
            stars = scatter(m, starts, pops * d.spread(1, 0.8, len(starts))[:, None])
            add(out, at + samples(0.2), loud(stars) * edges(m, 0.1, 0.3), d.between(0.15, 0.5))
    return out


@recipe("balloon", "balloon", "balloon popping", "a balloon bursts")
def balloon(d: Dice, n: int) -> Signal:
    """A step of pressure: a few milliseconds that hold every pitch, answered by the room."""
    out = np.zeros(n)
    for start in beats(d, n, d.between(1.0, 3.5), 0.5):
        m = samples(0.5)
        front = samples(d.between(0.0008, 0.003))
        pop = np.zeros(m)
        pop[: 2 * front] = np.linspace(1, -1, 2 * front)
        pop += 0.5 * hiss(d, m, slope(0.2, 150, 7000)) * fade(m, d.between(0.004, 0.014))
        pop += d.between(0.02, 0.12) * hiss(d, m, hump(1200, 1.6)) * fade(m, d.between(0.05, 0.14))
        add(out, int(start), pop)
    return out


@recipe("glass", "broken glass", "glass breaking", "a window shatters")
def glass(d: Dice, n: int) -> Signal:
    """A crack, then shards that fall and ring, each high and clear."""
    out = np.zeros(n)
    for start in beats(d, n, d.between(1.5, 4.0), 0.3):
        m = n - int(start)
        crack = hiss(d, m, slope(0.1, 400, 7500)) * fade(m, d.between(0.008, 0.03))
        delays = d.rng.exponential(d.between(0.12, 0.45) * RATE, d.count(30, 90)).astype(np.int64)
        pitches = d.spread(d.between(2600, 4600), 0.45, len(delays))
        decays = d.spread(d.between(0.015, 0.06), 0.5, len(delays))
        shards = damped(pitches, decays, d.spread(1, 0.9, len(delays)), samples(0.25))
        shards += damped(pitches * 1.47, decays / 2, d.spread(0.6, 0.9, len(delays)), samples(0.25))
        kept = delays < m
        add(out, int(start), loud(crack) + 0.9 * loud(scatter(m, delays[kept], shards[kept])))
    return out


@recipe("coins", "coin", "coins dropping", "money clinking")
def coins(d: Dice, n: int) -> Signal:
    """Coins that bounce quicker and quicker, each with its own clear modes."""
    out, coin = np.zeros(n), d.between(2300, 4300)
    for start in beats(d, n, d.between(0.3, 1.1), 0.6):
        clink = clank(d, samples(0.3), coin * d.between(0.85, 1.18), d.between(0.03, 0.12), 5)
        at, gap = int(start), d.between(0.08, 0.26)
        for k in range(d.count(3, 8)):
            add(out, at, clink, 0.72**k)
            at, gap = at + samples(gap), gap * 0.72
    return out


@recipe("ball", "ball", "a bouncing ball", "ball bouncing on the floor")
def ball(d: Dice, n: int) -> Signal:
    """Each bounce keeps a share of the speed, so the gaps shrink as the loudness does."""
    out, at = np.zeros(n), samples(d.between(0.02, 0.2))
    pitch, keep, m = d.between(90, 420), d.between(0.68, 0.9), samples(0.2)
    first, decay = d.between(0.35, 0.8), d.between(0.015, 0.05)
    gap, level = first, 1.0
    while at < n:
        thud = knock(d, m, pitch, decay, d.between(0.1, 0.5))
        add(out, at, thud * edges(m, 0.002, 0.1), level)
        at, gap, level = at + samples(gap), gap * keep, level * keep
        if gap < 0.05:
            at, gap, level = at + samples(0.4), first, 1.0
    return out


# --- Animals ----------------------------------------------------------------------------------


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


# --- Instruments ------------------------------------------------------------------------------


def pluck(d: Dice, pitch: float, n: int, decay: float, soft: float, where: float) -> Signal:
    """A plucked string (Karplus and Strong 1983): a burst of noise that runs round a delay line.

    `decay` is seconds to fall by e, `soft` 0..1 how dull the plectrum is, `where` 0..0.5 how far
    along the string it plucks. The line has whole samples; reading it a little faster tunes it.
    """
    period = max(3, int(RATE / pitch))
    speed = (period + 0.5) * pitch / RATE  # the average of two neighbours delays by half a sample
    burst = d.rng.uniform(-1, 1, period)
    spectrum = fft.rfft(burst)
    burst = fft.irfft(spectrum / (1 + soft * 0.3 * np.arange(len(spectrum))), period)
    burst = burst - np.roll(burst, max(1, int(where * period)))  # a node where it is plucked
    rounds = int(n * speed / period) + 2
    keep = np.exp(-1 / (decay * pitch))
    line = np.empty((rounds, period))
    line[0] = burst
    for k in range(1, rounds):
        line[k, 1:] = line[k - 1, 1:] + line[k - 1, :-1]
        line[k, 0] = line[k - 1, 0] + (line[k - 2, -1] if k > 1 else 0.0)
        line[k] *= 0.5 * keep
    flat = line.ravel()
    return loud(np.interp(np.arange(n) * speed, np.arange(len(flat)), flat)) * edges(n, 5e-4, 0.03)


def box(*modes: tuple[float, float, float]) -> Callable[[Signal], Signal]:
    """The wooden body of a string instrument."""
    return peaks(*modes, floor=0.5)


def guitar(d: Dice) -> Voice:
    """Nylon or steel over a box that resonates at 100 and 200 Hz."""
    soft, where, decay = d.between(0.05, 1.0), d.between(0.1, 0.4), d.between(0.3, 1.4)
    body = box((d.between(90, 115), 6, 0.7), (d.between(180, 230), 6, 0.6), (420, 4, 0.3))
    return lambda f, n, v: colour(pluck(d, f, n, decay, soft, where), body) * v


def electric_guitar(d: Dice) -> Voice:
    """Strings driven hard into an amplifier that clips, and a loudspeaker without highs."""
    drive, decay = d.between(4, 30), d.between(0.6, 2.0)
    speaker = peaks((d.between(1800, 3000), 1.2, 1), (120, 1.5, 0.5), floor=0.15)

    def voice(f: float, n: int, v: float) -> Signal:
        fifth = pluck(d, f, n, decay, 0.1, 0.2) + pluck(d, f * 1.498, n, decay, 0.1, 0.2)
        return colour(np.tanh(drive * fifth), speaker) * edges(n, 0.002, 0.05) * v

    return voice


def bass_guitar(d: Dice) -> Voice:
    """Long, thick strings: few highs, slow decay."""
    soft, decay = d.between(0.5, 3.0), d.between(0.5, 1.6)
    return lambda f, n, v: pluck(d, f, n, decay, soft, 0.2) * v


def harp(d: Dice) -> Voice:
    """Soft fingers in the middle of the string."""
    soft, decay = d.between(0.8, 3.0), d.between(0.6, 2.2)
    return lambda f, n, v: pluck(d, f, n, decay, soft, 0.45) * v


def banjo(d: Dice) -> Voice:
    """Steel strings over a drum skin, which takes their energy quickly and rings by itself."""
    decay = d.between(0.1, 0.35)
    skin = peaks(
        (d.between(260, 420), 4, 0.6), (d.between(700, 1100), 3, 1), (2600, 2, 0.8), floor=0.3
    )
    return lambda f, n, v: colour(pluck(d, f, n, decay, 0.02, 0.12), skin) * v


def piano(d: Dice) -> Voice:
    """Stiff strings, so each partial a little sharp, struck by felt and heard in two decays."""
    stiff, felt, long = d.between(0.0002, 0.0012), d.between(0.9, 1.8), d.between(0.6, 1.8)

    def voice(f: float, n: int, v: float) -> Signal:
        k = np.arange(1.0, min(20, int(TOP / f)) + 1)
        pitches = k * f * np.sqrt(1 + stiff * k**2)
        decays = long * (261 / f) ** 0.5 / (1 + 0.12 * k**1.3)
        gains = np.abs(np.sin(np.pi * k / 8.2)) / k**felt * np.exp(-k * f / 2500)
        string = ring(pitches, decays, gains, n) + ring(pitches, decays * 0.2, gains * 0.8, n)
        thump = hiss(d, n, hump(220, 0.8)) * fade(n, 0.012)
        return (loud(string) + 0.06 * thump) * edges(n, 0.002, 0.06) * v

    return voice


def music_box(d: Dice) -> Voice:
    """Teeth of a steel comb: clamped bars, whose second mode lies more than two octaves up."""
    decay, gains = d.between(0.25, 0.9), np.array([1, 0.25, 0.06])
    modes = np.array([1, 6.27, 17.5])
    return lambda f, n, v: ring(f * modes, decay / np.array([1, 5, 12]), gains, n) * v


def xylophone(d: Dice) -> Voice:
    """Bars tuned to a twelfth or two octaves, or plain ones of metal, and the mallet's tick."""
    decay, tick = d.between(0.05, 0.5), d.between(0.1, 0.5)
    modes = d.pick((np.array([1, 3, 6.1, 9.5]), np.array([1, 4, 9.8, 16]), FREE_BAR))
    gains = np.array([1, 0.5, 0.2, 0.1])

    def voice(f: float, n: int, v: float) -> Signal:
        bar = ring(f * modes, decay * (500 / f) ** 0.4 / modes**0.8, gains, n)
        return (bar + tick * loud(hiss(d, n, hump(3000, 1)) * fade(n, 0.002))) * v

    return voice


def vibrato(d: Dice, f: float, n: int, depth: float, rate: float) -> Signal:
    """A pitch, (n,), that starts steady and begins to sway."""
    time = seconds_of(n)
    sway = depth * np.minimum(time / 0.35, 1) * sine(time * rate + d.rng.random())
    return f * (1 + sway + 0.002 * wander(d, n, 6))


def bowed(d: Dice, body: Callable[[Signal], Signal], attack: float) -> Voice:
    """A bow drags the string into a sawtooth (Helmholtz), which the body colours."""
    depth, rate = d.between(0.003, 0.012), d.between(4.5, 7)
    power, rosin = d.between(0.85, 1.25), d.between(0.01, 0.06)

    def voice(f: float, n: int, v: float) -> Signal:
        string = tone(cycles_of(vibrato(d, f, n, depth, rate)), harmonics(power), f * 1.02)
        string = string + rosin * hiss(d, n, hump(3000, 1.4))
        swell = edges(n, min(attack, n / RATE / 2), 0.07) * (1 + 0.1 * wander(d, n, 4))
        return colour(string, body) * swell * v

    return voice


def violin(d: Dice) -> Voice:
    """Air near 280 Hz, wood near 460 and 550, the bridge near 2500."""
    body = peaks((280, 8, 0.7), (460, 8, 1), (560, 8, 0.8), (d.between(2200, 3000), 2, 0.9))
    return bowed(d, body, d.between(0.05, 0.16))


def cello(d: Dice) -> Voice:
    """The same, three times as large."""
    body = peaks((100, 6, 0.8), (185, 6, 1), (230, 6, 0.8), (d.between(800, 1300), 2, 0.6))
    return bowed(d, body, d.between(0.07, 0.2))


def flute(d: Dice) -> Voice:
    """A jet of air: nearly a sine, an octave above it, and breath around both."""
    breath, second = d.between(0.03, 0.18), d.between(0.1, 0.4)
    rate, depth = d.between(4, 6.5), d.between(0.002, 0.008)

    def voice(f: float, n: int, v: float) -> Signal:
        pitch = vibrato(d, f, n, depth, rate)
        gains = np.array([1, second, 0.12, 0.04, 0.02])
        air = hiss(d, n, hump(f, 0.25)) + 0.5 * hiss(d, n, hump(2.5 * f, 0.8))
        sway = 1 + 0.15 * sine(seconds_of(n) * rate) * np.minimum(seconds_of(n) / 0.3, 1)
        chiff = 1 + 4 * fade(n, 0.03)
        return (
            (tone(cycles_of(pitch), gains, f) + breath * air * chiff)
            * sway
            * edges(n, 0.05, 0.06)
            * v
        )

    return voice


def clarinet(d: Dice) -> Voice:
    """A reed closes one end of the tube: odd harmonics, the even ones weak."""
    power, even = d.between(0.9, 1.6), d.between(0.03, 0.2)
    gains = harmonics(power, 24) * np.where(np.arange(24) % 2, even, 1.0)

    def voice(f: float, n: int, v: float) -> Signal:
        pitch = f * (1 + 0.001 * wander(d, n, 5))
        reed = tone(cycles_of(pitch), gains, f * 1.01) + 0.01 * hiss(d, n, hump(2000, 1))
        return reed * edges(n, 0.03, 0.05) * v

    return voice


def trumpet(d: Dice) -> Voice:
    """Brass: the louder, the brighter, so the spectrum opens as the note swells (Risset 1966)."""
    bright, attack = d.between(0.35, 0.9), d.between(0.03, 0.09)

    def voice(f: float, n: int, v: float) -> Signal:
        pitch = vibrato(d, f, n, 0.004, 5.5) * (1 - 0.03 * np.exp(-seconds_of(n) / 0.02))
        cycles, k = cycles_of(pitch), np.arange(1, 30.0)
        bell = np.exp(-((np.log2(k * f / 1300) / 1.4) ** 2))
        open_up = edges(n, attack * 2, 0.1) * (0.75 + 0.25 * fade(n, 0.25))
        mild = tone(cycles, harmonics(2.2, 29), f * 1.02)
        full = tone(cycles, harmonics(bright, 29) * (0.15 + bell), f * 1.02)
        return (mild * (1 - open_up) + full * open_up) * edges(n, attack, 0.06) * v

    return voice


def organ(d: Dice) -> Voice:
    """Ranks of pipes at octaves and fifths, that speak with a chiff and never waver."""
    stops = np.array([0.5, 1, 2, 3, 4, 6, 8])
    gains = np.array([0.5, 1, 0.7, 0.4, 0.5, 0.2, 0.3]) * (d.rng.random(7) < 0.75)
    gains[1] = 1

    def voice(f: float, n: int, v: float) -> Signal:
        time, out = seconds_of(n), np.zeros(n)
        for stop, gain in zip(stops, gains, strict=True):
            if gain and stop * f < TOP / 2:
                out += gain * tone(time * stop * f + 0.1, harmonics(2.0, 6), stop * f)
        chiff = 0.1 * hiss(d, n, hump(3 * f, 0.6)) * fade(n, 0.04)
        return (out + chiff) * edges(n, 0.04, 0.09) * v

    return voice


def accordion(d: Dice) -> Voice:
    """Two or three free reeds a little apart, so that they beat; the bellows swell."""
    apart, power = d.between(0.003, 0.012), d.between(0.6, 1.2)
    gains = harmonics(power, 30) * d.spread(1, 0.3, 30)

    def voice(f: float, n: int, v: float) -> Signal:
        out, time = np.zeros(n), seconds_of(n)
        for detune in (1 - apart, 1, 1 + apart):
            out += tone(time * f * detune + d.rng.random(), gains, f * 1.02)
        bellows = edges(n, 0.04, 0.05) * (1 + 0.15 * wander(d, n, 3))
        return colour(out, peaks((600, 1.5, 0.6), (1800, 1.5, 0.5), floor=0.4)) * bellows * v

    return voice


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


# --- Rhythms and music ------------------------------------------------------------------------


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


MAJOR_TURNS = ((0, 3, 4, 0), (0, 5, 3, 4), (0, 3, 0, 4))
MINOR_TURNS = ((0, 3, 4, 0), (0, 5, 3, 4), (0, 3, 0, 4))


def chord_music(rng: Generator, seconds: float, *, minor: bool, tempo: float) -> Wave:
    """A small piece: chords on each beat, a bass on the first and third, a tune in between.

    `tempo` is beats a minute, 40 to 220. The chords are the first, fourth, fifth and sixth of the
    key, and the last note of each bar belongs to its chord, so the key can be heard.
    """
    if not 40 <= tempo <= 220:
        raise ValueError(f"A tempo of {tempo} is no music here. Ask for 40 to 220 beats a minute.")
    d, n, beat = Dice(rng), samples(seconds), 60 / tempo
    scale = SCALES["minor" if minor else "major"]
    turn, root = d.pick(MINOR_TURNS if minor else MAJOR_TURNS), d.between(196, 330)
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
