"""The first tab: a prompt becomes a picture, and one can watch."""

from __future__ import annotations

import asyncio
import html
import logging
import re
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import gradio as gr
from gradio import processing_utils, utils
from PIL import Image as Picture

from app.catalog import CLIPS, GENERATORS, Entry, ModelError
from app.errors import Failed, Refused
from app.tabs import Studio
from app.terminal import duration, speed

if TYPE_CHECKING:
    from app.request import Guide
    from app.worker import Look, Run, Worker

T = TypeVar("T")
Change = dict[str, Any]  # elem_id of a part of the page -> its new value or properties

_PROMPT = "a red apple on a blue background"
_PREVIEW_SIDE = 512  # pixels
_GLANCE = 0.1  # seconds between two looks at what the worker does
_PAUSE = 1.0  # seconds between two status lines: people have to be able to read, or hear, them
_EXPECTED = (Refused, Failed, ModelError)  # their text is for people
_PUZZLED = "Something went wrong that should not have. The terminal has the details."

# What people read, and what a request calls it.
QUALITIES = [("Draft", "draft"), ("Normal", "normal"), ("Best", "best")]
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
_CHANGING = "generate stop status preview result details reuse".split()

log = logging.getLogger(__name__)


def tab(demo: gr.Blocks, studio: Studio) -> None:
    """Lay the tab out and connect it."""
    order = _order()
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            shown = _shown()
        with gr.Column(scale=2, min_width=300):
            settings = _settings()
    parts = {part.elem_id: part for part in [*order, *shown, *settings]}
    buttons = ("generate", "stop", "reuse", "random")
    asked = [parts["prompt"], *settings]
    fields = {part.elem_id: part for part in asked if part.elem_id not in buttons}
    stops: dict[str, threading.Event] = {}  # one for each visitor whose picture is on its way

    async def greet(visitor: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        async for change in greeting(studio):
            if visitor.session_hash not in stops:
                yield {parts[name]: value for name, value in change.items()}

    async def generate(visitor: gr.Request, **given: Any) -> AsyncIterator[dict[Any, Any]]:
        stop = stops[visitor.session_hash] = threading.Event()
        try:
            async for change in course(studio, given, stop):
                yield {parts[name]: value for name, value in change.items()}
        finally:  # it is over, or the visitor left
            stop.set()
            if stops.get(visitor.session_hash) is stop:
                del stops[visitor.session_hash]

    def end(visitor: gr.Request) -> Any:
        stop = stops.get(visitor.session_hash)
        if stop is None:
            return gr.skip()
        stop.set()
        return say("Stopping ...")

    def leave(visitor: gr.Request) -> None:
        end(visitor)

    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    changing = [parts[name] for name in _CHANGING]
    demo.load(greet, None, changing, **quiet)
    demo.unload(leave)
    gr.on(
        [parts["generate"].click, parts["prompt"].submit],
        generate,
        None,
        changing,
        inputs_kwargs=fields,
        show_progress="hidden",  # its overlay would hide the picture; the status line says it all
        api_name="generate",
    )
    parts["stop"].click(end, None, parts["status"], queue=False, **quiet)
    parts["reuse"].click(_named_seed, parts["reuse"], parts["seed"], queue=False, **quiet)
    parts["random"].click(lambda: "", None, parts["seed"], queue=False, **quiet)


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
            generate = gr.Button("Generate", variant="primary", elem_id="generate")
            stop = gr.Button("Stop", interactive=False, elem_id="stop")
    status = gr.HTML(say("Starting ..."), padding=False, elem_id="status")
    return [prompt, generate, stop, status]


def _shown() -> list[Any]:
    """The picture while it grows, the picture when it is there, and what to know about it."""

    def picture(alt_text: str, **properties: Any) -> Any:
        return gr.Image(
            alt_text=alt_text, show_label=False, height=480, interactive=False, **properties
        )

    return [
        picture("The picture as it is now", format="jpeg", buttons=[], elem_id="preview"),
        picture(
            "The finished picture",
            format="png",
            buttons=["download", "fullscreen"],
            visible=False,
            elem_id="result",
        ),
        gr.HTML("", padding=False, elem_id="details"),
    ]


def _settings() -> list[Any]:
    """How to draw it. What is asked for is called what the command line calls it."""
    return [
        gr.Radio(
            QUALITIES,
            value="normal",
            label="Quality",
            info="A draft is small and quick, the best is slow.",
            elem_id="quality",
        ),
        gr.Dropdown(
            SIZES,
            value="",
            label="Size",
            info="Width x height in pixels; type another, like 320x192.",
            allow_custom_value=True,
            elem_id="size",
        ),
        *_seed(),
        gr.Textbox(
            label="Negative prompt",
            info="What should not be there.",
            max_lines=3,
            elem_id="negative",
        ),
        *_advanced(),
    ]


def _seed() -> list[Any]:
    """The seed, and how to keep the one that was drawn or to go back to chance."""
    field = _number("Seed", "The same seed gives the same picture.", "a new one each time", "seed")
    with gr.Row():
        return [
            field,
            gr.Button(
                "Reuse the last", size="sm", interactive=False, min_width=90, elem_id="reuse"
            ),
            gr.Button("Random seed", size="sm", min_width=90, elem_id="random"),
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
        # Gradio would decode the file before our own limits can act: take its path alone
        picture.preprocess = lambda given: given and given.path
        return [picture, gr.Slider(**slider, elem_id=slider_id)]


def _menu(table: Mapping[str, Entry], label: str, info: str, elem_id: str) -> Any:
    here = {name: row for name, row in table.items() if not row.files}  # nothing to be fetched
    choices = [(f"{name}: {row.note}" if row.note else name, name) for name, row in here.items()]
    return gr.Dropdown(choices, value=choices[0][1], label=label, info=info, elem_id=elem_id)


def _numbers() -> list[Any]:
    with gr.Row():
        return [
            _number("Steps", "How often it is improved.", "automatic", "steps"),
            _number("Views", "Looks taken at each step.", "automatic", "views"),
        ]


def _number(label: str, info: str, placeholder: str, elem_id: str) -> Any:
    """A whole number or nothing; Gradio's own number field would begin with 0."""
    return gr.Textbox(
        label=label,
        info=info,
        placeholder=placeholder,
        max_lines=1,
        min_width=130,
        elem_id=elem_id,
    )


# --- what happens ----------------------------------------------------------------------------

_BUSY: Change = {"generate": gr.update(interactive=False), "stop": gr.update(interactive=True)}
_IDLE: Change = {"generate": gr.update(interactive=True), "stop": gr.update(interactive=False)}


async def greeting(studio: Studio) -> AsyncIterator[Change]:
    """What a visitor sees before anything is asked for."""
    yield {"status": say("The models are loading. Go ahead meanwhile.")}
    try:
        worker = await _soon(studio.worker())
        await _soon(worker.warm)
        yield {"status": say("Ready.")}
    except Exception as error:
        yield {"status": say(_sentence(error))}


async def course(
    studio: Studio, given: Mapping[str, Any], stop: threading.Event
) -> AsyncIterator[Change]:
    """All that a visitor sees after Generate. Raises `gr.Error` in the end if there was one."""
    yield {**_BUSY, "status": say("Getting ready ...")}
    try:
        worker = await _soon(studio.worker())
        run = await asyncio.to_thread(worker.order, typed(given), stop)
        async for change in follow(worker, run):
            yield change
        problem = run.error
    except Exception as error:
        problem = _sentence(error)
    yield {**_IDLE, "status": say(problem)} if problem else _IDLE
    if problem:
        raise gr.Error(html.escape(problem, quote=False), print_exception=False)


async def follow(worker: Worker, run: Run) -> AsyncIterator[Change]:
    """What there is to see of a run, as it comes, and what became of it."""
    shown: Look | None = None
    due = 0.0
    while not run.over.is_set():
        change: Change = {}
        if (look := run.look) and look is not shown:
            change = {"preview": _preview(look)} if shown else _first(run, look)
            shown = look
        if time.monotonic() >= due:
            due = time.monotonic() + _PAUSE
            change["status"] = progress(run, worker.ahead(run))
        if change:
            yield change
        await asyncio.sleep(_GLANCE)
    yield outcome(run)


def _sentence(error: Exception) -> str:
    """What to tell a person."""
    if isinstance(error, _EXPECTED):
        return str(error)
    log.error("The page failed.", exc_info=error)  # a bug of ours: the page still says something
    return _PUZZLED


async def _soon(future: Future[T]) -> T:
    """Wait for what a thread does; whoever stops waiting does not cancel it for the others."""
    return await asyncio.shield(asyncio.wrap_future(future))


def typed(given: Mapping[str, Any]) -> Change:
    """The fields of the page as options of the command line; empty ones are left out.

    Raises `Refused` for something else where a number should be.
    """
    picture, weight = given["image_prompt"], given["image_weight"]
    options = {
        **{name: value for name, value in given.items() if name != "image_weight"},
        **{name: _whole(name, given[name]) for name in ("seed", "steps", "views")},
        "clip": [given["clip"]],
        "image_prompt": [f"{picture}::{weight:g}"] if picture else [],
        # a draft is what begins anyway, unless no words are there to draw
        "start": None if given["init"] or given["start"] == "draft" else given["start"],
        "init_noise": given["init_noise"] if given["init"] else None,
    }
    return {name: value for name, value in options.items() if value not in (None, "", [])}


def _whole(name: str, written: str | None) -> int | None:
    digits = (written or "").strip()
    if not digits:
        return None
    if not re.fullmatch(r"-?\d{1,20}", digits):
        said = f"{name}: {digits[:40]!r} is no whole number. Write one, or leave it empty."
        raise Refused(f"request.{name}", said, name)
    return int(digits)


# --- what is said and shown ------------------------------------------------------------------


def say(sentence: str, done: float | None = None) -> str:
    """The status line, with a bar where it is known which part (0..1) is done."""
    bar = "" if done is None else f'<progress value="{done:.3f}" aria-hidden="true"></progress>'
    return f"<p>{html.escape(sentence)}</p>{bar}"


def progress(run: Run, ahead: int) -> str:
    """How far a run is."""
    if run.stop.is_set():
        return say("Stopping ...")
    if ahead:
        return say(f"Waiting: {ahead} {'picture' if ahead == 1 else 'pictures'} before yours.")
    if run.look is None:
        return say("Getting ready ...")
    index, steps = run.look.made.step.index, run.request.steps
    if not index:
        return say(f"Step 0 of {steps} · {run.expected}", 0)
    pace = run.look.seconds / index
    left = duration((steps - index) * pace)
    told = f"Step {index} of {steps} · {speed(pace)} · {left} left · loss {run.look.loss:.3f}"
    return say(told, index / steps)


def _first(run: Run, look: Look) -> Change:
    """The first picture takes the place of the last result."""
    return {
        "preview": gr.update(value=_preview(look), visible=True),
        "result": gr.update(visible=False),
        "details": _details(run),
        "reuse": _reuse(run),
    }


def outcome(run: Run) -> Change:
    """What became of a run: the picture that is there now, and where."""
    if run.look is None or run.saved is None:
        return {"status": say(run.error or "Stopped before it began.")}
    index, steps = run.look.made.step.index, run.request.steps
    done = f"Stopped at step {index} of {steps}" if index < steps else f"Done: {steps} steps"
    # a copy that the page may show: the folder itself stays closed to the network
    copy = processing_utils.save_file_to_cache(run.saved, utils.get_upload_folder())
    return {
        "status": say(f"{done} in {duration(run.look.seconds)}.", index / steps),
        "preview": gr.update(value=None, visible=False),
        "result": gr.update(value=copy, visible=True),
        "details": _details(run),
        "reuse": _reuse(run),  # a quick run may be over before its first look was shown
    }


def _reuse(run: Run) -> Any:
    return gr.update(value=f"Reuse seed {run.request.seed}", interactive=True)


def _named_seed(label: str) -> str:
    return label.rpartition(" ")[2]


def _preview(look: Look) -> Picture.Image:
    picture = Picture.fromarray(look.pixels)
    picture.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
    return picture


def _details(run: Run) -> str:
    """What to know about a picture, as a list."""
    request = run.request
    told = {
        "Seed": str(request.seed),
        "Steered by": run.steering,
        "Models": f"{request.generator} draws, {_names(request.clips)} compares",
        "Saved as": _short(run.saved) if run.saved else "",
        "Note": " ".join(run.notes),
    }
    rows = [f"<dt>{name}</dt><dd>{html.escape(what)}</dd>" for name, what in told.items() if what]
    return f"<dl>{''.join(rows)}</dl>"


def _names(guides: Sequence[Guide]) -> str:
    return " and ".join(guide.name for guide in guides)


def _short(path: Path) -> str:
    """A path as people write it."""
    home = Path.home()
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) else str(path)
