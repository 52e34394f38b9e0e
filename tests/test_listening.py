"""What is heard in a sound, what of it steers unless somebody says otherwise, and the request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import Refused
from app.listening import Heard, Steering, as_prompt, hear, order, suggest, warm, weighted
from app.models import Models
from app.sounds import RATE, Sound, at_rate, open_sound
from guidance import audio, clip
from guidance.audio import Stretch, Wave
from guidance.audio_net import Ear
from guidance.clip import Clip
from guidance.mood import Mood
from guidance.prompt import parse
from guidance.speech import Transcript, Word

SHIP = Path(__file__).parent / "sounds" / "ship.flac"  # "a ship in a storm", by espeak-ng


class Listeners(Models):
    """The Whisper that comes with us, and a small ear for a small CLIP."""

    def __init__(self, folder: Path, ear: Ear) -> None:
        super().__init__()
        self.seer, self.ear = clip.load(folder, space="pocket"), ear

    def clip(self, name: str, precision: str = "float32") -> Clip:
        return self.seer

    def sound(self, name: str) -> Any:
        return self.ear


@pytest.fixture(scope="module")
def models(tiny_clip: Path, tiny_ear: Ear) -> Listeners:
    return Listeners(tiny_clip, tiny_ear)


def sound(wave: Wave | None = None, **about: Any) -> Sound:
    """Three seconds of a tone, unless something else is given."""
    if wave is None:
        wave = (0.3 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE)).astype(np.float32)
    return Sound(wave, "0" * 64, **{"start": 1.5, "whole": 60.0, **about})


SILENCE = sound(np.zeros(3 * RATE, np.float32))
SAID = Transcript((Word("A", 0, 1, 0.85), Word("red bus.", 1, 2, 0.85)))
UNSURE = Transcript((), reason="Nobody is heard to speak.")
NAMES = (("dog", 0.7), ("fox", 0.25), ("bear", 0.02))
MUSIC = Mood(-12.0, silent=False, musical=0.9, words=("calm", "warm"), palette=("#102030",))
NOISE = Mood(-12.0, silent=False, musical=0.1)
DOG = Heard(sound(), "dog.wav", transcript=UNSURE, names=NAMES, mood=NOISE)


# --- what steers ------------------------------------------------------------------------------


def test_where_words_are_said_they_steer_and_the_sound_does_not() -> None:
    memo = replace(DOG, transcript=SAID, mood=MUSIC)
    assert suggest(memo) == Steering(words="a red bus")


def test_where_nothing_is_said_the_sound_steers() -> None:
    assert suggest(DOG) == Steering(sound=1.0)
    assert suggest(replace(DOG, transcript=None)) == Steering(sound=1.0)


def test_only_music_steers_by_its_mood_and_its_colours() -> None:
    found = suggest(replace(DOG, mood=MUSIC))
    assert found == Steering(sound=1.0, mood="a calm, warm picture", palette=("#102030",))


def test_of_what_was_not_listened_for_nothing_steers() -> None:
    assert suggest(Heard(sound(), "dog.wav")) == Steering()


@pytest.mark.parametrize(
    ("said", "typed"),
    [
        ("A red bus.", "a red bus"),
        ("A red bus, in the snow!", "a red bus, in the snow"),
        ("Ratio 2::3 | more", "ratio 2 3 more"),
        ("At 12:30...", "at 12 30"),
        ("  ", ""),
        ("?!", ""),
    ],
)
def test_what_was_said_becomes_what_one_would_type(said: str, typed: str) -> None:
    assert " ".join(as_prompt(said).split()) == typed


@pytest.mark.parametrize("said", ["One|two", "a::5", "x::1::2", "::", "a:: b", "fog::-1."])
def test_nothing_that_is_said_is_grammar(said: str) -> None:
    """However it was written down, it is one prompt of weight 1."""
    for prompt in parse(as_prompt(said)):
        assert (prompt.weight, prompt.stop) == (1, None)
    assert len(parse(as_prompt(said))) <= 1


@pytest.mark.parametrize(
    ("typed", "weight", "expected"),
    [
        ("a fox", 1.0, "a fox"),
        ("a fox", 2.0, "a fox::2"),
        ("a fox::2 | fog::-1", 0.5, "a fox | fog::-0.5"),
        ("a fox::2::0.3", 0.5, "a fox::1::0.3"),
        ("a fox::2::0.3", 2.0, "a fox::4::0.3"),
        ("", 2.0, ""),
    ],
)
def test_weighing_keeps_the_words_and_the_stops(typed: str, weight: float, expected: str) -> None:
    assert weighted(typed, weight) == expected


# --- what is told -----------------------------------------------------------------------------


def test_a_sentence_is_told_for_each_thing_that_was_heard() -> None:
    told = replace(DOG, transcript=SAID, mood=MUSIC).told()
    assert list(told) == ["Words", "Sound", "Mood"]
    assert told["Words"] == "Somebody says “A red bus.” (85% sure)."
    assert told["Sound"] == "Sounds like dog (70%) or fox (25%)."
    assert "calm and warm" in told["Mood"]
    assert DOG.told()["Words"] == UNSURE.reason
    assert str(DOG) == " ".join(DOG.told().values())


def test_what_is_like_nothing_is_called_so() -> None:
    vague = replace(DOG, names=(("dog", 0.05), ("fox", 0.04)))
    assert vague.told()["Sound"] == "Sounds like nothing that has a name here."


# --- the request ------------------------------------------------------------------------------


def test_the_request_names_the_section_and_who_listened() -> None:
    asked = order(DOG, suggest(DOG), seed=3)
    (request,) = asked.requests
    (given,) = request.sounds
    assert (request.prompt, request.seed) == ("", 3)
    assert (given.sha256, given.name, given.encoder) == ("0" * 64, "dog.wav", "pocket")
    assert (given.start, given.seconds, given.weight) == (1.5, 3.0, 1.0)
    assert asked.inputs.sounds["0" * 64] is DOG.sound.wave


def test_words_that_were_typed_said_and_felt_stand_in_one_prompt_each_with_its_weight() -> None:
    both = Steering(words="a red bus", sound=0.5, mood="a calm picture", palette=("#102030",))
    (request,) = order(DOG, both, "snow::2", text_weight=0.5).requests
    assert [(one.text, one.weight) for one in parse(request.prompt)] == [
        ("snow", 1), ("a red bus", 1), ("a calm picture", 0.4),
    ]  # fmt: skip
    assert request.sounds[0].weight == 0.5
    assert request.palette == ("#102030",)
    assert request.regularise.palette == 0.6


def test_a_sound_that_does_not_steer_is_not_in_the_request() -> None:
    assert order(DOG, Steering(words="a red bus")).requests[0].sounds == ()


def test_what_was_odd_about_the_file_is_told_with_its_name() -> None:
    noted = replace(DOG, sound=sound(notes=("8 channels mixed into one.",)))
    assert order(noted, suggest(noted)).notes == ["dog.wav: 8 channels mixed into one."]


def test_silence_steers_nothing_and_says_so(models: Listeners) -> None:
    heard = hear(SILENCE, "quiet.wav", models)
    assert (heard.transcript, heard.names, heard.mood) == (None, None, None)
    assert str(heard) == "3 s of silence: nothing in it can steer."
    with pytest.raises(Refused, match=r"^'quiet.wav' is silent. Add words .* another sound.$"):
        order(heard, suggest(heard))


def test_beside_silence_the_text_alone_steers(models: Listeners) -> None:
    heard = hear(SILENCE, "quiet.wav", models)
    (request,) = order(heard, replace(suggest(heard), sound=1.0), "a fox").requests
    assert (request.prompt, request.sounds) == ("a fox", ())


def test_who_lets_nothing_steer_hears_why() -> None:
    with pytest.raises(Refused, match=r"'dog.wav' may not steer by anything") as told:
        order(DOG, Steering())
    assert told.value.code == "audio.nothing"


# --- listening --------------------------------------------------------------------------------


def test_speech_is_heard_named_and_followed(models: Listeners) -> None:
    found = open_sound(SHIP)
    heard = hear(found, SHIP.name, models)
    assert heard.transcript is not None
    assert heard.transcript.text.lower().strip(".") == "a ship in a storm"
    assert heard.names is not None
    assert len(heard.names) == 3
    assert heard.mood is not None
    assert heard.mood.words == ()  # nobody sings
    assert suggest(heard) == Steering(words="a ship in a storm")
    assert [type(stretch) for stretch in heard.stretches] == [Stretch]
    assert heard.stretches[0].end == pytest.approx(found.seconds, abs=0.01)


def test_the_names_are_of_the_sound_as_a_whole(models: Listeners) -> None:
    heard = hear(sound(), "tone.wav", models, speech="", mood=False)
    wave = at_rate(sound().wave, models.ear.rate)
    (names,) = audio.name(models.seer, audio.whole(models.ear, wave))
    assert heard.names == names
    assert len(heard.stretches) == len(models.ear.windows(wave)) == 2


@pytest.mark.parametrize("left_out", ["speech", "encoder", "mood"])
def test_what_is_left_out_is_not_listened_for(models: Listeners, left_out: str) -> None:
    nothing: dict[str, Any] = {"speech": "", "encoder": "", "mood": False}
    heard = hear(sound(), "tone.wav", models, **{left_out: nothing[left_out]})
    found = {"speech": heard.transcript, "encoder": heard.names, "mood": heard.mood}
    assert [what for what, there in found.items() if there is None] == [left_out]


def test_listening_can_be_stopped(models: Listeners) -> None:
    class Enough(Exception):
        pass

    def check() -> None:
        raise Enough

    with pytest.raises(Enough):
        hear(sound(), "tone.wav", models, check=check)


def test_what_is_warmed_is_what_listening_loads() -> None:
    shelf = Models("cpu")
    warm(shelf)
    loaded = set(shelf._kept)
    hear(sound(), "tone.wav", shelf)
    assert set(shelf._kept) == loaded
