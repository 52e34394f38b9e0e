"""Music becomes a mood: beat, key, loudness and brightness, then a few words and colours.

Measured with librosa. Its compiled parts are kept in the user's cache folder; the first run on a
machine compiles them (half a minute) unless `warm()` has done so: `python -m guidance.mood`.
Two of its functions are not used: beat tracking, which it compiles anew in every process, and the
separation of tones from noises, which loads all of scikit-learn. Both methods stand here instead.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import platformdirs
from filelock import FileLock
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d, median_filter

if TYPE_CHECKING:  # torch stands behind it, and warming up needs none
    from guidance.audio import Wave

RATE = 22_050  # Hz
FLOOR = -100.0  # dB below full scale: what pure silence is given, for it has no logarithm
SILENT = -60.0  # dB below full scale: about the noise of a quiet room, recorded
MUSICAL = 0.5  # below this there are no words, and the mood should not steer

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Mood:
    """What a sound has of music, and the mood that goes with it."""

    loudness: float  # dB below full scale (RMS), FLOOR..0
    silent: bool = True
    tempo: float | None = None  # beats a minute; None where there is no steady beat
    beats: tuple[float, ...] = ()  # seconds
    onsets: tuple[float, ...] = ()  # seconds
    brightness: float = 0.0  # spectral centroid, Hz
    key: str = ""  # "C".."B"; "" where it is unclear
    mode: str = ""  # "major", "minor"; "" where it is unclear
    percussive: float = 0.0  # 0..1, the share of energy in short noises
    musical: float = 0.0  # 0..1, how much it is like music at all
    words: tuple[str, ...] = ()  # mood words for a CLIP; none where silent or not musical
    palette: tuple[str, ...] = ()  # "#rrggbb", from dark to light, that go with the words

    def says(self) -> str:
        """The mood in one sentence, for people."""
        if self.silent:
            return f"This is silent (below {SILENT:.0f} dB): no mood is read from it."
        if not self.words:
            return "This does not sound like music: no mood is read from it."
        *most, last = self.words
        words = f"{', '.join(most)} and {last}" if most else last
        tempo = f"about {self.tempo:.0f} beats a minute" if self.tempo else "no steady beat"
        key = f"in {self.key} {self.mode}".rstrip() if self.key else "in no clear key"
        return f"Sounds {words}: {tempo}, {key}."


def feel(wave: Wave) -> Mood:
    """Read the mood of a sound: mono, -1..1, at `RATE`, of any length.

    Silence is neutral and says so. What has neither tuned notes nor a steady beat (barking, rain,
    speech) is not musical: it has no words. Under four seconds a beat is rarely found, under two
    there is too little of anything. One sound repeated like a clock has a tempo, but is no music.
    """
    loudness = level(wave)
    if loudness < SILENT:
        return Mood(loudness)
    warm()
    return _felt(wave, loudness)


def _felt(wave: Wave, loudness: float) -> Mood:
    mel = _mel(wave)
    envelope = _envelope(mel)
    onsets = _onsets(envelope)
    pulse = _pulse(envelope, onsets, mel)
    notes = _notes(wave)
    key, mode = _key(notes.chroma) if notes.musical >= MUSICAL else ("", "")
    mood = Mood(
        loudness,
        silent=False,
        tempo=round(pulse.tempo, 1) if pulse.tempo else None,
        beats=_seconds(_beats(envelope, pulse.tempo)) if pulse.tempo else (),
        onsets=_seconds(onsets),
        brightness=notes.brightness,
        key=key,
        mode=mode,
        percussive=notes.percussive,
        musical=max(notes.musical, pulse.musical),
    )
    return _worded(mood, len(onsets) * RATE / len(wave)) if mood.musical >= MUSICAL else mood


def strength(wave: Wave, times: ArrayLike) -> Array:
    """How strongly a sound (mono, at `RATE`) acts at some seconds, 0..1; silence and outside: 0.

    Half of it is loudness, half the beginnings of sounds, which fade within a quarter of a second.
    """
    asked = np.asarray(times, dtype=np.float64)
    if level(wave) < SILENT:
        return np.zeros_like(asked)
    warm()
    envelope = _envelope(_mel(wave))
    flash = np.maximum(envelope / max(envelope.max(), LEAST_ONSET), 0)
    fade = 0.1 ** (_HOP / RATE / 0.25)  # to a tenth in a quarter of a second
    for frame in range(1, len(flash)):
        flash[frame] = max(flash[frame], flash[frame - 1] * fade)
    power = _librosa().feature.rms(y=wave, frame_length=_FRAME, hop_length=_HOP)[0]
    loud = np.sqrt(power / power.max())  # the ear's loudness grows slower than amplitude
    seconds = np.arange(len(flash)) * _HOP / RATE
    return np.interp(asked, seconds, (loud[: len(flash)] + flash) / 2, left=0, right=0)


@cache
def warm() -> None:
    """Compile what librosa compiles, and load it, by reading a second of sound.

    One process at a time: two that compiled into one folder at once were seen to crash.
    """
    time = np.arange(RATE) / RATE
    sound = (0.5 * np.sin(2 * np.pi * 440 * time) * (time % 0.25 < 0.2)).astype(np.float32)
    with _alone():
        _felt(sound, level(sound))


def _alone() -> AbstractContextManager[Any]:
    """Inside, no other process compiles into the same folder; none can where it is read-only."""
    folder = _compiled()
    return FileLock(folder / "compiling.lock") if os.access(folder, os.W_OK) else nullcontext()


def _compiled() -> Path:
    """Where the compiled parts are kept; numba is told before it is imported."""
    return Path(os.environ.setdefault("NUMBA_CACHE_DIR", str(_writable())))


@cache
def _librosa() -> Any:
    _compiled()
    import librosa

    return librosa


def _writable() -> Path:
    """The user's cache folder; where nothing can be written, a private one that is not kept."""
    folder = Path(platformdirs.user_cache_dir("synesthete", appauthor=False)) / "numba"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:  # a home that cannot be written to
        return Path(tempfile.mkdtemp(prefix="synesthete-numba-"))


