"""One edit at three strengths, side by side: they come one after another, and a click takes one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from app.tabs.common import Change, Part, follow, pictures_row, say, shown_copy

if TYPE_CHECKING:
    from app.worker import Run, Worker

STRENGTHS = {0.3: "a touch", 0.6: "plainly", 1.0: "all the way"}
_BUILDING = 1.0  # seconds that a page may need
WAIT = "Not all of them are there yet. Wait, or press Stop to do without the rest."
_CLICK = "Click the one that you like: it becomes the result."


class Try(NamedTuple):
    """The edit at one strength: the file that the page shows, and what is told of it."""

    path: str
    caption: str
    about: str


@dataclass(frozen=True)
class Tries:
    """What came of one edit at several strengths, and of which pictures: what was given as it is
    edited (`parent`), and as it is shown (`before`).
    """

    parent: str = ""
    before: str = ""
    those: tuple[Try, ...] = ()


def gallery() -> Any:
    """The row that shows them."""
    return pictures_row("Three strengths", "edit-three", columns=len(STRENGTHS), visible=False)


async def watched(
    worker: Worker, runs: Sequence[Run], tries: Tries, about: Callable[[Run], str]
) -> AsyncIterator[Change]:
    """What there is to see of the runs, one for each strength, as they are made."""
    for number, run in enumerate(runs, 1):
        async for change in follow(worker, run, about, lambda _: {}, Part(number, len(runs))):
            yield change
        if run.saved:
            one = Try(shown_copy(run.saved), _caption(run), about(run))
            tries = replace(tries, those=(*tries.those, one))
            yield {"tries": tries, "three": _shown(tries)}
    row = {}
    if tries.those:  # once more: while it builds a row that was hidden, the page may miss changes
        await asyncio.sleep(_BUILDING)
        row = {"three": _shown(tries)}
    yield {**row, "status": say(_summary(len(tries.those), runs), 1.0)}


def _caption(run: Run) -> str:
    assert run.request.edit is not None  # these are edits
    strength = run.request.edit.strength
    stopped = (
        "" if run.job.state == "done" else f", stopped at step {run.look.index}" if run.look else ""
    )
    return f"{strength:g} · {STRENGTHS[strength]}{stopped}"


def _summary(there: int, runs: Sequence[Run]) -> str:
    done = sum(run.job.state == "done" for run in runs)
    if done == len(runs):
        return f"Done: {done} strengths. {_CLICK}"
    return f"Stopped: {done} of {len(runs)} strengths are done.{f' {_CLICK}' if there else ''}"


def _shown(tries: Tries) -> Any:
    items = [(one.path, one.caption) for one in tries.those]
    return gr.update(value=items, visible=True, selected_index=None)


def taken(tries: Tries, index: int, remember: Callable[[str, str], Any]) -> Change:
    """One of them becomes the result; `remember` its parent and itself."""
    one = tries.those[index]
    if not Path(one.path).exists():
        return {"status": say("That picture is not here any more. It is in the History.")}
    return {
        "result": gr.update(value=(tries.before, one.path), visible=True),
        "preview": gr.update(value=None, visible=False),
        "details": one.about,
        "onward": gr.update(interactive=True),
        "family": remember(tries.parent, one.path),
        "status": say(f"Taken: {one.caption}. Go on from it, or click another."),
    }
