"""The thread that makes pictures for the page: one at a time, in the order they were asked for.

Whoever asked follows a `Run`: the worker writes to it, the page reads it, and neither waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app import editing, images, options, planner, results
from app.catalog import ModelError
from app.editing import Proposal
from app.errors import Failed, Refused
from app.generate import choose_device, notes, steering
from app.images import Canonical, Pixels
from app.models import Models
from app.options import Asked, Typed
from app.planner import Made
from app.recipe import make_recipe
from app.request import make_request
from app.stopping import Stopped
from guidance.optimise import Diverged

_PAUSE = 0.25  # seconds between two looks: what a viewer can follow
_EXPECTED = (Refused, Failed, ModelError, Diverged)  # their text is for people
_PUZZLED = (
    "Something went wrong that should not have ({kind}). The terminal where the program runs has "
    "the details; trying again with other settings may work."
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Look:
    """What there is to see of a run: one step, its picture, and the seconds since the first."""

    made: Made
    pixels: Pixels
    seconds: float

    @property
    def loss(self) -> float:
        """All losses of this picture together."""
        return sum(self.made.step.losses.values())


class Run:
    """One picture on its way. Everything but `stop` and `over` is written by the worker alone."""

    def __init__(self, asked: Asked, place: Path, stop: threading.Event) -> None:
        """Whoever sets `stop` ends it, in the middle of a step too."""
        (self.request,) = asked.requests
        self.asked, self.place, self.stop = asked, place, stop
        self.over = threading.Event()
        self.notes: list[str] = []  # what is not exactly as it was asked for
        self.expected = ""  # seconds and memory, in words
        self.look: Look | None = None  # the newest
        self.saved: Path | None = None
        self.error = ""  # one sentence, if it failed

    @property
    def steering(self) -> str:
        """All that steers, in words."""
        return steering(self.request)

    def check(self) -> None:
        """Raise `Stopped` when somebody wants it to end."""
        if self.stop.is_set():
            raise Stopped

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Inside, what goes wrong becomes one sentence."""
        try:
            yield
        except Stopped:
            pass
        except _EXPECTED as error:
            self.error = self.error or str(error)
        except Exception as error:  # a bug of ours: the page still says something
            log.exception("A run failed.")
            self.error = self.error or _PUZZLED.format(kind=type(error).__name__)


class Worker:
    """Takes orders at any time, carries them out one by one."""

    def __init__(self, models: Models | None = None) -> None:
        """Begin to load what an everyday request needs; `warm` is done when that is there."""
        self.models = models or Models(choose_device(None))
        self._line = ThreadPoolExecutor(1, "pictures")
        self._runs: list[Run] = []  # the first is the one being made
        everyday = make_request({"prompt": "a picture"})
        self.warm: Future[object] = self._line.submit(
            planner.plan, everyday, self.models, self.models.device
        )

    def ask(self, typed: Typed, stop: threading.Event) -> Run:
        """Put a picture on the list. `typed` as at the command line. Raises `Refused`."""
        return self.order(options.read(typed), stop)

    def propose(self, picture: Canonical, name: str, words: str, **where: Any) -> Proposal:
        """What an edit would do (`app.editing.propose`), when it is its turn. Raises `Refused`."""

        def look() -> Proposal:
            clip = self.models.clip("pocket", "float32")
            return editing.propose(picture, name, words, clip, **where)

        # in line, for a run that is stopped would stop whatever else its CLIP looks at
        return self._line.submit(look).result()

    def order(self, asked: Asked, stop: threading.Event) -> Run:
        """Put a picture on the list. Raises `Refused` where it cannot be written."""
        (place,) = results.places(asked.requests, None)
        run = Run(asked, place, stop)
        self._runs.append(run)
        self._line.submit(self._carry_out, run)
        return run

    def ahead(self, run: Run | None = None) -> int:
        """How many pictures come before this one, or before what is asked for now."""
        if run is None:
            return len(self._runs)
        return self._runs.index(run) if run in self._runs else 0

    def close(self) -> None:
        """Stop everything; what is there of each picture is kept."""
        for run in self._runs:
            run.stop.set()
        self._line.shutdown()

    def _carry_out(self, run: Run) -> None:
        """Make it; however that ends, keep what is there."""
        for work in (self._make, self._save):
            with run.explained():
                work(run)
        self._runs.remove(run)
        run.over.set()

    def _make(self, run: Run) -> None:
        run.check()  # people leave while they wait
        run.request, expected = planner.plan(run.request, self.models, self.models.device)
        run.notes, run.expected = notes(run.asked, run.request, self.models), str(expected)
        began, due = None, 0.0
        for made in planner.make(
            run.request, self.models, run.asked.inputs, check=run.check, tell=run.notes.append
        ):
            now = time.monotonic()
            began = began or now
            if now >= due or made.step.last:
                run.look = Look(made, made.pixels(), now - began)
                due = time.monotonic() + _PAUSE

    def _save(self, run: Run) -> None:
        if run.look is None:
            return
        made = run.look.made
        place = run.place if made.step.last else results.at_step(run.place, made.step.index)
        place.parent.mkdir(parents=True, exist_ok=True)
        recipe = make_recipe(made.request, self.models, made.step)
        run.saved = images.save_png(place, run.look.pixels, recipe, made.alpha)
