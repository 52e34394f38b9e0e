"""The Models tab: what is here, what can be had, and how it comes here and goes again."""

from __future__ import annotations

import asyncio
import html
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import gradio as gr
from gradio.context import Context

from app.catalog import TABLES, Entry, Kind, find
from app.errors import Refused
from app.tabs import Studio, is_shared
from app.tabs.common import QUIET, Change, Parts, complaint, say, sentence, short, soon, status_line
from app.terminal import amount, duration

if TYPE_CHECKING:
    from app.inventory import Download, Downloads, Row

_TICK, _IDLE_TICK = 1.0, 5.0  # seconds between two looks: at what is on its way, at nothing

# What people read for each kind, and what its models do.
KINDS: dict[Kind, tuple[str, str]] = {
    "generator": ("Generators", "What draws the picture."),
    "clip": ("CLIPs", "What compares the picture with words and pictures."),
    "draft": ("Drafts", "What turns words into a first picture."),
    "speech": ("Speech", "What writes down the words in a sound."),
    "sound": ("Sounds", "What hears all else in a sound."),
}

_SHARED_NOTE = (
    "This studio is shared, so visitors cannot download or delete models here. On a machine of "
    "your own, each of them is one press away."
)
_FORMER = (
    "The file is a pickle, an old kind that can hold programs: it is read by a converter in a "
    "process under limits, nothing in it runs, and only its numbers are kept."
)

