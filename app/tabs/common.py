"""What the tabs have in common: parts of the page, how a run is followed, what is said."""

from __future__ import annotations

import asyncio
import base64
import html
import logging
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import gradio as gr
from gradio import processing_utils, utils
from gradio.data_classes import ImageData
from PIL import Image as Picture

from app.catalog import ModelError
from app.errors import Failed, Refused
from app.stopping import Stopped
from app.tabs import Studio
from app.terminal import duration, speed

if TYPE_CHECKING:
    from app.desk import Look
    from app.images import Pixels
    from app.request import Request
    from app.worker import Run, Worker

T = TypeVar("T")
Change = dict[str, Any]  # name of a part of the page -> its new value or properties
Course = Callable[..., AsyncIterator[Change]]  # what a visitor sees, one change after another
Parts = dict[str, Any]  # name of a part of the page -> the part

_PREVIEW_SIDE = 512  # pixels
_GLANCE = 0.1  # seconds between two looks at what the worker does
_PAUSE = 1.0  # seconds between two status lines: people have to be able to read, or hear, them
_EXPECTED = (Refused, Failed, ModelError)  # their text is for people
_ELSEWHERE = "Something else of yours is on its way: the History shows it."
_PUZZLED = "Something went wrong that should not have. The terminal has the details."

# What people read, and what a request calls it.
QUALITIES = [("Draft", "draft"), ("Normal", "normal"), ("Best", "best")]

GROWING = "The picture as it is now"
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

log = logging.getLogger(__name__)


class Part(NamedTuple):
    """Which picture it is of how many that were asked for together."""

    number: int = 1
    of: int = 1

    def told(self) -> str:
        """For the status line."""
        return f"Picture {self.number} of {self.of} · " if self.of > 1 else ""

    def done(self, share: float) -> float:
        """How far all are (0..1), when this one is so far."""
        return (self.number - 1 + share) / self.of


ALONE = Part()


class Visits:
    """What is on its way for each visitor of a tab, and how to end it."""

    def __init__(self) -> None:
        """Nobody is there yet."""
        self._stops: dict[str, list[threading.Event]] = {}
        self._known: set[str] = set()

    def knows(self, visitor: gr.Request) -> bool:
        """Whether somebody began something: then the status line tells of that."""
        return visitor.session_hash in self._known

    def is_busy(self, visitor: gr.Request) -> bool:
        """Whether something of theirs is on its way."""
        return visitor.session_hash in self._stops

    @contextmanager
    def work(
        self, visitor: gr.Request, others: Iterable[threading.Event] = ()
    ) -> Iterator[threading.Event]:
        """Inside, `end` sets the event, and others that end what was on its way before.

        Who leaves sets none: what they asked for goes on.
        """
        stop = threading.Event()
        stops = self._stops[visitor.session_hash] = [stop, *others]
        self._known.add(visitor.session_hash)
        try:
            yield stop
        finally:
            if self._stops.get(visitor.session_hash) is stops:
                del self._stops[visitor.session_hash]

    def end(self, visitor: gr.Request) -> None:
        """Stop it.

        Who follows it tells of that: this answer might come after theirs, and hide what came of it.
        """
        for stop in self._stops.get(visitor.session_hash, ()):
            stop.set()

    def leave(self, visitor: gr.Request) -> None:
        """They will not come back under this name."""
        self._known.discard(visitor.session_hash)


# --- parts of the page -----------------------------------------------------------------------


def status_line(elem_id: str) -> Any:
    """Where it is said how it goes."""
    return gr.HTML(
        say("Starting ..."), padding=False, elem_id=elem_id, elem_classes="studio-status"
    )


def pictures_row(label: str, elem_id: str, fit: str = "contain", **properties: Any) -> Any:
    """Small pictures to choose from, of which none opens by itself."""
    return gr.Gallery(
        label=label,
        show_label=False,
        height="auto",
        object_fit=fit,
        allow_preview=False,
        interactive=False,
        buttons=[],
        elem_id=elem_id,
        elem_classes="studio-gallery",
        **properties,
    )