def _ramp(value: float, low: float, high: float) -> float:
    """0 up to `low`, 1 from `high` on, straight between."""
    return float(np.clip((value - low) / (high - low), 0, 1))


# --- Beginnings and beat --------------------------------------------------------------------------

_FRAME, _HOP = 1024, 256  # samples: 46 ms, every 12 ms
_FPS = RATE / _HOP  # frames a second
LEAST_ONSET = 0.15  # of the envelope: what is weaker throughout is noise, not soft onsets


def level(wave: Wave) -> float:
    """RMS in dB below full scale, FLOOR at least; a constant offset cannot be heard."""
    samples = np.asarray(wave, dtype=np.float64)
    power = float(samples.var()) if len(samples) else 0.0
    return max(FLOOR, 10 * float(np.log10(max(power, 1e-30))))


def _padded(wave: Wave, least: int) -> Wave:
    return np.pad(wave, (0, max(0, least - len(wave))))


def _mel(wave: Wave) -> Array:
    """Compressed magnitudes of mel bands, (80, frames), 0..3.4; the loudest is always the same."""
    mel = _librosa().feature.melspectrogram(
        y=_padded(wave, _FRAME),
        sr=RATE,
        n_fft=_FRAME,
        hop_length=_HOP,
        n_mels=80,
        fmax=10_000,
        power=1.0,
    )
    return np.log1p(30 * mel / mel.max())


def _envelope(mel: Array) -> Array:
    """How much more there is in all bands than a frame before, (frames,)."""
    return _librosa().onset.onset_strength(S=mel, sr=RATE)


def _onsets(envelope: Array) -> NDArray[np.intp]:
    """Frames where sounds begin. The limits are in frames of 12 ms, found on known rhythms."""
    return _librosa().util.peak_pick(
        envelope / max(envelope.max(), LEAST_ONSET),
        pre_max=3,
        post_max=4,
        pre_avg=10,
        post_avg=11,
        delta=0.08,
        wait=3,
    )


def _seconds(frames: NDArray[np.intp]) -> tuple[float, ...]:
    return tuple((frames / _FPS).round(3).tolist())


class _Pulse(NamedTuple):
    tempo: float | None = None  # beats a minute
    musical: float = 0.0  # 0..1


def _pulse(envelope: Array, onsets: NDArray[np.intp], mel: Array) -> _Pulse:
    """The tempo, if most onsets keep to it, and how much it is like music."""
    period, clear = _period(envelope)
    if len(onsets) < 4 or not period:
        return _Pulse()
    period, kept = _refined(np.diff(onsets), period)
    steady = _ramp(clear, 0.3, 0.5) * _ramp(kept, 0.7, 0.9)
    steady *= _ramp(len(onsets), 4, 8) * _ramp(len(envelope) / _FPS, 2, 4)
    # clocks and alarms repeat one sound; drums and melodies do not
    musical = steady * (0.4 + 0.6 * _ramp(_variety(mel, onsets), 0.06, 0.12))
    return _Pulse(60 * _FPS / period if steady >= 0.5 else None, musical)


