"""The third tab: a sound is listened to, and what is heard in it steers a picture."""

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
    QUIET,
    Change,
    Parts,
    Visits,
    complaint,
    connect_seed,
    follow,
    greeting,
    quality_choice,
    rows,
    say,
    seed_field,
    sentence,
    short,
    shown_copy,
    shown_run,
    soon,
    status_line,
    unless_stopped,
    whole,
)
from app.tabs.generate import SIZES
from app.terminal import duration

if TYPE_CHECKING:
    from app.desk import Look
    from app.listening import Heard, Steering
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
_FIELDS = [field for way in WAYS.values() for field in way.fields]

_NO_SOUND = "There is no sound yet. Choose one, record one, or take one of ours."
_GONE = (
    "The sound is not here any more: what nobody used for an hour is cleared away. Choose it again."
)
_UNLIKELY = 0.1  # what is less likely gets no label
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")

_ASKED = "sound begin seconds text text_weight quality size seed heard".split()
_ASKED += [*(way.switch for way in WAYS.values()), *_FIELDS]
# What changes without the visitor's doing.
_CHANGING = "listen make stop status figure swatches preview result finished send details".split()
_CHANGING += ["reuse", "heard", *_FIELDS]
# What changes with the sound.
_FOUND = ["figure", "swatches", "heard", "status", *_FIELDS]


@dataclass(frozen=True)
class Known:
    """Of which section of which sound the fields tell, and which ways it was listened to."""

    section: tuple[str, float, float] | None = None  # path, first second, seconds
    ways: frozenset[str] = frozenset()