def details_list(elem_id: str) -> Any:
    """Where it is said what there is to know about a picture."""
    return gr.HTML("", padding=False, elem_id=elem_id, elem_classes="studio-details")


def shown_picture(alt_text: str, elem_id: str, **properties: Any) -> Any:
    """A picture that is looked at."""
    return gr.Image(
        alt_text=alt_text,
        show_label=False,
        height=480,
        interactive=False,
        elem_id=elem_id,
        elem_classes="studio-picture",
        **properties,
    )


def shown_run(prefix: str = "") -> list[Any]:
    """The picture while it grows, the picture when it is there, and what to know about it."""
    growing = shown_picture(GROWING, f"{prefix}preview", buttons=[])
    result = shown_picture(
        "The finished picture",
        f"{prefix}result",
        format="png",
        buttons=["download", "fullscreen"],
        visible=False,
    )
    send = gr.Button("Send to Edit", visible=False, elem_id=f"{prefix}send")
    return [growing, result, send, details_list(f"{prefix}details")]


def quality_choice(info: str, elem_id: str) -> Any:
    """Draft, normal or best."""
    return gr.Radio(QUALITIES, value="normal", label="Quality", info=info, elem_id=elem_id)


def seed_field(prefix: str = "") -> list[Any]:
    """The seed, and how to keep the one that was drawn or to go back to chance."""
    info = "The same seed gives the same picture."
    field = number_field("Seed", info, "a new one each time", f"{prefix}seed")
    with gr.Row():
        reuse = gr.Button(
            "Reuse the last", size="sm", interactive=False, min_width=90, elem_id=f"{prefix}reuse"
        )
        chance = gr.Button("Random seed", size="sm", min_width=90, elem_id=f"{prefix}random")
    return [field, reuse, chance]


def connect_seed(parts: Parts) -> None:
    """Make the two buttons beside the seed work."""
    parts["reuse"].click(named_seed, parts["reuse"], parts["seed"], queue=False, **QUIET)
    parts["random"].click(lambda: "", None, parts["seed"], queue=False, **QUIET)


def number_field(label: str, info: str, placeholder: str, elem_id: str) -> Any:
    """A whole number or nothing; Gradio's own number field would begin with 0."""
    return gr.Textbox(
        label=label,
        info=info,
        placeholder=placeholder,
        max_lines=1,
        min_width=130,
        elem_id=elem_id,
        elem_classes="studio-number",
    )


def whole(name: str, written: str | None) -> int | None:
    """The whole number that was typed, if any. Raises `Refused` for something else."""
    digits = (written or "").strip()
    if not digits:
        return None
    if not re.fullmatch(r"-?\d{1,20}", digits):
        said = f"{name}: {digits[:40]!r} is no whole number. Write one, or leave it empty."
        raise Refused(f"request.{name}", said, name)
    return int(digits)


def named_seed(label: str) -> str:
    """The seed that a button names."""
    return label.rpartition(" ")[2]


# --- what happens ----------------------------------------------------------------------------


async def greeting(studio: Studio) -> AsyncIterator[Change]:
    """What a visitor sees before anything is asked for."""
    yield {"status": say("The models are loading. Go ahead meanwhile.")}
    try:
        worker = await soon(studio.worker())
        await soon(worker.warm)
        yield {"status": say("Ready.")}
    except Exception as error:
        yield {"status": say(sentence(error))}


