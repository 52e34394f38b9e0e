"""Bells, clocks and signals: what rings, ticks, beeps or wails to be noticed.

Modes of bars and bells are Fletcher and Rossing, "The Physics of Musical Instruments" (1998).
"""

from __future__ import annotations

import numpy as np

from training.synth.recipes import recipe
from training.synth.signals import (
    RATE,
    Dice,
    Signal,
    add,
    beats,
    clank,
    colour,
    cycles_of,
    damped,
    edges,
    harmonics,
    hiss,
    hump,
    peaks,
    ring,
    samples,
    scatter,
    seconds_of,
    sine,
    slope,
    tone,
    train_of,
    wander,
)

# Partials of a bell against its prime, and how loud each is.
CHURCH = np.array([0.5, 1, 1.2, 1.5, 2, 2.5, 2.67, 3, 4, 5.33, 6.7])
CHURCH_GAINS = np.array([0.55, 0.65, 0.75, 0.3, 1, 0.25, 0.25, 0.3, 0.35, 0.2, 0.1])
FREE_BAR = np.array([1, 2.756, 5.404, 8.933])


def bell(d: Dice, prime: float, decay: float, n: int) -> Signal:
    """A cast bell: hum, prime, minor third, fifth, octave; each splits in two and so beats."""
    pitches = prime * CHURCH * d.spread(1.0, 0.008, len(CHURCH))
    decays = decay * (0.5 / CHURCH) ** 0.75
    split = d.spread(0.0012 * prime, 0.5, len(CHURCH))
    both = np.concatenate([pitches, pitches + split * 2])
    gains = CHURCH_GAINS * d.spread(1.0, 0.4, len(CHURCH))
    return ring(both, np.tile(decays, 2), np.concatenate([gains, gains * 0.6]), n)


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
