"""The third tab: a sound is listened to, and what is heard in it steers a picture."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import gradio as gr

from app.tabs import Studio, hearing
from app.tabs.common import (
    QUIET,
    Change,
    Parts,
    Visits,
    connect_seed,
    quality_choice,
    seed_field,
    shown_run,
    status_line,
    welcome,
)
from app.tabs.generate import SIZES

_ASKED = "sound begin seconds text text_weight quality size seed heard".split()
_ASKED += [*(way.switch for way in hearing.WAYS.values()), *hearing.FIELDS]
# What changes without the visitor's doing.
_CHANGING = "listen make stop status figure swatches preview result finished send details".split()
_CHANGING += ["reuse", "heard", *hearing.FIELDS]
# What changes with the sound.
_FOUND = ["figure", "swatches", "heard", "status", *hearing.FIELDS]


def tab(demo: gr.Blocks, studio: Studio) -> Parts:
    """Lay the tab out and connect it."""
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            left = [*_given(), *_buttons(), *_heard()]
        with gr.Column(scale=1, min_width=300):
            right = [*shown_run("listen-"), *_settings()]
    parts = {part.elem_id.removeprefix("listen-"): part for part in [*left, *right]}
    parts["finished"] = gr.State("")  # the file that is shown
    parts["heard"] = gr.State(hearing.Known())
    visits, placed = Visits(), partial(_placed, parts)

    async def greet(visitor: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        resumed = partial(hearing.resumed, studio)
        async for change in welcome(studio, visits, visitor, hearing.is_ours, resumed):
            yield placed(change)

    async def hear(visitor: gr.Request, **given: Any) -> AsyncIterator[dict[Any, Any]]:
        with visits.work(visitor) as stop:
            async for change in hearing.attend(studio, given, stop):
                yield placed(change)

    async def make(visitor: gr.Request, **given: Any) -> AsyncIterator[dict[Any, Any]]:
        owner = studio.owner(visitor.session_hash)
        with visits.work(visitor) as stop:
            async for change in hearing.course(studio, given, stop, owner):
                yield placed(change)

    changing = [parts[name] for name in _CHANGING]
    fields = {name: parts[name] for name in _ASKED}
    demo.load(greet, None, changing, **QUIET)
    demo.unload(visits.leave)
    work = {"inputs_kwargs": fields, "show_progress": "hidden"}
    gr.on([parts["make"].click, parts["text"].submit], make, None, changing, **work)
    parts["listen"].click(hear, None, changing, **work)
    parts["stop"].click(visits.end, None, None, queue=False, **QUIET)

    found, sound = [parts[name] for name in _FOUND], parts["sound"]
    quick = {"queue": False, **QUIET}
    gr.on([sound.upload, sound.clear], lambda: placed(hearing.another()), None, found, **quick)
    # The page shows a recording before it has sent it: only now is there one to listen to.
    sound.stop_recording(lambda: placed(hearing.recorded()), None, found, **quick)
    for name in hearing.EXAMPLES:
        parts[name].click(
            lambda name=name: placed({**hearing.another(), "sound": hearing.example(name)}),
            None,
            [sound, *found],
            **quick,
        )
    parts["colours"].change(hearing.swatches, parts["colours"], parts["swatches"], **quick)
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
            for name, label in hearing.EXAMPLES.items()
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
            hearing.NOTHING_YET,
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