async def welcome(
    studio: Studio,
    visits: Visits,
    visitor: gr.Request,
    is_ours: Callable[[Request], bool],
    resumed: Callable[[list[Run]], AsyncIterator[Change]],
) -> AsyncIterator[Change]:
    """The greeting; who reloaded, or opened another page, sees what they have on its way.

    `is_ours` tells which of it belongs in this tab, `resumed` what there is to see of it; of the
    rest is told that it is there. Nothing more comes once the visitor begins something here.
    """
    async for change in greeting(studio):
        if not visits.knows(visitor):
            yield change
    # When this ends, Gradio sends again what came last: not the greeting, over what came since.
    yield {"status": gr.skip()}
    try:
        worker = await soon(studio.worker())
    except Exception:  # the greeting has told why there is none
        return
    runs = await asyncio.to_thread(worker.runs_of, studio.owner(visitor.session_hash))
    ours = [run for run in runs if is_ours(run.request)]
    if visits.knows(visitor):
        return
    if ours:
        with visits.work(visitor, [run.stop for run in ours]):
            async for change in resumed(ours):
                yield change
    elif runs:
        yield {"status": say(f"Ready. {_ELSEWHERE}")}


async def follow(
    worker: Worker,
    run: Run,
    about: Callable[[Run], str],
    done: Callable[[Run], Change],
    part: Part = ALONE,
) -> AsyncIterator[Change]:
    """What there is to see of a run, as it comes, and what became of it.

    `about` tells what to know about the picture, `done` shows the one that is saved.
    """
    shown: Look | None = None
    due, stopping = 0.0, False
    while not run.over.is_set():
        change: Change = {}
        if (look := run.look) and look is not shown:
            change = {"preview": preview(look.pixels)} if shown else _first(run, look, about)
            shown = look
        if time.monotonic() >= due or run.stop.is_set() != stopping:
            due, stopping = time.monotonic() + _PAUSE, run.stop.is_set()
            before = worker.wait(run)
            change["status"] = progress(run, before.jobs, before.seconds, part)
        if change:
            yield change
        await asyncio.sleep(_GLANCE)
    yield outcome(run, about, done, part)


async def unless_stopped(work: Callable[[], T], stop: threading.Event) -> T | None:
    """Do it in a thread and wait for it, but no longer once somebody stops: then it is None."""
    doing = asyncio.ensure_future(asyncio.to_thread(work))
    while not (doing.done() or stop.is_set()):
        await asyncio.wait([doing], timeout=_GLANCE)
    if not doing.done():
        doing.cancel()  # the thread ends by itself, nobody minds what it has found
        return None
    try:
        return doing.result()
    except Stopped:
        return None


def attempt(busy: Change, idle: Change) -> Callable[[Course], Course]:
    """Of a course of changes: `busy` before it, `idle` after it, and what went wrong.

    That is told as a status line and, in the end, raised as a `gr.Error`.
    """

    def around(course: Course) -> Course:
        @wraps(course)
        async def attempted(*args: Any, **kwargs: Any) -> AsyncIterator[Change]:
            yield {**busy, "status": say("Getting ready ...")}
            problem = ""
            try:
                async for change in course(*args, **kwargs):
                    yield change
            except Exception as error:
                problem = sentence(error)
            yield {**idle, "status": say(problem)} if problem else idle
            if problem:
                raise complaint(problem)

        return attempted

    return around


def complain(runs: Iterable[Run]) -> None:
    """Raise `Failed` with what the first of these runs has come to grief by, if one has."""
    for run in runs:
        if run.error:
            raise Failed("run.failed", run.error)


async def soon(future: Future[T]) -> T:
    """Wait for what a thread does; whoever stops waiting does not cancel it for the others."""
    return await asyncio.shield(asyncio.wrap_future(future))


def complaint(problem: str) -> gr.Error:
    """A sentence as a toast; it may hold words of visitors."""
    return gr.Error(html.escape(problem, quote=False), print_exception=False)


def sentence(error: Exception) -> str:
    """What to tell a person."""
    if isinstance(error, _EXPECTED):
        return str(error)
    log.error("The page failed.", exc_info=error)  # a bug of ours: the page still says something
    return _PUZZLED


# --- what is said and shown ------------------------------------------------------------------


