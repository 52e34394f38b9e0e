"""Hands, feet and things: what is struck, cut, pressed, blown up or dropped."""

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
    cycles_of,
    damped,
    edges,
    fade,
    harmonics,
    hiss,
    hump,
    loud,
    ring,
    samples,
    scatter,
    scattered,
    seconds_of,
    sine,
    slope,
    tone,
    wander,
)


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
