"""What happens in the Listen tab: a sound is listened to, what was heard is shown, and steers."""

from __future__ import annotations

import asyncio
import base64
import html
import io
import os
import re
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from app.errors import Refused
from app.tabs import Studio
from app.tabs.common import (
    Change,
    Part,
    attempt,
    complain,
    follow,
    rows,
    say,
    short,
    shown_copy,
    soon,
    unless_stopped,
    whole,
)
from app.terminal import duration

if TYPE_CHECKING:
    from app.desk import Look
    from app.listening import Heard, Steering
    from app.request import Request
    from app.sounds import Sound
    from app.worker import Run, Worker

# Of our own making, see scripts/examples.py: what the button says, and the file.
EXAMPLES = {"rain": "Rain", "duck": "A duck", "music": "A little music"}
_FOLDER = Path(__file__).resolve().parent.parent / "examples"


class Way(NamedTuple):
    """One of the ways to listen: its switch, and the fields that it fills."""

    switch: str
    fields: tuple[str, ...]


# What `Worker.hear` calls it, and what it is on the page.
WAYS = {
    "speech": Way("by_words", ("words",)),
    "sound": Way("by_sound", ("weight",)),
    "mood": Way("by_mood", ("mood", "colours")),
}
FIELDS = [field for way in WAYS.values() for field in way.fields]

_NO_SOUND = "There is no sound yet. Choose one, record one, or take one of ours."
_GONE = (
    "The sound is not here any more: what nobody used for an hour is cleared away. Choose it again."
)
_UNLIKELY = 0.1  # what is less likely gets no label
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class Known:
    """Of which section of which sound the fields tell, and which ways it was listened to."""

    section: tuple[str, float, float] | None = None  # path, first second, seconds
    ways: frozenset[str] = frozenset()


# --- which sound -----------------------------------------------------------------------------

NOTHING_YET = "<p>Nothing yet: what is heard in the sound will be shown here.</p>"


def example(name: str) -> str:
    """A sound of ours, where the page may show it."""
    return shown_copy(_FOLDER / f"{name}.flac")


def another() -> Change:
    """Another sound: what was heard belongs to the one before."""
    empty: Change = {"words": "", "weight": 1, "mood": "", "colours": "", "swatches": ""}
    return {**empty, "figure": NOTHING_YET, "heard": Known(), "status": say("")}


def recorded() -> Change:
    """Another sound, from the microphone, is here now."""
    return {**another(), "status": say("Recorded. Listen first, or make the picture.")}


def _section(given: Mapping[str, Any]) -> tuple[str, float, float]:
    """Path, first second and seconds. Raises `Refused` where there is no sound."""
    path = given["sound"]
    if not path:
        raise Refused("listen.sound", _NO_SOUND, "sound")
    if not Path(path).exists():
        raise Refused("listen.sound", _GONE, "sound")
    os.utime(path)  # files are cleared away in time, but not while they are in use
    begin, seconds = given["begin"], given["seconds"]
    return path, 0.0 if begin is None else begin, 30.0 if seconds is None else seconds


def _name(path: str) -> str:
    from guidance.prompt import clean

    return clean(Path(path).name)[:200]


# --- what happens ----------------------------------------------------------------------------

_LISTENING = "Listening; the first time takes longer ..."
_BUSY: Change = {
    "listen": gr.update(interactive=False),
    "make": gr.update(interactive=False),
    "stop": gr.update(interactive=True),
}
_IDLE: Change = {
    "listen": gr.update(interactive=True),
    "make": gr.update(interactive=True),
    "stop": gr.update(interactive=False),
}


