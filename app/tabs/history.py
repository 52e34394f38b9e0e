"""The History tab: all that somebody asked for, what is on its way, and how to come back to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any

import gradio as gr

from app.looks import SEEN, TOP
from app.tabs import Studio, past
from app.tabs.common import (
    QUIET,
    Change,
    Parts,
    complaint,
    details_list,
    pictures_row,
    say,
    sentence,
    shown_picture,
    soon,
    status_line,
)

_SHOWN = "underway watching which stop gallery newer older usage zip zipped".split()
_DETAIL = "detail picture about recipe download again favourite delete undo compare both".split()
_FIELDS = ["search", "favourites", "which", "view"]


def tab(demo: gr.Blocks, studio: Studio) -> Parts:
    """Lay the tab out; `connect` makes it work."""
    del demo, studio  # all that happens here has to do with other tabs, too
    named: Parts = {"view": gr.State(past.View()), "timer": gr.Timer(past.TICK, active=False)}
    found = [*_search(), status_line("history-status"), *_underway()]
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            found += _list()
        with gr.Column(scale=2, min_width=300):
            found += _detail()
    found += _everything()
    return named | {part.elem_id.removeprefix("history-"): part for part in found}


def connect(studio: Studio, tabs: Any, page: Any, all_parts: Parts) -> None:
    """Make the tab work; `all_parts`: the parts of all tabs by the tabs' names."""
    parts = all_parts["History"]
    placed = partial(_placed, parts)
    fields = {name: parts[name] for name in _FIELDS}
    changing = [parts[name] for name in (*_SHOWN, *_DETAIL, "status", "view", "timer")]

    def handler(act: Callable[..., Change]) -> Callable[..., Any]:
        """What happens on the page when `act` is done with the worker, for this visitor."""

        async def handle(visitor: gr.Request, **given: Any) -> AsyncIterator[dict[Any, Any]]:
            owner = studio.owner(visitor.session_hash)
            async for change in past.course(studio, partial(act, owner=owner), given):
                yield placed(change)

        return handle

    def on(event: Any, act: Callable[..., Change]) -> None:
        event(handler(act), None, changing, inputs_kwargs=fields, **QUIET)

    on(page.select, past.arrive)
    for part in ("search", "favourites"):
        on(parts[part].change, past.search)
    on(parts["timer"].tick, past.tick)
    on(parts["older"].click, past.older)
    on(parts["newer"].click, past.newer)
    on(parts["stop"].click, past.stop)
    on(parts["which"].input, past.tick)
    on(parts["favourite"].click, past.favourite)
    on(parts["delete"].click, past.delete)
    on(parts["undo"].click, past.undo)
    on(parts["compare"].click, past.compare)
    on(parts["zip"].click, past.pack)

    async def select(
        visitor: gr.Request, place: gr.SelectData, view: past.View
    ) -> AsyncIterator[dict[Any, Any]]:
        act = partial(past.choose, owner=studio.owner(visitor.session_hash), index=place.index)
        async for change in past.course(studio, act, {"view": view}):
            yield placed(change)

    chosen = parts["gallery"].select(select, parts["view"], changing, **QUIET)
    chosen.then(None, js=SEEN.format("history-detail"), **QUIET)  # on a phone it stands far below
    _connect_again(studio, tabs, all_parts)
    _connect_everything(studio, parts, changing, fields)


def _connect_again(studio: Studio, tabs: Any, all_parts: Parts) -> None:
    """Open a picture again in the tab where it came from, from the list or from a file."""
    parts = all_parts["History"]
    there = {all_parts[tab][name] for tab, names in AGAIN.items() for name in [*names, "status"]}

    async def handle(
        visitor: gr.Request, view: past.View, path: str | None, *, from_file: bool
    ) -> AsyncIterator[dict[Any, Any]]:
        owner = studio.owner(visitor.session_hash)
        try:
            worker = await soon(studio.worker())
            find = partial(past.from_file, worker, owner, path) if from_file else None
            again = await asyncio.to_thread(find or partial(past.from_list, worker, owner, view))
        except Exception as error:
            problem = sentence(error)
            yield {parts["status"]: say(problem), parts["file"]: None}
            raise complaint(problem) from error
        here = all_parts[again.tab]
        fields = {here[name]: value for name, value in again.fields.items()}
        yield {
            tabs: gr.Tabs(selected=again.tab),
            **fields,
            here["status"]: say(again.said),
            parts["file"]: None,
        }

    async def from_list(visitor: gr.Request, view: past.View) -> AsyncIterator[dict[Any, Any]]:
        async for change in handle(visitor, view, None, from_file=False):
            yield change

    async def from_file(visitor: gr.Request, path: str | None) -> AsyncIterator[dict[Any, Any]]:
        async for change in handle(visitor, past.View(), path, from_file=True):
            yield change

    changing = [tabs, parts["status"], parts["file"], *there]
    opened = parts["again"].click(from_list, parts["view"], changing, **QUIET)
    dropped = parts["file"].upload(from_file, parts["file"], changing, **QUIET)
    for event in (opened, dropped):
        event.then(None, js=TOP, **QUIET)  # the other tab begins where it begins


# What is written into each tab.
AGAIN = {
    "Generate": "prompt negative quality size seed start init init_noise image_prompt image_weight "
    "generator clip steps views preview result several finished shown details curves actions "
    "reuse further filming film film_note".split(),
    "Edit": "picture original canvas easel painting undo instruction strength quality place "
    "everywhere mask invert grow seed preview result three details onward yes".split(),
}


