"""Who makes pictures: takes jobs from the list one by one, and may be killed at any time.

A `Slot` is one place for one job at a time, in a thread of the page's process or in a process of
its own (`main`). All that others may see of it is in the list of jobs and on the desk.
"""

from __future__ import annotations

import logging
import os
import pkgutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from app import desk, film, images, planner, results, saving, snapshots
from app.catalog import ModelError
from app.desk import Home, Look, Parent, Report, Trace
from app.errors import Failed, Refused
from app.generate import choose_device
from app.images import Pixels
from app.jobs import Artifact, Job, Store
from app.models import Models
from app.notes import notes
from app.options import Asked
from app.pipeline import Inputs
from app.planner import Made
from app.recipe import VERSION, hashes, make_recipe
from app.request import Request, make_request, read_request
from app.stopping import Stopped
from guidance.optimise import Diverged, Snapshot

Say = Callable[[str], None]

PICTURE = desk.PICTURE
CLOSED = "The studio was closed. This goes on when it is open again."

_GLANCE = 0.25  # seconds between two looks: what a viewer can follow
_GRACE = 10.0  # seconds to put the work away in; then the process ends all the same
_PATIENCE = (0.5, 1.0, 2.0)  # seconds between two tries to tell the list how a job ended
_NO_END = (
    "Where {picture!r} ended is not kept any more, so nothing can go on from there. Use the "
    "picture as a start instead."
)
_PUZZLED = (
    "Something went wrong that should not have ({kind}). The terminal where the program runs has "
    "the details; trying again with other settings may work."
)
# What goes wrong in a way that people understand, and its code where it has none of its own.
_EXPECTED: dict[type[Exception], str] = {
    Refused: "refused",
    Failed: "failed",
    ModelError: "model",
    Diverged: "failed.diverged",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timing:
    """How long things may take, in seconds."""

    beat: float = 2.5  # between two signs of life
    lease: float = 10.0  # without one, a job is given to somebody else
    idle: float = 2.0  # between two looks at the list: another process may have put a job there
    snapshot: float = 10.0  # between two snapshots
    wedged: float = 120.0  # in one place of a step: then there are no more signs of life
    start: float = 180.0  # until the first sign: a busy machine needs long to import torch
    stop: float = 5.0  # from a wish to stop until SIGTERM
    kill: float = 2.0  # and from there until SIGKILL
    back_off: float = 1.0  # after the first crash; doubled with each, up to `most_back_off`
    most_back_off: float = 30.0


@dataclass
class _Task:
    """A job that is being made. The thread that makes it writes; the heart reads, and `word`."""

    job: Job
    folder: Path
    ending: threading.Event  # of the whole slot
    word: str = ""  # "cancel" or "lost": why it is to end
    checked: float = field(default_factory=time.monotonic)
    place: Path = Path()
    request: Request | None = None  # as it is carried out
    notes: list[str] = field(default_factory=list)
    expected: str = ""
    step: int = 0
    before: float = 0.0  # seconds that earlier processes have worked on it
    began: float | None = None
    look_due: float = 0.0
    snapshot_due: float = 0.0
    newest: tuple[Made, Snapshot] | None = None
    shown: tuple[Made, Pixels, float] | None = None  # and seconds
    snapshot: str | None = None
    parent: Parent | None = None  # from whose end it goes on
    trace: Trace = field(default_factory=Trace)
    is_over: bool = False  # and the list knows

    def check(self) -> None:
        """Raise `Stopped` when it is to end."""
        self.checked = time.monotonic()
        if self.word or self.ending.is_set():
            raise Stopped

    @property
    def seconds(self) -> float:
        """Since its first picture, in this process and in earlier ones."""
        return self.before + (time.monotonic() - self.began if self.began else 0.0)

    def report(self) -> None:
        """Tell the page how far it is."""
        assert self.request is not None
        look = None
        if self.shown:
            made, pixels, seconds = self.shown
            step = made.step
            look = Look(step.index, self.request.steps, dict(step.losses), seconds, pixels)
        report = Report(self.request, tuple(self.notes), self.expected, look, self.trace)
        desk.write_report(report, self.folder)


class Slot:
    """Makes one picture at a time until somebody calls `end`."""

    def __init__(
        self,
        store: Store,
        models: Models,
        home: Home,
        worker: str,
        *,
        timing: Timing | None = None,
        say: Say = lambda line: None,
    ) -> None:
        """`worker` names this slot in this life; `say` hears what happens.

        In lines: `alive` now and then, `warm` or `cold SENTENCE` in the beginning, and `took ID`
        and `left ID` of each job.
        """
        self.store, self.models, self.home, self.worker = store, models, home, worker
        self.device = models.device  # where the steps are made
        self.timing, self._say = timing or Timing(), say
        self._ending, self._over, self._wake = (threading.Event() for _ in range(3))
        self._task: _Task | None = None
        self._measured: set[str] = set()

    # --- called from other threads -----------------------------------------------------------

    def wake(self) -> None:
        """Look at the list now: there is something new on it."""
        self._wake.set()

    def stop(self, job_id: str) -> None:
        """End a job in the middle of a step, if it is the one being made, and keep its picture."""
        task = self._task
        if task and task.job.id == job_id:
            task.word = task.word or "cancel"

    def end(self) -> None:
        """Put the work away so that it can go on later, and return from `serve`."""
        self._ending.set()
        self._wake.set()

    # --- the thread that works ---------------------------------------------------------------

    def serve(self) -> None:
        """Load what an everyday request needs, then make what is on the list, until `end`."""
        heart = threading.Thread(target=self._live, name="heart", daemon=True)
        heart.start()
        try:
            self._warm()
            while not self._ending.is_set():
                if not self.work():
                    self._wake.wait(self.timing.idle)
                    self._wake.clear()
        finally:
            self._over.set()
            heart.join()

    def work(self) -> bool:
        """Make the next picture on the list; False when nothing waits."""
        try:
            job = self.store.claim(self.worker, self.timing.lease)
        except Failed as error:  # the disk is full, or another process holds the list
            log.warning("%s", error)
            return False
        if job is None:
            return False
        task = _Task(job, self.home.run(job.id), self._ending)
        self._carry_out(task)
        self._roll(task)
        if task.shown and task.request:  # its models work
            self._learn(task.request)
        return True

    def _warm(self) -> None:
        everyday = make_request({"prompt": "a picture"})
        try:
            everyday, _ = planner.plan(everyday, self.models, self.models.device)
        except Exception as error:
            _, sentence = _explained(error)
            self._say(f"cold {sentence}")
        else:
            self._say("warm")
            if not desk.knows(everyday, self.home):  # else what was interrupted goes on first
                self._learn(everyday)

    def _learn(self, request: Request) -> None:
        """Measure what the models of a request cost, once: the page estimates by it."""
        guides = [guide.name for guide in request.clips]
        key = " ".join([request.generator, *guides, request.precision])
        if key in self._measured:
            return
        self._measured.add(key)
        try:
            side = max(self.models.clip(name, request.precision).side for name in guides)
            desk.learn(request, planner.measure(request, self.models), side, self.home)
        except Exception:  # an estimate is not worth a life
            log.warning("The speed of %s could not be measured.", key, exc_info=True)

    # --- one job -----------------------------------------------------------------------------

    def _carry_out(self, task: _Task) -> None:
        """Make it, and however that ends, say so in the list."""
        self._task = task
        self._say(f"took {task.job.id}")
        try:
            with self._settled(task):
                self._listen(task)  # somebody may have stopped it in this very moment
                self._make(task)
                self._keep(task)
        except Exception:  # the list cannot even be told: then it has to find out by itself
            log.exception("A job could not be put away.")
            self._give_up()
        finally:
            self._task = None
            self._say(f"left {task.job.id}")

    @contextmanager
    def _settled(self, task: _Task) -> Iterator[None]:
        """Inside, what goes wrong becomes a line in the list."""
        try:
            yield
        except Stopped:
            self._put_away(task)
        except Exception as error:
            code, sentence = _explained(error)
            if code == "disk.full":
                self._pause(task, "paused.disk", sentence)
            else:
                failed = partial(self.store.fail, task.job, code, sentence)
                self._tell(failed, task, self._rescued(task))

    def _make(self, task: _Task) -> None:
        task.check()  # people leave while they wait
        asked, task.place = desk.read_order(task.job.request, self.home)
        task.parent = desk.parent_of(task.job.request)
        begun = self._begun(task)
        request, snapshot = begun or (self._planned(task, asked), self._inherited(task))
        task.request = request
        hashes(request, self.models)  # now, for they are remembered: stopping must not have to wait
        task.report()
        task.snapshot_due = time.monotonic() + self.timing.snapshot

        def note(sentence: str) -> None:
            task.notes.append(sentence)

        owner, inputs = task.job.owner, asked.inputs
        for made in self.steps(
            owner, request, inputs, resume=snapshot, check=task.check, tell=note
        ):
            self._see(task, made)

    def steps(
        self,
        owner: str,
        request: Request,
        inputs: Inputs,
        *,
        resume: Snapshot | None,
        check: Callable[[], None],
        tell: Callable[[str], None],
    ) -> Iterator[Made]:
        """Make a planned request of somebody (see `planner.make`): here, by our own models."""
        return planner.make(request, self.models, inputs, resume=resume, check=check, tell=tell)

    def _planned(self, task: _Task, asked: Asked) -> Request:
        """Settle it so that it fits into memory."""
        (request,) = asked.requests
        request, expected = planner.plan(request, self.models, self.models.device)
        task.notes, task.expected = notes(asked, request, self.models), str(expected)
        return request

    def _begun(self, task: _Task) -> tuple[Request, Snapshot] | None:
        """Where an earlier process was, if it left a snapshot that fits."""
        try:
            snapshot, meta = snapshots.load_latest(task.folder)
            if (meta["job"], meta["version"]) != (task.job.request_hash, _major(VERSION)):
                return None
            request = read_request(meta)
        except Refused as error:
            if error.code != "snapshot.none":
                log.warning("%s It begins anew.", error)
            return None
        task.notes, task.expected, task.before = meta["notes"], meta["expected"], meta["seconds"]
        task.trace = Trace.read(meta.get("trace"))
        task.snapshot, task.step = str(task.folder), snapshot.index
        return request, snapshot.to(self.models.device)

    def _inherited(self, task: _Task) -> Snapshot | None:
        """Where the run ended from which this one goes on. Raises `Refused` if nobody knows."""
        if task.parent is None:
            return None
        try:
            snapshot, meta = snapshots.load(desk.end_path(self.home.run(task.parent.job)))
        except Refused as error:
            raise Refused("job.no_end", _NO_END.format(picture=task.parent.picture)) from error
        if meta["version"] != _major(VERSION):
            raise Refused("job.no_end", _NO_END.format(picture=task.parent.picture))
        task.notes.append(f"Goes on from step {task.parent.step} of {task.parent.picture}.")
        task.trace, task.before = Trace.read(meta.get("trace")), meta["seconds"]
        return snapshot.to(self.models.device)

    def _see(self, task: _Task, made: Made) -> None:
        """A step is done: show it, and write down where we are, when it is time to."""
        task.began = task.began or time.monotonic()
        task.request, task.step = made.request, made.step.index
        task.newest = made, made.step.snapshot()
        task.trace = task.trace.after(task.step, made.step.losses, made.request.steps)
        if time.monotonic() >= task.look_due or made.step.last:
            task.shown = made, made.pixels(), task.seconds
            task.report()
            task.look_due = time.monotonic() + _GLANCE
        self._film(task, made)
        if time.monotonic() >= task.snapshot_due and not made.step.last:
            self._note_down(task)
            task.snapshot_due = time.monotonic() + self.timing.snapshot

    def _note_down(self, task: _Task) -> None:
        """Write a snapshot, if there is anything to go on from."""
        if task.newest is None or (task.request and task.request.edit):
            return  # what the loop sees of an edit is made anew each time, so it begins again
        made, snapshot = task.newest
        snapshots.save_in(task.folder, snapshot, _meta(task, made.request))
        task.snapshot = str(task.folder)

    def _note_end(self, task: _Task) -> None:
        """Write down where it ended, so that another run can go on from there."""
        if task.newest is None or (task.request and task.request.edit):
            return
        made, snapshot = task.newest
        try:
            snapshots.save(snapshot, desk.end_path(task.folder), _meta(task, made.request))
            desk.forget_ends(self.home)
        except (Failed, Refused) as error:  # the picture is there all the same
            log.warning("%s", error)

    # --- the film ----------------------------------------------------------------------------

    def _film(self, task: _Task, made: Made) -> None:
        """Keep a frame when it is time to; an edit shows too little change for a film."""
        step = made.step
        if made.request.edit or not film.is_due(step.index, made.request.steps):
            return
        # on the way as it moves: the average would need one more decode for each frame
        pixels = task.shown[1] if step.last and task.shown else images.to_pixels(step.image)
        try:
            film.keep(task.folder, step.index, pixels)
        except OSError as error:  # no film is worth a picture
            log.warning("A frame was not kept: %s.", error)

    def _roll(self, task: _Task) -> None:
        """Make the film of a run that is over; one that was stopped needs its frames again."""
        if not task.is_over or not task.shown:
            return
        try:
            film.make(task.folder)
        except Exception:  # it is the smallest part of what was asked for
            log.warning("The film of a run could not be made.", exc_info=True)
        if task.shown[0].step.last:
            film.clear(task.folder)

    # --- how it ends -------------------------------------------------------------------------

    def _keep(self, task: _Task) -> None:
        """It is done."""
        picture = self._save(task)
        self._note_end(task)
        self._listen(task)  # the list learns of the last step
        self._tell(partial(self.store.finish, task.job, result=picture.path), task, [picture])
        for path in task.folder.glob("snapshot-*"):
            path.unlink(missing_ok=True)

    def _put_away(self, task: _Task) -> None:
        """It was stopped: by somebody who wants its picture, or because the studio closes."""
        if task.word == "lost":
            return  # somebody else makes it now, in the same folder
        try:
            self._note_down(task)
        except (Failed, Refused) as error:
            log.warning("%s", error)  # then it goes on from the one before
        if task.word == "cancel":
            self._listen(task)  # the list learns of the snapshot
            self._tell(partial(self.store.cancelled, task.job), task, self._rescued(task))
        else:
            self._pause(task, "paused.shutdown", CLOSED)

    def _rescued(self, task: _Task) -> list[Artifact]:
        """What there is of the picture, if there is anything and it can be saved."""
        try:
            return [self._save(task)] if task.shown else []
        except (Failed, Refused) as error:
            log.warning("%s", error)
            return []

    def _save(self, task: _Task) -> Artifact:
        assert task.shown is not None
        made, pixels, _ = task.shown
        step = made.step
        place = task.place if step.last else results.at_step(task.place, step.index)
        with saving.explained(place):
            place.parent.mkdir(parents=True, exist_ok=True)
        recipe = make_recipe(made.request, self.models, step)
        recipe["run"]["device"] = self.device
        if task.parent:  # the request alone would not make this very picture
            recipe["run"]["from"] = {"picture": task.parent.picture, "step": task.parent.step}
        note = desk.note_path(task.folder, place)  # a process that is killed now saves it only once
        path = images.save_png(place, pixels, recipe, made.alpha, note)
        return desk.artifact(PICTURE, path)

    def _pause(self, task: _Task, code: str, sentence: str) -> None:
        _insist(partial(self.store.pause, task.job, code, sentence, snapshot=task.snapshot))

    def _tell(self, ended: Callable[..., bool], task: _Task, pictures: list[Artifact]) -> None:
        """Tell the list how it ended, with all files that belong to it.

        If the job is not ours any more, nobody will ever look at the pictures.
        """
        kept = False
        try:
            given = desk.given(task.job.request, self.home)
            kept = _insist(partial(ended, artifacts=[*pictures, *given]))
            task.is_over = kept
        finally:
            if not kept:
                self._discard(task, pictures)
        if kept:
            for note in desk.notes_in(task.folder):
                note.unlink(missing_ok=True)

    def _discard(self, task: _Task, pictures: list[Artifact]) -> None:
        """Remove what nobody will look at. Who has the job now may have found it by its note."""
        try:
            job = self.store.job(task.job.owner, task.job.id)
            wanted = {file.path for file in job.artifacts} if job.is_over else None
        except Refused:  # it was deleted for good
            wanted = set()
        except Failed:
            return
        for picture in pictures:
            if wanted is not None and picture.path not in wanted:
                Path(picture.path).unlink(missing_ok=True)

    def _give_up(self) -> None:
        try:
            self.store.release(self.worker)
        except Failed as error:
            log.warning("%s", error)

    # --- signs of life -----------------------------------------------------------------------

    def _live(self) -> None:
        """Tell every few seconds that we are here, and hear whether the job is still wanted."""
        self._say("alive")
        while not self._over.wait(self.timing.beat):
            task = self._task
            if task and time.monotonic() - task.checked > self.timing.wedged:
                continue  # whoever watches will miss us
            self._say("alive")
            if task:
                self._listen(task)

    def _listen(self, task: _Task) -> None:
        try:
            word = self.store.beat(
                task.job,
                step=task.step,
                total=task.request.steps if task.request else 0,
                lease_seconds=self.timing.lease,
                preview=str(desk.preview_path(task.folder)),
                snapshot=task.snapshot,
            )
        except Failed as error:  # the next one may get through
            log.warning("%s", error)
            return
        if word != "go on":
            task.word = word


def _explained(error: Exception) -> tuple[str, str]:
    """A code, and a sentence for people; what is a mistake of ours goes to the log in full."""
    for kind, code in _EXPECTED.items():
        if isinstance(error, kind):
            return getattr(error, "code", code), str(error)
    log.error("A run failed.", exc_info=error)
    return "failed.bug", _PUZZLED.format(kind=type(error).__name__)


def _insist(change: Callable[[], bool]) -> bool:
    """Change the list, also when it is busy for a while: all that was worked for depends on it."""
    for pause in _PATIENCE:
        try:
            return change()
        except Failed as error:
            log.warning("%s", error)
            time.sleep(pause)
    return change()


def _meta(task: _Task, request: Request) -> dict[str, Any]:
    """What to know of a run beside its snapshot."""
    return {
        "job": task.job.request_hash,
        "version": _major(VERSION),
        "request": request.model_dump(mode="json"),
        "notes": task.notes,
        "expected": task.expected,
        "seconds": task.seconds,
        "trace": asdict(task.trace),
    }


def _major(version: str) -> str:
    return version.partition(".")[0]


# --- in a process of its own -----------------------------------------------------------------


def open_models() -> Models:
    """The models of the studio, on the fastest device there is."""
    return Models(choose_device(None), may_fetch=False)  # nobody is asked here


def main(home: str, worker: str, models: str, threads: int, timing: Mapping[str, float]) -> None:
    """Serve as the child of `app.executors`.

    Lines come in (`wake`, `stop ID`, `end`), the lines of a `Slot` go out. When there is nobody
    any more to send us lines, we end. `models`: "module:function" that opens them.
    """
    say = _channel()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started us
    torch.set_num_threads(threads or torch.get_num_threads())
    place = Home(Path(home))
    store = Store(place.jobs)
    opened = pkgutil.resolve_name(models)()
    slot = Slot(store, opened, place, worker, timing=Timing(**timing), say=say)
    signal.signal(signal.SIGTERM, lambda *_: slot.end())
    threading.Thread(target=_obey, args=(slot,), name="ears", daemon=True).start()
    slot.serve()
    store.close()


def _channel() -> Say:
    """How to speak to our parent: by what was standard output, which no library shall write to."""
    ours = os.dup(1)
    os.dup2(2, 1)

    def say(line: str) -> None:
        with suppress(OSError):  # nobody listens any more; then our ears hear that, too
            os.write(ours, f"{' '.join(line.split())}\n".encode())

    return say


def _obey(slot: Slot) -> None:
    orders: dict[str, Callable[[str], Any]] = {
        "wake": lambda _: slot.wake(),
        "stop": slot.stop,
        "end": lambda _: slot.end(),
    }
    # not sys.stdin, whose lock would be held when the process ends
    with open(0, "rb", buffering=0, closefd=False) as lines:
        for line in lines:
            word, _, rest = line.decode().strip().partition(" ")
            orders[word](rest)
    slot.end()
    time.sleep(_GRACE)
    os._exit(1)  # it is stuck, and nobody is left to kill it
