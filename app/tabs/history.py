"""The History tab: all that somebody asked for, what is on its way, and how to come back to it."""

from __future__ import annotations

import asyncio
import base64
import html
import io
import json
import os
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio import utils
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from app import files
from app.errors import Failed, Refused
from app.tabs import Studio
from app.tabs.common import (
    GROWING,
    QUIET,
    Change,
    Parts,
    complaint,
    details_list,
    preview,
    progress,
    rows,
    say,
    sentence,
    short,
    shown_copy,
    shown_picture,
    soon,
    status_line,
)

if TYPE_CHECKING:
    from app.jobs import Artifact, Job, Usage
    from app.tabs.again import Again
    from app.worker import Run, Worker

PAGE = 24  # pictures at a time
MOST_ZIP = files.GIB  # bytes of pictures

_THUMB = 256  # pixels
_TICK, _IDLE_TICK = 1.5, 5.0  # seconds between two looks: at what is on its way, at nothing
_MOST_CAPTION = 60  # characters
_MOST = 500  # jobs that one ZIP looks at

# What people read for each kind and each state.
KINDS = {"picture": "Picture", "edit": "Edit"}
STATES = {"done": "Done", "failed": "Failed", "cancelled": "Stopped"}

_EMPTY = "Nothing yet: what you make in the other tabs will be found here."
_NO_MATCH = "Nothing here matches. Search for other words, or show more than favourites."
_NO_FILE = (
    "Its file is not where it was saved: it was moved or deleted. The prompt and all settings can "
    "be opened again."
)
_NOTHING_CHOSEN = "Choose a picture first."

_SHOWN = "underway watching which stop gallery newer older usage zip zipped".split()
_DETAIL = "detail picture about recipe download again favourite delete undo compare both".split()
_FIELDS = ["search", "favourites", "which", "view"]


@dataclass(frozen=True)
class View:
    """What one visitor looks at. Jobs by their ids, always asked for together with their owner."""

    shown: tuple[str, ...] = ()  # in the gallery
    starts: tuple[str, ...] = ()  # the last id of each page before this one
    chosen: str = ""
    held: str = ""  # to compare others with
    deleted: tuple[str, ...] = ()  # the last one can come back first
    underway: tuple[str, ...] = ()
    newest: str = ""  # of all that there is, whatever is searched for


def tab(demo: gr.Blocks, studio: Studio) -> Parts:
    """Lay the tab out; `connect` makes it work."""
    del demo, studio  # all that happens here has to do with other tabs, too
    named: Parts = {"view": gr.State(View()), "timer": gr.Timer(_TICK, active=False)}
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
            async for change in course(studio, partial(act, owner=owner), given):
                yield placed(change)

        return handle

    def on(event: Any, act: Callable[..., Change]) -> None:
        event(handler(act), None, changing, inputs_kwargs=fields, **QUIET)

    on(page.select, arrive)
    for part in ("search", "favourites"):
        on(parts[part].change, search)
    on(parts["timer"].tick, tick)
    on(parts["older"].click, older)
    on(parts["newer"].click, newer)
    on(parts["stop"].click, stop)
    on(parts["which"].input, tick)
    on(parts["favourite"].click, favourite)
    on(parts["delete"].click, delete)
    on(parts["undo"].click, undo)
    on(parts["compare"].click, compare)
    on(parts["zip"].click, pack)

    async def select(
        visitor: gr.Request, place: gr.SelectData, view: View
    ) -> AsyncIterator[dict[Any, Any]]:
        act = partial(choose, owner=studio.owner(visitor.session_hash), index=place.index)
        async for change in course(studio, act, {"view": view}):
            yield placed(change)

    parts["gallery"].select(select, parts["view"], changing, **QUIET)
    _connect_again(studio, tabs, all_parts)
    _connect_everything(studio, parts, changing, fields)


