"""Who carries out jobs: a thread of this process, or processes that are watched and replaced.

The list of jobs (`app.jobs`) is the truth. An executor only sees to it that somebody works on it:
it is told when there is something new, or something to be stopped, and nothing else.

    page's process                               child, one for each slot (`app.slot.main`)
    writes lines: wake, stop ID, end      ──►    claims jobs, makes pictures, writes to the list
    reads lines; kills who is silent      ◄──    alive, warm or cold SENTENCE, took ID, left ID

A child is started anew (spawned, never forked): torch's threads and a GPU do not survive a fork.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from app import desk, images, results, saving
from app.desk import Home
from app.errors import Failed, Refused
from app.files import MIB
from app.jobs import Job, Store
from app.models import Models
from app.slot import Slot, Timing

_ROOT = Path(__file__).resolve().parent.parent
_START = (
    "import json, sys; order = json.loads(sys.argv[1]); sys.path[:] = order.pop('path');"
    "from app.slot import main; main(**order)"
)
# All that a child sees of our environment; secrets often lie there.
_NAMES = (
    "PATH HOME USER TMPDIR TEMP TMP LANG TZ SYSTEMROOT APPDATA LOCALAPPDATA USERPROFILE".split()
)
_PREFIXES = "LC_ SYNESTHETE_ XDG_ OMP_ MKL_ OPENBLAS_ KMP_ NUMBA_ TORCH PYTORCH_ CUDA ROCR_ HIP_"
_PREFIXES += " HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy"
_PREFIXES += " LD_LIBRARY_PATH DYLD_ PYTHONWARNINGS HF_HUB_OFFLINE HF_HOME SSL_CERT MALLOC_"
_TICK = 0.1  # seconds between two looks at a child
_TIDY = 3.0  # seconds between two looks at what was put away by a studio that closed
_DISK = 30.0  # and at what waits for room: it would only fill the disk again
_PURGE = 3600.0  # and at what was deleted
_KEPT = 30 * 86_400.0  # seconds for which a deleted job can come back
_ROOM = 256 * MIB  # bytes that have to be free then
_HOPELESS = 3  # crashes without any use; then people hear of it
_DOES_NOT_START = (
    "The program that makes pictures does not start. The terminal where the studio runs has the "
    "details."
)

log = logging.getLogger(__name__)


class Executor(Protocol):
    """Somebody who works on a list of jobs."""

    warm: Future[None]  # done when an everyday request would begin at once; or it says why not

    @property
    def is_alive(self) -> bool:
        """Whether anybody is there who works."""
        ...

    def start(self) -> None:
        """Begin to work."""
        ...

    def wake(self) -> None:
        """Look at the list now."""
        ...

    def cancel(self, job_id: str) -> None:
        """End a job that the list was asked to stop; any number of times, of any job."""
        ...

    def close(self, deadline: float = 15.0) -> None:
        """Put the work away so that it can go on later. After so many seconds nothing runs."""
        ...


class _Warmth:
    """Whether an executor is ready; the first word counts."""

    def __init__(self) -> None:
        self.future: Future[None] = Future()

    def hear(self, word: str, rest: str) -> None:
        with suppress(InvalidStateError):
            if word == "warm":
                self.future.set_result(None)
            elif word == "cold":
                self.future.set_exception(Failed("models.cold", rest))

    def close(self) -> None:
        self.future.cancel()


class InlineExecutor:
    """Works in a thread of this process, with models that are there already.

    For the tests, and where a process must not have children. Nobody can kill it: a job that hangs
    holds up all others.
    """

    slot = Slot  # what works in that thread

    def __init__(self, home: Home, models: Models, *, timing: Timing | None = None) -> None:
        """Nothing is started yet."""
        self._store, self._warmth = Store(home.jobs), _Warmth()
        self.warm = self._warmth.future
        worker = f"inline-{uuid.uuid4()}"
        self._slot = self.slot(self._store, models, home, worker, timing=timing, say=self._hear)
        self._thread = threading.Thread(target=self._slot.serve, name="pictures", daemon=True)

    @property
    def is_alive(self) -> bool:
        """Whether the thread lives."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to work."""
        self._store.resume_paused()
        self._thread.start()

    def wake(self) -> None:
        """Look at the list now."""
        self._slot.wake()

    def cancel(self, job_id: str) -> None:
        """End a job that the list was asked to stop."""
        self._slot.stop(job_id)

    def close(self, deadline: float = 15.0) -> None:
        """Put the work away. A thread that does not end in time is left behind."""
        self._slot.end()
        if self._thread.ident is not None:
            self._thread.join(deadline)
        if not self._thread.is_alive():
            self._store.close()
        self._warmth.close()

    def _hear(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        self._warmth.hear(word, rest)


class ProcessExecutor:
    """Works in processes of their own, one for each slot; whoever dies or hangs is replaced."""

    def __init__(
        self,
        home: Home,
        *,
        slots: int = 1,
        models: str = "app.slot:open_models",
        timing: Timing | None = None,
    ) -> None:
        """`models`: "module:function" that opens them in the child. Nothing is started yet."""
        self._store, self._warmth = Store(home.jobs), _Warmth()
        self._home, self._timing = home, timing or Timing()
        self.warm = self._warmth.future
        self._ending = threading.Event()
        threads = 0 if slots == 1 else max(1, (os.cpu_count() or 1) // slots)
        self._keepers = [
            _Keeper(
                f"slot-{number}",
                self._store,
                {"home": str(home.root.absolute()), "models": models, "threads": threads},
                self._timing,
                self._ending,
                self._warmth.hear,
            )
            for number in range(1, slots + 1)
        ]
        self._tidier = threading.Thread(target=self._tidy, name="tidier", daemon=True)

    @property
    def pids(self) -> list[int]:
        """The processes that live now."""
        return [keeper.child.pid for keeper in self._keepers if keeper.child]

    @property
    def is_alive(self) -> bool:
        """Whether at least one process lives."""
        return any(child.is_alive for keeper in self._keepers if (child := keeper.child))

    def start(self) -> None:
        """Begin to work."""
        for thread in (*self._keepers, self._tidier):
            thread.start()

    def wake(self) -> None:
        """Look at the list now."""
        for keeper in self._keepers:
            keeper.say("wake")

    def cancel(self, job_id: str) -> None:
        """End a job that the list was asked to stop: kindly, then by SIGTERM, then by SIGKILL."""
        for keeper in self._keepers:
            keeper.cancel(job_id)

    def close(self, deadline: float = 15.0) -> None:
        """Put the work away; whoever is not done in time is killed."""
        self._ending.set()
        until = time.monotonic() + deadline
        for keeper in self._keepers:
            keeper.end(until)
        for thread in (*self._keepers, self._tidier):
            if thread.ident is not None:
                thread.join()
        self._store.close()
        self._warmth.close()

    def _tidy(self) -> None:
        """What has to be done now and then."""
        tasks = {self._go_on: _TIDY, self._use_room: _DISK, self._adopt: _DISK}
        tasks[self._purge] = _PURGE
        due = dict.fromkeys(tasks, 0.0)
        while not self._ending.wait(_TICK):
            for task, pause in tasks.items():
                if time.monotonic() >= due[task]:
                    with suppress(Failed, OSError):  # the next time it may work
                        task()
                    due[task] = time.monotonic() + pause

    def _go_on(self) -> None:
        if self._store.resume_paused("paused.shutdown"):
            self.wake()

    def _use_room(self) -> None:
        roomy = shutil.disk_usage(self._home.root).free > _ROOM
        if roomy and self._store.resume_paused("paused.disk"):
            self.wake()

    def _purge(self) -> None:
        self._home.remove(self._store.purge(_KEPT))
        self._home.sweep(results.folder(), self._store.unneeded)

    def _adopt(self) -> None:
        """Pictures that were saved by a process that died before it could say so.

        A job that goes on finds its own again; this is for those that are over.
        """
        for note in self._home.runs.glob("*/saved-*.json"):
            _adopt(note, self._store)


def _adopt(note: Path, store: Store) -> None:
    """Give the picture of a note to its job, unless that may go on and find it by itself."""
    picture = saving.noted(note)
    files = [desk.artifact(desk.PICTURE, picture)] if picture else []
    kept = store.adopt(note.parent.name, files)
    if kept is None and picture:
        picture.unlink(missing_ok=True)  # whoever ordered it wants nothing kept
    if kept is not False:
        note.unlink(missing_ok=True)


class _Child:
    """One life of a process."""

    def __init__(self, slot: str, arguments: dict[str, object], timing: Timing) -> None:
        self.worker = f"{slot}-{uuid.uuid4()}"
        order = {
            "path": [str(_ROOT), *(os.path.abspath(folder) for folder in sys.path if folder)],
            **arguments,
            "worker": self.worker,
            "timing": asdict(timing),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is ours to answer
        )
        self._lock = threading.Lock()
        self.heard = time.monotonic()
        self.is_up = self.was_useful = False
        self.job = ""  # that it makes now

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def say(self, line: str) -> None:
        """Never waits: a pipe holds thousands of lines, and whoever reads none is soon killed."""
        stream = self._process.stdin
        assert stream is not None
        with self._lock, suppress(OSError, ValueError):  # it is dead, and soon replaced
            stream.write(f"{line}\n".encode())
            stream.flush()

    def listen(self, hear: Callable[[str, str], None]) -> None:
        """Until it has nothing more to say."""
        stream = self._process.stdout
        assert stream is not None
        for line in stream:
            word, _, rest = line.decode(errors="replace").strip().partition(" ")
            self.heard, self.is_up = time.monotonic(), True
            if word == "took":
                self.job = rest
            elif word == "left":
                self.job, self.was_useful = "", True
            hear(word, rest)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def bury(self) -> None:
        """It is dead: leave nothing of it behind."""
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with self._lock, suppress(OSError):
                stream.close()


class _Keeper(threading.Thread):
    """Sees to it that a slot has a process that lives."""

    def __init__(
        self,
        slot: str,
        store: Store,
        arguments: dict[str, object],
        timing: Timing,
        ending: threading.Event,
        hear: Callable[[str, str], None],
    ) -> None:
        super().__init__(name=slot, daemon=True)
        self.child: _Child | None = None
        self._store, self._arguments, self._timing = store, arguments, timing
        self._home = Home(Path(str(arguments["home"])))
        self._ending, self._hear = ending, hear
        self._cancelled: dict[str, float] = {}  # job -> when it was asked to stop
        self._until = float("inf")

    def say(self, line: str) -> None:
        """To the child that lives now, if any; a new one looks at the list by itself."""
        if child := self.child:
            child.say(line)

    def cancel(self, job_id: str) -> None:
        """Stop a job if it is made here, by force if need be."""
        self._cancelled.setdefault(job_id, time.monotonic())
        self.say(f"stop {job_id}")

    def end(self, until: float) -> None:
        """No new child; the one that lives has until then."""
        self._until = until
        self.say("end")  # a child that is only being born is killed by `_mind`

    def run(self) -> None:
        """Start a child, mind it until it is dead, clean up after it, and again."""
        crashes = 0
        while not self._ending.is_set():
            crashes = 0 if self._live() else crashes + 1
            if crashes == _HOPELESS:
                self._hear("cold", _DOES_NOT_START)
            if not self._ending.is_set():
                log.warning("A process that makes pictures ended. Another one takes its place.")
                pause = self._timing.back_off * 2 ** max(0, crashes - 1)
                self._ending.wait(min(pause, self._timing.most_back_off))

    def _live(self) -> bool:
        """One child from its birth to its death. Whether it was of any use."""
        try:
            child = _Child(self.name, self._arguments, self._timing)
        except OSError as error:  # no memory, no process left
            log.warning("No process can be started: %s.", error)
            return False
        self.child = child
        ears = threading.Thread(target=child.listen, args=(self._heard,), daemon=True)
        ears.start()
        self._mind(child)
        ears.join()
        self.child = None
        child.bury()
        self._release(child.worker)
        return child.was_useful

    def _mind(self, child: _Child) -> None:
        """Return when it is dead, by itself or by us."""
        terminated = False
        while child.is_alive:
            now, timing = time.monotonic(), self._timing
            silent = now - child.heard > (timing.lease if child.is_up else timing.start)
            late = now - self._cancelled.get(child.job, now)
            unborn = self._ending.is_set() and not child.is_up  # it holds nothing yet
            if silent or unborn or now > self._until or late > timing.stop + timing.kill:
                child.kill()
            elif late > timing.stop and not terminated:
                child.terminate()
                terminated = True
            self._forget_stopped(child.job)
            time.sleep(_TICK)

    def _heard(self, word: str, rest: str) -> None:
        if word == "left":  # the wish is fulfilled; whoever goes on with the job has a new one
            self._cancelled.pop(rest, None)
        self._hear(word, rest)

    def _forget_stopped(self, job: str) -> None:
        """A wish is fulfilled when another job is made, or none, for as long as stopping takes."""
        for job_id, asked in list(self._cancelled.items()):
            if job_id != job and time.monotonic() - asked > self._timing.stop:
                self._cancelled.pop(job_id, None)

    def _release(self, worker: str) -> None:
        """Give back what it held; of what it was asked to stop, the last that was seen is kept."""
        try:
            stopped = [job for job in self._store.held_by(worker) if job.cancel_requested]
            kept = [note for job in stopped if (note := self._rescue(job))]
            self._store.release(worker)
            for note in kept:
                _adopt(note, self._store)
        except Failed as error:  # its leases will run out
            log.warning("%s", error)

    def _rescue(self, job: Job) -> Path | None:
        """Save the preview, at most 512 pixels, of a job whose process had to be killed."""
        folder = self._home.run(job.id)
        report = desk.read_report(folder)
        if report is None or report.look is None:
            return None
        place = results.at_step(desk.place_of(job.request), report.look.index)
        note = desk.note_path(folder, place)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            images.save_png(place, report.look.pixels, note=note)
        except (Failed, Refused, OSError) as error:
            log.warning("%s", error)
            return None
        return note


def _environment() -> dict[str, str]:
    prefixes = tuple(_PREFIXES.split())
    ours = {
        name: value
        for name, value in os.environ.items()
        if name in _NAMES or name.startswith(prefixes)
    }
    return {"OMP_WAIT_POLICY": "passive", **ours}
