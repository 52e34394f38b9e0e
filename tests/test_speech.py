"""Speech becomes words, and nothing else does. The network is the tiny English Whisper itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from app.catalog import find
from app.stock import home
from guidance import speech
from guidance.audio import Wave
from guidance.speech import RATE, Guess, Speech, Transcript, Word, doubt, loudness, spoken

SAID = "a ship in a storm"  # tests/sounds/ship.flac, 1.3 s, spoken by espeak-ng (en-us)


@pytest.fixture(scope="module")
def ear() -> Speech:
    return speech.load(home(find("speech", "tiny.en")))


@pytest.fixture(scope="module")
def ship() -> Wave:
    wave, rate = soundfile.read(Path(__file__).parent / "sounds" / "ship.flac", dtype="float32")
    assert rate == RATE
    return wave


def times(seconds: float) -> np.ndarray:
    return np.arange(round(seconds * RATE)) / RATE


def noise(seconds: float, loud: float) -> np.ndarray:
    return np.random.default_rng(7).normal(0, loud, round(seconds * RATE))


def melody() -> np.ndarray:
    """A scale up and down on something like a piano: loud, tonal, with a beginning to each note."""
    steps = (0, 2, 4, 5, 7, 9, 11, 12, 11, 9, 7, 5, 4, 2, 0)
    t = times(1 / 3)
    tones = (220 * 2 ** (step / 12) for step in steps)
    notes = [sum(np.sin(2 * np.pi * hz * i * t) / i for i in range(1, 7)) for hz in tones]
    return 0.15 * np.concatenate([note * np.exp(-3 * t) for note in notes])


def chord() -> np.ndarray:
    t = times(3)
    return 0.2 * sum(np.sin(2 * np.pi * hz * t) for hz in (262, 330, 392)) * np.exp(-t)


# --- what is said ----------------------------------------------------------------------------


def test_a_sentence_is_heard(ear: Speech, ship: Wave) -> None:
    heard = ear.hear(ship)
    assert heard.text.lower().strip(".") == SAID
    assert heard.reason == ""
    assert 0.5 < heard.confidence < 1
    assert all(0 < word.probability <= 1 for word in heard.words)
    starts = [word.start for word in heard.words]
    assert starts == sorted(starts)
    assert all(0 <= word.start <= word.end <= len(ship) / RATE for word in heard.words)


def test_the_same_sound_gives_the_same_words_however_loud(ear: Speech, ship: Wave) -> None:
    assert ear.hear(ship) == ear.hear(ship)
    assert ear.hear(0.1 * ship).text == ear.hear(ship).text


def test_two_stretches_are_heard_apart_each_at_its_time(ear: Speech, ship: Wave) -> None:
    pause = np.zeros(3 * RATE, np.float32)
    asked: list[int] = []
    wave = np.concatenate((pause, ship, pause, ship))
    heard = ear.hear(wave, check=lambda: asked.append(1))
    assert heard.text.lower().count(SAID) == 2
    assert len(asked) == 2
    assert 2.8 < heard.words[0].start < 4
    assert heard.words[-1].start > 3 + 1.3 + 3
    assert heard.words[-1].end <= len(wave) / RATE


def test_hearing_can_be_stopped(ear: Speech, ship: Wave) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ear.hear(ship, check=stop)


def test_long_speech_is_cut_where_a_whisper_needs_it(ship: Wave) -> None:
    stretches = spoken(np.tile(ship, 30))
    assert len(stretches) > 1
    assert all(end - start <= 29 for start, end in stretches)
    assert stretches[-1][1] > 30


# --- what is not said ------------------------------------------------------------------------

NOT_SPEECH: dict[str, Callable[[], np.ndarray]] = {
    "nothing": lambda: np.zeros(0),
    "silence": lambda: np.zeros(RATE),
    "faint noise": lambda: noise(2, 0.001),
    "noise": lambda: noise(2, 0.1),
    "loud noise": lambda: noise(2, 0.5).clip(-1, 1),
    "a tone": lambda: 0.3 * np.sin(2 * np.pi * 220 * times(2)),
    "a chirp": lambda: 0.3 * np.sin(2 * np.pi * (200 + 150 * times(3)) * times(3)),
    "a chord": chord,
    "a melody": melody,
    "clicks": lambda: 0.8 * (np.arange(2 * RATE) % 4000 == 0),
}


@pytest.mark.parametrize("name", NOT_SPEECH)
def test_no_words_are_invented(name: str, ear: Speech) -> None:
    heard = ear.hear(NOT_SPEECH[name]().astype(np.float32))
    assert heard.words == ()
    assert heard.reason.endswith(".")
    assert "\n" not in heard.reason
    assert heard.text == ""
    assert heard.confidence == 0


def test_the_reason_says_which_gate_was_shut(ear: Speech) -> None:
    assert "too quiet" in ear.hear(np.zeros(RATE, np.float32)).reason
    assert "Nobody" in ear.hear(noise(1, 0.1).astype(np.float32)).reason


def test_a_whisper_asked_directly_does_invent_and_is_not_believed(ear: Speech) -> None:
    """Without the gates before it a tone has a word: the last gate must hold by itself."""
    guess = ear.guess((0.3 * np.sin(2 * np.pi * 220 * times(2))).astype(np.float32))
    assert guess.words
    assert doubt(guess)


SURE = Guess((Word("apple", 0, 1, 0.9),), likelihood=-0.3, silence=0.1)


@pytest.mark.parametrize(
    ("guess", "says"),
    [
        (replace(SURE, words=()), "no word could be made out"),
        (replace(SURE, words=(Word("Ooohh!", 0, 1, 0.9), Word("Ah,", 0, 1, 0.9))), "a cry"),
        (replace(SURE, likelihood=-2), "“apple” is a guess"),
        (replace(SURE, silence=0.7), "“apple” is a guess"),
        (replace(SURE, words=(Word("apple", 0, 1, 0.004),)), "“apple” is a guess"),
        (replace(SURE, words=SURE.words * 30), "round in circles"),
    ],
)
def test_what_is_unsure_is_not_believed(guess: Guess, says: str) -> None:
    assert says in doubt(guess)
    assert doubt(SURE) == ""


def test_a_cry_among_words_is_a_word() -> None:
    assert doubt(replace(SURE, words=(Word("Oh,", 0, 1, 0.9), *SURE.words))) == ""


# --- small parts -----------------------------------------------------------------------------


def test_confidence_weighs_a_word_by_its_letters() -> None:
    words = (Word("a", 0, 1, 0.1), Word("elephants", 1, 2, 0.9))
    assert Transcript(words).confidence == pytest.approx((1 * 0.1 + 9 * 0.9) / 10)


def test_loudness_is_that_of_the_loudest_moment() -> None:
    wave = np.zeros(3 * RATE, np.float32)
    assert loudness(wave) == -200
    wave[RATE : RATE + RATE // 10] = 0.1
    assert loudness(wave) == pytest.approx(-20, abs=0.01)


def test_signs_belong_to_the_word_before_them() -> None:
    parts = tuple(
        Word(text, i, i + 1, 0.5) for i, text in enumerate([" (", " Red", ",", " fox", "!"])
    )
    assert [word.text for word in speech._whole(parts)] == ["Red,", "fox!"]


def test_a_folder_that_lacks_a_file_is_refused_before_the_library_asks_the_network(
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match=r"model\.bin, config\.json, tokenizer\.json is missing"):
        speech.load(tmp_path)


def test_weights_that_are_no_whisper_are_refused(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).symlink_to(home(find("speech", "tiny.en")) / name)
    (tmp_path / "model.bin").write_bytes(b"\x06\0\0\0\x0c\0WhisperSpec\0" + bytes(100))
    with pytest.raises(ValueError, match="no Whisper"):
        speech.load(tmp_path)
