"""Voices of instruments: each draws its settings and returns a function that plays one note.

Plucked strings are Karplus and Strong (1983), modes of bars Fletcher and Rossing, "The Physics of
Musical Instruments" (1998).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import fft

from training.synth.bells import FREE_BAR
from training.synth.signals import (
    RATE,
    TOP,
    Dice,
    Signal,
    colour,
    cycles_of,
    edges,
    fade,
    harmonics,
    hiss,
    hump,
    loud,
    peaks,
    ring,
    seconds_of,
    sine,
    tone,
    wander,
)

Voice = Callable[[float, int, float], Signal]  # pitch in Hz, samples, loudness 0..1


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
