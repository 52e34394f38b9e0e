"""The Models tab: what is here, what can be had, and how it comes here and goes again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.context import Context

from app.catalog import TABLES, Entry, Kind, find
from app.errors import Refused
from app.tabs import Studio, is_shared, model_list
from app.tabs.common import QUIET, Change, Parts, complaint, say, sentence, soon, status_line
from app.tabs.model_list import KINDS, SHARED_NOTE, View, asks, key
from app.terminal import amount

if TYPE_CHECKING:
    from app.inventory import Downloads

_TICK, _IDLE_TICK = 1.0, 5.0  # seconds between two looks: at what is on its way, at nothing


class Shelf:
    """The downloads of this process, made when somebody first looks."""

    def __init__(self, make: Callable[[], Downloads] | None = None) -> None:
        """Tests bring downloads with little patience."""
        self._make, self._lock = make or _make_downloads, threading.Lock()
        self._downloads: Downloads | None = None

    @property
    def is_made(self) -> bool:
        """Whether somebody has looked."""
        return self._downloads is not None

    def downloads(self) -> Downloads:
        """The same for all. The first time imports torch: call it in a thread."""
        with self._lock:
            self._downloads = self._downloads or self._make()
        return self._downloads


def _make_downloads() -> Downloads:
    # Not at the top of the file: torch takes seconds to import, and the page is there first.
    from app.inventory import Downloads

    return Downloads()


def tab(demo: gr.Blocks, studio: Studio) -> Parts:
    """Lay the tab out and connect it."""
    del demo, studio  # models belong to the machine, not to a visitor or to a job
    named: Parts = {"view": gr.State(View()), "timer": gr.Timer(_TICK, active=False)}
    parts = named | {part.elem_id.removeprefix("models-"): part for part in _layout()}
    shelf = Shelf()
    fields = {name: parts[name] for name in ("kind", "view")}
    changing = [parts[name] for name in ("status", "list", "disk", "view", "timer")]

    def handler(act: Callable[..., Change]) -> Callable[..., Any]:
        async def handle(**given: Any) -> AsyncIterator[dict[Any, Any]]:
            async for change in course(shelf, act, given):
                yield {parts[name]: value for name, value in change.items()}

        return handle

    async def press(event: gr.EventData, **given: Any) -> AsyncIterator[dict[Any, Any]]:
        async for change in course(shelf, do, {**given, "pressed": event._data}):
            yield {parts[name]: value for name, value in change.items()}

    def on(event: Any, handle: Callable[..., Any]) -> None:
        event(handle, None, changing, inputs_kwargs=fields, **QUIET)

    on(Context.block.select, handler(arrive))  # the tab that we are laid out in
    on(parts["kind"].input, handler(arrive))
    on(parts["timer"].tick, handler(tick))
    on(parts["list"].click, press)
    return parts


def _layout() -> list[Any]:
    status = status_line("models-status")
    kind = gr.Radio(
        [(title, kind) for kind, (title, _) in KINDS.items()],
        value="generator",
        label="Kind",
        info="What ships with the program is always here; the rest is fetched only if you say so.",
        elem_id="models-kind",
    )
    rows = gr.HTML(
        "",
        css_template=model_list.CSS,
        js_on_load=model_list.JS,
        apply_default_css=False,
        padding=False,
        elem_id="models-list",
    )
    disk = gr.HTML("", padding=False, elem_id="models-disk", elem_classes="studio-details")
    return [kind, status, rows, disk]


# --- menus of other tabs ---------------------------------------------------------------------


def choices(kind: Kind) -> list[tuple[str, str]]:
    """What a menu offers of a kind: all that is here now, as (what people read, name).

    The first time imports torch: call it in a thread.
    """
    from app import stock

    here = stock.installed()
    rows = [entry for entry in TABLES[kind].values() if entry in here]
    return [(f"{row.name}: {row.note}" if row.note else row.name, row.name) for row in rows]


def connect_menus(studio: Studio, demo: gr.Blocks, page: Any, menus: Mapping[Kind, Any]) -> None:
    """Let menus of another tab offer what is here: from the start, and whenever it is opened.

    `page` is that tab, `menus` its menus by the kinds of model that they offer.
    """

    async def refresh(**chosen: Any) -> dict[Any, Any]:
        await soon(studio.worker())  # whatever it has to load comes first
        offered = await asyncio.to_thread(lambda: {kind: choices(kind) for kind in menus})
        return {menus[kind]: offer(offered[kind], chosen[kind]) for kind in menus}

    for event in (demo.load, page.select):
        event(refresh, None, list(menus.values()), inputs_kwargs=dict(menus), **QUIET)


def offer(offered: list[tuple[str, str]], chosen: str) -> Any:
    """New choices for a menu; what was chosen stays as long as it is one of them."""
    names = [name for _, name in offered]
    if chosen in names:
        return gr.update(choices=offered)
    return gr.update(choices=offered, value=names[0])


# --- what happens: each takes the downloads and the fields, and returns what changes -----------


async def course(
    shelf: Shelf, act: Callable[..., Change], given: Mapping[str, Any]
) -> AsyncIterator[Change]:
    """What a visitor sees when `act` is done. Raises `gr.Error` in the end if there was one."""
    try:
        if not shelf.is_made:
            yield {"status": say("Looking; the first time takes a little longer ...")}
        downloads = await asyncio.to_thread(shelf.downloads)
        yield await asyncio.to_thread(act, downloads, given)
    except Exception as error:
        problem = sentence(error)
        yield {"status": say(problem)}
        raise complaint(problem) from error


def arrive(downloads: Downloads, given: Mapping[str, Any]) -> Change:
    """Somebody opens the tab, or asks for another kind: whatever was asked is forgotten."""
    from app import inventory

    rows = inventory.rows(_kind(given))
    here = sum(row.here for row in rows)
    told = f"{KINDS[_kind(given)][0]}: {here} here, {len(rows) - here} to be had."
    change = _listed(downloads, given, replace(_view(given), asking=""))
    return {"status": say(told), **change}


def tick(downloads: Downloads, given: Mapping[str, Any]) -> Change:
    """See how far everything is; what has ended is told."""
    view = _view(given)
    change = _listed(downloads, given, view)
    return {"view": view} if change["view"] == view else change


def do(downloads: Downloads, given: Mapping[str, Any]) -> Change:
    """A button of the list was pressed. What comes from the page may be anything."""
    pressed = given["pressed"] if isinstance(given["pressed"], dict) else {}
    act, model = str(pressed.get("act")), str(pressed.get("model"))
    if act not in ACTS or model.partition("/")[0] not in TABLES:
        raise Refused("models.act", "That button is not known. Load the page anew.")
    refuse_shared()
    said, asking = ACTS[act](downloads, _entry(model), pressed.get("trust") is True)
    view = replace(_view(given), asking=asking)
    change = _listed(downloads, given, view)
    return {**change, "status": say(said)} if said else change


def refuse_shared() -> None:
    """Raise `Refused` where the page is not for its owner alone."""
    if is_shared():
        raise Refused("models.shared", SHARED_NOTE)


Told = tuple[str, str]  # what is said, and what is asked


def _download(downloads: Downloads, entry: Entry, trust: bool) -> Told:
    trust = trust or downloads.trusts(entry)
    if not trust:
        said = f"{entry.name} was never fetched by us. Read what that means first."
        return said, asks("trust", entry)
    downloads.start(entry, trust=trust)
    return f"{entry.name} is on its way.", ""


def _trust(downloads: Downloads, entry: Entry, trust: bool) -> Told:
    if not trust:
        raise Refused("models.trust", f"Tick the box if you trust the source of {entry.name}.")
    return _download(downloads, entry, trust)


def _stop(downloads: Downloads, entry: Entry, trust: bool) -> Told:
    if downloads.stop(entry):
        return _stopped(entry), ""
    return f"{entry.name} is not on its way any more.", ""


def _stopped(entry: Entry) -> str:
    return f"Stopped. What has arrived of {entry.name} is kept: Go on takes it up."


def _delete(downloads: Downloads, entry: Entry, trust: bool) -> Told:
    return "", asks("delete", entry)


def _remove(downloads: Downloads, entry: Entry, trust: bool) -> Told:
    return f"{entry.name} is deleted: {amount(downloads.remove(entry))} are free again.", ""


def _keep(downloads: Downloads, entry: Entry, trust: bool) -> Told:
    return "", ""


ACTS: dict[str, Callable[[Downloads, Entry, bool], Told]] = {
    "download": _download,
    "trust": _trust,
    "stop": _stop,
    "delete": _delete,
    "remove": _remove,
    "keep": _keep,
}


def _kind(given: Mapping[str, Any]) -> Kind:
    return given["kind"] if given["kind"] in KINDS else "generator"


def _view(given: Mapping[str, Any]) -> View:
    view = given["view"]
    return view if isinstance(view, View) else View()


def _entry(name: str) -> Entry:
    """The row of "clip/pocket". Raises `ModelError` listing what there is."""
    kind, _, own = name.partition("/")
    return find(kind, own)  # type: ignore[arg-type]  # a kind of the tables


def _listed(downloads: Downloads, given: Mapping[str, Any], view: View) -> Change:
    """The models of a kind, what is on its way, and what has ended since the last look."""
    from app import inventory

    kind, going = _kind(given), downloads.underway()
    now = {key(one.entry) for one in going}
    ended = [one for one in view.underway if one not in now]
    page = model_list.page(kind, inventory.rows(kind), downloads, view)
    change: Change = {
        "list": page,
        "disk": model_list.disk(),
        "view": replace(view, underway=tuple(sorted(now)), shown=hash(page)),
        "timer": gr.update(value=_TICK if going else _IDLE_TICK, active=True),
    }
    told = " ".join(_ending(downloads, one) for one in ended)
    return {**change, "status": say(told)} if told else change


def _ending(downloads: Downloads, model: str) -> str:
    """How a download ended."""
    entry = _entry(model)
    last = downloads.last(entry)
    if last is None:
        return f"{entry.name} was deleted."
    if last.error:
        return last.error
    return _stopped(entry) if last.stop.is_set() else f"{entry.name} is here and can be used."
