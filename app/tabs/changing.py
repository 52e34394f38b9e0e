"""What happens in the Edit tab: a picture is looked at, asked about, changed and followed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image as Picture

from app.errors import Refused
from app.tabs import Studio, strengths
from app.tabs.common import (
    Change,
    Part,
    attempt,
    complain,
    follow,
    preview,
    rows,
    say,
    short,
    shown_copy,
    shown_pixels,
    soon,
    unless_stopped,
    whole,
)
from app.tabs.strengths import STRENGTHS, Tries
from app.terminal import duration

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from app.editing import Proposal
    from app.images import Canonical, Pixels
    from app.request import Request
    from app.worker import Run, Worker

GONE = (
    "The picture is not here any more: what nobody used for an hour is cleared away. Choose it "
    "again; results are where they were saved."
)
CANVAS_SIDE = 512  # pixels, about as shown; drawn without a graphics card, 1024 stands still

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

# What decides the place, about which there may be a question.
_DECIDING = "picture painting canvas instruction place everywhere mask invert grow".split()
_SURE = 'If it is, press "Yes, change it". If not, say where in other words, or paint the place.'
_LESS = "Choose a lower quality, or wait until what you asked for before is done."
_LOOKING = "Looking at the picture ..."
_TOLD = 5  # status lines that bring what was asked for: a busy page may miss a single change


@dataclass(frozen=True)
class Question:
    """A place was in doubt: for which fields, what waits for the answer, and whether it was yes."""

    about: str = ""
    then: str = "edit"
    yes: bool = False

    def answers(self, given: Mapping[str, Any]) -> bool:
        """Whether these fields need not be asked about again."""
        return self.yes and self.about == _digest(given)


def _digest(given: Mapping[str, Any]) -> str:
    fields = repr([given[name] for name in _DECIDING])
    return hashlib.sha256(fields.encode()).hexdigest()


# --- what happens ----------------------------------------------------------------------------

_BUSY: Change = {
    "look": gr.update(interactive=False),
    "edit": gr.update(interactive=False),
    "compare": gr.update(interactive=False),
    "yes": gr.update(visible=False),
    "stop": gr.update(interactive=True),
    "three": gr.update(value=[], visible=False),
}
_IDLE: Change = {
    "look": gr.update(interactive=True),
    "edit": gr.update(interactive=True),
    "compare": gr.update(interactive=True),
    "stop": gr.update(interactive=False),
}


@attempt(_BUSY, _IDLE)
async def glance(
    studio: Studio, given: Mapping[str, Any], stop: threading.Event
) -> AsyncIterator[Change]:
    """All that a visitor sees after Look first."""
    worker = await soon(studio.worker())
    yield {"status": say(_LOOKING)}
    proposal = await unless_stopped(partial(propose, worker, given), stop)
    yield _looked_at(proposal, given) if proposal else {"status": say("Stopped.")}


@attempt(_BUSY, _IDLE)
async def course(
    studio: Studio, given: Mapping[str, Any], stop: threading.Event, owner: str, what: str = "edit"
) -> AsyncIterator[Change]:
    """All that a visitor sees after Edit, Compare or Yes."""
    question: Question = given["question"]
    if what == "yes":
        what, question = question.then, replace(question, yes=True)
        yield {"question": question}
    seed = whole("seed", given["seed"])
    worker = await soon(studio.worker())
    yield {"status": say(_LOOKING)}
    proposal = await unless_stopped(partial(propose, worker, given), stop)
    if proposal is None:
        yield {"status": say("Stopped before it began.")}
        return
    if proposal.doubt and not question.answers(given):
        yield _asked(proposal, given, what)
        return
    levels = STRENGTHS if what == "compare" else (given["strength"],)
    runs = await asyncio.to_thread(_begin, worker, proposal, given, levels, seed, stop, owner)
    about = partial(_details, proposal)
    if what == "compare":
        tries = Tries(given["picture"], _as_png(proposal.picture.pixels))
        changes = strengths.watched(worker, runs, tries, about)
    else:
        changes = follow(worker, runs[0], about, partial(_finished, proposal, given))
    async for change in changes:
        yield change
    complain(runs)


def is_ours(request: Request) -> bool:
    """Whether somebody who comes back may expect to see it in this tab."""
    return request.edit is not None


@attempt(_BUSY, _IDLE)
async def resumed(studio: Studio, family: Any, runs: list[Run]) -> AsyncIterator[Change]:
    """All that a visitor sees of edits that were on their way when they came."""
    worker = await soon(studio.worker())
    for number, run in enumerate(runs, 1):
        proposal = await asyncio.to_thread(worker.proposed, run)
        given = {"picture": _as_png(proposal.picture.pixels, proposal.name), "family": family}
        asked = {"picture": given["picture"], "instruction": proposal.instruction}
        about, part, told = partial(_details, proposal), Part(number, len(runs)), 0
        async for change in follow(worker, run, about, partial(_finished, proposal, given), part):
            family = change.get("family", family)
            if "status" in change and told < _TOLD:
                change, told = {**asked, **change}, told + 1
            yield change
    complain(runs)


def open_given(path: str | None) -> Canonical:
    """The picture that is to be changed. Raises `Refused`."""
    from app.images import open_picture

    if not path:
        raise Refused(
            "edit.picture",
            "There is no picture yet. Choose one, paste one, or send one from the Generate tab.",
            "picture",
        )
    if not Path(path).exists():
        raise Refused("edit.picture", GONE, "picture")
    os.utime(path)  # it is in use
    return open_picture(path, in_child=True)


def propose(worker: Worker, given: Mapping[str, Any]) -> Proposal:
    """What the fields of the page ask for. Raises `Refused`."""
    picture = open_given(given["picture"])
    return worker.propose(
        picture,
        Path(given["picture"]).name,
        given["instruction"] or "",
        mask=_mask(given, picture),
        region="" if given["everywhere"] else (given["place"] or "").strip() or None,
        invert=given["invert"],
        grow=given["grow"],
        ask=True,
    )


def _begin(
    worker: Worker,
    proposal: Proposal,
    given: Mapping[str, Any],
    levels: Iterable[float],
    seed: int | None,
    stop: threading.Event,
    owner: str,
) -> list[Run]:
    """Order the edit at each of these strengths, all with one seed; all of them, or none."""
    from app import editing

    runs: list[Run] = []
    settings = {} if seed is None else {"seed": seed}
    for strength in levels:
        asked = editing.order(proposal, strength, given["quality"], **settings)
        settings = {"seed": asked.requests[0].seed}
        try:
            runs.append(worker.order(asked, stop, owner))
        except Refused as error:
            stop.set()  # half of what was asked for would be a surprise
            if runs:
                raise Refused(error.code, f"Not all of these fit on your list. {_LESS}") from error
            raise
    return runs


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


def _looked_at(proposal: Proposal, given: Mapping[str, Any]) -> Change:
    """What was understood and the place, and what there is to ask about it."""
    if proposal.doubt and not given["question"].answers(given):
        return _asked(proposal, given, "edit")
    return _seen(proposal)


def _asked(proposal: Proposal, given: Mapping[str, Any], then: str) -> Change:
    """The place that is in doubt, and how to say that it is the right one."""
    return {
        **_seen(proposal),
        "status": say(f"{proposal.doubt} {_SURE}"),
        "yes": gr.update(visible=True),
        "question": Question(_digest(given), then),
    }


def _seen(proposal: Proposal) -> Change:
    """What was understood, and the place."""
    return {
        "status": say(str(proposal)),
        "preview": gr.update(
            value=preview(proposal.overlay(), CANVAS_SIDE),
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


def _as_png(pixels: Pixels, name: str = "before") -> str:
    """What was given as we see it: turned upright, on white, in a format that browsers show."""
    return shown_pixels(pixels, Path(name).stem)


def _details(proposal: Proposal, run: Run) -> str:
    """What to know about a changed picture, as a list."""
    return rows(
        {
            **_understood(proposal),
            "Strength": f"{run.request.edit.strength:g}" if run.request.edit else "",
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
