"""What stands behind the page: it takes orders at any time, and follows what becomes of them.

An order is a job on a list on the disk (`app.jobs`), and somebody else makes the picture
(`app.executors`). Whoever asked follows a `Run`: the worker writes to it, the page reads it, and
neither waits. Nobody has to follow: a job goes on by itself, and `runs_of` finds it again.
"""

from __future__ import annotations

import logging
import secrets
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from app import desk, editing, film, listening, options, pipeline, results, sounds
from app.catalog import Kind
from app.desk import Home, Look, Parent, Trace
from app.editing import Proposal
from app.errors import Failed, Refused
from app.executors import Executor, InlineExecutor, ProcessExecutor
from app.generate import steering
from app.images import Canonical, open_picture, to_tensor
from app.jobs import Ahead, Busy, Job, Store
from app.listening import Heard
from app.models import Models
from app.options import Asked, Typed
from app.pipeline import Inputs
from app.request import MOST_SEED, Request
from app.slot import CLOSED, PICTURE
from app.stock import refuse_absent
from app.stopping import Stopped

T = TypeVar("T")

OWNER = "studio"  # of what nobody in particular asked for
_GLANCE = 0.1  # seconds between two looks at what becomes of the orders
_MOST_TITLE = 200  # characters
_MOST_STEPS = 2000  # of a request
_NOT_DONE = "Only a picture that is done can take more steps. Continue this one first."
_NO_END = (
    "Where this picture ended is not kept any more: only the newest few are. Use it as a start "
    "instead."
)

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
        self.trace = Trace()  # the losses so far
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
        self.look, self.trace = report.look or self.look, report.trace

    def end(self) -> None:
        """It is over: take what there is of it."""
        self.saved = saved(self.job)
        self.error = self.job.error_text