def _connect_again(studio: Studio, tabs: Any, all_parts: Parts) -> None:
    """Open a picture again in the tab where it came from, from the list or from a file."""
    parts = all_parts["History"]
    there = {all_parts[tab][name] for tab, names in AGAIN.items() for name in [*names, "status"]}

    async def handle(
        visitor: gr.Request, view: View, path: str | None, *, from_file: bool
    ) -> AsyncIterator[dict[Any, Any]]:
        owner = studio.owner(visitor.session_hash)
        try:
            worker = await soon(studio.worker())
            find = partial(_from_file, worker, owner, path) if from_file else None
            again = await asyncio.to_thread(find or partial(_again, worker, owner, view))
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

    async def from_list(visitor: gr.Request, view: View) -> AsyncIterator[dict[Any, Any]]:
        async for change in handle(visitor, view, None, from_file=False):
            yield change

    async def from_file(visitor: gr.Request, path: str | None) -> AsyncIterator[dict[Any, Any]]:
        async for change in handle(visitor, View(), path, from_file=True):
            yield change

    changing = [tabs, parts["status"], parts["file"], *there]
    parts["again"].click(from_list, parts["view"], changing, **QUIET)
    parts["file"].upload(from_file, parts["file"], changing, **QUIET)


# What `again.reopen` writes into each tab.
AGAIN = {
    "Generate": "prompt negative quality size seed start init init_noise image_prompt image_weight "
    "generator clip steps views".split(),
    "Edit": "picture original canvas easel painting undo instruction strength quality place "
    "everywhere mask invert grow seed".split(),
}


