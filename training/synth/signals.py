"""What every recipe is made of: chance, time, tones, noise and colour."""

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

Wave = NDArray[np.float32]  # (samples,), mono, -1..1, RATE a second
Signal = NDArray[Any]  # the same while it is made, of any loudness
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


def train_of(n: int, starts: Sequence[int] | NDArray[np.int64], pieces: Sequence[Signal]) -> Signal:
    """Lay pieces in turn, one at each start."""
    out = np.zeros(n)
    for k, start in enumerate(starts):
        add(out, int(start), pieces[k % len(pieces)])
    return out


def blasts(d: Dice, n: int, low: float, high: float, make: Callable[[int], Signal]) -> Signal:
    """One blast after another, each of `low` to `high` seconds."""
    out, at = np.zeros(n), samples(d.between(0.02, 0.15))
    while at < n:
        m = samples(d.between(low, high))
        add(out, at, make(m))
        at += m + samples(d.between(0.12, 0.6))
    return out


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


def clank(d: Dice, n: int, pitch: float, decay: float, count: int = 8) -> Signal:
    """Something small and metal that is struck: inharmonic modes, high ones dying first."""
    ratios = np.cumsum(d.rng.uniform(0.25, 0.9, count)) + 0.5
    ratios = ratios / ratios[0]
    decays = decay / ratios**0.7
    return ring(pitch * ratios, decays, d.spread(1.0, 0.6, count) / ratios**0.5, n)


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