@attempt(_BUSY, _IDLE)
async def attend(
    studio: Studio, given: Mapping[str, Any], stop: threading.Event
) -> AsyncIterator[Change]:
    """All that a visitor sees after Listen first."""
    section, ways = _section(given), _wanted(given)
    worker = await soon(studio.worker())
    yield {"status": say(_LISTENING)}
    heard = await unless_stopped(partial(_hear, worker, section, ways, stop), stop)
    if heard is None:
        yield {"status": say("Stopped.")}
    else:
        known = Known(section, frozenset(ways))
        yield {**_seen(heard, known), **_found(heard, ways), "status": say(_verdict(heard))}


@attempt(_BUSY, _IDLE)
async def course(
    studio: Studio, given: Mapping[str, Any], stop: threading.Event, owner: str
) -> AsyncIterator[Change]:
    """All that a visitor sees after Make."""
    settings, section = _settled(given), _section(given)
    worker = await soon(studio.worker())
    heard: Heard | None = None
    if ways := _unheard(given, section):
        yield {"status": say(_LISTENING)}
        heard = await unless_stopped(partial(_hear, worker, section, ways, stop), stop)
        if heard is None:
            yield {"status": say("Stopped before it began.")}
            return
        found, known = _beside(given, heard, ways), _known(given, section, ways)
        given = {**given, **found}
        yield {**_seen(heard, known), **found}
    begin = partial(_begin, worker, section, heard, given, settings, stop, owner)
    run = await asyncio.to_thread(begin)
    async for change in _watched(worker, [run]):
        yield change


def is_ours(request: Request) -> bool:
    """Whether somebody who comes back may expect to see it in this tab."""
    return bool(request.sounds) and not request.edit


@attempt(_BUSY, _IDLE)
async def resumed(studio: Studio, runs: list[Run]) -> AsyncIterator[Change]:
    """All that a visitor sees of pictures that were on their way when they came."""
    worker = await soon(studio.worker())
    async for change in _watched(worker, runs):
        yield change


async def _watched(worker: Worker, runs: list[Run]) -> AsyncIterator[Change]:
    for number, run in enumerate(runs, 1):
        about, part = partial(_details, Fall()), Part(number, len(runs))
        async for change in follow(worker, run, about, _finished, part):
            if run.look and "status" in change:  # losses are seen to fall
                change["details"] = about(run)
            yield change
    complain(runs)


def _hear(
    worker: Worker, section: tuple[str, float, float], ways: list[str], stop: threading.Event
) -> Heard:
    path, begin, seconds = section
    asked: dict[str, Any] = {way: way in ways for way in WAYS}
    return worker.hear(path, _name(path), start=begin, seconds=seconds, stop=stop, **asked)


def _wanted(given: Mapping[str, Any]) -> list[str]:
    """The ways to listen that are switched on."""
    return [name for name, way in WAYS.items() if given[way.switch]]


def _unheard(given: Mapping[str, Any], section: tuple[str, float, float]) -> list[str]:
    """Those of them that nobody has listened in yet."""
    known = given["heard"].ways if given["heard"].section == section else frozenset()
    return [way for way in _wanted(given) if way not in known]


def _known(given: Mapping[str, Any], section: tuple[str, float, float], ways: list[str]) -> Known:
    before = given["heard"].ways if given["heard"].section == section else frozenset()
    return Known(section, before | frozenset(ways))


def _found(heard: Heard, ways: list[str]) -> Change:
    """What was heard, as values of the fields: what would steer if nobody said otherwise."""
    from app.listening import suggest

    found = suggest(heard)
    values = {
        "words": found.words,
        "weight": found.sound,
        "mood": found.mood,
        "colours": " ".join(found.palette),
    }
    return {field: values[field] for way in ways for field in WAYS[way].fields}


def _beside(given: Mapping[str, Any], heard: Heard, ways: list[str]) -> Change:
    """The same; but what somebody typed before anybody listened to the sound stays."""
    found = _found(heard, ways)
    if given["heard"].section is not None:
        return found
    if "weight" in found:
        found["weight"] *= given["weight"]
    return {field: value for field, value in found.items() if field == "weight" or not given[field]}


