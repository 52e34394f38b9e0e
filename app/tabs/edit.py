"""The second tab: a picture and an instruction become a changed picture, step after step."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image as Picture

from app.tabs import Studio, changing, strengths
from app.tabs.changing import CANVAS_SIDE, GONE, open_given
from app.tabs.common import (
    GROWING,
    QUIET,
    Change,
    Parts,
    Visits,
    complaint,
    connect_seed,
    details_list,
    quality_choice,
    say,
    seed_field,
    sentence,
    shown_picture,
    status_line,
    welcome,
)
from app.tabs.strengths import Tries

_PAINT = "rgba(230, 60, 150, 0.55)"  # the colour in which a looked-at place is shown, too

_ASKED = "picture painting canvas instruction strength quality place everywhere mask invert".split()
_ASKED += ["grow", "seed"]
# What changes without the visitor's doing.
_CHANGING = "look edit compare yes stop status preview result three tries details onward".split()
_CHANGING += "undo reuse family question".split()
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
    parts["family"], parts["question"] = gr.State(Family()), gr.State(changing.Question())
    parts["tries"] = gr.State(Tries())
    visits, placed = Visits(), partial(_placed, parts)

    async def greet(visitor: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        resumed = partial(changing.resumed, studio, Family())
        async for change in welcome(studio, visits, visitor, changing.is_ours, resumed):
            yield placed(change)

    async def look(visitor: gr.Request, **given: Any) -> AsyncIterator[dict[Any, Any]]:
        with visits.work(visitor) as stop:
            async for change in changing.glance(studio, given, stop):
                yield placed(change)

    def doing(what: str) -> Callable[..., AsyncIterator[dict[Any, Any]]]:
        async def do(visitor: gr.Request, **given: Any) -> AsyncIterator[dict[Any, Any]]:
            with visits.work(visitor) as stop:
                owner = studio.owner(visitor.session_hash)
                async for change in changing.course(studio, given, stop, owner, what):
                    yield placed(change)

        return do

    def take(
        visitor: gr.Request, tries: Tries, family: Family, event: gr.SelectData
    ) -> dict[Any, Any]:
        if visits.is_busy(visitor):
            return placed({"status": say(strengths.WAIT)})
        return placed(strengths.taken(tries, event.index, family.with_child))

    async def show_easel(painting: bool, path: str | None) -> AsyncIterator[dict[Any, Any]]:
        async for change in paint(painting, path):
            yield placed(change)

    changes = [parts[name] for name in _CHANGING]
    fields = {name: parts[name] for name in [*_ASKED, "family", "question"]}
    found = [*changes, parts["picture"], parts["instruction"]]
    demo.load(greet, None, found, **QUIET)
    demo.unload(visits.leave)
    work = {"inputs_kwargs": fields, "show_progress": "hidden"}
    gr.on([parts["edit"].click, parts["instruction"].submit], doing("edit"), None, changes, **work)
    parts["compare"].click(doing("compare"), None, changes, **work)
    parts["yes"].click(doing("yes"), None, changes, **work)
    parts["three"].select(take, [parts["tries"], parts["family"]], changes, **QUIET)
    parts["look"].click(look, None, changes, **work)
    parts["stop"].click(visits.end, None, None, queue=False, **QUIET)

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
            canvas_size=(CANVAS_SIDE, CANVAS_SIDE),
            height=480,
            buttons=[],
            format="png",
            elem_id="edit-canvas",
        )
    painting = gr.Checkbox(
        label="Paint the place",
        info="With a brush, where the picture may change. Untick it to wipe the paint away.",
        elem_id="edit-painting",
    )
    return [original, picture, easel, canvas, painting]


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
    status = status_line("edit-status")
    yes = gr.Button("Yes, change it", visible=False, variant="primary", elem_id="edit-yes")
    return [instruction, look, edit, stop, status, yes]


def _shown() -> list[Any]:
    """The picture while it changes, before and after, and what to know about it."""
    growing = shown_picture(GROWING, "edit-preview", buttons=[])
    result = gr.ImageSlider(
        label="Before and after",
        format="png",
        buttons=["download", "fullscreen"],
        max_height=480,
        visible=False,
        elem_id="edit-result",
    )
    three = strengths.gallery()
    with gr.Row(elem_classes="studio-buttons"):
        onward = gr.Button(
            "Go on from this", size="sm", interactive=False, min_width=90, elem_id="edit-onward"
        )
        back = gr.Button("Undo", size="sm", interactive=False, min_width=90, elem_id="edit-undo")
    return [growing, result, three, onward, back, details_list("edit-details")]


def _settings() -> list[Any]:
    """How far, how well and where."""
    strength = gr.Slider(
        minimum=0.1,
        maximum=1,
        value=0.8,
        step=0.05,
        label="Strength",
        info="0.3 a touch, 0.6 plainly, 0.8 clearly, 1 all the way.",
        elem_id="edit-strength",
    )
    compare = gr.Button("Compare three strengths", size="sm", elem_id="edit-compare")
    quality = quality_choice("A draft is quick, the best is slow.", "edit-quality")
    with gr.Accordion("Where", elem_id="edit-where"):
        where = _where()
    return [strength, compare, quality, *where, *seed_field("edit-")]


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
    return [place, everywhere, invert, grow, mask]


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
        return {"status": say(GONE)}
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
    return {**shown, **_NO_RESULT, **fields, "status": say(said)}


# What another edit left on the page.
_NO_RESULT: Change = {
    "preview": gr.update(value=None, visible=False),
    "result": gr.update(visible=False),
    "three": gr.update(value=[], visible=False),
    "details": "",
    "onward": gr.update(interactive=False),
    "yes": gr.update(visible=False),
}


async def paint(painting: bool, path: str | None) -> AsyncIterator[Change]:
    """A copy of the picture to paint on, or the picture again."""
    try:
        copy = None
        if painting:
            picture = await asyncio.to_thread(open_given, path)
            copy = Picture.fromarray(picture.pixels)
            copy.thumbnail((CANVAS_SIDE, CANVAS_SIDE))
    except Exception as error:
        problem = sentence(error)
        yield {"painting": False, "status": say(problem)}
        raise complaint(problem) from error
    yield _easel(copy)


def _easel(copy: Picture.Image | None) -> Change:
    """Show a copy to paint on, or the picture itself."""
    return {
        "canvas": copy and {"background": copy, "layers": [], "composite": None},
        "easel": gr.update(visible=copy is not None),
        "original": gr.update(visible=copy is None),
    }