def _period(envelope: Array) -> tuple[float, float]:
    """Frames from beat to beat, and how like itself the envelope is after them, up to 1.

    Tempi near 120 are preferred, for twice and half of one look alike to a correlation.
    """
    count = len(envelope)
    change = gaussian_filter1d(np.asarray(envelope, dtype=np.float64), 2)
    change -= change.mean()
    alike = np.fft.irfft(np.abs(np.fft.rfft(change, 2 * count)) ** 2)[:count]
    alike /= np.maximum(1 - np.arange(count) / count, 0.25) * max(alike[0], 1e-12)
    lags = np.arange(round(60 * _FPS / 200), min(round(60 * _FPS / 40), count // 2))
    if not len(lags):
        return 0.0, 0.0
    liked = np.exp(-0.5 * (np.log2(60 * _FPS / lags / 120) / 0.8) ** 2)
    best = lags[int((alike[lags].clip(0) * liked).argmax())]
    return float(best), float(alike[best])


def _refined(gaps: NDArray[np.intp], period: float) -> tuple[float, float]:
    """The period that fits the gaps between onsets best, and how well they keep to it, up to 1.

    They may keep to halves, thirds or quarters of a beat. Gaps, not times: a tempo may drift.
    """
    periods = period * np.linspace(0.96, 1.04, 41)
    parts = np.array([2, 3, 4])
    turns = gaps[:, None, None] * parts / periods[:, None]  # (gaps, periods, parts)
    kept = np.cos(2 * np.pi * turns).mean(axis=0)
    place, part = np.unravel_index(int(kept.argmax()), kept.shape)
    return float(periods[place]), float(kept[place, part])


def _variety(mel: Array, onsets: NDArray[np.intp]) -> float:
    """How much the sounds that begin differ in their spectra: 0 for one sound repeated."""
    last = mel.shape[1] - 1
    spectra = np.stack([mel[:, np.minimum(onsets + ahead, last)] for ahead in range(4)]).max(axis=0)
    spectra = spectra / np.maximum(np.linalg.norm(spectra, axis=0), 1e-9)
    return 1 - float(np.linalg.norm(spectra.mean(axis=1))) ** 2


def _beats(envelope: Array, tempo: float) -> NDArray[np.intp]:
    """Frames of the beats, by dynamic programming.

    Ellis, "Beat Tracking by Dynamic Programming", Journal of New Music Research 36 (2007).
    """
    period = 60 * _FPS / tempo
    local = gaussian_filter1d(np.asarray(envelope / envelope.std(), dtype=np.float64), period / 32)
    steps = np.arange(round(period / 2), round(2 * period) + 1)  # back to the beat before
    price = 100 * np.log(steps / period) ** 2
    reach = int(steps[-1])
    total = np.concatenate([np.zeros(reach), local])  # before the sound anything may have been
    back = np.zeros(len(local), dtype=np.intp)
    for frame in range(len(local)):
        before = total[frame + reach - steps] - price
        back[frame] = frame - steps[best := int(before.argmax())]
        total[frame + reach] += before[best]
    beat = len(local) - 1 - int(total[: -round(period) - 1 : -1].argmax())
    found = [beat]
    while (beat := int(back[beat])) >= 0:
        found.append(beat)
    beats = np.array(found[::-1])
    strong = np.flatnonzero(local[beats] > 0.5 * np.sqrt((local[beats] ** 2).mean()))
    return beats[strong[0] : strong[-1] + 1]  # none before the first sound nor after the last


# --- Notes ----------------------------------------------------------------------------------------

_LONG = 4096  # samples: 186 ms, long enough to tell semitones apart, every quarter of that
_LOWEST, _HIGHEST = 60, 5000  # Hz: where notes are looked for

# How well the twelve notes from the tonic up fit a key, as listeners rated them: Krumhansl and
# Kessler, "Tracing the dynamic changes in perceived tonal organization", Psychological Review 89
# (1982). That the best correlation names the key is Krumhansl's and Schmuckler's algorithm.
_PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}
_KEYS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


class _Notes(NamedTuple):
    chroma: Array  # (12,), from C
    musical: float  # 0..1
    percussive: float  # 0..1
    brightness: float  # Hz


def _notes(wave: Wave) -> _Notes:
    """What stands still in the spectrum, and whether it is tuned in semitones.

    Tones are ridges along time, noises ridges along frequency: Fitzgerald, "Harmonic/percussive
    separation using median filtering", DAFx 2010.
    """
    librosa = _librosa()
    wave = _padded(wave, _LONG)
    whole = np.abs(librosa.stft(wave, n_fft=_LONG, hop_length=_LONG // 4))  # (bins, frames)
    centre = librosa.feature.spectral_centroid(S=whole, sr=RATE)[0]
    hertz = np.arange(len(whole)) * RATE / _LONG
    inside = slice(*np.searchsorted(hertz, (_LOWEST, _HIGHEST)).tolist())
    part = whole[inside]
    along, across = median_filter(part, (1, 7)), median_filter(part, (31, 1))
    energy, tone = part**2, along > 3 * across
    everything = float(energy.sum()) + 1e-12
    noise = across**2 / (along**2 + across**2 + 1e-12)
    pitches, weights = librosa.piptrack(S=whole, sr=RATE, fmin=_LOWEST, threshold=0.05)
    there = tone & (weights[inside] > 0)
    notes, tuned = _tuned(pitches[inside][there], weights[inside][there])
    tonal = float(energy[tone].sum()) / everything
    seconds = len(wave) / RATE  # in a shorter sound a few peaks may be in tune by chance
    musical = _ramp(tuned, 0.3, 0.6) * _ramp(tonal, 0.25, 0.5) * _ramp(seconds, 1, 2)
    musical *= _ramp(_several(notes), 0.1, 0.3)
    return _Notes(
        _folded(notes),
        musical,
        percussive=float((energy * noise).sum()) / everything,
        brightness=float(np.average(centre, weights=(whole**2).sum(axis=0) + 1e-12)),
    )


def _tuned(hertz: Array, weights: Array) -> tuple[Array, float]:
    """Weights of all notes by MIDI number, (144,), and how far they lie on one grid of semitones.

    0 for pitches anywhere, 1 for those of one tuned instrument, whatever it is tuned to.
    """
    if not len(hertz):
        return np.zeros(144), 0.0
    semitones = 12 * np.log2(hertz / 440)
    off = (weights * np.exp(2j * np.pi * semitones)).sum() / weights.sum()
    grid = np.round(semitones - np.angle(off) / (2 * np.pi)).astype(int) + 69
    return np.bincount(grid, weights, 144).astype(np.float64), float(np.abs(off))


def _several(notes: Array) -> float:
    """Share of the notes that are no overtones of one strong note: 0 for a beep, hum or horn."""
    overtones = np.unique(np.round(12 * np.log2(np.arange(1, 17))).astype(int))
    strong = np.flatnonzero(notes > 0.3 * notes.max())
    room = np.concatenate([notes, np.zeros(49)])
    explained = max((float(room[note + overtones].sum()) for note in strong), default=0.0)
    return 1 - explained / max(float(notes.sum()), 1e-12)


def _folded(notes: Array) -> Array:
    """Twelve notes from all octaves, (144,) -> (12,), with fewer overtones.

    The third and the fifth harmonic of a note are other notes: a bright C would look like C, E, G.
    Amounts found on chords of known keys, from dull to bright.
    """
    left = notes.copy()
    for note in range(len(left) - 28):
        left[note + 19] = max(0, left[note + 19] - 0.4 * left[note])
        left[note + 28] = max(0, left[note + 28] - 0.25 * left[note])
    return left.reshape(-1, 12).sum(axis=0)


def _key(chroma: Array) -> tuple[str, str]:
    """Name the key and mode; "" where another fits nearly as well."""
    fit = {
        (key, mode): float(np.corrcoef(np.roll(profile, place), chroma)[0, 1])
        for mode, profile in _PROFILES.items()
        for place, key in enumerate(_KEYS)
    }
    key, mode = max(fit, key=lambda name: fit[name])
    best = fit[key, mode]
    others = max(value for name, value in fit.items() if name[0] != key)
    if best < 0.6 or best - others < 0.02:
        return "", ""
    other_mode = fit[key, "minor" if mode == "major" else "major"]
    return key, mode if best - other_mode >= 0.05 else ""


# --- Words and colours ----------------------------------------------------------------------------

# Moods lie in a plane of pleasure and excitement: Russell, "A circumplex model of affect", Journal
# of Personality and Social Psychology 39 (1980). Faster, denser and louder is more excited; major
# and bright is more pleasant. This is what many listeners agree on, not what one of them feels.
_EXCITED = ((0.3, "calm"), (0.45, "gentle"), (0.62, "lively"), (2.0, "energetic"))  # below, word


class _Corner(NamedTuple):
    word: str  # "" in the middle, where none is sure
    hue: float  # degrees, OKLCH


# Hues as people choose them for music: yellow for glad, blue for sad, red for what is tense, and
# more colourful and lighter for faster music in major: Palmer, Schloss, Xu and Prado-Leon,
# "Music-color associations are mediated by emotion", PNAS 110 (2013).
_CORNERS = {  # pleasant (1), neither (0), unpleasant (-1); excited or not
    (1, True): _Corner("joyful", 85),
    (1, False): _Corner("peaceful", 150),
    (0, True): _Corner("", 45),
    (0, False): _Corner("", 200),
    (-1, True): _Corner("dramatic", 25),
    (-1, False): _Corner("sad", 260),
}
_DARK, _BRIGHT = 700, 2200  # Hz: below the spectral centre of most music, and above


def _worded(mood: Mood, rate: float) -> Mood:
    """Add words and palette to what was measured; `rate` in onsets a second."""
    excited, pleasant = _excitement(mood, rate), _pleasure(mood)
    side = int(pleasant > 0.25) - int(pleasant < -0.25)
    corner = _CORNERS[side, excited >= 0.45]
    energy = next(word for below, word in _EXCITED if excited < below)
    dark = "warm" if side > 0 else "dark"
    tone = dark if mood.brightness < _DARK else "bright" if mood.brightness > _BRIGHT else ""
    rhythm = "rhythmic" if mood.percussive > 0.5 and mood.tempo else ""
    words = tuple(word for word in (energy, corner.word, tone, rhythm) if word)
    return replace(mood, words=words, palette=_palette(corner.hue, excited, pleasant))


def _excitement(mood: Mood, rate: float) -> float:
    """0..1, from onsets a second, tempo and loudness."""
    dense, loud = _ramp(rate, 0.5, 5), _ramp(mood.loudness, -35, -10)
    fast = _ramp(mood.tempo, 60, 160) if mood.tempo else dense
    return 0.4 * dense + 0.3 * fast + 0.3 * loud


def _pleasure(mood: Mood) -> float:
    """-1..1, from mode and brightness; without a mode too little to call it either."""
    bright = _ramp(log2(max(mood.brightness, 1)), log2(400), log2(3000))
    return 0.75 * {"major": 1, "minor": -1, "": 0}[mood.mode] + 0.25 * (2 * bright - 1)


def _palette(hue: float, excited: float, pleasant: float) -> tuple[str, ...]:
    """Five colours from dark to light; more colourful where excited, lighter where pleasant."""
    chroma = 0.04 + 0.13 * excited
    lightness = np.linspace(0.24, 0.86, 5) + 0.06 * pleasant
    hues = hue + np.linspace(-30, 30, 5)  # neighbours, so that it is more than one colour
    return tuple(map(_hex, lightness.tolist(), [chroma] * 5, hues.tolist()))


def _hex(lightness: float, chroma: float, hue: float) -> str:
    """The sRGB colour of an OKLCH one; as colourful as the screen can."""
    for share in np.linspace(1, 0, 41):
        rgb = _linear(lightness, chroma * float(share), hue)
        if rgb.min() >= -1e-4 and rgb.max() <= 1 + 1e-4:
            break
    rgb = rgb.clip(0, 1)
    shown = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(255 * float(value)):02x}" for value in shown)


def _linear(lightness: float, chroma: float, hue: float) -> Array:
    """Linear RGB of a colour in OKLCH: Ottosson, "A perceptual color space" (2020)."""
    angle = np.radians(hue)
    lab = np.array([lightness, chroma * np.cos(angle), chroma * np.sin(angle)])
    return _FROM_CONES @ (_TO_CONES @ lab) ** 3


_TO_CONES = np.array(
    [
        [1, 0.3963377774, 0.2158037573],
        [1, -0.1055613458, -0.0638541728],
        [1, -0.0894841775, -1.2914855480],
    ]
)
_FROM_CONES = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)

if __name__ == "__main__":
    warm()
