"""One `listen` at the command line: a sound, and words beside it, become a picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from app import listening, options
from app.generate import NOT_BEGUN, Tell, choose_device, make_picture, prepare
from app.listening import Heard, Steering
from app.models import Models
from app.options import Asked, Fields, Typed
from app.request import make_request
from app.sounds import open_sound
from app.stopping import Stopped, stoppable, terminable
from app.terminal import hush, tell
from guidance.prompt import clean

# Options that become fields of the request, as `options.fields` reads them.
_SETTINGS = ("seed", "size", "steps", "views", "generator", "clip", "precision", "chunk", "threads")


def listen(typed: Typed) -> list[Path]:
    """Make a picture of a sound, or only say what is heard in it (`plan`).

    Raises as `app.generate.generate` does.
    """
    say: Tell = hush if typed.get("quiet") else tell
    try:
        with terminable():
            models = Models(choose_device(typed.get("device")))
            settings = _settings(typed)
            heard = hear(typed, models)
            for sentence in heard.told().values():
                tell(sentence) if typed.get("plan") else say(sentence)
            if typed.get("plan"):
                return []
            asked = listening.order(
                heard,
                steering(heard, typed),
                typed.get("text", ""),
                text_weight=typed.get("weight_text", 1.0),
                quality=typed.get("quality", "normal"),
                **settings,
            )
            typed = _again(typed, asked)
            (job,) = prepare(asked, models, typed, say)
    except KeyboardInterrupt:
        raise Stopped(NOT_BEGUN) from None
    with stoppable() as check:
        return [make_picture(job, typed, say, check)]


def _settings(typed: Typed) -> Fields:
    """Fields of the request; what cannot be is refused now, before listening takes its time."""
    given = {name: typed[name] for name in _SETTINGS if name in typed}
    settings = options.fields(given, options.Shelf())
    if settings.get("seed") == -1:
        del settings["seed"]
    make_request({"prompt": "x", **settings}, typed.get("quality", "normal"))
    return settings


def _again(typed: Typed, asked: Asked) -> Typed:
    """What goes on with a stopped run may name the sound only where the sound itself steers."""
    if asked.requests[0].sounds:
        return typed
    return {name: value for name, value in typed.items() if name != "sound"}


def hear(typed: Typed, models: Models) -> Heard:
    """Read the sound and listen to it. Raises `Refused`."""
    path = Path(typed["sound"])
    sound = open_sound(path, start=typed.get("begin", 0.0), seconds=typed.get("seconds", 30.0))
    return listening.hear(
        sound,
        clean(path.name)[:200],
        models,
        encoder="" if typed.get("no_sound") else typed.get("encoder", listening.ENCODER),
        speech="" if typed.get("no_speech") else typed.get("speech", listening.SPEECH),
        mood=not typed.get("no_mood"),
    )


def steering(heard: Heard, typed: Typed) -> Steering:
    """What steers by itself, and what was typed instead."""
    found = listening.suggest(heard)
    if "words" in typed:
        found = replace(found, words=typed["words"])
    if "weight_sound" in typed:
        found = replace(found, sound=typed["weight_sound"])
    return found
