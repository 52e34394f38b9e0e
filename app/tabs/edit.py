"""The second tab: a picture and an instruction become a changed picture, step after step."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio import processing_utils, utils
from PIL import Image as Picture

from app.errors import Refused
from app.tabs import Studio
from app.tabs.common import (
    GROWING,
    QUIET,
    Change,
    Parts,
    Visits,
    by_path,
    complaint,
    connect_seed,
    details_list,
    follow,
    greeting,
    preview,
    quality_choice,
    rows,
    say,
    seed_field,
    sentence,
    short,
    shown_copy,
    shown_picture,
    soon,
    status_line,
    unless_stopped,
    whole,
)
from app.terminal import duration

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from app.editing import Proposal
    from app.images import Canonical, Pixels
    from app.worker import Run, Worker

_PAINT = "rgba(230, 60, 150, 0.55)"  # the colour in which a looked-at place is shown, too
_GONE = (
    "The picture is not here any more: what nobody used for an hour is cleared away. Choose it "
    "again; results are where they were saved."
)
_CANVAS_SIDE = 1024  # pixels: what is painted on is a copy, for a canvas of 40 megapixels is slow

# What people read for each kind of plan.
KINDS = {
    "recolour": "a new colour",
    "replace": "another thing in its place",
    "add": "something added",
    "remove": "something taken away",
    "restyle": "another style",
    "weather": "another weather or time of day",
    "free": "drawn towards the words",
}

_LOOKING = "Looking at the picture ..."
_ASKED = "picture painting canvas instruction strength quality place everywhere mask invert".split()
_ASKED += ["grow", "seed"]
# What changes without the visitor's doing.
_CHANGING = "look edit stop status preview result details onward undo reuse family".split()
# What changes with the picture.
_PICTURE = "picture original canvas easel painting undo onward status".split()


@dataclass(frozen=True)
class Family:
    """Which picture came from which, by their files, and the newest; of one visitor."""

    parents: Mapping[str, str] = field(default_factory=dict)  # child -> parent
    newest: str = ""

    def with_child(self, parent: str, child: str) -> Family:
        """The same after an edit."""
        return Family({**self.parents, child: parent}, child)


def tab(demo: gr.Blocks, studio: Studio) -> Parts:
    """Lay the tab out and connect it."""
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            left = [*_given(), *_order(), *_shown()]
        with gr.Column(scale=2, min_width=300):
            settings = _settings()
    parts = {part.elem_id.removeprefix("edit-"): part for part in [*left, *settings]}
    parts["family"] = gr.State(Family())
    visits, placed = Visits(), partial(_placed, parts)

    async def greet(visitor: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        async for change in greeting(studio):
            if not visits.knows(visitor):
                yield placed(change)

    async def look(visitor: gr.Request, **given: Any) -> AsyncIterator[dict[Any, Any]]:
        with visits.work(visitor) as stop:
            async for change in glance(studio, given, stop):
                yield placed(change)

    async def edit(visitor: gr.Request, **given: Any) -> AsyncIterator[dict[Any, Any]]:
        with visits.work(visitor) as stop:
            async for change in course(studio, given, stop, studio.owner(visitor.session_hash)):
                yield placed(change)

    async def show_easel(painting: bool, path: str | None) -> AsyncIterator[dict[Any, Any]]:
        async for change in paint(painting, path):
            yield placed(change)

    changing = [parts[name] for name in _CHANGING]
    fields = {name: parts[name] for name in [*_ASKED, "family"]}
    demo.load(greet, None, parts["status"], **QUIET)
    demo.unload(visits.leave)
    work = {"inputs_kwargs": fields, "show_progress": "hidden"}
    gr.on([parts["edit"].click, parts["instruction"].submit], edit, None, changing, **work)
    parts["look"].click(look, None, changing, **work)
    parts["stop"].click(visits.end, None, parts["status"], queue=False, **QUIET)

    family, around = parts["family"], [parts[name] for name in _PICTURE]
    gr.on(
        [parts["picture"].upload, parts["picture"].clear],
        lambda: placed(_another()),
        None,
        [part for part in around if part is not parts["picture"]],
        queue=False,
        **QUIET,
    )
    parts["onward"].click(lambda kin: placed(onward(kin)), family, around, queue=False, **QUIET)
    parts["undo"].click(
        lambda kin, path: placed(undo(kin, path)), [family, parts["picture"]], around, **QUIET
    )
    canvas = [parts["painting"], parts["picture"]]
    parts["painting"].input(show_easel, canvas, around, **QUIET)
    connect_seed(parts)
    return parts


def connect(tabs: Any, here: Parts, there: Parts) -> None:
    """Let the finished picture of the Generate tab, `there`, be sent to this one."""
    there["send"].click(
        lambda path: {tabs: gr.Tabs(selected="Edit"), **_placed(here, receive(path))},
        there["finished"],
        [tabs, *(here[name] for name in _PICTURE)],
        **QUIET,
    )


def _placed(parts: Parts, change: Change) -> dict[Any, Any]:
    return {parts[name]: value for name, value in change.items()}


# --- layout: each function returns its parts, which go by their elem_id without "edit-" -------


def _given() -> list[Any]:
    """The picture, and a copy of it to paint on; their columns are shown in turn."""
    with gr.Column(elem_id="edit-original") as original:
        picture = gr.Image(
            label="Picture",
            type="filepath",
            sources=["upload", "clipboard"],
            height=320,
            buttons=["fullscreen"],
            placeholder="Drop a picture here, paste one, or click to choose.",
            elem_id="edit-picture",
        )
    with gr.Column(visible=False, elem_id="edit-easel") as easel:
        canvas = gr.ImageEditor(
            label="Paint the place",
            sources=[],
            transforms=[],
            layers=False,
            brush=gr.Brush(colors=[_PAINT], color_mode="fixed"),
            canvas_size=(_CANVAS_SIDE, _CANVAS_SIDE),
            height=480,
            buttons=[],
            format="png",
            elem_id="edit-canvas",
        )
    # what somebody sends as paint is opened as carefully as any picture, and in one place
    canvas.preprocess = partial(_layer, canvas)
    painting = gr.Checkbox(
        label="Paint the place",
        info="With a brush, where the picture may change. Untick it to wipe the paint away.",
        elem_id="edit-painting",
    )
    return [original, by_path(picture), easel, canvas, painting]


def _layer(canvas: Any, given: Any) -> bytes | str | None:
    """Of what comes from a canvas the paint alone: the content of a file, or its path."""
    if given is None:
        return None
    sent = canvas.blob_storage.pop(given.id, None) if given.id else given
    layers = [layer for layer in (sent.layers if sent else []) if layer is not None]
    if not layers:
        return None
    return bytes(layers[0]) if isinstance(layers[0], (bytes, bytearray)) else str(layers[0].path)


def _order() -> list[Any]:
    """What to change, and the buttons."""
    instruction = gr.Textbox(
        label="Instruction",
        info="What to change, in a few English words.",
        placeholder="green · make it a red bus · add snow · remove the cup · as a pencil drawing",
        max_lines=1,
        elem_id="edit-instruction",
    )
    with gr.Row(elem_classes="studio-buttons"):
        look = gr.Button("Look first", min_width=90, elem_id="edit-look")
        edit = gr.Button(
            "Edit",
            variant="primary",
            min_width=90,
            elem_id="edit-edit",
            elem_classes="studio-start",
        )
        stop = gr.Button(
            "Stop", interactive=False, min_width=90, elem_id="edit-stop", elem_classes="studio-stop"
        )
    return [instruction, look, edit, stop, status_line("edit-status")]


def _shown() -> list[Any]:
    """The picture while it changes, before and after, and what to know about it."""
    growing = shown_picture(GROWING, "edit-preview", format="jpeg", buttons=[])
    result = gr.ImageSlider(
        label="Before and after",
        format="png",
        buttons=["download", "fullscreen"],
        max_height=480,
        visible=False,
        elem_id="edit-result",
    )
    with gr.Row(elem_classes="studio-buttons"):
        onward = gr.Button(
            "Go on from this", size="sm", interactive=False, min_width=90, elem_id="edit-onward"
        )
        back = gr.Button("Undo", size="sm", interactive=False, min_width=90, elem_id="edit-undo")
    return [growing, result, onward, back, details_list("edit-details")]


def _settings() -> list[Any]:
    """How far, how well and where."""
    strength = gr.Slider(
        minimum=0.1,
        maximum=1,
        value=0.8,
        step=0.05,
        label="Strength",
        info="0.3 a touch, 0.8 clearly, 1 all the way.",
        elem_id="edit-strength",
    )
    quality = quality_choice("A draft is quick, the best is slow.", "edit-quality")
    with gr.Accordion("Where", elem_id="edit-where"):
        where = _where()
    return [strength, quality, *where, *seed_field("edit-")]


def _where() -> list[Any]:
    """What corrects the place that the instruction means."""
    place = gr.Textbox(
        label="Place, in words",
        info="Such as: the sky. Empty: as the instruction says.",
        max_lines=1,
        elem_id="edit-place",
    )
    everywhere = gr.Checkbox(
        label="Everywhere", info="All of the picture may change.", elem_id="edit-everywhere"
    )
    invert = gr.Checkbox(
        label="Invert the place",
        info="All but the place may change.",
        elem_id="edit-invert",
    )
    grow = gr.Slider(
        minimum=-0.1,
        maximum=0.1,
        value=0,
        step=0.01,
        label="Grow or shrink the place",
        info="By a share of the picture's shorter side.",
        elem_id="edit-grow",
    )
    mask = gr.Image(
        label="Place, as a mask: white may change",
        type="filepath",
        sources=["upload", "clipboard"],
        height=160,
        buttons=[],
        placeholder="Black and white, instead of paint",
        elem_id="edit-mask",
    )
    return [place, everywhere, invert, grow, by_path(mask)]


# --- which picture ---------------------------------------------------------------------------


def _another() -> Change:
    """A picture without parents; whatever was painted belongs to the one before."""
    return {
        **_easel(None),
        "painting": False,
        "undo": gr.update(interactive=False),
        "status": say(""),
    }


def _shows(path: str, kin: Family, said: str) -> Change:
    """Put a picture where it will be edited."""
    if not Path(path).exists():
        return {"status": say(_GONE)}
    os.utime(path)  # files are cleared away in time, but not while they are in use
    return {
        **_another(),
        "picture": path,
        "undo": gr.update(interactive=path in kin.parents),
        "status": say(said),
    }


def onward(kin: Family) -> Change:
    """The newest result becomes the picture."""
    change = _shows(kin.newest, kin, "Go on: this is the picture now. Undo goes back.")
    return {**change, "onward": gr.update(interactive=False)}


def undo(kin: Family, path: str | None) -> Change:
    """The picture that this one was made of becomes the picture again."""
    if not path or path not in kin.parents:
        return {"undo": gr.update(interactive=False)}
    change = _shows(kin.parents[path], kin, "Back to the picture before.")
    return {**change, "onward": gr.update(interactive=True)}


def receive(path: str) -> Change:
    """A picture comes from another tab."""
    return _shows(path, Family(), "Here it is. What shall be different?")


def restored(path: str | None, fields: Change, said: str) -> Change:
    """An edit that was made before is asked for again; `path`: of its picture, if it is there."""
    shown = {"picture": None, **_another()} if path is None else _shows(path, Family(), said)
    return {**shown, **fields, "status": say(said)}


async def paint(painting: bool, path: str | None) -> AsyncIterator[Change]:
    """A copy of the picture to paint on, or the picture again."""
    try:
        copy = None
        if painting:
            picture = await asyncio.to_thread(_open, path)
            copy = preview(picture.pixels, _CANVAS_SIDE)
    except Exception as error:
        problem = sentence(error)
        yield {"painting": False, "status": say(problem)}
        raise complaint(problem) from error
    yield _easel(copy)


def _easel(copy: Picture.Image | None) -> Change:
    """Show a copy to paint on, or the picture itself."""
    # never a property of picture or canvas: Gradio would build them anew, with its own preprocess
    return {
        "canvas": copy and {"background": copy, "layers": [], "composite": None},
        "easel": gr.update(visible=copy is not None),
        "original": gr.update(visible=copy is None),
    }


def _open(path: str | None) -> Canonical:
    from app.images import open_picture

    if not path:
        raise Refused(
            "edit.picture",
            "There is no picture yet. Choose one, paste one, or send one from the Generate tab.",
            "picture",
        )
    if not Path(path).exists():
        raise Refused("edit.picture", _GONE, "picture")
    os.utime(path)  # it is in use
    return open_picture(path, in_child=True)


# --- what happens ----------------------------------------------------------------------------

_BUSY: Change = {
    "look": gr.update(interactive=False),
    "edit": gr.update(interactive=False),
    "stop": gr.update(interactive=True),
}
_IDLE: Change = {
    "look": gr.update(interactive=True),
    "edit": gr.update(interactive=True),
    "stop": gr.update(interactive=False),
}


async def glance(
    studio: Studio, given: Mapping[str, Any], stop: threading.Event
) -> AsyncIterator[Change]:
    """All that a visitor sees after Look first. Raises `gr.Error` in the end if there was one."""
    yield {**_BUSY, "status": say("Getting ready ...")}
    problem = ""
    try:
        worker = await soon(studio.worker())
        yield {"status": say(_LOOKING)}
        proposal = await unless_stopped(partial(propose, worker, given), stop)
        yield _seen(proposal) if proposal else {"status": say("Stopped.")}
    except Exception as error:
        problem = sentence(error)
    yield {**_IDLE, "status": say(problem)} if problem else _IDLE
    if problem:
        raise complaint(problem)


async def course(
    studio: Studio, given: Mapping[str, Any], stop: threading.Event, owner: str
) -> AsyncIterator[Change]:
    """All that a visitor sees after Edit. Raises `gr.Error` in the end if there was one."""
    yield {**_BUSY, "status": say("Getting ready ...")}
    try:
        seed = whole("seed", given["seed"])
        worker = await soon(studio.worker())
        yield {"status": say(_LOOKING)}
        proposal = await unless_stopped(partial(propose, worker, given), stop)
        if proposal is None:
            yield {**_IDLE, "status": say("Stopped before it began.")}
            return
        run = await asyncio.to_thread(_begin, worker, proposal, given, seed, stop, owner)
        about, done = partial(_details, proposal), partial(_finished, proposal, given)
        async for change in follow(worker, run, about, done):
            yield change
        problem = run.error
    except Exception as error:
        problem = sentence(error)
    yield {**_IDLE, "status": say(problem)} if problem else _IDLE
    if problem:
        raise complaint(problem)


def propose(worker: Worker, given: Mapping[str, Any]) -> Proposal:
    """What the fields of the page ask for. Raises `Refused`."""
    picture = _open(given["picture"])
    return worker.propose(
        picture,
        Path(given["picture"]).name,
        given["instruction"] or "",
        mask=_mask(given, picture),
        region="" if given["everywhere"] else (given["place"] or "").strip() or None,
        invert=given["invert"],
        grow=given["grow"],
    )


def _begin(
    worker: Worker,
    proposal: Proposal,
    given: Mapping[str, Any],
    seed: int | None,
    stop: threading.Event,
    owner: str,
) -> Run:
    from app import editing

    settings = {} if seed is None else {"seed": seed}
    asked = editing.order(proposal, given["strength"], given["quality"], **settings)
    return worker.order(asked, stop, owner)


def _mask(given: Mapping[str, Any], picture: Canonical) -> NDArray[Any] | None:
    """What was painted, or else the mask that was given."""
    from app.images import open_picture

    painted = _painted(given["canvas"], picture) if given["painting"] else None
    if painted is None and given["mask"]:
        return open_picture(given["mask"], in_child=True).pixels
    return painted


def _painted(layer: bytes | str | None, picture: Canonical) -> NDArray[np.uint8] | None:
    """Where there is paint, 255, at the picture's own size; nothing if there is none."""
    import numpy as np

    from app.images import decode, open_picture

    if layer is None:
        return None
    if isinstance(layer, bytes):
        opened = decode(layer, "The paint")
    else:
        opened = open_picture(layer, in_child=True)
    if opened.alpha is None:  # every pixel is covered
        return np.full(picture.pixels.shape[:2], 255, np.uint8)
    if not opened.alpha.any():
        return None
    height, width = picture.pixels.shape[:2]
    paint = Picture.fromarray((opened.alpha > opened.alpha.max() // 2).astype(np.uint8) * 255)
    return np.asarray(paint.resize((width, height), Picture.Resampling.BILINEAR))


# --- what is shown ---------------------------------------------------------------------------


def _seen(proposal: Proposal) -> Change:
    """What was understood, and the place."""
    return {
        "status": say(str(proposal)),
        "preview": gr.update(
            value=preview(proposal.overlay(), _CANVAS_SIDE),
            visible=True,
            alt_text="The picture with the place that may change outlined and tinted",
        ),
        "result": gr.update(visible=False),
        "details": rows({**_understood(proposal), "Note": " · ".join(proposal.notes)}),
    }


def _finished(proposal: Proposal, given: Mapping[str, Any], run: Run) -> Change:
    """Before and after, and where it came from."""
    assert run.saved is not None  # else there is none
    after = shown_copy(run.saved)
    return {
        "result": gr.update(value=(_as_png(proposal.picture.pixels), after), visible=True),
        "onward": gr.update(interactive=True),
        "family": given["family"].with_child(given["picture"], after),
    }


def _as_png(pixels: Pixels) -> str:
    """What was given as we see it: turned upright, on white, in a format that browsers show."""
    return processing_utils.save_pil_to_cache(
        Picture.fromarray(pixels), utils.get_upload_folder(), name="before", format="png"
    )


def _details(proposal: Proposal, run: Run) -> str:
    """What to know about a changed picture, as a list."""
    return rows(
        {
            **_understood(proposal),
            "Seed": str(run.request.seed),
            "Time": duration(run.look.seconds) if run.look and run.saved else "",
            "Saved as": short(run.saved) if run.saved else "",
            "Note": " · ".join(run.notes),
        }
    )


def _understood(proposal: Proposal) -> dict[str, str]:
    return {
        "Understood": str(proposal),
        "Kind": KINDS[proposal.plan.kind],
    }
