"""Synthesised sounds: sound by every contract, and with the physics of what they are called."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import find_peaks

from training.synth import RATE, RECIPES, chord_music, rhythm, synthesise
from training.synth.bells import bell
from training.synth.engines import firing
from training.synth.instruments import INSTRUMENTS
from training.synth.music import TURNS
from training.synth.recipes import SHORTEST
from training.synth.signals import Dice, Wave, damped
from training.synth.voices import pluck

NAMES = tuple(RECIPES)
RINGING = {"guitar": 196.0, "harp": 220.0, "banjo": 262.0, "piano": 262.0, "bass guitar": 65.0}
HELD = {"violin": 440.0, "flute": 523.0, "clarinet": 220.0, "trumpet": 262.0, "accordion": 262.0}


def rng(seed: int = 0) -> Generator:
    return np.random.default_rng(seed)


def spectrum(wave: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Hz and magnitudes, the ends of the sound softened."""
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 4 * RATE))
    return np.fft.rfftfreq(4 * RATE, 1 / RATE), power


def loudness(wave: NDArray[np.floating], step: int = 160) -> NDArray[np.float64]:
    """Root of the mean square of each `step` samples."""
    whole = wave[: len(wave) // step * step].astype(np.float64)
    return np.sqrt((whole.reshape(-1, step) ** 2).mean(1))


def pitches(wave: Wave, frame: int = 2048) -> NDArray[np.float64]:
    """The loudest pitch of each frame in Hz."""
    frames = wave[: len(wave) // frame * frame].reshape(-1, frame) * np.hanning(frame)
    return np.abs(np.fft.rfft(frames)).argmax(1) * RATE / frame


def fundamental(wave: NDArray[np.floating], near: float) -> float:
    """The pitch of which most of the loudness is a multiple, in Hz, an octave around `near`."""
    hertz, power = spectrum(wave)
    options = np.arange(near * 0.6, near * 1.7, 0.25)
    sums = [sum(power[np.abs(hertz - k * f).argmin()] for k in (1, 2, 3, 4)) for f in options]
    return float(options[int(np.argmax(sums))])


def test_there_are_sounds_enough_and_each_has_its_phrases() -> None:
    assert len(RECIPES) >= 36
    for name, recipe in RECIPES.items():
        assert recipe.name == name
        assert len(set(recipe.captions)) == len(recipe.captions) >= 3, name


def test_no_two_things_share_a_phrase() -> None:
    phrases = [phrase for recipe in RECIPES.values() for phrase in recipe.captions]
    assert len(set(phrases)) == len(phrases)


@pytest.mark.parametrize("unheard", [False, True], ids=["heard", "unheard"])
@pytest.mark.parametrize("name", NAMES)
def test_a_sound_is_sound(name: str, unheard: bool) -> None:
    for seed, seconds in enumerate((2.0, SHORTEST)):
        wave = synthesise(name, rng(seed), seconds, unheard=unheard)
        assert wave.dtype == np.float32
        assert wave.shape == (round(seconds * RATE),)
        assert np.isfinite(wave).all()
        assert 0.05 < np.abs(wave).max() <= 1
        assert np.sqrt(np.mean(wave.astype(np.float64) ** 2)) > 0.002


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_is_one_sound_and_another_seed_another(name: str) -> None:
    first, again = synthesise(name, rng(1), 1.0), synthesise(name, rng(1), 1.0)
    np.testing.assert_array_equal(first, again)
    for other in (synthesise(name, rng(2), 1.0), synthesise(name, rng(1), 1.0, unheard=True)):
        assert np.abs(first - other).max() > 0.01


@pytest.mark.parametrize(("low", "high"), [(20.0, 2000.0), (0.0, 1.0)])
def test_unheard_settings_are_never_heard_and_never_out_of_range(low: float, high: float) -> None:
    heard = [Dice(rng(s)).between(low, high) for s in range(300)]
    unheard = np.array([Dice(rng(s), unheard=True).between(low, high) for s in range(300)])
    assert low <= unheard.min() < min(heard)
    assert max(heard) < unheard.max() <= high
    assert not ((unheard >= min(heard)) & (unheard <= max(heard))).any()


def test_an_unknown_sound_is_told_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"No sound called 'silence'.*rain"):
        synthesise("silence", rng())


def test_a_sound_too_short_to_tell_is_refused() -> None:
    with pytest.raises(ValueError, match="too short"):
        synthesise("rain", rng(), 0.01)


def test_some_sounds_end_early_and_none_begins_late() -> None:
    levels = [loudness(synthesise("rain", rng(seed)), RATE // 4) for seed in range(20)]
    assert all(level[0] > 0.1 * level.max() for level in levels)
    ended = sum(level[-1] < 0.1 * level.max() for level in levels)
    assert 2 <= ended <= 12


@pytest.mark.parametrize("name", ["balloon", "explosion", "camera", "door", "clock"])
def test_what_is_rare_is_heard_in_every_clip(name: str) -> None:
    for seed in range(16):
        level = loudness(synthesise(name, rng(seed), unheard=bool(seed % 2)))
        assert level.max() > 4 * np.median(level)


# --- Physics ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "pitch"), [*RINGING.items(), *HELD.items()])
def test_an_instrument_plays_the_pitch_it_is_asked_for(name: str, pitch: float) -> None:
    voice = INSTRUMENTS[name].voice(Dice(rng(3)))
    assert fundamental(voice(pitch, RATE, 1.0), pitch) == pytest.approx(pitch, rel=0.012)


@pytest.mark.parametrize("name", [*RINGING, "music box", "xylophone"])
def test_what_is_plucked_or_struck_dies_away_and_what_is_held_does_not(name: str) -> None:
    struck = loudness(INSTRUMENTS[name].voice(Dice(rng(4)))(262.0, RATE, 1.0))
    held = loudness(INSTRUMENTS["organ"].voice(Dice(rng(4)))(262.0, RATE, 1.0))
    assert struck[60:80].mean() < 0.7 * struck[:20].mean()
    assert held[60:80].mean() > 0.7 * held[:20].mean()


def test_a_string_loses_its_highs_first() -> None:
    string = pluck(Dice(rng()), 147.0, RATE, 0.8, 0.1, 0.3)
    hertz, early = spectrum(string[:4000])
    _, late = spectrum(string[8000:12000])
    high, low = hertz > 2000, (hertz > 50) & (hertz < 600)
    assert late[high].sum() / early[high].sum() < 0.5 * late[low].sum() / early[low].sum()


def test_a_church_bell_decays_and_is_inharmonic_with_a_minor_third() -> None:
    toll = bell(Dice(rng()), 300.0, 2.0, 2 * RATE)
    assert loudness(toll)[150:].mean() < 0.5 * loudness(toll)[:50].mean()
    hertz, power = spectrum(toll)
    peaks = hertz[find_peaks(power, height=0.05 * power.max())[0]]
    for partial in (150, 300, 360, 600):  # hum, prime, tierce, nominal
        assert np.abs(peaks / partial - 1).min() < 0.03
    away = np.abs(peaks / 300 - np.round(peaks / 300))
    assert (away > 0.1).any()


def test_a_clock_ticks_evenly() -> None:
    for seed in range(4):
        dry = RECIPES["clock"].make(Dice(rng(seed)), 6 * RATE)
        level = loudness(dry)
        ticks = find_peaks(level, height=0.4 * level.max(), distance=12)[0]
        assert len(ticks) >= 4
        assert np.ptp(np.diff(ticks)) <= 3  # hundredths of a second


def test_a_siren_moves_and_a_beep_does_not() -> None:
    for seed in range(4):
        siren = pitches(synthesise("siren", rng(seed)))
        assert np.percentile(siren, 90) > 1.15 * np.percentile(siren, 10)
        beep = synthesise("beep", rng(seed))
        kept = pitches(beep)[loudness(beep, 2048) > 0.3 * loudness(beep, 2048).max()]
        assert np.ptp(kept) <= 0.1 * np.median(kept)


def test_a_bubble_rises() -> None:
    drop = damped(np.array([600.0]), np.array([0.05]), np.ones(1), 4000, rise=8.0)[0]
    crossings = np.flatnonzero(np.diff(np.signbit(drop)))
    gaps = np.diff(crossings)
    assert gaps[-5:].mean() < 0.7 * gaps[:5].mean()


@pytest.mark.parametrize(
    ("low", "high"),
    [("thunder", "rain"), ("heartbeat", "clock"), ("ship", "whistle"), ("tractor", "chainsaw"),
     ("owl", "bird"), ("cello", "flute"), ("gong", "bell"), ("wind", "snake")],
)  # fmt: skip
def test_the_larger_thing_sounds_lower(low: str, high: str) -> None:
    def centre(name: str) -> float:
        spectra = [spectrum(synthesise(name, rng(seed), 2.0)) for seed in range(4)]
        return float(np.median([(hertz * p**2).sum() / (p**2).sum() for hertz, p in spectra]))

    assert centre(low) < centre(high)


def test_thunder_is_dull_in_the_end_and_ocean_has_no_pitch() -> None:
    thunder = RECIPES["thunder"].make(Dice(rng(2)), 4 * RATE)
    hertz, end = spectrum(thunder[2 * RATE :])
    assert (end[hertz < 400] ** 2).sum() > 10 * (end[hertz > 800] ** 2).sum()
    _, sea = spectrum(synthesise("ocean", rng()))
    assert sea.max() < 30 * np.median(sea[200:4000])


def test_engines_fire_faster_when_they_are_asked_to() -> None:
    for rate in (20.0, 45.0):
        fired = firing(Dice(rng()), np.full(2 * RATE, rate), 1, 0.0, 10.0)
        assert fundamental(fired, rate) == pytest.approx(rate, rel=0.03)


# --- Rhythms and music ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_the_onsets_of_a_rhythm_are_where_its_energy_jumps(seed: int) -> None:
    wave, times = rhythm(rng(seed), 8.0)
    assert wave.shape == (8 * RATE,)
    assert np.abs(wave).max() <= 1
    assert 0 < times[0] < 0.5
    assert times[-1] < 8
    assert min(np.diff(times)) >= 0.119
    before, after = (
        np.array([np.sum(wave[round(t * RATE) + a : round(t * RATE) + b] ** 2) for t in times])
        for a, b in ((-320, 0), (0, 320))
    )
    assert (after > 2 * before).all()


def test_rhythms_are_of_many_kinds() -> None:
    lengths = {len(rhythm(rng(seed), 6.0)[1]) for seed in range(12)}
    assert len(lengths) >= 5
    np.testing.assert_array_equal(rhythm(rng(3))[0], rhythm(rng(3))[0])


@pytest.mark.parametrize("tempo", [70.0, 140.0])
def test_music_keeps_the_tempo_it_is_given(tempo: float) -> None:
    wave = chord_music(rng(5), 8.0, minor=False, tempo=tempo)
    jumps = np.maximum(np.diff(loudness(wave)), 0)
    jumps -= jumps.mean()
    echo = np.correlate(jumps, jumps, "full")[len(jumps) :]
    beat = round(6000 / tempo) - 1  # the lag in hundredths of a second, counted from 1
    assert echo[beat - 2 : beat + 3].max() > 0.9 * echo[beat // 3 : 2 * beat - 3].max()


@pytest.mark.parametrize("seed", range(4))
def test_major_and_minor_differ_in_the_third(seed: int) -> None:
    """The first bar is the first chord: its third is four semitones up, or three."""
    heard = {}
    for minor in (False, True):
        wave = chord_music(rng(seed), 2.0, minor=minor, tempo=120.0)
        hertz, power = spectrum(wave)
        root = Dice(rng(seed))
        root.pick(TURNS)
        key = root.between(196, 330)
        at = [np.abs(hertz - key * 2 ** (steps / 12)).argmin() for steps in (3, 4)]
        heard[minor] = power[at[0] - 4 : at[0] + 5].max() / power[at[1] - 4 : at[1] + 5].max()
    assert heard[True] > 2
    assert heard[False] < 0.5


def test_a_tempo_that_is_no_music_is_refused() -> None:
    with pytest.raises(ValueError, match="40 to 220"):
        chord_music(rng(), 4.0, minor=False, tempo=1000.0)