def saved(job: Job) -> Path | None:
    """The newest picture of a job: one that was stopped and went on has several."""

    def age(path: Path) -> float:
        return path.stat().st_mtime if path.exists() else 0.0

    pictures = [Path(file.path) for file in job.artifacts if file.kind == PICTURE]
    return Path(job.result) if job.result else max(pictures, key=age, default=None)


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
            self.warm.add_done_callback(self._warm_ears)

    @property
    def is_alive(self) -> bool:
        """Whether somebody works on the list."""
        return self._executor.is_alive

    # --- orders ------------------------------------------------------------------------------

    def ask(self, typed: Typed, stop: threading.Event, owner: str = OWNER) -> Run:
        """Put a picture on the list. `typed` as at the command line. Raises `Refused`."""
        return self.order(options.read(typed), stop, owner)

    def ask_all(self, typed: Typed, stop: threading.Event, owner: str = OWNER) -> list[Run]:
        """Put all pictures on the list that were asked for (`count`); or none, and raise."""
        return self._order_all(options.read(typed), stop, owner)

    def order(
        self,
        asked: Asked,
        stop: threading.Event,
        owner: str = OWNER,
        parent: Parent | None = None,
        steps: int | None = None,
        *,
        client_key: str | None = None,
    ) -> Run:
        """Put a picture on the list; with a `parent`, one that goes on from its end by `steps`.

        Who sends an order again with the same `client_key` gets the job that there is. Raises
        `Refused` where it cannot be written, `ModelError` where a model would have to be fetched,
        and `Busy` when too much waits already.
        """
        (request,) = asked.requests
        refuse_absent(_models(request))
        (place,) = results.places([request], None)
        share = 1.0 if steps is None else steps / request.steps
        text = desk.write_order(asked, place, self.home, parent)
        job = self.store.submit(
            owner,
            "edit" if request.edit else "picture",
            text,
            artifacts=desk.given(text, self.home),
            client_key=client_key or uuid.uuid4().hex,
            title=_title(request),
            seconds=desk.seconds(request, self.home) * share,
        )
        return self._begin(Run(job, asked, stop))

    def _order_all(self, asked: Asked, stop: threading.Event, owner: str) -> list[Run]:
        runs: list[Run] = []
        try:
            for request in asked.requests:
                runs.append(self.order(replace(asked, requests=[request]), stop, owner))
        except Refused as error:
            for run in runs:  # half of what was asked for would be a surprise
                self.store.delete(owner, run.job.id)
                self._executor.cancel(run.job.id)
            if isinstance(error, Busy) and runs:
                said = f"{len(runs)} of these {len(asked.requests)} pictures fit on your list now."
                raise Refused(error.code, f"{said} Ask for no more, or wait a while.") from error
            raise
        return runs

    def _begin(self, run: Run) -> Run:
        with self._lock:
            self._runs[run.job.id] = run
        self._executor.wake()
        return run

    # --- after a run -------------------------------------------------------------------------

    def go_on(self, job_id: str, stop: threading.Event, owner: str = OWNER) -> Run:
        """Go on with a picture that was stopped or failed, exactly where it was.

        Raises `Refused` where there is nothing to go on from, and `Busy`.
        """
        job = self.store.requeue(owner, job_id)
        return self._begin(Run(job, self._asked(job), stop))

    def more(self, job_id: str, steps: int, stop: threading.Event, owner: str = OWNER) -> Run:
        """Go on with a picture that is done: a new one, with so many steps more.

        Raises `Refused` where it is not known how it ended, and `Busy`.
        """
        job = self.store.job(owner, job_id)
        report = desk.read_report(self.home.run(job.id))
        if job.state != "done" or report is None or report.look is None:
            raise Refused("more.not_done", _NOT_DONE)
        if not desk.end_path(self.home.run(job.id)).exists():
            raise Refused("more.gone", _NO_END)
        index = report.look.index
        if not 1 <= steps <= _MOST_STEPS - index:
            said = f"{steps} more would be {index + steps} steps; at most {_MOST_STEPS} can be."
            raise Refused("more.steps", said, "more_steps")
        asked, _ = desk.read_order(job.request, self.home)
        request = report.request.model_copy(update={"steps": index + steps})
        picture = saved(job)
        parent = Parent(job.id, index, picture.name if picture else job.title)
        asked = replace(asked, requests=[request], notes=[], repeated=None)
        return self.order(asked, stop, owner, parent, steps)

    def vary(self, job_id: str, count: int, stop: threading.Event, owner: str = OWNER) -> list[Run]:
        """Make the same with so many other seeds. Raises `Refused`, and `Busy`."""
        job = self.store.job(owner, job_id)
        asked, _ = desk.read_order(job.request, self.home)
        (request,) = asked.requests
        seed = secrets.randbelow(2**32)
        seeds = [(seed + more) % (MOST_SEED + 1) for more in range(count)]
        requests = [request.model_copy(update={"seed": seed}) for seed in seeds]
        return self._order_all(replace(asked, requests=requests, repeated=None), stop, owner)

    def can_go_on(self, job: Job) -> bool:
        """Whether `go_on` would find something to go on from."""
        return job.state in ("cancelled", "failed") and bool(job.snapshot)

    def can_take_more(self, job: Job) -> bool:
        """Whether `more` would find out how it ended."""
        return job.state == "done" and desk.end_path(self.home.run(job.id)).exists()

    def film(self, job: Job) -> Path | None:
        """How its picture came about, as a film; it is there a moment after the picture."""
        return film.ready(self.home.run(job.id))

    def film_note(self, job: Job) -> str:
        """What its film does not show: a sentence, or nothing."""
        parent = desk.parent_of(job.request)
        return f"It begins at step {parent.step}, where the picture before ended." if parent else ""

    # --- what goes on ------------------------------------------------------------------------

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

    def past(self, job: Job) -> Run:
        """What is known of a run that is over."""
        run = Run(job, self._asked(job), threading.Event())
        run.read(self.home.run(job.id))
        run.end()
        run.over.set()
        return run

    def _found(self, job: Job) -> Run:
        with self._lock:
            return self._runs.setdefault(job.id, Run(job, self._asked(job), threading.Event()))

    def _asked(self, job: Job) -> Asked:
        """What is known of it without its inputs."""
        return Asked([desk.request_of(job.request)], Inputs(), [])

    # --- looks -------------------------------------------------------------------------------

    def propose(self, picture: Canonical, name: str, words: str, **where: Any) -> Proposal:
        """What an edit would do (`app.editing.propose`). Raises `Refused`."""

        def look() -> Proposal:
            clip = self.models.clip("pocket", "float32")
            return editing.propose(picture, name, words, clip, **where)

        return self._look(look)

    def proposed(self, run: Run) -> Proposal:
        """What an edit does that is on its way. Raises `Refused` where its picture is gone."""
        return editing.proposed(desk.read_order(run.job.request, self.home)[0])

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
        stop: threading.Event | None = None,
    ) -> Heard:
        """What is in a section of a sound (`app.listening.hear`). Raises `Refused`.

        What cannot be used is refused at once; listening waits for its turn. Whoever sets `stop`
        ends it soon, with `Stopped`.
        """
        opened = sounds.open_sound(path, start=start, seconds=seconds)

        def check() -> None:
            if stop and stop.is_set():
                raise Stopped

        def look() -> Heard:
            check()
            return listening.hear(
                opened,
                name,
                self.models,
                encoder=listening.ENCODER if sound else "",
                speech=listening.SPEECH if speech else "",
                mood=mood,
                check=check,
            )

        return self._look(look)

    def best(self, runs: Sequence[Run]) -> Run | None:
        """Which of several pictures of the same words the judge likes best; None where it is mute.

        It is, too, as long as one is not finished: who stopped that one wants to see it.
        """
        paths = [run.saved for run in runs if run.job.state == "done" and run.saved]
        if len(paths) < len(runs):
            return None

        def look() -> int | None:
            pictures = [to_tensor(open_picture(path)) for path in paths]
            return pipeline.best(runs[0].request, self.models, pictures)

        index = self._look(look)
        return None if index is None else runs[index]

    def _warm_ears(self, _: object = None) -> None:
        """The first sound need not wait for what hears it: load that beside all else."""

        def load() -> None:
            try:
                self._look(lambda: listening.warm(self.models))
            except Exception:  # without it the first sound has to wait, and says what is wrong
                log.exception("What hears sounds could not be loaded.")

        threading.Thread(target=load, name="ears", daemon=True).start()

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


def _models(request: Request) -> Iterator[tuple[Kind, str]]:
    yield "generator", request.generator
    yield from (("clip", guide.name) for guide in request.clips)
    yield from (("sound", sound.encoder) for sound in request.sounds)


def _title(request: Request) -> str:
    """What people may search for: the words, and what an edited picture was called."""
    words = request.prompt or steering(request)
    if request.edit:
        words = request.edit.instruction
        words += f" ({request.init.name})" if request.init else ""
    return words[:_MOST_TITLE]