def tab(demo: gr.Blocks, studio: Studio) -> Parts:
    """Lay the tab out and connect it."""
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            left = [*_given(), *_buttons(), *_heard()]
        with gr.Column(scale=1, min_width=300):
            right = [*shown_run("listen-"), *_settings()]
    parts = {part.elem_id.removeprefix("listen-"): part for part in [*left, *right]}
    parts["finished"] = gr.State("")  # the file that is shown
    parts["heard"] = gr.State(Known())
    visits, placed = Visits(), partial(_placed, parts)

    async def greet(visitor: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        async for change in greeting(studio):
            if not visits.knows(visitor):
                yield placed(change)

    async def hear(visitor: gr.Request, **given: Any) -> AsyncIterator[dict[Any, Any]]:
        with visits.work(visitor) as stop:
            async for change in attend(studio, given, stop):
                yield placed(change)

    async def make(visitor: gr.Request, **given: Any) -> AsyncIterator[dict[Any, Any]]:
        with visits.work(visitor) as stop:
            async for change in course(studio, given, stop, studio.owner(visitor.session_hash)):
                yield placed(change)

    changing = [parts[name] for name in _CHANGING]
    fields = {name: parts[name] for name in _ASKED}
    demo.load(greet, None, parts["status"], **QUIET)
    demo.unload(visits.leave)
    work = {"inputs_kwargs": fields, "show_progress": "hidden"}
    gr.on([parts["make"].click, parts["text"].submit], make, None, changing, **work)
    parts["listen"].click(hear, None, changing, **work)
    parts["stop"].click(visits.end, None, parts["status"], queue=False, **QUIET)

    found, sound = [parts[name] for name in _FOUND], parts["sound"]
    other = {"fn": lambda: placed(_another()), "queue": False, **QUIET}
    gr.on([sound.upload, sound.clear, sound.stop_recording], outputs=found, **other)
    for name in EXAMPLES:
        parts[name].click(
            lambda name=name: placed({**_another(), "sound": example(name)}),
            None,
            [sound, *found],
            queue=False,
            **QUIET,
        )
    parts["colours"].change(swatches, parts["colours"], parts["swatches"], queue=False, **QUIET)
    connect_seed(parts)
    return parts


def _placed(parts: Parts, change: Change) -> dict[Any, Any]:
    return {parts[name]: value for name, value in change.items()}


# --- layout: each function returns its parts, which go by their elem_id without "listen-" ------


def _given() -> list[Any]:
    """The sound, which part of it, and words beside it."""
    sound = gr.Audio(  # as it is: with a format, Gradio would decode and write it anew
        label="Sound",
        type="filepath",
        sources=["upload", "microphone"],
        buttons=[],
        elem_id="listen-sound",
    )
    with gr.Row(elem_classes="studio-buttons"):
        ours = [
            gr.Button(label, size="sm", min_width=90, elem_id=f"listen-{name}")
            for name, label in EXAMPLES.items()
        ]
    with gr.Row():
        begin = gr.Number(
            0, label="From second", info="Where to begin.", min_width=130, elem_id="listen-begin"
        )
        seconds = gr.Number(
            30, label="Seconds", info="120 at most.", min_width=130,
            elem_id="listen-seconds",
        )  # fmt: skip
    text = gr.Textbox(
        label="Words beside it",
        info="What else to draw; may stay empty.",
        placeholder="a lighthouse in a storm",
        max_lines=1,
        elem_id="listen-text",
    )
    return [sound, *ours, begin, seconds, text, _weight("Weight of these words", "text_weight")]


def _weight(label: str, name: str) -> Any:
    return gr.Slider(
        minimum=0,
        maximum=2,
        value=1,
        step=0.05,
        label=label,
        info="0: not at all. 1: as much as any other.",
        elem_id=f"listen-{name}",
    )


def _buttons() -> list[Any]:
    with gr.Row(elem_classes="studio-buttons"):
        listen = gr.Button("Listen first", min_width=96, elem_id="listen-listen")
        make = gr.Button(
            "Make the picture",
            variant="primary",
            scale=2,
            min_width=136,
            elem_id="listen-make",
            elem_classes="studio-start",
        )
        stop = gr.Button(
            "Stop",
            interactive=False,
            min_width=64,
            elem_id="listen-stop",
            elem_classes="studio-stop",
        )
    return [listen, make, stop, status_line("listen-status")]


def _heard() -> list[Any]:
    """What was heard, and of each of the three whether, and how, it steers."""
    with gr.Accordion("What I heard", elem_id="listen-findings"):
        figure = gr.HTML(
            _NOTHING_YET,
            padding=False,
            elem_id="listen-figure",
            elem_classes="studio-details studio-sound",
        )
        speech = _switch("Words", "What is said in it may steer.", "by_words")
        words = gr.Textbox(
            label="What was said",
            info="Correct what was misheard.",
            max_lines=3,
            elem_id="listen-words",
        )
        sound = _switch("Sound", "What it sounds like may steer.", "by_sound")
        weight = _weight("Weight of the sound", "weight")
        mood = _switch("Mood", "The mood of music may steer, and its colours.", "by_mood")
        feeling = gr.Textbox(
            label="Mood, in words", info="Such as: a calm, sad picture.", max_lines=2,
            elem_id="listen-mood",
        )  # fmt: skip
        colours = gr.Textbox(
            label="Its colours",
            info="Written as #rrggbb, with blanks between them.",
            max_lines=1,
            elem_id="listen-colours",
        )
        shown = gr.HTML("", padding=False, elem_id="listen-swatches")
    return [figure, speech, words, sound, weight, mood, feeling, colours, shown]


def _switch(label: str, info: str, name: str) -> Any:
    return gr.Checkbox(True, label=label, info=info, elem_id=f"listen-{name}")


def _settings() -> list[Any]:
    return [
        quality_choice("A draft is small and quick, the best is slow.", "listen-quality"),
        gr.Dropdown(
            SIZES,
            value="",
            label="Size",
            info="Width x height in pixels; type another, like 320x192.",
            allow_custom_value=True,
            elem_id="listen-size",
        ),
        *seed_field("listen-"),
    ]


# --- which sound -----------------------------------------------------------------------------

_NOTHING_YET = "<p>Nothing yet: what is heard in the sound will be shown here.</p>"


def example(name: str) -> str:
    """A sound of ours, where the page may show it."""
    return shown_copy(_FOLDER / f"{name}.flac")


def _another() -> Change:
    """Another sound: what was heard belongs to the one before."""
    empty: Change = {"words": "", "weight": 1, "mood": "", "colours": "", "swatches": ""}
    return {**empty, "figure": _NOTHING_YET, "heard": Known(), "status": say("")}


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


async def attend(
    studio: Studio, given: Mapping[str, Any], stop: threading.Event
) -> AsyncIterator[Change]:
    """All that a visitor sees after Listen first. Raises `gr.Error` in the end if there was one."""
    yield {**_BUSY, "status": say("Getting ready ...")}
    problem = ""
    try:
        section, ways = _section(given), _wanted(given)
        worker = await soon(studio.worker())
        yield {"status": say(_LISTENING)}
        heard = await unless_stopped(partial(_hear, worker, section, ways), stop)
        if heard is None:
            yield {"status": say("Stopped.")}
        else:
            known = Known(section, frozenset(ways))
            yield {**_seen(heard, known), **_found(heard, ways), "status": say(_verdict(heard))}
    except Exception as error:
        problem = sentence(error)
    yield {**_IDLE, "status": say(problem)} if problem else _IDLE
    if problem:
        raise complaint(problem)


async def course(
    studio: Studio, given: Mapping[str, Any], stop: threading.Event, owner: str
) -> AsyncIterator[Change]:
    """All that a visitor sees after Make. Raises `gr.Error` in the end if there was one."""
    yield {**_BUSY, "status": say("Getting ready ...")}
    try:
        settings, section = _settled(given), _section(given)
        worker = await soon(studio.worker())
        heard: Heard | None = None
        if ways := _unheard(given, section):
            yield {"status": say(_LISTENING)}
            heard = await unless_stopped(partial(_hear, worker, section, ways), stop)
            if heard is None:
                yield {**_IDLE, "status": say("Stopped before it began.")}
                return
            found, known = _beside(given, heard, ways), _known(given, section, ways)
            given = {**given, **found}
            yield {**_seen(heard, known), **found}
        begin = partial(_begin, worker, section, heard, given, settings, stop, owner)
        run = await asyncio.to_thread(begin)
        fall = Fall()
        async for change in follow(worker, run, partial(_details, fall), _finished):
            if run.look and "status" in change:  # losses are seen to fall
                change["details"] = _details(fall, run)
            yield change
        problem = run.error
    except Exception as error:
        problem = sentence(error)
    yield {**_IDLE, "status": say(problem)} if problem else _IDLE
    if problem:
        raise complaint(problem)


def _hear(worker: Worker, section: tuple[str, float, float], ways: list[str]) -> Heard:
    path, begin, seconds = section
    asked = {way: way in ways for way in WAYS}
    return worker.hear(path, _name(path), start=begin, seconds=seconds, **asked)


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
