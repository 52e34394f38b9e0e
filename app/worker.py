"""What stands behind the page: it takes orders at any time, and follows what becomes of them.

An order is a job on a list on the disk (`app.jobs`), and somebody else makes the picture
(`app.executors`). Whoever asked follows a `Run`: the worker writes to it, the page reads it, and
neither waits. Nobody has to follow: a job goes on by itself, and `runs_of` finds it again.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from app import desk, editing, listening, options, results, sounds
from app.desk import Home, Look
from app.editing import Proposal
from app.errors import Failed, Refused
from app.executors import Executor, InlineExecutor, ProcessExecutor
from app.generate import steering
from app.images import Canonical
from app.jobs import Ahead, Job, Store
from app.listening import Heard
from app.models import Models
from app.options import Asked, Typed
from app.pipeline import Inputs
from app.request import Request
from app.slot import CLOSED, PICTURE
from guidance import mood

T = TypeVar("T")

OWNER = "studio"  # of what nobody in particular asked for
_GLANCE = 0.1  # seconds between two looks at what becomes of the orders
_MOST_TITLE = 200  # characters

log = logging.getLogger(__name__)


class Run:
    """One picture on its way. Everything but `stop` and `over` is written by the worker alone."""

    def __init__(self, job: Job, asked: Asked, stop: threading.Event) -> None:
        """Whoever sets `stop` ends it, in the middle of a step too."""
        (self.request,) = asked.requests
        self.job, self.asked, self.place, self.stop = job, asked, desk.place_of(job.request), stop
        self.over = threading.Event()
        self.notes: list[str] = []  # what is not exactly as it was asked for
        self.expected = ""  # seconds and memory, in words
        self.look: Look | None = None  # the newest
        self.saved: Path | None = None
        self.error = ""  # one sentence, if it failed
        self._state: object = None  # of the report that was read last
        self._told_to_stop = False

    @property
    def owner(self) -> str:
        """Who asked for it."""
        return self.job.owner

    @property
    def steering(self) -> str:
        """All that steers, in words."""
        return steering(self.request)

    @property
    def paused(self) -> str:
        """Why it waits although nobody is before it: a sentence, or nothing."""
        return self.job.error_text if self.job.state == "paused" else ""

    # --- for the worker ----------------------------------------------------------------------

    def wants_to_stop(self) -> bool:
        """True once, when somebody has set `stop`."""
        wanted = self.stop.is_set() and not self._told_to_stop
        self._told_to_stop = self._told_to_stop or wanted
        return wanted

    def read(self, folder: Path) -> None:
        """See whether there is anything new."""
        state = desk.state_of(folder)
        if state == self._state or (report := desk.read_report(folder)) is None:
            return
        self._state, self.request = state, report.request
        self.notes, self.expected = list(report.notes), report.expected
        self.look = report.look or self.look

    def end(self) -> None:
        """It is over: take what there is of it."""
        pictures = [Path(file.path) for file in self.job.artifacts if file.kind == PICTURE]
        self.saved = pictures[-1] if pictures else None
        self.error = self.job.error_text


class Worker:
    """Takes orders, asks an executor to carry them out, and follows them."""

    def __init__(self, models: Models | None = None, *, executor: Executor | None = None) -> None:
        """Begin to load what an everyday request needs; `warm` is done when that is there.

        Pictures are made in a process of their own, from a list that outlives us. With `models`
        that are loaded already, they are made here, and the list ends with us. `executor` works
        on the list in `desk.folder()`.
        """
        self._passing = tempfile.TemporaryDirectory() if models and not executor else None
        self.home = Home(Path(self._passing.name)) if self._passing else Home()
        self.store = Store(self.home.jobs)
        for note in self.store.notes:
            log.warning("%s", note)
        if executor is None:
            executor = InlineExecutor(self.home, models) if models else ProcessExecutor(self.home)
        self._executor = executor
        # A look at a picture, or an ear for a sound, needs only small models, and shall not wait
        # for pictures that take minutes: both have models of their own, here.
        self.models = models or Models("cpu")
        self._line = ThreadPoolExecutor(1, "looks")
        self._runs: dict[str, Run] = {}  # by their jobs
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self.warm: Future[None] = executor.warm
        executor.start()
        self._watcher.start()
        if models is None:
            self.warm.add_done_callback(_warm_ears)

    # --- orders ------------------------------------------------------------------------------

    def ask(self, typed: Typed, stop: threading.Event, owner: str = OWNER) -> Run:
        """Put a picture on the list. `typed` as at the command line. Raises `Refused`."""
        return self.order(options.read(typed), stop, owner)

    def order(self, asked: Asked, stop: threading.Event, owner: str = OWNER) -> Run:
        """Put a picture on the list.

        Raises `Refused` where it cannot be written, and `Busy` when too much waits already.
        """
        (request,) = asked.requests
        (place,) = results.places([request], None)
        job = self.store.submit(
            owner,
            "edit" if request.edit else "picture",
            desk.write_order(asked, place, self.home),
            client_key=uuid.uuid4().hex,
            title=_title(request),
            seconds=desk.seconds(request, self.home),
        )
        run = Run(job, asked, stop)
        with self._lock:
            self._runs[job.id] = run
        self._executor.wake()
        return run

    def ahead(self, run: Run | None = None) -> int:
        """How many pictures come before this one, or before what is asked for now."""
        return self.wait(run).jobs

    def wait(self, run: Run | None = None) -> Ahead:
        """What comes before a run, or before what is asked for now: pictures, and seconds."""
        return self.store.ahead(run.job.id if run else None)

    def runs_of(self, owner: str) -> list[Run]:
        """What is on its way for somebody, oldest first, also after a restart.

        Who sets `stop` of such a run ends it, as the one who ordered it could.
        """
        jobs = [job for job in self.store.history(owner) if not job.is_over]
        return [self._found(job) for job in reversed(jobs)]

    def _found(self, job: Job) -> Run:
        asked = Asked([desk.request_of(job.request)], Inputs(), [])
        with self._lock:
            return self._runs.setdefault(job.id, Run(job, asked, threading.Event()))

    # --- looks -------------------------------------------------------------------------------

    def propose(self, picture: Canonical, name: str, words: str, **where: Any) -> Proposal:
        """What an edit would do (`app.editing.propose`). Raises `Refused`."""

        def look() -> Proposal:
            clip = self.models.clip("pocket", "float32")
            return editing.propose(picture, name, words, clip, **where)

        return self._look(look)

    def hear(
        self,
        path: Path | str,
        name: str,
        *,
        start: float = 0.0,
        seconds: float = 30.0,
        speech: bool = True,
        sound: bool = True,
        mood: bool = True,
    ) -> Heard:
        """What is in a section of a sound (`app.listening.hear`). Raises `Refused`.

        What cannot be used is refused at once; listening waits for its turn.
        """
        opened = sounds.open_sound(path, start=start, seconds=seconds)

        def look() -> Heard:
            return listening.hear(
                opened,
                name,
                self.models,
                encoder=listening.ENCODER if sound else "",
                speech=listening.SPEECH if speech else "",
                mood=mood,
            )

        return self._look(look)

    def _look(self, look: Callable[[], T]) -> T:
        """Do it when it is its turn: one at a time, so that memory stays bounded."""
        return self._line.submit(look).result()

    # --- following ---------------------------------------------------------------------------

    def close(self) -> None:
        """Put everything away; what is on the list goes on when the studio is open again."""
        self._executor.close()
        self._closing.set()
        self._watcher.join()
        self._look_around()
        for run in self._open():
            run.error = CLOSED
            self._leave(run)
        self._line.shutdown()
        self.store.close()
        if self._passing:
            self._passing.cleanup()

    def _watch(self) -> None:
        while not self._closing.wait(_GLANCE):
            self._look_around()

    def _look_around(self) -> None:
        for run in self._open():
            try:
                self._follow(run)
            except Failed as error:  # the list is busy: it will have time in a moment
                log.warning("%s", error)
            except Exception as error:  # nobody may wait for ever, whatever it is
                if not isinstance(error, Refused):
                    log.exception("A run cannot be followed.")
                run.error = str(error)
                self._leave(run)

    def _open(self) -> list[Run]:
        with self._lock:
            return list(self._runs.values())

    def _follow(self, run: Run) -> None:
        """One look at a run: pass on a wish to stop, see how far it is and whether it is over."""
        if run.wants_to_stop():
            self.store.cancel(run.owner, run.job.id)
            self._executor.cancel(run.job.id)
        # in this order: before a job is over, its last report is there
        run.job = job = self.store.job(run.owner, run.job.id)
        run.read(self.home.run(job.id))
        if job.is_over:
            run.end()
            self._leave(run)

    def _leave(self, run: Run) -> None:
        with self._lock:
            self._runs.pop(run.job.id, None)
        run.over.set()


def _title(request: Request) -> str:
    """What people may search for."""
    words = request.edit.instruction if request.edit else request.prompt
    return (words or steering(request))[:_MOST_TITLE]


def _warm_ears(_: object = None) -> None:
    """What reads music takes long to load the first time: do it beside all else."""

    def load() -> None:
        try:
            mood.warm()
        except Exception:  # without it the first sound has to wait, and says what is wrong
            log.exception("What reads music could not be loaded.")

    threading.Thread(target=load, name="ears", daemon=True).start()
