"""What happens in the History tab: what was made is listed, compared, deleted and opened again."""

from __future__ import annotations

import asyncio
import html
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from app import files
from app.errors import Failed, Refused
from app.tabs import Studio, entry
from app.tabs.common import (
    GROWING,
    Change,
    complaint,
    preview,
    progress,
    rows,
    say,
    sentence,
    shown_copy,
    soon,
)
from app.terminal import amount

if TYPE_CHECKING:
    from app.images import Pixels
    from app.jobs import Artifact, Job, Usage
    from app.tabs.again import Again
    from app.worker import Run, Worker

PAGE = 24  # pictures at a time
MOST_ZIP = files.GIB  # bytes of pictures

TICK, IDLETICK = 1.5, 5.0  # seconds between two looks: at what is on its way, at nothing
_MOST = 500  # jobs that one ZIP looks at

_EMPTY = "Nothing yet: what you make in the other tabs will be found here."
_NO_MATCH = "Nothing here matches. Search for other words"
_NO_STAR = ", or show more than favourites"
_NOTHING_CHOSEN = "Choose a picture first."


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
        # When this ends, Gradio sends again what came last: not this, over what came since.
        yield {"status": gr.skip()}
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
    return {
        **change,
        **_detailed(job, change["view"]),
        "status": say(f"{entry.quoted(job)} {said}."),
    }


def delete(worker: Worker, given: Mapping[str, Any], *, owner: str) -> Change:
    """Take one out of the history; it can come back, and its file stays."""
    view = given["view"]
    job = worker.store.delete(owner, _chosen(worker, owner, view).id)
    held = "" if view.held == job.id else view.held
    view = replace(view, deleted=(*view.deleted, job.id), held=held)
    change = _listed(worker, owner, given, view)
    said = f"{entry.quoted(job)} is out of the history; its file stays. Undo delete brings it back."
    return {**change, "status": say(said)}


def undo(worker: Worker, given: Mapping[str, Any], *, owner: str) -> Change:
    """Bring back what was deleted last."""
    view = given["view"]
    if not view.deleted:
        return {"undo": gr.update(interactive=False)}
    job = worker.store.restore(owner, view.deleted[-1])
    view = replace(view, deleted=view.deleted[:-1], chosen=job.id)
    change = _listed(worker, owner, given, view)
    said = f"{entry.quoted(job)} is back."
    return {**change, **_detailed(job, change["view"]), "status": say(said)}


def compare(worker: Worker, given: Mapping[str, Any], *, owner: str) -> Change:
    """Keep one for comparing; with another chosen, show both."""
    view = given["view"]
    job = _chosen(worker, owner, view)
    after = _whole_picture(job)
    if view.held in ("", job.id):
        said = (
            f"{entry.quoted(job)} is kept for comparing. Choose another, then press Compare again."
        )
        return {"view": replace(view, held=job.id), "status": say(said)}
    other = worker.store.job(owner, view.held)
    pair = (shown_copy(_whole_picture(other)), shown_copy(after))
    return {
        "both": gr.update(value=pair, visible=True),
        "picture": gr.update(visible=False),
        "view": replace(view, held=""),
        "status": say(f"Left {entry.quoted(other)}, right {entry.quoted(job)}."),
    }


def pack(worker: Worker, given: Mapping[str, Any], *, owner: str) -> Change:
    """Put all that the search finds into one file. Raises `Refused` when there is nothing."""
    found = _history(worker, owner, given, limit=_MOST)
    pictures = [path for job in found if (path := entry.picture(job)) and path.exists()]
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