def steering(given: Mapping[str, Any]) -> Steering:
    """What of a sound steers, as the fields say. Raises `Refused` for what is no colour."""
    from app.listening import Steering

    on = set(_wanted(given))
    return Steering(
        words=(given["words"] or "") if "speech" in on else "",
        sound=given["weight"] or 0.0 if "sound" in on else 0.0,
        mood=(given["mood"] or "") if "mood" in on else "",
        palette=_palette(given["colours"]) if "mood" in on else (),
    )


def _palette(written: str | None) -> tuple[str, ...]:
    pieces = tuple(re.split(r"[\s,;]+", (written or "").strip()))
    wrong = [piece for piece in pieces if piece and not _COLOUR.fullmatch(piece)]
    if wrong:
        said = f"{wrong[0][:40]!r} is no colour. Write colours like #20a0ff, or leave them out."
        raise Refused("request.palette", said, "colours")
    return tuple(filter(None, pieces))


def _settled(given: Mapping[str, Any]) -> Change:
    """The settings that are no matter of the sound, as fields of a request."""
    from app import options

    typed = {"seed": whole("seed", given["seed"]), "size": given["size"] or None}
    return options.fields(
        {name: value for name, value in typed.items() if value is not None}, options.Shelf()
    )


def _begin(
    worker: Worker,
    section: tuple[str, float, float],
    heard: Heard | None,
    given: Mapping[str, Any],
    settings: Mapping[str, Any],
    stop: threading.Event,
    owner: str,
) -> Run:
    from app import listening
    from app.sounds import open_sound

    path, begin, seconds = section
    if heard is None:  # it was listened to before: then the sound itself is not kept
        heard = listening.Heard(open_sound(path, start=begin, seconds=seconds), _name(path))
    asked = listening.order(
        heard,
        steering(given),
        given["text"] or "",
        text_weight=given["text_weight"] or 0.0,
        quality=given["quality"],
        **settings,
    )
    return worker.order(asked, stop, owner)


# --- what is shown ---------------------------------------------------------------------------


def _seen(heard: Heard, known: Known) -> Change:
    """What was heard, as a picture and in sentences."""
    told = rows({**heard.told(), "Note": " ".join(heard.sound.notes)})
    return {"figure": figure(heard) + told, "heard": known}


def _verdict(heard: Heard) -> str:
    """What of it steers, if nothing is changed."""
    found = _found(heard, list(WAYS))
    steers = {"words": "the words", "weight": "the sound itself", "mood": "the mood"}
    named = [what for field, what in steers.items() if found[field]]
    if not named:
        return "Listened. Nothing in it steers: add words for what to draw."
    return f"Listened. What steers: {' and '.join(named)}."


def swatches(written: str | None) -> str:
    """The colours that are written there, to be seen."""
    colours = _COLOUR.findall(written or "")
    shown = "".join(f'<i style="background:{colour}"></i>' for colour in colours)
    words = f"Colours: {', '.join(colours)}"
    return (
        f'<p class="studio-swatches" role="img" aria-label="{words}">{shown}</p>' if shown else ""
    )


class Chip(NamedTuple):
    """What is heard in a stretch of a sound, and how likely (0..1)."""

    start: float  # seconds
    end: float
    name: str
    chance: float


def chips(heard: Heard) -> list[Chip]:
    """The likeliest label at each time, as long as it stays the same; none where there is none."""
    found: list[list[Chip]] = []
    for stretch in heard.stretches:
        name, chance = stretch.names[0] if stretch.names else ("", 0.0)
        chip = Chip(stretch.start, stretch.end, name if chance >= _UNLIKELY else "", chance)
        if found and found[-1][0].name == chip.name:
            found[-1].append(chip)
        else:
            found.append([chip])
    merged = [_merged(run) for run in found]
    return [chip for chip in _apart(merged) if chip.name]