def _connect_everything(
    studio: Studio, parts: Parts, changing: list[Any], fields: Mapping[str, Any]
) -> None:
    """Delete everything of somebody's, once they have said so twice."""
    asking = [parts["asking"], parts["everything"], parts["warning"], parts["files"]]

    async def ask(visitor: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        owner = studio.owner(visitor.session_hash)
        async for change in course(studio, partial(warn, owner=owner), {}):
            yield _placed(parts, change)

    async def sure(visitor: gr.Request, **given: Any) -> AsyncIterator[dict[Any, Any]]:
        owner = studio.owner(visitor.session_hash)
        async for change in course(studio, partial(forget, owner=owner), given):
            yield _placed(parts, change)

    changing = [*changing, *asking]
    parts["everything"].click(ask, None, [*asking, parts["status"]], **QUIET)
    parts["keep"].click(lambda: _placed(parts, _NOT_ASKING), None, asking, queue=False, **QUIET)
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
                height=140,
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
    gallery = gr.Gallery(
        label="Pictures, newest first",
        show_label=False,
        columns=4,
        height="auto",
        object_fit="contain",
        allow_preview=False,
        interactive=False,
        buttons=[],
        elem_id="history-gallery",
    )
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


# --- what happens: each takes the worker and the fields, and returns what changes --------------


async def course(
    studio: Studio, act: Callable[..., Change], given: Mapping[str, Any]
) -> AsyncIterator[Change]:
    """What a visitor sees when `act` is done. Raises `gr.Error` in the end if there was one."""
    try:
        if not studio.worker().done():
            yield {"status": say("Looking; the first time takes a little longer ...")}
        worker = await soon(studio.worker())
        yield await asyncio.to_thread(act, worker, given)
    except Exception as error:
        problem = sentence(error)
        yield {"status": say(problem)}
        raise complaint(problem) from error


def arrive(worker: Worker, given: Mapping[str, Any], *, owner: str) -> Change:
    """Somebody opens the tab."""
    return _listed(worker, owner, given, replace(given["view"], starts=()))


def search(worker: Worker, given: Mapping[str, Any], *, owner: str) -> Change:
    """Other words, or favourites alone: from the newest on."""
    return arrive(worker, given, owner=owner)


def older(worker: Worker, given: Mapping[str, Any], *, owner: str) -> Change:
    """The next page."""
    view = given["view"]
    starts = (*view.starts, view.shown[-1]) if view.shown else view.starts
    return _listed(worker, owner, given, replace(view, starts=starts))


def newer(worker: Worker, given: Mapping[str, Any], *, owner: str) -> Change:
    """The page before."""
    view = given["view"]
    return _listed(worker, owner, given, replace(view, starts=view.starts[:-1]))


def tick(worker: Worker, given: Mapping[str, Any], *, owner: str) -> Change:
    """See how far everything is; when something is over, it is in the list."""
    view, runs = given["view"], worker.runs_of(owner)
    # what was quick may have begun and ended since we last looked
    changed = {run.job.id for run in runs} != set(view.underway)
    if changed or _newest(worker, owner) != view.newest:
        return _listed(worker, owner, given, view)
    return _going(worker, runs, given["which"] or "")


def stop(worker: Worker, given: Mapping[str, Any], *, owner: str) -> Change:
    """End what is on its way, and keep what there is of it."""
    runs, said = worker.runs_of(owner), "That one is over already."
    wanted = given["which"] or (runs[0].job.id if runs else "")
    for run in runs:
        if run.job.id == wanted:
            run.stop.set()
            said = "Stopping ..."
    return {**_going(worker, runs, wanted), "status": say(said)}


def choose(worker: Worker, given: Mapping[str, Any], *, owner: str, index: int) -> Change:
    """Show one of the list."""
    view = given["view"]
    if index >= len(view.shown):
        raise Refused("history.gone", "The list has changed. Open the History tab again.")
    return _detailed(worker.store.job(owner, view.shown[index]), view)


def favourite(worker: Worker, given: Mapping[str, Any], *, owner: str) -> Change:
    """Give a star, or take it away."""
    job = _chosen(worker, owner, given["view"])
    job = worker.store.favourite(owner, job.id, not job.favourite)
    said = "is a favourite now" if job.favourite else "is no favourite any more"
    change = _listed(worker, owner, given, given["view"])
    return {**change, **_detailed(job, change["view"]), "status": say(f"{_quoted(job)} {said}.")}


def delete(worker: Worker, given: Mapping[str, Any], *, owner: str) -> Change:
    """Take one out of the history; it can come back, and its file stays."""
    view = given["view"]
    job = worker.store.delete(owner, _chosen(worker, owner, view).id)
    held = "" if view.held == job.id else view.held
    view = replace(view, deleted=(*view.deleted, job.id), chosen="", held=held)
    change = _listed(worker, owner, given, view)
    said = f"{_quoted(job)} is out of the history; its file stays. Undo delete brings it back."
    return {**change, "detail": gr.update(visible=False), "status": say(said)}


def undo(worker: Worker, given: Mapping[str, Any], *, owner: str) -> Change:
    """Bring back what was deleted last."""
    view = given["view"]
    if not view.deleted:
        return {"undo": gr.update(interactive=False)}
    job = worker.store.restore(owner, view.deleted[-1])
    change = _listed(worker, owner, given, replace(view, deleted=view.deleted[:-1]))
    said = f"{_quoted(job)} is back."
    return {**change, **_detailed(job, change["view"]), "status": say(said)}


def compare(worker: Worker, given: Mapping[str, Any], *, owner: str) -> Change:
    """Keep one for comparing; with another chosen, show both."""
    view = given["view"]
    job = _chosen(worker, owner, view)
    after = _whole_picture(job)
    if view.held in ("", job.id):
        said = f"{_quoted(job)} is kept for comparing. Choose another, then press Compare again."
        return {"view": replace(view, held=job.id), "status": say(said)}
    other = worker.store.job(owner, view.held)
    pair = (shown_copy(_whole_picture(other)), shown_copy(after))
    return {
        "both": gr.update(value=pair, visible=True),
        "picture": gr.update(visible=False),
        "view": replace(view, held=""),
        "status": say(f"Left {_quoted(other)}, right {_quoted(job)}."),
    }


def pack(worker: Worker, given: Mapping[str, Any], *, owner: str) -> Change:
    """Put all that the search finds into one file. Raises `Refused` when there is nothing."""
    found = _history(worker, owner, given, limit=_MOST)
    pictures = [path for job in found if (path := _picture(job)) and path.exists()]
    size = sum(path.stat().st_size for path in pictures)
    if not pictures:
        raise Refused("history.empty", "There is no picture here to put into a ZIP.")
    if size > MOST_ZIP:
        raise Refused(
            "history.zip",
            f"These are {amount(size)}, and a ZIP holds at most {amount(MOST_ZIP)}. Search for "
            "fewer, or take them from the folder where they were saved.",
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / time.strftime("synesthete-%Y-%m-%d.zip")
        try:
            write_zip(path, pictures)
            copy = shown_copy(path)
        except OSError as error:
            raise Failed("disk.full", f"The ZIP cannot be written: {error.strerror}.") from error
    count = _count(len(pictures), "picture")
    return {
        "zipped": gr.update(value=copy, label=f"Download ZIP ({amount(size)})", visible=True),
        "status": say(f"The ZIP is ready: {count}, {amount(size)}."),
    }


def write_zip(path: Path, pictures: Iterable[Path]) -> None:
    """Write pictures as they are into one file; of two with one name, the second gets a number."""
    taken: set[str] = set()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:  # PNGs are packed already
        for picture in pictures:
            name, number = picture.name, 1
            while name in taken:
                number += 1
                name = f"{picture.stem}-{number}{picture.suffix}"
            taken.add(name)
            packed.write(picture, name)


_NOT_ASKING: Change = {
    "asking": gr.update(visible=False),
    "everything": gr.update(interactive=True),
    "files": False,
}


def warn(worker: Worker, given: Mapping[str, Any], *, owner: str) -> Change:
    """Ask once more, and say what would be gone."""
    used = worker.store.usage(owner)
    if not used.jobs:
        raise Refused("history.empty", "There is nothing of yours to delete.")
    words = (
        f"{_count(used.jobs, 'entry', 'entries')} of yours would be deleted, with what you gave "
        "for them, and what is on its way would end. This cannot be undone. The picture files stay "
        "where they were saved, unless you tick the box."
    )
    return {
        "asking": gr.update(visible=True),
        "everything": gr.update(interactive=False),
        "warning": f"<p>{html.escape(words)}</p>",
    }


def forget(worker: Worker, given: Mapping[str, Any], *, owner: str) -> Change:
    """Delete everything of somebody's; of their picture files only when they say so."""
    pictures = {file.path: file for job in worker.store.export(owner) for file in _pictures(job)}
    for run in worker.runs_of(owner):
        run.stop.set()
    paths = worker.store.forget(owner)
    worker.home.remove(paths)
    doomed = [pictures[path] for path in paths if path in pictures] if given["files"] else []
    gone = sum(map(_removed, doomed))
    said = f"Everything of yours is deleted, and {_count(gone, 'picture file')}."
    if not given["files"]:
        said = "Everything of yours is deleted; the picture files are where they were saved."
    change = _listed(worker, owner, given, View())
    return {**change, **_NOT_ASKING, "detail": gr.update(visible=False), "status": say(said)}


def _removed(file: Artifact) -> bool:
    """Delete a file if it still is what we wrote."""
    path = Path(file.path)
    try:
        if files.digest(path) != file.sha256:
            return False
        path.unlink()
    except OSError:  # it is gone already, or not ours to delete
        return False
    return True


# --- opening again ---------------------------------------------------------------------------


def _again(worker: Worker, owner: str, view: View) -> Again:
    return _reopened(worker, _chosen(worker, owner, view))


def _reopened(worker: Worker, job: Job) -> Again:
    from app import desk
    from app.tabs import again

    return again.reopen(desk.request_of(job.request), again.kept(job, worker.home))


def _from_file(worker: Worker, owner: str, path: str | None) -> Again:
    """The recipe in a file; if the picture is one of theirs, what was given for it is known."""
    from app import recipe
    from app.images import read_recipe
    from app.tabs import again

    if not path:
        raise Refused("history.file", "There is no picture yet. Drop a PNG that was made here.")
    request = recipe.read(read_recipe(path))
    digest = files.digest(Path(path))
    for job in worker.store.history(owner, limit=_MOST):
        if any(file.sha256 == digest for file in _pictures(job)):
            return _reopened(worker, job)
    return again.reopen(request)


# --- what is shown ---------------------------------------------------------------------------


def _history(
    worker: Worker, owner: str, given: Mapping[str, Any], *, before: str = "", limit: int
) -> list[Job]:
    return worker.store.history(
        owner,
        search=given["search"] or "",
        favourites=bool(given["favourites"]),
        before=before or None,
        limit=limit,
    )


def _newest(worker: Worker, owner: str) -> str:
    return next((job.id for job in worker.store.history(owner, limit=1)), "")


def _listed(worker: Worker, owner: str, given: Mapping[str, Any], view: View) -> Change:
    """What is on its way, and a page of what is over."""
    runs = worker.runs_of(owner)
    before = view.starts[-1] if view.starts else ""
    # what is on its way stands above, so the page has to be looked for behind it
    found = _history(worker, owner, given, before=before, limit=PAGE + 1 + len(runs))
    over = [job for job in found if job.is_over]
    page = over[:PAGE]
    ids = tuple(job.id for job in page)
    underway = tuple(run.job.id for run in runs)
    view = replace(view, shown=ids, underway=underway, newest=_newest(worker, owner))
    narrowed = given["search"] or given["favourites"]
    said = "" if page or runs else (_NO_MATCH if narrowed else _EMPTY)
    chosen = ids.index(view.chosen) if view.chosen in ids else None
    return {
        **_going(worker, runs, given["which"] or ""),
        "gallery": gr.update(value=[_item(job) for job in page], selected_index=chosen),
        "newer": gr.update(interactive=bool(view.starts)),
        "older": gr.update(interactive=len(over) > PAGE),
        "undo": gr.update(interactive=bool(view.deleted)),
        "usage": _told(worker.store.usage(owner)),
        "zip": gr.update(interactive=bool(page)),
        "zipped": gr.update(visible=False),
        "status": say(said),
        "view": view,
    }


def _going(worker: Worker, runs: list[Run], wanted: str) -> Change:
    """What is on its way, and how far the one is that is watched."""
    ids = [run.job.id for run in runs]
    if not runs:
        rest = gr.update(value=_IDLE_TICK, active=True)  # another tab may just be asking for one
        return {"underway": gr.update(visible=False), "timer": rest}
    run = runs[ids.index(wanted)] if wanted in ids else runs[0]
    before = worker.wait(run)
    picture = _inline(preview(run.look.pixels, _THUMB)) if run.look else ""
    choices = [(_caption(one.job), one.job.id) for one in runs]
    return {
        "underway": gr.update(visible=True),
        "which": gr.update(choices=choices, value=run.job.id),
        "watching": progress(run, before.jobs, before.seconds) + picture,
        "timer": gr.update(value=_TICK, active=True),
    }


def _inline(picture: Picture.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    code = base64.b64encode(file.getvalue()).decode()
    return f'<img src="data:image/jpeg;base64,{code}" alt="{GROWING}">'


def _detailed(job: Job, view: View) -> Change:
    """One of the list, large."""
    path = _picture(job)
    there = path is not None and path.exists()
    copy = shown_copy(path) if path and there else None
    return {
        "detail": gr.update(visible=True),
        "picture": gr.update(value=copy, visible=there),
        "both": gr.update(value=None, visible=False),
        "about": rows(_about(job, path)),
        "recipe": _recipe(job, path if there else None),
        "download": gr.update(value=copy, visible=there),
        "again": gr.update(interactive=True),
        "favourite": gr.update(value="Unfavourite" if job.favourite else "Favourite"),
        "compare": gr.update(visible=there),
        "view": replace(view, chosen=job.id),
    }


def _about(job: Job, path: Path | None) -> dict[str, str]:
    gone = path is not None and not path.exists()
    return {
        "Title": job.title,
        "Kind": f"{KINDS.get(job.kind, job.kind)}{', a favourite' if job.favourite else ''}",
        "When": _when(job.created),
        "State": f"{STATES.get(job.state, job.state)}. {job.error_text}".strip(),
        "Saved as": short(path) if path else "",
        "Note": _NO_FILE if gone else "",
    }


def _recipe(job: Job, path: Path | None) -> str:
    """What is in the picture, or else what was asked for, as text."""
    from app.images import read_recipe

    try:
        told = read_recipe(path) if path else {"request": json.loads(job.request)["request"]}
    except Refused:
        told = {"request": json.loads(job.request)["request"]}
    return json.dumps(told, indent=1, ensure_ascii=False)


def _item(job: Job) -> tuple[str, str]:
    """A thumbnail and its caption."""
    state = "" if job.state == "done" else f" ({STATES.get(job.state, job.state).lower()})"
    star = "★ " if job.favourite else ""
    return thumbnail(job), f"{star}{_caption(job)}{state}"


def thumbnail(job: Job) -> str:
    """A small copy of a job's picture, made once; or a plain one that says there is none."""
    path = _picture(job)
    digest = next((file.sha256 for file in reversed(_pictures(job))), "")
    name = digest if path and path.exists() else f"none-{job.state}-{'gone' if path else ''}"
    small = Path(utils.get_upload_folder()) / "thumbnails" / f"{name}.jpg"
    try:
        os.utime(small)  # files are cleared away in time, but not while they are in use
    except OSError:
        small.parent.mkdir(parents=True, exist_ok=True)
        aside = small.with_name(f"{small.name}.{os.getpid()}-{time.monotonic_ns()}.part")
        _small(path, job).save(aside, "JPEG", quality=85)
        os.replace(aside, small)
    return str(small)


def _small(path: Path | None, job: Job) -> Picture.Image:
    if path and path.exists():
        try:
            with Picture.open(path, formats=["PNG"]) as picture:
                small = picture.convert("RGB")
                small.thumbnail((_THUMB, _THUMB))
                return small
        except (OSError, ValueError, SyntaxError):  # changed by somebody: it says so in its place
            pass
    words = "file is gone" if path else STATES.get(job.state, job.state).lower()
    blank = Picture.new("RGB", (_THUMB, _THUMB), (120, 118, 114))
    font = ImageFont.load_default(size=28)
    middle = (_THUMB / 2, _THUMB / 2)
    ImageDraw.Draw(blank).text(middle, words, (255, 255, 255), font, anchor="mm")
    return blank


def _pictures(job: Job) -> list[Artifact]:
    return [file for file in job.artifacts if file.kind == "picture"]


def _picture(job: Job) -> Path | None:
    """Where the picture of a job was saved, if there was one."""
    pictures = _pictures(job)
    return Path(pictures[-1].path) if pictures else None


def _whole_picture(job: Job) -> Path:
    path = _picture(job)
    if path is None or not path.exists():
        raise Refused("history.picture", f"{_quoted(job)} has no picture. Choose another.")
    return path


def _chosen(worker: Worker, owner: str, view: View) -> Job:
    if not view.chosen:
        raise Refused("history.chosen", _NOTHING_CHOSEN)
    return worker.store.job(owner, view.chosen)


def _caption(job: Job) -> str:
    title = " ".join(job.title.split())
    return title if len(title) <= _MOST_CAPTION else f"{title[:_MOST_CAPTION]} ..."


def _quoted(job: Job) -> str:
    return f"“{_caption(job)}”"


def _when(seconds: float) -> str:
    return time.strftime("%d %b %Y, %H:%M", time.localtime(seconds))


def _told(used: Usage) -> str:
    if not used.jobs:
        return ""
    entries = _count(used.jobs, "entry", "entries")
    words = f"Yours on this disk: {entries}, {amount(used.bytes)} of pictures and what they needed."
    return f"<p>{html.escape(words)}</p>"


def amount(size: int) -> str:
    """`340 kB`, `12.5 MB`."""
    if size < 1_000_000:
        return f"{max(1, round(size / 1000)) if size else 0} kB"
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or f'{one}s'}"
