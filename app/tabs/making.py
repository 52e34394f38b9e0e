"""What happens in the Generate tab: pictures are asked for, followed, and gone on with."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr
from PIL import Image as Picture

from app.errors import Refused
from app.tabs import Studio, curves
from app.tabs.common import (
    Change,
    Part,
    complain,
    complaint,
    follow,
    reuse,
    rows,
    say,
    sentence,
    short,
    shown_copy,
    soon,
    whole,
)

if TYPE_CHECKING:
    from app.request import Guide, Request
    from app.worker import Run, Worker

    Begin = Callable[[Worker, threading.Event], list[Run]]

MOST_PICTURES = 3  # as prompts
MOST_TOGETHER = 4  # variations

# The fields of the page that say what to make.
FIELDS = "prompt quality size count seed negative start init init_noise image_prompt".split()
FIELDS += "image_weight generator clip steps views".split()

# How many times as wide and as high as the quality says.
SHAPES = {"wide": (1.5, 1.0), "tall": (1.0, 1.5), "large": (2.0, 2.0)}

_FILM_PATIENCE = 20.0  # seconds: it is made right after the picture
_GLANCE = 0.2  # seconds between two looks whether it is there
_GONE = (
    "The picture is not here any more: what nobody used for an hour is cleared away. Open it again "
    "from the History."
)
_NO_FILM = "There is no film of this run: too little of it was kept, or there was only one step."
_NOTHING = "There is no picture yet. Make one first."


class Card(NamedTuple):
    """A picture that was made: its job, the file that the page shows, what is told beside it."""

    job: str
    seed: int
    path: str
    caption: str
    about: str
    curves: str
    can_go_on: bool
    can_take_more: bool


@dataclass(frozen=True)
class Shown:
    """What stands on the page of one visitor, and which of it is looked at."""

    cards: tuple[Card, ...] = ()
    chosen: int = 0

    @property
    def card(self) -> Card:
        """The one that is looked at. Raises `Refused` where there is none."""
        if not self.cards:
            raise Refused("generate.none", _NOTHING)
        return self.cards[self.chosen]

    def with_card(self, card: Card) -> Shown:
        """The same with one more, which is looked at."""
        return Shown((*self.cards, card), len(self.cards))

    def judged(self, job: str) -> Shown:
        """The same, but that one is looked at which the judge likes best, and it is told so."""
        at = next(n for n, card in enumerate(self.cards) if card.job == job)
        best = self.cards[at]._replace(caption=f"{self.cards[at].caption}, judged best")
        return Shown((*self.cards[:at], best, *self.cards[at + 1 :]), at)


# --- what is asked for -----------------------------------------------------------------------


def typed(given: Mapping[str, Any]) -> Change:
    """The fields of the page as options of the command line; empty ones are left out.

    Raises `Refused` for something else where a number should be.
    """
    options = {
        **{name: given[name] for name in FIELDS if name in given and name != "image_weight"},
        **{name: whole(name, given[name]) for name in ("seed", "steps", "views")},
        "count": round(given.get("count") or 1),
        "size": _size(given["size"], given["quality"]),
        "clip": [given["clip"]],
        "image_prompt": _pictures(given["image_prompt"], given["image_weight"]),
        # a draft is what begins anyway, unless no words are there to draw
        "start": None if given["init"] or given["start"] == "draft" else given["start"],
        "init_noise": given["init_noise"] if given["init"] else None,
    }
    return {name: value for name, value in options.items() if value not in (None, "", [])}


def _size(chosen: str | None, quality: str) -> str:
    """A shape as width x height in pixels; what was typed stays as it is."""
    from app.request import QUALITIES

    if chosen not in SHAPES:
        return chosen or ""
    wider, higher = SHAPES[chosen]
    preset = QUALITIES[quality]
    return f"{round(preset['width'] * wider)}x{round(preset['height'] * higher)}"


def _pictures(given: Sequence[Any] | None, weights: str | float | None) -> list[str]:
    """`FILE::weight` for each picture. Raises `Refused` for too many, and for no numbers.

    A gallery gives pairs of path and caption; what is opened again are paths alone.
    """
    paths = [each if isinstance(each, str) else each[0] for each in given or []]
    if len(paths) > MOST_PICTURES:
        said = f"{len(paths)} pictures as prompts are too many: {MOST_PICTURES} can be used."
        raise Refused("request.pictures", said, "image_prompt")
    written = re.split(r"[\s,;|]+", str(1 if weights is None else weights).strip())
    numbers = [_weight(text) for text in written if text]
    numbers += [1.0] * (len(paths) - len(numbers))
    return [f"{path}::{weight:g}" for path, weight in zip(paths, numbers, strict=False)]


def _weight(text: str) -> float:
    try:
        return float(text.replace("−", "-"))
    except ValueError:
        said = f"{text[:40]!r} is no weight. Write a number for each picture, such as: 1, 0.5, -1"
        raise Refused("request.weight", said, "image_weight") from None


# --- who begins ------------------------------------------------------------------------------


def asked(given: Mapping[str, Any], owner: str) -> Begin:
    """Make what the fields ask for."""
    return lambda worker, stop: worker.ask_all(typed(given), stop, owner)


def further(given: Mapping[str, Any], owner: str) -> Begin:
    """Go on with what was stopped, exactly where it was, or with what is done for more steps."""

    def begin(worker: Worker, stop: threading.Event) -> list[Run]:
        card = given["shown"].card
        if card.can_go_on:
            return [worker.go_on(card.job, stop, owner)]
        return [worker.more(card.job, round(given["more_steps"]), stop, owner)]

    return begin


def varied(given: Mapping[str, Any], owner: str) -> Begin:
    """Make the same with other seeds."""
    count = round(given["count"])
    return lambda worker, stop: worker.vary(given["shown"].card.job, count, stop, owner)


def retold(given: Mapping[str, Any], owner: str) -> Begin:
    """Go on from the picture with what the fields say now."""

    def begin(worker: Worker, stop: threading.Event) -> list[Run]:
        path = _used(given["shown"].card.path)
        with Picture.open(path) as picture:
            width, height = picture.size
        start = {"init": path, "init_noise": 0, "size": f"{width}x{height}", "count": 1}
        return worker.ask_all(typed({**given, **start}), stop, owner)

    return begin


def is_ours(request: Request) -> bool:
    """Whether somebody who comes back may expect to see it in this tab."""
    return not (request.edit or request.sounds)


def _used(path: str) -> str:
    """The path of a picture that is still there. Raises `Refused`."""
    try:
        os.utime(path)  # files are cleared away in time, but not while they are in use
    except OSError as error:
        raise Refused("generate.gone", _GONE) from error
    return path


# --- what a visitor sees ---------------------------------------------------------------------

# Said with every status line: on a busy machine Gradio's page may miss a single one.
_WORKING: Change = {"generate": gr.update(interactive=False), "stop": gr.update(interactive=True)}
_BUSY: Change = {
    **_WORKING,
    "actions": gr.update(visible=False),
    "filming": gr.update(visible=False, open=False),
    "film": None,
    "film_note": "",
    "several": gr.update(value=[], visible=False),
}
_IDLE: Change = {"generate": gr.update(interactive=True), "stop": gr.update(interactive=False)}


async def course(
    studio: Studio, begin: Begin, stop: threading.Event, before: Shown | None = None
) -> AsyncIterator[Change]:
    """All that a visitor sees after Generate. Raises `gr.Error` in the end if there was one.

    `before`: what stood on the page, and stays there if nothing comes of it.
    """
    yield {**_BUSY, "status": say("Getting ready ...")}
    shown, problem = before or Shown(), ""
    try:
        worker = await soon(studio.worker())
        runs = await asyncio.to_thread(begin, worker, stop)
        async for change in _watched(worker, runs):
            shown = change.get("shown", shown)
            yield change
        complain(runs)
    except Exception as error:
        problem = sentence(error)
    ready = {**_IDLE, **(_stand(shown) if shown.cards else {})}
    yield {**ready, "status": say(problem)} if problem else ready
    if problem:
        raise complaint(problem)


async def resumed(studio: Studio, runs: list[Run]) -> AsyncIterator[Change]:
    """All that a visitor sees of pictures that were on their way when they came.

    The fields say what was asked for: what they said before was lost with the page.
    """
    from app.tabs import again

    first, worker = runs[0], await soon(studio.worker())
    given = await asyncio.to_thread(again.kept, first.job, worker.home)
    yield {**again.controls(first.request, given), "count": min(len(runs), MOST_TOGETHER)}
    async for change in course(studio, lambda *_: runs, threading.Event()):
        yield change


async def _watched(worker: Worker, runs: Sequence[Run]) -> AsyncIterator[Change]:
    """What there is to see of runs, one after another, as they are made."""
    shown = Shown()
    for number, run in enumerate(runs, 1):
        part = Part(number, len(runs))
        async for change in follow(worker, run, _details, _finished, part):
            if "status" in change:
                change |= _WORKING
            if "status" in change and run.trace.steps:
                change["curves"] = _curves(run)
            yield change
        if run.saved:
            shown = shown.with_card(_card(worker, run))
            yield {"shown": shown, "several": _gallery(shown)}
    if len(runs) > 1:
        best = await asyncio.to_thread(worker.best, runs)
        if best:
            shown = shown.judged(best.job.id)
            yield {**chosen(shown, shown.chosen), "several": _gallery(shown)}
        yield {"status": _summary(runs, best)}


def _summary(runs: Sequence[Run], best: Run | None) -> str:
    done = sum(run.job.state == "done" for run in runs)
    if done < len(runs):
        return say(f"Stopped: {done} of {len(runs)} pictures are done.", done / len(runs))
    liked = "This one the judge likes best. " if best else ""
    return say(f"Done: {done} pictures. {liked}Choose one to look at it.", 1.0)


def _card(worker: Worker, run: Run) -> Card:
    request, index = run.request, run.look.index if run.look else 0
    stopped = "" if run.job.state == "done" else f", stopped at step {index}"
    assert run.saved is not None  # else there is none
    return Card(
        run.job.id,
        request.seed,
        shown_copy(run.saved),
        f"Seed {request.seed}{stopped}",
        _details(run),
        _curves(run),
        worker.can_go_on(run.job),
        worker.can_take_more(run.job),
    )


def _gallery(shown: Shown) -> Any:
    """All pictures that were made together; of a single one there is nothing to choose."""
    items = [(card.path, card.caption) for card in shown.cards]
    return gr.update(value=items, visible=len(items) > 1, selected_index=shown.chosen)


def _actions(card: Card) -> Change:
    """What can be done with a picture."""
    return {
        "actions": gr.update(visible=True),
        # one button: Gradio shows all that is in a column when the column is shown again
        "further": gr.update(
            value=_further(card),
            variant="primary" if card.can_go_on else "secondary",
            interactive=card.can_go_on or card.can_take_more,
        ),
        "filming": gr.update(visible=True, open=False),
        "film": None,
        "film_note": "",
    }


def _further(card: Card) -> str:
    if card.can_go_on:
        return "Continue"
    # of old pictures only the picture is kept, not how the loop stood
    return "More steps" if card.can_take_more else "More steps: no longer kept"


def _stand(shown: Shown) -> Change:
    """What there is to choose from, and to do."""
    return {**_actions(shown.card), "several": _gallery(shown)}


def chosen(shown: Shown, index: int) -> Change:
    """Look at another one of those that were made together."""
    shown = replace(shown, chosen=index)
    card = shown.card
    return {
        **_actions(card),
        "shown": shown,
        "result": gr.update(value=_used(card.path), visible=True),
        "finished": card.path,
        "details": card.about,
        "curves": card.curves,
        "reuse": reuse(card.seed),
    }


def once_more(worker: Worker, run: Run) -> Change:
    """A picture that was made before stands there again, with all that can be done with it."""
    if run.saved is None or not run.saved.exists():
        return {}
    there = chosen(Shown((_card(worker, run),)), 0)
    alone = {"several": gr.update(value=[], visible=False)}
    return {**there, **alone, "preview": gr.update(value=None, visible=False)}


def as_start(shown: Shown) -> Change:
    """Put the picture where a picture to begin from goes."""
    said = "The next picture begins from this one: see Advanced. Change the words, then Generate."
    path = _used(shown.card.path)
    return {"init": path, "advanced": gr.update(open=True), "status": say(said)}


async def film(studio: Studio, shown: Shown, owner: str) -> AsyncIterator[Change]:
    """How the picture came about, as soon as the film of it is there."""
    try:
        worker = await soon(studio.worker())
        job = await asyncio.to_thread(worker.store.job, owner, shown.card.job)
        path = worker.film(job)
        left = _FILM_PATIENCE
        while path is None and left > 0:
            yield {"film_note": say("The film is being made ...")}
            await asyncio.sleep(_GLANCE)
            path, left = worker.film(job), left - _GLANCE
    except Exception as error:
        yield {"film_note": say(sentence(error))}
        return
    if path is None:
        yield {"film_note": say(_NO_FILM)}
        return
    note = worker.film_note(job)
    yield {"film": shown_copy(path), "film_note": say(note) if note else ""}


def _finished(run: Run) -> Change:
    assert run.saved is not None  # else there is none
    copy = shown_copy(run.saved)
    return {"result": gr.update(value=copy, visible=True), "finished": copy}


def _curves(run: Run) -> str:
    return curves.draw(run.trace, run.look.steps if run.look else run.request.steps)


def _details(run: Run) -> str:
    """What to know about a picture, as a list."""
    request = run.request
    return rows(
        {
            "Seed": str(request.seed),
            "Steered by": run.steering,
            "Begun from": Path(request.init.name).name if request.init else "",
            "Models": f"{request.generator} draws, {_names(request.clips)} compares",
            "Saved as": short(run.saved) if run.saved else "",
            "Note": " ".join(run.notes),
        }
    )


def _names(guides: Sequence[Guide]) -> str:
    return " and ".join(guide.name for guide in guides)
