"""Music becomes mood: sounds are made here by formula, so that their beat and key are known."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from guidance import mood
from guidance.audio import Wave
from guidance.mood import FLOOR, MUSICAL, RATE, Mood, feel, strength

ROOT = Path(__file__).parent.parent
ROOTS = {"C": 60, "D#": 63, "F": 65, "A": 57}  # MIDI
Event = tuple[float, np.ndarray]  # seconds, samples
KICK, SNARE, HAT = range(3)


def _time(seconds: float) -> np.ndarray:
    return np.arange(round(seconds * RATE)) / RATE


def _click() -> np.ndarray:
    time = _time(0.03)
    return np.sin(2 * np.pi * 1500 * time) * np.exp(-time / 0.006)


def _tone(note: float, seconds: float, bright: float = 0.5) -> np.ndarray:
    time, pitch = _time(seconds), 440 * 2 ** ((note - 69) / 12)
    sound = sum(bright**k * np.sin(2 * np.pi * pitch * (k + 1) * time) for k in range(6))
    return sound * np.minimum(1, time / 0.01) * np.exp(-time / 0.3) * (1 - time / seconds)


def _pluck(note: float, rng: np.random.Generator) -> np.ndarray:
    """Karplus and Strong's string: noise that runs round and is smoothed each time."""
    period = round(RATE / (440 * 2 ** ((note - 69) / 12)))
    rounds = [rng.uniform(-1, 1, period)]
    for _ in range(round(0.6 * RATE / period)):
        rounds.append(0.4985 * (rounds[-1] + np.roll(rounds[-1], 1)))
    return np.concatenate(rounds)


def _drum(kind: int, rng: np.random.Generator) -> np.ndarray:
    time = _time(0.2)
    noise = rng.standard_normal(len(time))
    if kind == KICK:
        return np.sin(2 * np.pi * (50 * time - 2.7 * np.exp(-time / 0.03))) * np.exp(-time / 0.08)
    if kind == SNARE:
        return (0.5 * np.sin(2 * np.pi * 190 * time) + 0.5 * noise) * np.exp(-time / 0.05)
    return 0.4 * np.diff(noise, append=0) * np.exp(-time / 0.02)


def _mixed(events: list[Event], seconds: float, rng: np.random.Generator | None = None) -> Wave:
    """All events in one wave, with noise 20 dB below them if there is chance for it."""
    wave = np.zeros(round(seconds * RATE))
    for start, sound in events:
        first = round(start * RATE)
        sound = sound[: len(wave) - first]
        wave[first : first + len(sound)] += sound
    if rng:
        wave += 0.1 * wave.std() * rng.standard_normal(len(wave))
    return (0.8 * wave / np.abs(wave).max()).astype(np.float32)


def _rhythm(kind: str, tempo: float, seconds: float = 8) -> tuple[Wave, list[float]]:
    """A rhythm in eighths with some left out, in noise; and when its sounds begin."""
    rng = np.random.default_rng([int(tempo), len(kind)])
    events: list[Event] = []
    for eighth, start in enumerate(np.arange(0.23, seconds - 0.2, 30 / tempo)):
        if kind == "clicks" and eighth % 2 == 0:
            events.append((start, _click()))
        if kind == "plucks" and (eighth % 2 == 0 or rng.random() < 0.4):
            events.append((start, _pluck(rng.choice([48, 52, 55, 60, 64, 67]), rng)))
        if kind in ("drums", "mix") and eighth % 2 == 0:
            events.append((start, _drum(KICK if eighth % 4 == 0 else SNARE, rng)))
        if kind in ("drums", "mix") and rng.random() < 0.5:
            more = _drum(HAT, rng) if kind == "drums" else 0.7 * _tone(60 + 2 * eighth % 12, 0.3)
            events.append((start, more))
    return _mixed(events, seconds, rng), sorted({start for start, _ in events})