def say(words: str, done: float | None = None) -> str:
    """The status line, with a bar where it is known which part (0..1) is done."""
    bar = "" if done is None else f'<progress value="{done:.3f}" aria-hidden="true"></progress>'
    return f"<p>{html.escape(words)}</p>{bar}"


def progress(run: Run, ahead: int, wait: float = 0.0, part: Part = ALONE) -> str:
    """How far a run is; `wait` is about how many seconds those before it will take."""
    if run.stop.is_set():
        return say("Stopping ...")
    if run.paused:
        return say(run.paused)
    if ahead:
        before = f"{ahead} {'picture' if ahead == 1 else 'pictures'} before yours"
        return say(f"Waiting: {before}{f', about {duration(wait)}' if wait >= 1 else ''}.")
    if run.look is None:
        return say(f"{part.told()}Getting ready ...", part.done(0) if part.number > 1 else None)
    index, steps = run.look.index, run.look.steps
    if not index:
        return say(f"{part.told()}Step 0 of {steps} · {run.expected}", part.done(0))
    pace = run.look.seconds / index
    left = duration((steps - index) * pace)
    told = f"Step {index} of {steps} · {speed(pace)} · {left} left · loss {run.look.loss:.3f}"
    return say(part.told() + told, part.done(index / steps))


def _first(run: Run, look: Look, about: Callable[[Run], str]) -> Change:
    """The first picture takes the place of the last result."""
    return {
        "preview": gr.update(value=preview(look.pixels), visible=True, alt_text=GROWING),
        "result": gr.update(visible=False),
        "details": about(run),
        "reuse": reuse(run.request.seed),
    }


def outcome(
    run: Run, about: Callable[[Run], str], done: Callable[[Run], Change], part: Part = ALONE
) -> Change:
    """What became of a run: the picture that is there now, and where."""
    if run.look is None or run.saved is None:
        return {"status": say(run.error or "Stopped before it began.")}
    index, steps = run.look.index, run.look.steps
    told = f"Stopped at step {index} of {steps}" if index < steps else f"Done: {steps} steps"
    return {
        "status": say(
            f"{part.told()}{told} in {duration(run.look.seconds)}.", part.done(index / steps)
        ),
        "preview": gr.update(value=None, visible=False),
        "details": about(run),
        "reuse": reuse(run.request.seed),  # a quick run may be over before its first look was shown
        **done(run),
    }


def reuse(seed: int) -> Any:
    """The button that keeps the seed of what is looked at."""
    return gr.update(value=f"Reuse seed {seed}", interactive=True)


def preview(pixels: Pixels, side: int = _PREVIEW_SIDE) -> ImageData:
    """A small copy, of at most `side` pixels, that comes with the message itself.

    As a file it would be asked for and sent once more; where a network is slow, the next picture
    would be there before it, and nothing be seen of either.
    """
    from app.images import preview_jpeg

    code = base64.b64encode(preview_jpeg(pixels, side)).decode()
    return ImageData(url=f"data:image/jpeg;base64,{code}")


def shown_copy(path: Path) -> str:
    """A copy that the page may show: the folder itself stays closed to the network."""
    return processing_utils.save_file_to_cache(path, utils.get_upload_folder())


def shown_pixels(pixels: Pixels, name: str) -> str:
    """Pixels as a file that the page may show, called about as `name`."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in name)[:60]
    return processing_utils.save_pil_to_cache(
        Picture.fromarray(pixels), utils.get_upload_folder(), name=plain or "picture", format="png"
    )


def rows(told: Mapping[str, str]) -> str:
    """What to know about a picture, as a list; what is empty is left out."""
    filled = [f"<dt>{name}</dt><dd>{html.escape(what)}</dd>" for name, what in told.items() if what]
    return f"<dl>{''.join(filled)}</dl>"


def short(path: Path) -> str:
    """A path as people write it."""
    home = Path.home()
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) else str(path)
