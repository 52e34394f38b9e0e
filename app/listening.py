"""Before a sound steers: what was heard in it, and what of that is to steer. Then the request.

Three roads, all to targets in one list: speech becomes words, a sound a direction in the CLIP's
space, music words of its mood and colours. Each can be corrected or left out on the way.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from app.errors import Refused
from app.models import Models
from app.options import Asked
from app.pipeline import Inputs
from app.request import make_request
from app.sounds import Sound, at_rate, spoken
from guidance import audio
from guidance import mood as moods
from guidance.audio import Names, Stretch
from guidance.instruct import article
from guidance.mood import Mood
from guidance.prompt import MOST_WEIGHT, PromptError, clean, parse
from guidance.speech import Transcript

ENCODER, SPEECH = "pocket", "tiny.en"  # rows of the catalog that listen unless others are named
_MOOD = 0.4  # weight of the words of a mood, beside a thing's 1
_PALETTE = 0.6  # how firmly colours are held to those of a mood
_SAID = 2  # labels that are told in a sentence
_UNLIKELY = 0.1  # and how likely they have to be


@dataclass(frozen=True, eq=False)
class Heard:
    """What is in a sound; None for what was not asked, or not found out because it is silent."""

    sound: Sound
    name: str
    encoder: str = ENCODER
    transcript: Transcript | None = None
    names: Names | None = None  # of the sound as a whole
    stretches: tuple[Stretch, ...] = ()  # and of its parts
    mood: Mood | None = None

    @cached_property
    def is_silent(self) -> bool:
        """Whether there is anything to hear."""
        return moods.level(self.sound.wave) < moods.SILENT

    def __str__(self) -> str:
        """For people: a sentence for each of the three."""
        return " ".join(self.told().values())

    def told(self) -> dict[str, str]:
        """Sentences about what was said, what it sounds like, and its mood."""
        if self.is_silent:
            return {"Silence": f"{spoken(self.sound.seconds)} of silence: nothing in it can steer."}
        told = {}
        if self.transcript:
            told["Words"] = self.transcript.reason or (
                f"Somebody says “{self.transcript.text}” ({self.transcript.confidence:.0%} sure)."
            )
        if self.names:
            told["Sound"] = f"Sounds like {_either(self.names)}."
        if self.mood:
            told["Mood"] = self.mood.says()
        return told


def _either(names: Names) -> str:
    best = [f"{name} ({chance:.0%})" for name, chance in names if chance >= _UNLIKELY][:_SAID]
    return " or ".join(best) or "nothing that has a name here"


@dataclass(frozen=True)
class Steering:
    """What of a sound steers: words that were said, the sound itself (a weight), its mood."""

    words: str = ""
    sound: float = 0.0
    mood: str = ""
    palette: tuple[str, ...] = ()


def hear(
    sound: Sound,
    name: str,
    models: Models,
    *,
    encoder: str = ENCODER,
    speech: str = SPEECH,
    mood: bool = True,
    check: Callable[[], None] = lambda: None,
) -> Heard:
    """Listen for words (with the Whisper `speech`), things (with `encoder`) and a mood.

    An empty name leaves that out. Nothing is looked for in silence. `check` may raise to stop.
    """
    heard = Heard(sound, name, encoder or ENCODER)
    if heard.is_silent:
        return heard
    transcript = names = felt = None
    stretches: list[Stretch] = []
    if speech:
        ear = models.speech(speech)
        transcript = ear.hear(at_rate(sound.wave, ear.rate), check=check)
    check()
    if encoder:
        listener = models.sound(encoder)
        wave = at_rate(sound.wave, listener.rate)
        clip = models.clip(listener.space, "float32")
        (names,) = audio.name(clip, audio.whole(listener, wave))
        stretches = audio.follow(listener, clip, wave)
    check()
    if mood:
        felt = moods.feel(at_rate(sound.wave, moods.RATE))
    return Heard(sound, name, heard.encoder, transcript, names, tuple(stretches), felt)


def warm(models: Models) -> None:
    """Load what hears, and compile what librosa compiles, so that the first sound is quick."""
    models.speech(SPEECH)
    models.clip(models.sound(ENCODER).space, "float32")
    moods.warm()


def suggest(heard: Heard) -> Steering:
    """What would steer if nobody said otherwise.

    Words if any were said, for then the sound is only a voice; else the sound itself; and the mood
    of what is music.
    """
    said = bool(heard.transcript and heard.transcript.words)
    felt = heard.mood if heard.mood and heard.mood.words and not said else None
    return Steering(
        words=as_prompt(heard.transcript.text) if heard.transcript else "",
        sound=1.0 if heard.names and not said else 0.0,
        mood=article(f"{', '.join(felt.words)} picture") if felt else "",
        palette=felt.palette if felt else (),
    )


def as_prompt(text: str) -> str:
    """Spoken words as one would type them: no full stop, no capital, no sign of our grammar."""
    plain = re.sub(r"[|:]+", " ", text).strip(" .!?…,;")
    return clean(plain[:1].lower() + plain[1:])


def order(
    heard: Heard,
    steering: Steering,
    text: str = "",
    *,
    text_weight: float = 1.0,
    quality: str = "normal",
    **settings: Any,
) -> Asked:
    """The request for a sound and words beside it. Raises `Refused` when nothing steers."""
    parts = ((text, text_weight), (steering.words, 1.0), (steering.mood, _MOOD))
    prompt = " | ".join(filter(None, (weighted(*part) for part in parts)))
    given: dict[str, Any] = {"prompt": prompt}
    sound = heard.sound
    if steering.sound and not heard.is_silent:
        given["sounds"] = (
            {
                "sha256": sound.sha256,
                "name": heard.name,
                "encoder": heard.encoder,
                "start": sound.start,
                "seconds": sound.seconds,
                "weight": steering.sound,
            },
        )
    if steering.palette:
        given["palette"] = steering.palette
        given["regularise"] = {"palette": _PALETTE}
    if not (prompt or "sounds" in given):
        raise Refused("audio.nothing", _nothing(heard), "text")
    request = make_request({**given, **settings}, quality)
    notes = [f"{heard.name}: {note}" for note in sound.notes]
    return Asked([request], Inputs(sounds={sound.sha256: sound.wave}), notes)


def _nothing(heard: Heard) -> str:
    why = "is silent" if heard.is_silent else "may not steer by anything that was heard in it"
    return f"{heard.name!r} {why}. Add words for what to draw, or give another sound."


def weighted(text: str, weight: float) -> str:
    """The same prompts, each as many times as strong. Raises `Refused`."""
    if not abs(weight) <= MOST_WEIGHT:
        message = f"The weight {weight:g} of {text!r} is out of range: use -20 to 20."
        raise Refused("prompt.weight", message, "text")
    try:
        prompts = parse(text)
    except PromptError as error:
        raise Refused(error.code, str(error), "text") from error
    return " | ".join(str(replace(one, weight=one.weight * weight)) for one in prompts)