def _merged(run: list[Chip]) -> Chip:
    mean = sum(chip.chance for chip in run) / len(run)
    return Chip(run[0].start, run[-1].end, run[0].name, mean)


def _apart(run: list[Chip]) -> Iterator[Chip]:
    """Windows overlap; each has half of what they share."""
    for before, chip, after in zip([None, *run], run, [*run[1:], None], strict=False):
        start = (before.end + chip.start) / 2 if before and before.end > chip.start else chip.start
        end = (chip.end + after.start) / 2 if after and after.start < chip.end else chip.end
        yield chip._replace(start=start, end=end)


def figure(heard: Heard) -> str:
    """The sound over time: labels, wave and pitch, and which part of the file that is."""
    from app import sonogram
    from app.sounds import at_rate

    sound, found = heard.sound, chips(heard)
    file = io.BytesIO()
    sonogram.draw(at_rate(sound.wave, sonogram.RATE)).save(file, "WEBP", quality=80)
    picture = base64.b64encode(file.getvalue()).decode()
    labels = "".join(_label(chip, sound) for chip in found)
    until = sound.start + sound.seconds
    part = f"{sound.start:.3g} to {until:.3g} s of {sound.whole:.3g}"
    return (
        f'<figure><ol class="studio-labels" aria-hidden="true">{labels}</ol>'
        f'<img src="data:image/webp;base64,{picture}" alt="{html.escape(_in_words(found, sound))}">'
        f"{_place(sound)}<figcaption>Above the wave, below its pitch from {sonogram.LOWEST:.0f} Hz "
        f"to {sonogram.HIGHEST / 1000:.0f} kHz. {part}.</figcaption></figure>"
    )


def _label(chip: Chip, sound: Sound) -> str:
    left, width = _share(chip.start, sound.seconds), _share(chip.end - chip.start, sound.seconds)
    said = html.escape(f"{chip.name} {chip.chance:.0%}")
    return f'<li style="left:{left};width:{width}" title="{said}">{said}</li>'


def _place(sound: Sound) -> str:
    """Where in the file the section lies, unless it is all of it."""
    if sound.seconds > sound.whole - 0.1:
        return ""
    left, width = _share(sound.start, sound.whole), _share(sound.seconds, sound.whole)
    return f'<div class="studio-part"><i style="left:{left};width:{width}"></i></div>'


def _share(part: float, whole: float) -> str:
    return f"{100 * min(1.0, part / whole):.2f}%"


def _in_words(found: list[Chip], sound: Sound) -> str:
    labels = "; ".join(
        f"{sound.start + chip.start:.1f} to {sound.start + chip.end:.1f} s: "
        f"{chip.name} ({chip.chance:.0%})"
        for chip in found
    )
    return f"The sound over time: its wave, and how loud each pitch is. {labels or 'No labels'}."


@dataclass
class Fall:
    """How what the picture is compared with comes nearer: the first losses beside the newest."""

    first: Look | None = None

    def told(self, look: Look) -> str:
        """Each loss by name."""
        first = self.first = self.first or look
        return " · ".join(
            f"{name}: {first.losses.get(name, loss):.3f} at first, {loss:.3f} now"
            for name, loss in look.losses.items()
        )


def _finished(run: Run) -> Change:
    assert run.saved is not None  # else there is none
    copy = shown_copy(run.saved)
    return {
        "result": gr.update(value=copy, visible=True),
        "finished": copy,
        "send": gr.update(visible=True),
    }


def _details(fall: Fall, run: Run) -> str:
    """What to know about a picture, as a list."""
    return rows(
        {
            "Steered by": run.steering,
            "Losses": fall.told(run.look) if run.look else "",
            "Colours": " ".join(run.request.palette),
            "Seed": str(run.request.seed),
            "Time": duration(run.look.seconds) if run.look and run.saved else "",
            "Saved as": short(run.saved) if run.saved else "",
            "Note": " ".join(run.notes),
        }
    )