def _arpeggio(root: float, mode: str, bright: float = 0.5) -> Wave:
    third = 3 if mode == "minor" else 4
    steps = [0, third, 7, 12, 7, third]
    starts = np.arange(0.1, 5.5, 0.25)
    events = [(t, _tone(root + steps[i % 6], 0.3, bright)) for i, t in enumerate(starts)]
    return _mixed(events, 6)


@cache
def _song(tempo: float, mode: str = "major", root: int = 60) -> Wave:
    """A chord for each bar of four beats, and a melody of its notes."""
    third = 3 if mode == "minor" else 4
    events: list[Event] = []
    for beat, start in enumerate(np.arange(0.1, 7.5, 60 / tempo)):
        base = root + (0, 5, 7, 0)[beat // 4 % 4]
        if beat % 4 == 0:
            events += [(start, 0.5 * _tone(base - 12 + n, 200 / tempo)) for n in (0, third, 7)]
        events.append((start, _tone(base + (0, 7, third, 12)[beat % 4], 50 / tempo)))
    return _mixed(events, 8)


def _bark(rng: np.random.Generator) -> np.ndarray:
    """A voice that slides up and down, with breath."""
    rise = np.sin(np.pi * np.linspace(0, 1, round(rng.uniform(0.12, 0.25) * RATE)))
    turns = np.cumsum(rng.uniform(300, 600) * (1 + 0.5 * rise)) / RATE
    voice = sum(np.sin(2 * np.pi * turns * k) / k for k in range(1, 8))
    return (voice + 0.8 * rng.standard_normal(len(rise))) * np.sqrt(rise.clip(0))


def _barking(rng: np.random.Generator) -> Wave:
    return _mixed([(0.3 + 0.55 * i + rng.normal(0, 0.06), _bark(rng)) for i in range(6)], 4, rng)


def _rain(rng: np.random.Generator) -> Wave:
    """A hiss, and drops that ring shortly at any time and pitch."""
    time = _time(0.03)
    drops = [
        np.sin(2 * np.pi * f * time) * np.exp(-time / 0.005) for f in rng.uniform(1500, 6000, 200)
    ]
    return _mixed([(rng.uniform(0, 3.9), drop) for drop in drops], 4, rng)


def _hiss(rng: np.random.Generator) -> Wave:
    return (0.2 * rng.standard_normal(4 * RATE)).astype(np.float32)


def _siren(rng: np.random.Generator) -> Wave:
    turns = np.cumsum(900 + 300 * np.sin(np.pi * _time(4) + rng.uniform(0, 6))) / RATE
    return (0.5 * np.sin(2 * np.pi * turns)).astype(np.float32)


def _footsteps(rng: np.random.Generator) -> Wave:
    starts = 0.2 + np.cumsum(0.55 + rng.normal(0, 0.05, 9))
    return _mixed([(t, _drum(KICK, rng) + 0.5 * _drum(SNARE, rng)) for t in starts], 6, rng)


NO_MUSIC = (_barking, _rain, _hiss, _siren, _footsteps)


# --- Silence and strange input --------------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 1e-5, 5e-4], ids=["digital", "very faint", "room"])
def test_silence_is_neutral_and_says_so(level: float) -> None:
    noise = np.random.default_rng(0).standard_normal(2 * RATE)
    felt = feel((level * noise).astype(np.float32))
    assert felt == Mood(felt.loudness)  # all else is as it is when nothing was measured
    assert felt.silent
    assert felt.tempo is None
    assert felt.words == felt.palette == ()
    assert FLOOR <= felt.loudness < -60
    assert "silent" in felt.says()


ODD = {
    "empty": np.zeros(0),
    "one sample": np.ones(1),
    "a quarter of a second": 0.3 * np.sin(0.1 * np.arange(RATE // 4)),
    "constant": np.full(RATE, 0.5),
    "one click": np.eye(1, RATE, 5000)[0],
    "square at full scale": np.sign(np.sin(0.05 * np.arange(2 * RATE))),
    "click at the end": np.eye(1, RATE, RATE - 1)[0],
}


@pytest.mark.parametrize("name", ODD)
def test_odd_input_gives_numbers_and_no_words(name: str) -> None:
    wave = ODD[name].astype(np.float32)
    felt = feel(wave)
    numbers = (felt.loudness, felt.brightness, felt.percussive, felt.musical)
    assert np.isfinite(numbers).all()
    assert felt.words == ()
    assert felt.tempo is None
    assert np.isfinite(strength(wave, [0, 0.1, 5])).all()


def test_loudness_is_decibels_below_full_scale() -> None:
    sine = np.sin(2 * np.pi * 440 * _time(1)).astype(np.float32)
    assert feel(sine).loudness == pytest.approx(-3.01, abs=0.05)
    assert feel(sine / 10 + 0.3).loudness == pytest.approx(-23.01, abs=0.05)  # an offset is unheard


# --- Beat -----------------------------------------------------------------------------------------


def test_a_click_track_gives_its_tempo_and_beats() -> None:
    wave, starts = _rhythm("clicks", 120)
    felt = feel(wave)
    assert felt.tempo == pytest.approx(120, abs=3)
    assert len(felt.beats) == pytest.approx(len(starts), abs=1)
    assert all(np.abs(np.array(starts) - beat).min() < 0.05 for beat in felt.beats)
    assert felt.musical < MUSICAL  # one sound repeated may be a clock


@pytest.mark.parametrize("kind", ["clicks", "drums", "plucks", "mix"])
def test_onsets_are_found_within_50_ms(kind: str) -> None:
    found = missed = false = 0
    for tempo in (60, 90, 120, 180):
        wave, starts = _rhythm(kind, tempo)
        apart = np.abs(np.subtract.outer(starts, feel(wave).onsets))
        found += (apart.min(axis=1) <= 0.05).sum()
        missed += (apart.min(axis=1) > 0.05).sum()
        false += (apart.min(axis=0) > 0.05).sum()
    assert found / (found + missed) >= 0.95
    assert false / (found + false) <= 0.05


@pytest.mark.parametrize("tempo", [75, 100, 140])
def test_drums_have_a_tempo_or_its_half_or_double(tempo: float) -> None:
    felt = feel(_rhythm("drums", tempo)[0])
    assert felt.musical >= MUSICAL
    assert "rhythmic" in felt.words
    assert felt.tempo
    assert min(abs(felt.tempo / tempo / times - 1) for times in (0.5, 1, 2)) < 0.03
    assert 70 <= felt.tempo <= 160


def test_strength_follows_the_sound() -> None:
    wave = _mixed([(1.0, _tone(60, 0.5)), (2.0, 0.2 * _tone(60, 0.5))], 3)
    first, between, second, outside = strength(wave, [1.03, 1.9, 2.03, 9])
    assert 0.8 < first <= 1
    assert between < 0.05
    assert 0.1 < second < first
    assert outside == 0
    assert not strength(np.zeros(RATE, np.float32), [0, 0.5]).any()


# --- Key ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bright", [0.2, 0.7], ids=["dull", "bright"])
@pytest.mark.parametrize("mode", ["major", "minor"])
@pytest.mark.parametrize("key", ROOTS)
def test_an_arpeggio_has_its_key(key: str, mode: str, bright: float) -> None:
    felt = feel(_arpeggio(ROOTS[key], mode, bright))
    assert (felt.key, felt.mode) == (key, mode)
    assert felt.musical == 1


def test_another_tuning_has_the_same_key() -> None:
    assert feel(_arpeggio(60.3, "major")).key == "C"


def test_all_twelve_notes_have_no_key() -> None:
    scale = [(0.1 + 0.2 * i, _tone(60 + i % 12, 0.3)) for i in range(24)]
    felt = feel(_mixed(scale, 5.5))
    assert felt.musical >= MUSICAL
    assert felt.key == felt.mode == ""
    assert "no clear key" in felt.says()


# --- Words and colours ----------------------------------------------------------------------------


@pytest.mark.parametrize("make", NO_MUSIC)
@pytest.mark.parametrize("seed", range(3))
def test_what_is_no_music_has_no_words(make, seed: int) -> None:
    felt = feel(make(np.random.default_rng(seed)))
    assert felt.musical < MUSICAL
    assert felt.words == felt.palette == ()
    assert "not sound like music" in felt.says()


def test_faster_and_louder_is_more_energetic() -> None:
    slow, fast = feel(0.1 * _song(60)), feel(_song(150))
    assert "calm" in slow.words
    assert {"energetic", "lively"} & set(fast.words)


def test_major_is_glad_and_minor_is_not() -> None:
    assert {"joyful", "peaceful"} & set(feel(_song(100)).words)
    assert {"sad", "dramatic"} & set(feel(_song(100, "minor")).words)


def test_another_key_leaves_the_words_as_they_are() -> None:
    here, there = feel(_song(120, root=60)), feel(_song(120, root=63))
    assert (here.key, there.key) == ("C", "D#")
    assert here.words[:2] == there.words[:2]


@pytest.mark.parametrize("mode", ["major", "minor"])
@pytest.mark.parametrize("tempo", [60, 150])
def test_the_palette_goes_from_dark_to_light(tempo: float, mode: str) -> None:
    palette = feel(_song(tempo, mode)).palette
    assert 4 <= len(palette) <= 5
    assert all(len(colour) == 7 for colour in palette)
    light = [np.array(list(bytes.fromhex(c[1:]))) @ (0.2126, 0.7152, 0.0722) for c in palette]
    assert light == sorted(light)
    assert light[0] < 70
    assert light[-1] > 160


def test_the_palette_of_joy_is_warmer_than_that_of_sadness() -> None:
    """Red less blue, of the middle colour."""
    glad, sad = (
        bytes.fromhex(feel(song).palette[2][1:]) for song in (_song(150), _song(60, "minor"))
    )
    assert glad[0] - glad[2] > 40
    assert sad[0] - sad[2] < -20


@pytest.mark.parametrize("corner", mood._CORNERS.values(), ids=str)
def test_every_colour_is_one_the_screen_can_show(corner: mood._Corner) -> None:
    for lightness in (0.18, 0.5, 0.92):
        colour = mood._hex(lightness, 0.17, corner.hue)
        assert len(set(colour)) > 2
        grey = mood._hex(lightness, 0, corner.hue)
        assert len({grey[1:3], grey[3:5], grey[5:]}) == 1


def test_the_sentence_says_what_was_measured() -> None:
    says = feel(_song(100)).says()
    assert "100 beats a minute" in says
    assert "in C major" in says


def test_the_same_sound_has_the_same_mood() -> None:
    assert feel(_song(100)) == feel(_song(100).copy())


# --- What librosa compiles ------------------------------------------------------------------------

_CHILD = """
import os, sys
from guidance import mood
assert "librosa" not in sys.modules, "loaded before it is needed"
mood._librosa()
print(os.environ["NUMBA_CACHE_DIR"])
"""


def _cache_folder(**environment: str) -> Path:
    kept = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    answer = subprocess.run(
        [sys.executable, "-c", _CHILD],
        env={**kept, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(answer.stdout.strip())


def test_compiled_parts_are_kept_in_the_users_cache(tmp_path: Path) -> None:
    assert _cache_folder(XDG_CACHE_HOME=str(tmp_path), HOME=str(tmp_path)).is_relative_to(tmp_path)


def test_where_the_users_cache_cannot_be_written_another_folder_serves(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = _cache_folder(XDG_CACHE_HOME=str(tmp_path / "file"), HOME=str(tmp_path / "file"))
    assert folder.is_dir()
    assert not folder.is_relative_to(tmp_path)
    folder.rmdir()


def test_while_another_process_compiles_we_wait() -> None:
    with mood._alone():
        waiting = Thread(target=mood.warm.__wrapped__)
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
    waiting.join(120)
    assert not waiting.is_alive()


def test_a_chosen_cache_folder_is_kept(tmp_path: Path) -> None:
    assert _cache_folder(NUMBA_CACHE_DIR=str(tmp_path)) == tmp_path