NOT_ASKING: Change = {
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
    pictures = {
        file.path: file for job in worker.store.export(owner) for file in entry.pictures(job)
    }
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
    return {**change, **NOT_ASKING, "detail": gr.update(visible=False), "status": say(said)}


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


def from_list(worker: Worker, owner: str, view: View) -> Again:
    return _reopened(worker, _chosen(worker, owner, view))


def _reopened(worker: Worker, job: Job) -> Again:
    from app import desk
    from app.tabs import again, making

    found = again.reopen(desk.request_of(job.request), again.kept(job, worker.home))
    if found.tab == "Generate":
        return found._replace(fields={**found.fields, **making.once_more(worker, worker.past(job))})
    return found


def from_file(worker: Worker, owner: str, path: str | None) -> Again:
    """The recipe in a file; if the picture is one of theirs, what was given for it is known."""
    from app import recipe
    from app.images import read_recipe
    from app.tabs import again

    if not path:
        raise Refused("history.file", "There is no picture yet. Drop a PNG that was made here.")
    request = recipe.read(read_recipe(path))
    digest = files.digest(Path(path))
    for job in worker.store.history(owner, limit=_MOST):
        if any(file.sha256 == digest for file in entry.pictures(job)):
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


def _nothing(given: Mapping[str, Any]) -> str:
    """Why the list is empty."""
    if not (given["search"] or given["favourites"]):
        return _EMPTY
    return f"{_NO_MATCH}{_NO_STAR if given['favourites'] else ''}."


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
    chosen, detail = _still_chosen(page, view)
    newest = _newest(worker, owner)
    view = replace(view, shown=ids, chosen=chosen, underway=underway, newest=newest)
    said = "" if page or runs else _nothing(given)
    called = Counter(job.title for job in page)
    items = [entry.item(job, twin=called[job.title] > 1) for job in page]
    place = ids.index(chosen) if chosen else None
    return {
        **_going(worker, runs, given["which"] or ""),
        **detail,
        "gallery": gr.update(value=items, selected_index=place),
        "newer": gr.update(interactive=bool(view.starts)),
        "older": gr.update(interactive=len(over) > PAGE),
        "undo": gr.update(interactive=bool(view.deleted)),
        "usage": _told(worker.store.usage(owner)),
        "zip": gr.update(interactive=bool(page)),
        "zipped": gr.update(visible=False),
        "status": say(said),
        "view": view,
    }


def _still_chosen(page: list[Job], view: View) -> tuple[str, Change]:
    """Which is looked at, and its details if that is another one now.

    Gradio highlights the same place when the list changes: what stands there is what is shown.
    """
    if not view.chosen or view.chosen in (job.id for job in page):
        return view.chosen, {}
    if not page:
        return "", {"detail": gr.update(visible=False)}
    place = view.shown.index(view.chosen) if view.chosen in view.shown else 0
    job = page[min(place, len(page) - 1)]
    return job.id, _detailed(job, view)


def _going(worker: Worker, runs: list[Run], wanted: str) -> Change:
    """What is on its way, and how far the one is that is watched."""
    ids = [run.job.id for run in runs]
    if not runs:
        rest = gr.update(value=IDLETICK, active=True)  # another tab may just be asking for one
        return {"underway": gr.update(visible=False), "timer": rest}
    run = runs[ids.index(wanted)] if wanted in ids else runs[0]
    before = worker.wait(run)
    picture = _inline(run.look.pixels) if run.look else ""
    choices = [(entry.caption(one.job), one.job.id) for one in runs]
    return {
        "underway": gr.update(visible=True),
        "which": gr.update(choices=choices, value=run.job.id),
        "watching": progress(run, before.jobs, before.seconds) + picture,
        "timer": gr.update(value=TICK, active=True),
    }


def _inline(pixels: Pixels) -> str:
    return f'<img src="{preview(pixels, entry.THUMB).url}" alt="{GROWING}">'


def _detailed(job: Job, view: View) -> Change:
    """One of the list, large."""
    path = entry.picture(job)
    there = path is not None and path.exists()
    copy = shown_copy(path) if path and there else None
    return {
        "detail": gr.update(visible=True),
        "picture": gr.update(value=copy, visible=there),
        "both": gr.update(value=None, visible=False),
        "about": rows(entry.about(job, path)),
        "recipe": entry.recipe(job, path if there else None),
        "download": gr.update(value=copy, visible=there),
        "again": gr.update(interactive=True),
        "favourite": gr.update(value="Unfavourite" if job.favourite else "Favourite"),
        "compare": gr.update(visible=there),
        "view": replace(view, chosen=job.id),
    }


def _whole_picture(job: Job) -> Path:
    path = entry.picture(job)
    if path is None or not path.exists():
        raise Refused("history.picture", f"{entry.quoted(job)} has no picture. Choose another.")
    return path


def _chosen(worker: Worker, owner: str, view: View) -> Job:
    if not view.chosen:
        raise Refused("history.chosen", _NOTHING_CHOSEN)
    return worker.store.job(owner, view.chosen)


def _told(used: Usage) -> str:
    if not used.jobs:
        return ""
    entries = _count(used.jobs, "entry", "entries")
    words = f"Yours on this disk: {entries}, {amount(used.bytes)} of pictures and what they needed."
    return f"<p>{html.escape(words)}</p>"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or f'{one}s'}"
