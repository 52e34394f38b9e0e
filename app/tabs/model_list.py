"""The list of the Models tab as it is shown: what is here, what can be had, their buttons."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.catalog import Entry, Kind
from app.tabs import is_shared
from app.tabs.common import short
from app.terminal import amount, duration

if TYPE_CHECKING:
    from app.inventory import Download, Downloads, Row

# What people read for each kind, and what its models do.
KINDS: dict[Kind, tuple[str, str]] = {
    "generator": ("Generators", "What draws the picture."),
    "clip": ("CLIPs", "What compares the picture with words and pictures."),
    "draft": ("Drafts", "What turns words into a first picture."),
    "judge": ("Judges", "What says which of several pictures shows the words best."),
    "speech": ("Speech", "What writes down the words in a sound."),
    "sound": ("Sounds", "What hears all else in a sound."),
}

SHARED_NOTE = (
    "This studio is shared, so visitors cannot download or delete models here. On a machine of "
    "your own, each of them is one press away."
)
_FORMER = (
    "The file is a pickle, an old kind that can hold programs: it is read by a converter in a "
    "process under limits, nothing in it runs, and only its numbers are kept."
)

# Everything is one part of the page, so that each model has its buttons beside it. What changes is
# changed in place: the button that has the keyboard keeps it.
CSS = """
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
JS = """
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


def key(entry: Entry) -> str:
    """A model's own name among all, like "clip/pocket"."""
    return f"{entry.kind}/{entry.name}"


def asks(act: str, entry: Entry) -> str:
    """What a visitor is asked: whether to do this with that."""
    return f"{act} {key(entry)}"


def page(kind: Kind, rows: list[Row], downloads: Downloads, view: View) -> str:
    """All of the list of a kind, as HTML. Its order is always the same: it is changed in place."""
    _, what = KINDS[kind]
    notices = "".join(f'<p class="notice">{html.escape(said)}</p>' for said in _notices())
    elsewhere = (_going(one) for one in downloads.underway() if one.entry.kind != kind)
    items = (_item(row, downloads, view) for row in rows)
    return (
        f"<div>{notices}</div><ul>{''.join(elsewhere)}</ul>"
        f'<p class="kind">{what}</p><ul aria-label="{KINDS[kind][0]}">{"".join(items)}</ul>'
    )


def _notices() -> list[str]:
    """Why something cannot be done here, and what to do about it."""
    from app import fetching, stock

    said = []
    if is_shared():
        said.append(SHARED_NOTE)
    elif name := fetching.offline():
        said.append(
            f"{name} switches the network off, so nothing can be downloaded now. To change that, "
            "start the studio without it. Or copy the folder of models from a machine that has "
            f"them to {short(stock.folder())}."
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
        f'<li data-key="{html.escape(key(entry))}"><div>'
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
    act, _, model = view.asking.partition(" ")
    return QUESTIONS[act](row) if model == key(row.entry) else ""


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
    if view.asking.partition(" ")[2] == key(entry):
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
        f'<button type="button" data-act="{act}" data-model="{html.escape(key(entry))}" '
        f'aria-label="{html.escape(f"{words}: {entry.name}")}"{" class=main" if main else ""}>'
        f"{words}</button>"
    )


def disk() -> str:
    """How much room models take and leave."""
    from app import inventory

    now = inventory.disk()
    used = f"take {amount(now.used)}" if now.used else "would lie"
    words = f"Fetched models {used} in {short(now.folder)}; {amount(now.free)} are free there."
    return f"<p>{html.escape(words)}</p>"
