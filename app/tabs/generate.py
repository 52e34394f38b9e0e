"""The first tab: a prompt becomes a picture, and one can watch."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.catalog import CLIPS, GENERATORS, Entry
from app.tabs import Studio
from app.tabs.common import (
    QUIET,
    Change,
    Parts,
    Visits,
    by_path,
    complaint,
    connect_seed,
    follow,
    greeting,
    number_field,
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
    whole,
)

if TYPE_CHECKING:
    from app.request import Guide
    from app.worker import Run

_PROMPT = "a red apple on a blue background"

# What people read, and what a request calls it.
STARTS = [
    ("A first draft of the words", "draft"),
    ("Light paper", "flat"),
    ("The generator's own noise", "codes"),
    ("Coloured grain", "uniform"),
    ("Clouds", "fractal"),
    ("Soft colours", "gradient"),
]
SIZES = [
    ("Automatic", ""),
    ("Square 256 x 256", "256x256"),
    ("Wide 384 x 256", "384x256"),
    ("Tall 256 x 384", "256x384"),
    ("Large 512 x 512", "512x512"),
]

# What changes without the visitor's doing.
_CHANGING = "generate stop status preview result finished send details reuse".split()


def tab(demo: gr.Blocks, studio: Studio) -> Parts:
    """Lay the tab out and connect it."""
    order = _order()
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            shown = shown_run()
        with gr.Column(scale=2, min_width=300):
            settings = _settings()
    parts = {part.elem_id: part for part in [*order, *shown, *settings]}
    parts["finished"] = gr.State("")  # the file that is shown
    buttons = ("generate", "stop", "reuse", "random")
    asked = [parts["prompt"], *settings]
    fields = {part.elem_id: part for part in asked if part.elem_id not in buttons}
    visits = Visits()

    async def greet(visitor: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        async for change in greeting(studio):
            if not visits.knows(visitor):
                yield {parts[name]: value for name, value in change.items()}

    async def generate(visitor: gr.Request, **given: Any) -> AsyncIterator[dict[Any, Any]]:
        with visits.work(visitor) as stop:
            async for change in course(studio, given, stop, studio.owner(visitor.session_hash)):
                yield {parts[name]: value for name, value in change.items()}

    changing = [parts[name] for name in _CHANGING]
    demo.load(greet, None, changing, **QUIET)
    demo.unload(visits.leave)
    gr.on(
        [parts["generate"].click, parts["prompt"].submit],
        generate,
        None,
        changing,
        inputs_kwargs=fields,
        show_progress="hidden",  # its overlay would hide the picture; the status line says it all
        api_name="generate",
    )
    parts["stop"].click(visits.end, None, parts["status"], queue=False, **QUIET)
    connect_seed(parts)
    return parts


# --- layout: each function returns its parts, which go by their elem_id ----------------------


def _order() -> list[Any]:
    """What to draw, and the buttons."""
    with gr.Row(equal_height=True):
        prompt = gr.Textbox(
            _PROMPT,
            label="Prompt",
            info="What to draw. Weigh several wishes like this: a castle | fog::0.5 | people::-1",
            lines=2,
            max_lines=6,
            scale=4,
            min_width=300,
            elem_id="prompt",
        )
        with gr.Column(scale=1, min_width=200, elem_id="buttons"):
            generate = gr.Button(
                "Generate", variant="primary", elem_id="generate", elem_classes="studio-start"
            )
            stop = gr.Button("Stop", interactive=False, elem_id="stop", elem_classes="studio-stop")
    return [prompt, generate, stop, status_line("status")]


def _settings() -> list[Any]:
    """How to draw it. What is asked for is called what the command line calls it."""
    return [
        quality_choice("A draft is small and quick, the best is slow.", "quality"),
        gr.Dropdown(
            SIZES,
            value="",
            label="Size",
            info="Width x height in pixels; type another, like 320x192.",
            allow_custom_value=True,
            elem_id="size",
        ),
        *seed_field(),
        gr.Textbox(
            label="Negative prompt",
            info="What should not be there.",
            max_lines=3,
            elem_id="negative",
        ),
        *_advanced(),
    ]


def _advanced() -> list[Any]:
    with gr.Accordion("Advanced", open=False, elem_id="advanced"):
        return [
            gr.Dropdown(STARTS, value="draft", label="Start from", elem_id="start"),
            *_picture(
                "... or from a picture",
                "init",
                {"label": "Noise over it", "minimum": 0, "maximum": 1, "value": 0, "step": 0.05},
                "init_noise",
            ),
            *_picture(
                "A picture as a prompt",
                "image_prompt",
                {"label": "Its weight", "minimum": -2, "maximum": 2, "value": 1, "step": 0.1},
                "image_weight",
            ),
            _menu(GENERATORS, "Generator", "What draws.", "generator"),
            _menu(CLIPS, "CLIP", "What compares the picture with words and pictures.", "clip"),
            *_numbers(),
        ]


def _picture(label: str, elem_id: str, slider: dict[str, Any], slider_id: str) -> list[Any]:
    """A place for a picture, and how much of something belongs to it."""
    with gr.Column():
        picture = gr.Image(
            label=label,
            type="filepath",
            sources=["upload", "clipboard"],
            height=180,
            buttons=[],
            elem_id=elem_id,
        )
        return [by_path(picture), gr.Slider(**slider, elem_id=slider_id)]


def generators() -> list[str]:
    """What may draw, by name."""
    return list(_here(GENERATORS))


def clips() -> list[str]:
    """What may compare, by name."""
    return list(_here(CLIPS))


def _here(table: Mapping[str, Entry]) -> dict[str, Entry]:
    return {name: row for name, row in table.items() if not row.files}  # nothing to be fetched


def _menu(table: Mapping[str, Entry], label: str, info: str, elem_id: str) -> Any:
    here = _here(table)
    choices = [(f"{name}: {row.note}" if row.note else name, name) for name, row in here.items()]
    return gr.Dropdown(choices, value=choices[0][1], label=label, info=info, elem_id=elem_id)


def _numbers() -> list[Any]:
    with gr.Row():
        return [
            number_field("Steps", "How often it is improved.", "automatic", "steps"),
            number_field("Views", "Looks taken at each step.", "automatic", "views"),
        ]


# --- what happens ----------------------------------------------------------------------------

_BUSY: Change = {"generate": gr.update(interactive=False), "stop": gr.update(interactive=True)}
_IDLE: Change = {"generate": gr.update(interactive=True), "stop": gr.update(interactive=False)}


async def course(
    studio: Studio, given: Mapping[str, Any], stop: threading.Event, owner: str
) -> AsyncIterator[Change]:
    """All that a visitor sees after Generate. Raises `gr.Error` in the end if there was one."""
    yield {**_BUSY, "status": say("Getting ready ...")}
    try:
        worker = await soon(studio.worker())
        run = await asyncio.to_thread(worker.ask, typed(given), stop, owner)
        async for change in follow(worker, run, _details, _finished):
            yield change
        problem = run.error
    except Exception as error:
        problem = sentence(error)
    yield {**_IDLE, "status": say(problem)} if problem else _IDLE
    if problem:
        raise complaint(problem)


def typed(given: Mapping[str, Any]) -> Change:
    """The fields of the page as options of the command line; empty ones are left out.

    Raises `Refused` for something else where a number should be.
    """
    picture, weight = given["image_prompt"], given["image_weight"]
    options = {
        **{name: value for name, value in given.items() if name != "image_weight"},
        **{name: whole(name, given[name]) for name in ("seed", "steps", "views")},
        "clip": [given["clip"]],
        "image_prompt": [f"{picture}::{weight:g}"] if picture else [],
        # a draft is what begins anyway, unless no words are there to draw
        "start": None if given["init"] or given["start"] == "draft" else given["start"],
        "init_noise": given["init_noise"] if given["init"] else None,
    }
    return {name: value for name, value in options.items() if value not in (None, "", [])}


# --- what is shown ---------------------------------------------------------------------------


def _finished(run: Run) -> Change:
    assert run.saved is not None  # else there is none
    copy = shown_copy(run.saved)
    return {
        "result": gr.update(value=copy, visible=True),
        "finished": copy,
        "send": gr.update(visible=True),
    }


def _details(run: Run) -> str:
    """What to know about a picture, as a list."""
    request = run.request
    return rows(
        {
            "Seed": str(request.seed),
            "Steered by": run.steering,
            "Models": f"{request.generator} draws, {_names(request.clips)} compares",
            "Saved as": short(run.saved) if run.saved else "",
            "Note": " ".join(run.notes),
        }
    )


def _names(guides: Sequence[Guide]) -> str:
    return " and ".join(guide.name for guide in guides)
