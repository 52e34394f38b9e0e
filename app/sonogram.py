"""A sound as a picture: above its wave, below how loud each pitch is, over time.

Drawn with numpy alone, in the colours of the page, and without words: those stand beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

if TYPE_CHECKING:
    from guidance.audio import Wave

RATE = 16_000  # Hz that `draw` wants
LOWEST, HIGHEST = 50.0, 8_000.0  # Hz that are shown
WIDTH, WAVE_HEIGHT, PITCH_HEIGHT = 720, 64, 160  # pixels

_FFT, _HOP, _MELS = 1_024, 256, 80
_RANGE = 60.0  # dB below the loudest that are told apart
_GROUND, _WAVE = (28, 25, 23), (45, 212, 191)
_HEAT = ((28, 25, 23), (17, 94, 89), (20, 184, 166), (153, 246, 228), (240, 253, 250))

Array = NDArray[np.floating]
Pixels = NDArray[np.uint8]  # (h, w, 3)


def draw(wave: Wave) -> Picture.Image:
    """(samples,), -1..1, at RATE -> a picture of WIDTH by WAVE_HEIGHT + PITCH_HEIGHT pixels."""
    return Picture.fromarray(np.concatenate([_outline(wave), _pitches(wave)]))


def _outline(wave: Wave) -> Pixels:
    """The wave: of each column all that it passes through; its loudest fills the height."""
    low, high = (_columns(end(wave, 0)) for end in (np.minimum, np.maximum))
    peak = max(float(high.max()), -float(low.min()), 1e-6)
    middle = (WAVE_HEIGHT - 1) / 2
    height = middle - np.arange(WAVE_HEIGHT)[:, None]  # of each row above the middle
    top, bottom = (end / peak * (middle - 3) for end in (high, low))
    inside = (height <= np.maximum(top, 0.5)) & (height >= np.minimum(bottom, -0.5))
    return np.where(inside[..., None], _WAVE, _GROUND).astype(np.uint8)


def _columns(values: Array) -> Array:
    """(n,) -> (WIDTH,): of each stretch the value that is farthest from 0."""
    edges = np.linspace(0, len(values), WIDTH + 1).astype(int)
    least, most = (
        end.reduceat(values, np.minimum(edges[:-1], len(values) - 1))
        for end in (np.minimum, np.maximum)
    )
    return np.where(-least > most, least, most)


def _pitches(wave: Wave) -> Pixels:
    """How loud each pitch is at each time, the low ones below: dB under the loudest as a heat."""
    power = mel(wave)
    loudest = max(float(power.max()), 1e-12)
    level = 10 * np.log10(np.maximum(power / loudest, 10 ** (-_RANGE / 10))) / _RANGE + 1
    grey = Picture.fromarray((255 * level[::-1]).astype(np.uint8))
    grey = grey.resize((WIDTH, PITCH_HEIGHT), Picture.Resampling.BILINEAR)
    places = np.linspace(0, 255, len(_HEAT))
    table = [np.interp(np.arange(256), places, channel) for channel in zip(*_HEAT, strict=True)]
    return np.stack(table, axis=1).astype(np.uint8)[np.asarray(grey)]


def mel(wave: Wave) -> Array:
    """(samples,) at RATE -> (mels, columns): power, of at most WIDTH stretches of time.

    A column is the loudest moment of its stretch, so that a click in a long sound is seen.
    """
    padded = np.pad(np.asarray(wave, np.float32), _FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP]
    bell = np.hanning(_FFT).astype(np.float32)
    power = np.concatenate(
        [_bank() @ (np.abs(np.fft.rfft(part * bell)) ** 2).T for part in _split(frames)], axis=1
    )
    count = power.shape[1]
    if count <= WIDTH:
        return power
    return np.maximum.reduceat(power, np.linspace(0, count, WIDTH + 1)[:-1].astype(int), axis=1)


def _split(frames: Array) -> list[Array]:
    """A few at a time: of two minutes all at once would be 60 MB."""
    return np.array_split(frames, -(-len(frames) // 512))


def _bank() -> Array:
    """(mels, bins): triangles evenly spaced on the mel scale (O'Shaughnessy 1987)."""
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (LOWEST, HIGHEST))
    edges = 700 * (10 ** (np.linspace(low, high, _MELS + 2) / 2595) - 1)
    bins = np.linspace(0, RATE / 2, _FFT // 2 + 1)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.minimum(rising, falling).clip(min=0)