# Everything is one part of the page, so that each model has its buttons beside it. What changes is
# changed in place: the button that has the keyboard keeps it.
_CSS = """
ul { list-style: none; margin: 0; padding: 0; }
li { display: flex; gap: .5rem 1rem; justify-content: space-between; align-items: flex-start;
  padding: .7rem 0; border-top: 1px solid var(--border-color-primary); }
li > div:first-child { flex: 1; min-width: 0; }
p { margin: .15rem 0 0; overflow-wrap: anywhere; }
.name { font-weight: 600; overflow-wrap: anywhere; }
.state { display: inline-block; margin-left: .4rem; padding: 0 .45rem; border-radius: 1rem;
  border: 1px solid var(--border-color-primary); font-size: .8rem; line-height: 1.4rem; }
.state.here { background: var(--primary-700); border-color: var(--primary-700); color: white; }
.kind { margin: 0 0 .5rem; color: var(--block-info-text-color); }
ul:not(:empty) + .kind { margin-top: 1.5rem; }
.facts { color: var(--block-info-text-color); font-size: .85rem; }
.ask, .notice, .wrong { margin-top: .5rem; padding: .6rem .8rem; border-radius: 6px;
  border: 1px solid var(--border-color-primary); border-left: 4px solid var(--primary-600);
  background: var(--background-fill-secondary); }
.notice { margin: 0 0 .7rem; }
.wrong { border-left-color: var(--error-border-color, #b91c1c); }
label { display: flex; gap: .5rem; align-items: flex-start; margin: .5rem 0; cursor: pointer; }
label input { margin-top: .2rem; width: 1.1rem; height: 1.1rem; flex: none; appearance: auto;
  accent-color: var(--primary-600); }
progress { display: block; width: 100%; height: 6px; margin-top: .4rem; border: 0;
  border-radius: 3px; appearance: none; background: var(--border-color-primary);
  overflow: hidden; }
progress::-webkit-progress-bar { background: var(--border-color-primary); }
progress::-webkit-progress-value { background: var(--primary-600); }
progress::-moz-progress-bar { background: var(--primary-600); }
.moving { font-variant-numeric: tabular-nums; }
.do { display: flex; gap: .5rem; flex-wrap: wrap; justify-content: flex-end; }
button { min-height: 2.2rem; padding: .2rem .8rem; border-radius: 6px; cursor: pointer;
  border: 1px solid var(--border-color-primary); color: var(--button-secondary-text-color);
  background: var(--button-secondary-background-fill); font-size: .9rem; }
button:hover { background: var(--button-secondary-background-fill-hover); }
button.main { border-color: var(--primary-700); background: var(--primary-700); color: white; }
button.main:hover { background: var(--primary-800); }
button:focus-visible, input:focus-visible { outline: 2px solid var(--primary-600);
  outline-offset: 2px; }
@media (max-width: 640px) { li { flex-direction: column; } }
"""
_JS = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-act]");
  if (!button) return;
  const tick = button.closest("li").querySelector("input[type=checkbox]");
  trigger("click", { ...button.dataset, trust: Boolean(tick && tick.checked) });
});
"""


@dataclass(frozen=True)
class View:
    """What one visitor looks at. Models by their keys, like "clip/pocket"."""

    asking: str = ""  # the act they are asked about, and its model: "delete clip/ViT-B-32-openai"
    underway: tuple[str, ...] = ()  # when we last looked: what is missing now has ended
    shown: int = 0  # a hash of the list


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
        css_template=_CSS,
        js_on_load=_JS,
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
    from app import models

    here = models.installed()
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
        raise Refused("models.shared", _SHARED_NOTE)


Told = tuple[str, str]  # what is said, and what is asked


def _download(downloads: Downloads, entry: Entry, trust: bool) -> Told:
    trust = trust or downloads.trusts(entry)
    if not trust:
        said = f"{entry.name} was never fetched by us. Read what that means first."
        return said, _asks("trust", entry)
    downloads.start(entry, trust=trust)
    return f"{entry.name} is on its way.", ""


def _trust(downloads: Downloads, entry: Entry, trust: bool) -> Told:
    if not trust:
        raise Refused("models.trust", f"Tick the box if you trust the source of {entry.name}.")
    return _download(downloads, entry, trust)


def _stop(downloads: Downloads, entry: Entry, trust: bool) -> Told:
    if downloads.stop(entry):
        return f"Stopped. What has arrived of {entry.name} is kept: Go on takes it up.", ""
    return f"{entry.name} is not on its way any more.", ""


def _delete(downloads: Downloads, entry: Entry, trust: bool) -> Told:
    return "", _asks("delete", entry)


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


# --- what is shown ---------------------------------------------------------------------------


def _kind(given: Mapping[str, Any]) -> Kind:
    return given["kind"] if given["kind"] in KINDS else "generator"


def _view(given: Mapping[str, Any]) -> View:
    view = given["view"]
    return view if isinstance(view, View) else View()


def _key(entry: Entry) -> str:
    return f"{entry.kind}/{entry.name}"


def _entry(key: str) -> Entry:
    """The row of a key. Raises `ModelError` listing what there is."""
    kind, _, name = key.partition("/")
    return find(kind, name)  # type: ignore[arg-type]  # a kind of the tables


def _asks(act: str, entry: Entry) -> str:
    return f"{act} {_key(entry)}"


def _listed(downloads: Downloads, given: Mapping[str, Any], view: View) -> Change:
    """The models of a kind, what is on its way, and what has ended since the last look."""
    from app import inventory

    kind, going = _kind(given), downloads.underway()
    now = {_key(one.entry): one for one in going}
    ended = [key for key in view.underway if key not in now]
    rows = [_item(row, downloads, view) for row in inventory.rows(kind)]
    elsewhere = [_going(one) for one in going if one.entry.kind != kind]
    page, disk = _page(kind, elsewhere, rows), _disk()
    change: Change = {
        "list": page,
        "disk": disk,
        "view": replace(view, underway=tuple(now), shown=hash(page)),
        "timer": gr.update(value=_TICK if going else _IDLE_TICK, active=True),
    }
    told = " ".join(_ending(downloads, key) for key in ended)
    return {**change, "status": say(told)} if told else change


def _ending(downloads: Downloads, key: str) -> str:
    """How a download ended."""
    entry = _entry(key)
    name, last = entry.name, downloads.last(entry)
    if last is None:
        return f"{name} was deleted."
    if last.error:
        return last.error
    return f"{name} was stopped." if last.stop.is_set() else f"{name} is here and can be used."


def _page(kind: Kind, elsewhere: list[str], rows: list[str]) -> str:
    """All of the list. Its order is always the same: parts of it are changed in place."""
    _, what = KINDS[kind]
    notices = "".join(f'<p class="notice">{html.escape(said)}</p>' for said in _notices())
    return (
        f"<div>{notices}</div><ul>{''.join(elsewhere)}</ul>"
        f'<p class="kind">{what}</p><ul aria-label="{KINDS[kind][0]}">{"".join(rows)}</ul>'
    )


def _notices() -> list[str]:
    """Why something cannot be done here, and what to do about it."""
    from app import fetching, models

    said = []
    if is_shared():
        said.append(_SHARED_NOTE)
    elif name := fetching.offline():
        said.append(
            f"{name} switches the network off, so nothing can be downloaded now. To change that, "
            "start the studio without it. Or copy the folder of models from a machine that has "
            f"them to {short(models.folder())}."
        )
    return said


def _item(row: Row, downloads: Downloads, view: View) -> str:
    """A model: what it is, what there is of it, and what can be done."""
    last = downloads.last(row.entry)
    going = last if last and last.is_underway else None
    told = _moving(going) if going else _question(row, view) or _left(row, last)
    buttons = "" if is_shared() else _buttons(row, going, view)
    return _list_item(row.entry, _state(row, going), _facts(row), told, buttons)


def _going(download: Download) -> str:
    """What is on its way of another kind."""
    buttons = "" if is_shared() or download.is_whole else _button("stop", "Stop", download.entry)
    kind, _ = KINDS[download.entry.kind]
    return _list_item(download.entry, _ON_ITS_WAY, kind, _moving(download), buttons)


def _list_item(entry: Entry, state: tuple[str, str], facts: str, told: str, buttons: str) -> str:
    word, looks = state
    return (
        f'<li data-key="{html.escape(_key(entry))}"><div>'
        f'<span class="name">{html.escape(entry.name)}</span>'
        f'<span class="state {looks}">{word}</span>'
        f"<p>{html.escape(entry.note)}</p>"
        f'<p class="facts">{html.escape(facts)}</p>'
        f"<div>{told}</div></div>"
        f'<div class="do">{buttons}</div></li>'
    )


_ON_ITS_WAY = ("on its way", "")


def _state(row: Row, going: Download | None) -> tuple[str, str]:
    """In a word or two, and how that looks."""
    if going:
        return _ON_ITS_WAY
    if row.here:
        return "here", "here"
    if not row.entry.files:
        return "missing", ""  # it comes with the program, and somebody took it away
    return ("partly here", "") if row.arrived else ("can be had", "")


def _facts(row: Row) -> str:
    """Size, licence, whether we ever looked at it, and where it comes from."""
    return " · ".join(filter(None, (_size(row), row.entry.licence, _checked(row), _origin(row))))


def _size(row: Row) -> str:
    if row.entry.package:
        return amount(sum(file.bytes for file in row.entry.package.files))
    if row.here:
        return f"{amount(row.occupied)} on this disk" if row.occupied else "needs no files"
    if row.size is None:
        return "size unknown"
    return f"{amount(row.size)} to download"


def _origin(row: Row) -> str:
    entry = row.entry
    if entry.folder:
        return "ships with the program"
    if entry.package:
        return f"comes with the Python package {entry.package.name}"
    return f"from {_source(entry)}" if entry.files else ""


def _source(entry: Entry) -> str:
    """Where the files come from: a repository of the Hub, or a host."""
    from app import fetching

    source = entry.files[0].sources[0]
    host = urlsplit(fetching.address(source)).netloc
    return host if "://" in source.repo else f"{host}/{source.repo}"


def _checked(row: Row) -> str:
    if row.entry.verified:
        return "checked by us"
    if row.here:
        return "never fetched by us; tried out on this machine"
    return "never fetched by us"


def _moving(download: Download) -> str:
    """How far it is: bytes, speed, time left, and a bar."""
    if download.is_whole:
        said = "All of it has arrived. It is being checked and tried out; that takes a moment."
        return f'<p class="moving">{said}</p><progress aria-label="Checking"></progress>'
    told = html.escape(" · ".join(filter(None, _pace(download))))
    part = f'value="{download.done}" max="{download.total}"' if download.total else ""
    return f'<p class="moving">{told}</p><progress {part} aria-label="Download"></progress>'


def _pace(download: Download) -> tuple[str, ...]:
    if not download.done:
        return ("Asking the server ...",)
    whole = f" of {amount(download.total)}" if download.total else ""
    left = download.seconds_left
    return (
        f"{amount(download.done)}{whole}",
        f"{amount(round(download.speed))}/s" if download.speed else "waiting for the server",
        f"{duration(left)} left" if left is not None else "",
    )


def _left(row: Row, last: Download | None) -> str:
    """What the last try left behind: what went wrong, and what there is of it."""
    if row.here:
        return ""
    wrong = f'<p class="wrong">{html.escape(last.error)}</p>' if last and last.error else ""
    kept = f"{amount(row.arrived)} have arrived and are kept." if row.arrived else ""
    return f'{wrong}<p class="facts">{kept}</p>' if kept else wrong


def _question(row: Row, view: View) -> str:
    """What a visitor is asked about this model, if it is this one."""
    act, _, key = view.asking.partition(" ")
    if key != _key(row.entry):
        return ""
    return QUESTIONS[act](row)


def _ask_trust(row: Row) -> str:
    entry, source = row.entry, _source(row.entry)
    known = all(file.sha256 for file in entry.files)
    hashed = (
        "Its hash is known from programs that use it: another file is refused."
        if known
        else "Its hash is not known: what the source sends the first time is taken, and from then "
        "on held on to."
    )
    old = f" {_FORMER}" if any(file.format == "ckpt" for file in entry.files) else ""
    said = (
        f"We have never fetched {entry.name} ourselves. To trust it means to take the word of "
        f"{source} that it is what its name says. {hashed}{old} Before it is used, it is loaded "
        "and tried out once."
    )
    box = f"I trust {source}: fetch {entry.name} although it was never checked."
    return (
        f'<div class="ask"><p>{html.escape(said)}</p><label><input type="checkbox">'
        f"<span>{html.escape(box)}</span></label>"
        f"{_button('trust', 'Download it', entry, main=True)}</div>"
    )


def _ask_delete(row: Row) -> str:
    entry = row.entry
    what = entry.name if row.here else f"what has arrived of {entry.name}"
    said = (
        f"Delete {what}? {amount(row.occupied)} become free. It can be downloaded again, and must "
        "then be the same file."
        if row.here
        else f"Delete {what}? {amount(row.occupied)} become free."
    )
    return (
        f'<div class="ask"><p>{html.escape(said)}</p>'
        f"<p>{_button('remove', 'Yes, delete it', entry, main=True)}</p></div>"
    )


QUESTIONS: dict[str, Callable[[Row], str]] = {"trust": _ask_trust, "delete": _ask_delete}


def _buttons(row: Row, going: Download | None, view: View) -> str:
    """What can be done with a model now."""
    from app import fetching

    entry = row.entry
    if going:
        return "" if going.is_whole else _button("stop", "Stop", entry)
    if view.asking.partition(" ")[2] == _key(entry):
        return _button("keep", "Not now", entry)
    if not entry.files:
        return ""
    offered = []
    if not (row.here or fetching.offline()):
        offered.append(_button("download", "Go on" if row.arrived else "Download", entry))
    if row.occupied:
        offered.append(_button("delete", "Delete", entry))
    return "".join(offered)


def _button(act: str, words: str, entry: Entry, *, main: bool = False) -> str:
    return (
        f'<button type="button" data-act="{act}" data-model="{html.escape(_key(entry))}" '
        f'aria-label="{html.escape(f"{words}: {entry.name}")}"{" class=main" if main else ""}>'
        f"{words}</button>"
    )


def _disk() -> str:
    """How much room models take and leave."""
    from app import inventory

    disk = inventory.disk()
    used = f"take {amount(disk.used)}" if disk.used else "would lie"
    words = f"Fetched models {used} in {short(disk.folder)}; {amount(disk.free)} are free there."
    return f"<p>{html.escape(words)}</p>"