def _connect_everything(
    studio: Studio, parts: Parts, changing: list[Any], fields: Mapping[str, Any]
) -> None:
    """Delete everything of somebody's, once they have said so twice."""
    asking = [parts["asking"], parts["everything"], parts["warning"], parts["files"]]

    async def ask(visitor: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        owner = studio.owner(visitor.session_hash)
        async for change in past.course(studio, partial(past.warn, owner=owner), {}):
            yield _placed(parts, change)

    async def sure(visitor: gr.Request, **given: Any) -> AsyncIterator[dict[Any, Any]]:
        owner = studio.owner(visitor.session_hash)
        async for change in past.course(studio, partial(past.forget, owner=owner), given):
            yield _placed(parts, change)

    changing = [*changing, *asking]
    asked = parts["everything"].click(ask, None, [*asking, parts["status"]], **QUIET)
    asked.then(None, js=SEEN.format("history-asking"), **QUIET)
    parts["keep"].click(lambda: _placed(parts, past.NOT_ASKING), None, asking, queue=False, **QUIET)
    given = {**fields, "files": parts["files"]}
    parts["sure"].click(sure, None, changing, inputs_kwargs=given, **QUIET)


def _placed(parts: Parts, change: Change) -> dict[Any, Any]:
    return {parts[name]: value for name, value in change.items()}


# --- layout: each function returns its parts, which go by their elem_id without "history-" ------


def _search() -> list[Any]:
    with gr.Row(equal_height=True):
        with gr.Column(scale=3, min_width=280):
            words = gr.Textbox(
                label="Search",
                info="Words of the prompt, in any order.",
                max_lines=1,
                elem_id="history-search",
            )
        with gr.Column(scale=1, min_width=180):
            favourites = gr.Checkbox(
                label="Favourites only",
                info="What you marked with a star.",
                elem_id="history-favourites",
            )
        with gr.Column(scale=2, min_width=200):
            file = gr.File(
                label="Drop a PNG of ours to open it again",
                file_types=[".png"],
                type="filepath",
                height=170,
                elem_id="history-file",
            )
    return [words, favourites, file]


def _underway() -> list[Any]:
    """What is on its way: how far it is, what there is to see, and how to stop it."""
    with gr.Column(visible=False, variant="panel", elem_id="history-underway") as underway:
        which = gr.Radio(
            [],
            label="On its way",
            info="Choose which one to watch or stop.",
            elem_id="history-which",
        )
        watching = gr.HTML(
            "", elem_id="history-watching", elem_classes="studio-status", padding=True
        )
        stop = gr.Button("Stop", size="sm", elem_id="history-stop", elem_classes="studio-stop")
    return [underway, which, watching, stop]


def _list() -> list[Any]:
    gallery = pictures_row("Pictures, newest first", "history-gallery", columns=4)
    with gr.Row(elem_classes="studio-buttons"):
        newer = gr.Button(
            "Newer", size="sm", interactive=False, min_width=90, elem_id="history-newer"
        )
        older = gr.Button(
            "Older", size="sm", interactive=False, min_width=90, elem_id="history-older"
        )
        undo = gr.Button(
            "Undo delete", size="sm", interactive=False, min_width=90, elem_id="history-undo"
        )
    return [gallery, newer, older, undo]


def _detail() -> list[Any]:
    """The picture that was chosen, all about it, and what can be done with it."""
    with gr.Column(visible=False, elem_id="history-detail") as detail:
        picture = shown_picture(
            "The picture that was chosen", "history-picture", format="png", buttons=["fullscreen"]
        )
        both = gr.ImageSlider(
            label="Compared",
            format="png",
            buttons=["fullscreen"],
            max_height=480,
            visible=False,
            elem_id="history-both",
        )
        with gr.Row(elem_classes="studio-buttons"):
            again = gr.Button(
                "Open again", variant="primary", min_width=90, elem_id="history-again"
            )
            download = gr.DownloadButton("Download PNG", min_width=90, elem_id="history-download")
        with gr.Row(elem_classes="studio-buttons"):
            star = gr.Button("Favourite", size="sm", min_width=90, elem_id="history-favourite")
            compare = gr.Button("Compare", size="sm", min_width=90, elem_id="history-compare")
            delete = gr.Button("Delete", size="sm", min_width=90, elem_id="history-delete")
        about = details_list("history-about")
        with gr.Accordion("Recipe", open=False):
            recipe = gr.Textbox(
                label="All it takes to make it again",
                lines=4,
                max_lines=16,
                interactive=False,
                buttons=["copy"],
                elem_id="history-recipe",
            )
    return [detail, picture, both, again, download, star, compare, delete, about, recipe]


def _everything() -> list[Any]:
    """How much there is, all of it in one file, and how to be rid of it."""
    usage = gr.HTML("", padding=False, elem_id="history-usage", elem_classes="studio-details")
    with gr.Row(elem_classes="studio-buttons"):
        pack = gr.Button("Make a ZIP of these", size="sm", min_width=120, elem_id="history-zip")
        packed = gr.DownloadButton(
            "Download ZIP", size="sm", visible=False, min_width=120, elem_id="history-zipped"
        )
        everything = gr.Button(
            "Delete everything of mine", size="sm", min_width=200, elem_id="history-everything"
        )
    with gr.Column(visible=False, variant="panel", elem_id="history-asking") as asking:
        warning = gr.HTML("", padding=True, elem_id="history-warning")
        delete_files = gr.Checkbox(
            label="Delete the picture files, too",
            info="Those that were changed since stay where they are.",
            elem_id="history-files",
        )
        with gr.Row(elem_classes="studio-buttons"):
            sure = gr.Button(
                "Yes, delete everything", variant="stop", min_width=120, elem_id="history-sure"
            )
            keep = gr.Button("Keep everything", min_width=120, elem_id="history-keep")
    return [usage, pack, packed, everything, asking, warning, delete_files, sure, keep]
