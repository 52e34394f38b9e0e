"""The list of jobs on disk: what was asked for, how far it is, and what came of it.

    queued ─► running ─► done | failed | cancelled        running ─► paused ─► queued

The list is the truth, and everything else looks at it: closing a page or killing a program loses
nothing that was acknowledged. The history is the same list. A job may be of any kind: what it asks
for is kept as text and never read here.

Several processes may use one file, and the threads of a process one `Store`. Who claims a job gets
a lease, a number that no other claim ever has; only its holder can move the job on, and when it
has not been heard of in time, the job goes back to the queue.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import sqlite3
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple

from app import ledger, saving
from app.errors import Refused

State = Literal["queued", "running", "paused", "done", "failed", "cancelled"]
Word = Literal["go on", "cancel", "lost"]

ENDED = ("done", "failed", "cancelled")
MOST_LEASE = 120.0  # seconds
MOST_PAGE = 500  # jobs of the history at a time

_LEAST_SECONDS = 1.0  # each job counts for that much, or thousands of small ones would fit
_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's 32
_AFTER_ALL = "~"  # sorts behind every id


@dataclass(frozen=True)
class Limits:
    """How much may wait. `math.inf` seconds: as much as people like.

    Seconds are of work still to do; something longer is taken all the same when nothing waits.
    """

    queue_seconds: float = 600.0  # everybody's together
    owner_seconds: float = 300.0  # one owner's: nobody fills the queue alone
    owner_jobs: int = 10  # of one owner that are not over
    attempts: int = 3  # that may end without a word, before a job counts as failed


@dataclass(frozen=True)
class Artifact:
    """A file that a job made; `kind` ("picture") and `path` are for whoever reads them."""

    kind: str
    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Job:
    """One job as it stood when it was read. Times are seconds since 1970, by the store's clock."""

    id: str  # 26 letters that sort in the order of submission
    owner: str
    client_key: str
    kind: str
    title: str
    state: State
    seconds: float  # of work, as expected
    attempt: int  # 1 while it is made for the first time
    lease: int | None  # while running
    lease_until: float | None
    worker: str  # who has it, or had it last
    cancel_requested: bool
    step: int
    total: int  # steps, 0 while unknown
    preview: str  # path of the newest, or ""
    snapshot: str  # path of what it can go on from, or ""
    result: str  # for whoever reads it
    error_code: str  # why it failed or is paused, like "disk.full"
    error_text: str  # the same for people
    favourite: bool
    created: float
    started: float | None
    finished: float | None
    deleted: float | None
    request: str
    artifacts: tuple[Artifact, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in ENDED

    @property
    def request_hash(self) -> str:
        """SHA-256 of the request as it was given."""
        return sha256(self.request.encode()).hexdigest()


@dataclass(frozen=True)
class Ahead:
    """What comes before a job: how many, and the seconds of work for one worker."""

    jobs: int
    seconds: float


@dataclass(frozen=True)
class Usage:
    """What somebody takes up: jobs, those deleted too while they can come back, and their files."""

    jobs: int
    bytes: int


@dataclass(frozen=True)
class Event:
    """Something that happened to a job, for diagnosis."""

    at: float
    what: str
    text: str


class Busy(Refused):
    """There is no room for another job; `wait` is about how many seconds until there is."""

    def __init__(self, code: str, message: str, wait: float) -> None:
        """`code` like "queue.full"."""
        super().__init__(code, message)
        self.args = (code, message, wait)  # what pickle gives back to us
        self.wait = wait


_NAMES = tuple(field.name for field in fields(Job) if field.name != "artifacts")
_FILES = """(SELECT json_group_array(json_array(kind, path, sha256, bytes))
    FROM artifacts WHERE job = jobs.id)"""
_JOBS = f"SELECT {', '.join(_NAMES)}, {_FILES} FROM jobs"
_HISTORY = f"""{_JOBS} WHERE owner = ? AND id < ? AND deleted IS NULL AND favourite >= ?
    {{and_words}} ORDER BY id DESC LIMIT ?"""
# Round by round: the owner whose last turn is longest ago comes first, with their oldest job.
_LINE = """SELECT id, owner, seconds FROM (
        SELECT id, jobs.owner, seconds, coalesce(turn, 0) AS turn,
            row_number() OVER mine AS round, first_value(id) OVER mine AS oldest
        FROM jobs LEFT JOIN turns ON turns.owner = jobs.owner
        WHERE state = 'queued' WINDOW mine AS (PARTITION BY jobs.owner ORDER BY id)
    ) ORDER BY round, turn, oldest"""
_RUNNING = """SELECT id, owner, seconds * (1 - min(1.0 * step / max(total, 1), 1))
    FROM jobs WHERE state = 'running' ORDER BY lease"""
_SILENT = "state = 'running' AND (lease_until <= ? OR lease_until > ?)"
_NEEDED = "SELECT 1 FROM artifacts WHERE path = ?"
_HELD = "id = ? AND state = 'running' AND lease = ?"
_FREE: dict[str, Any] = {"lease": None, "lease_until": None}  # in every state but running


class Store:
    """The list of jobs in one file.

    Every method may raise `Failed`: "disk.full", "jobs.busy", "jobs.damaged" and the like; then
    nothing has changed. `notes` says in sentences what was wrong with the file, if anything.
    """

    def __init__(
        self, path: Path, *, clock: Callable[[], float] = time.time, limits: Limits | None = None
    ) -> None:
        """Open the file, or begin it; bring an older one up to date, with a copy beside it.

        A damaged file is set aside and a new one begun. Raises `Refused` for one that a newer
        version wrote or that is none of ours, and for a folder that cannot be written to.
        """
        self.path, self.limits, self.notes = path, limits or Limits(), list[str]()
        self._clock, self._lock, self._process = clock, threading.Lock(), os.getpid()
        saving.check_folder(path.parent, may_make=None)
        with saving.explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with ledger.explained(path):
            self._db = ledger.open_file(path, self.notes)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    # --- asking ------------------------------------------------------------------------------

    def submit(
        self,
        owner: str,
        kind: str,
        request: str,
        *,
        client_key: str,
        title: str,
        seconds: float,
        artifacts: Iterable[Artifact] = (),
    ) -> Job:
        """Put a job on the list; once this returns, not even a power cut loses it.

        `client_key` is new for each wish and the same when it is sent again: then the job there is
        returned. `title` is what people search for, `seconds` the work that is expected, and
        `artifacts` are files that it needs. Raises `Busy`: "queue.full" for everybody's work
        together, "queue.quota" for one owner's.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"{seconds} seconds of work cannot be. Give 0 or more.")
        title = _storable(title)
        row: dict[str, Any] = {
            "owner": owner,
            "client_key": client_key,
            "kind": kind,
            "title": title,
            "words": _fold(title),
            "seconds": max(seconds, _LEAST_SECONDS),
            "request": request,
        }
        with self._transaction() as db:
            known = _find(db, "owner = ? AND client_key = ?", owner, client_key)
            if known:
                return known[0]
            self._admit(db, owner, row["seconds"])
            row |= {"id": _next_id(db, self._clock()), "created": self._clock()}
            marks = ", ".join("?" * len(row))
            db.execute(f"INSERT INTO jobs ({', '.join(row)}) VALUES ({marks})", (*row.values(),))
            _add(db, row["id"], artifacts)
            self._note(db, row["id"], "queued")
            return _find(db, "id = ?", row["id"])[0]

    def ahead(self, job_id: str | None = None) -> Ahead:
        """What comes before a job that waits, or before one that would come last.

        An estimate: who comes later and has waited less often may be served first.
        """
        with self._connection() as db:
            running, line = _work(db)
        places = {work.job: number for number, work in enumerate(line)} | {None: len(line)}
        before = [*running, *line[: places[job_id]]] if job_id in places else []
        return Ahead(len(before), _seconds(before))

    def cancel(self, owner: str, job_id: str) -> Job:
        """Ask a job to stop, any number of times, and return how it stands.

        One that waits is cancelled at once, one that runs when its worker hears of it; one that is
        over stays as it is.
        """
        with self._transaction() as db:
            self._recover(db)
            self._cancel(db, _own(db, owner, job_id))
            return _own(db, owner, job_id)

    def requeue(self, owner: str, job_id: str) -> Job:
        """Go on with a job that failed or was cancelled, from its snapshot.

        One that waits or runs stays as it is. Raises `Refused` where there is nothing to go on
        with, and `Busy` as `submit` does.
        """
        with self._transaction() as db:
            job = _own(db, owner, job_id)
            if not job.is_over:
                return job
            if job.state == "done" or not job.snapshot:
                why = "is done" if job.state == "done" else "has nothing to go on from"
                raise Refused("job.no_snapshot", f"This one {why}. Ask for it again instead.")
            self._admit(db, owner, job.seconds)
            self._move(
                db,
                ("id = ?", job_id),
                "queued",
                "asked to go on",
                attempt=0,
                cancel_requested=False,
                finished=None,
                deleted=None,
                error_code="",
                error_text="",
            )
            return _own(db, owner, job_id)

    # --- working -----------------------------------------------------------------------------

    def claim(self, worker: str, lease_seconds: float) -> Job | None:
        """Take the next job, or None if nothing waits. The job returned is the proof of holding it.

        Owners take turns; of one owner the oldest job comes first. `worker` names one process in
        one life. Jobs whose worker fell silent go back to the queue first, and fail after the last
        attempt.
        """
        with self._transaction() as db:
            self._recover(db)
            first = db.execute(f"{_LINE} LIMIT 1").fetchone()
            if first is None:
                return None
            job_id, owner, _ = first
            lease = db.execute("REPLACE INTO turns (owner) VALUES (?)", (owner,)).lastrowid
            (job,) = _find(db, "id = ?", job_id)
            self._move(
                db,
                ("id = ? AND state = 'queued'", job_id),
                "running",
                worker,
                attempt=job.attempt + 1,
                lease=lease,
                lease_until=self._until(lease_seconds),
                worker=worker,
                started=self._clock() if job.started is None else job.started,
            )
            return _find(db, "id = ?", job_id)[0]

    def beat(
        self,
        job: Job,
        *,
        step: int,
        total: int,
        lease_seconds: float,
        preview: str | None = None,
        snapshot: str | None = None,
    ) -> Word:
        """Say that a claimed job is alive, and how far; hear whether to go on.

        "lost": it is no longer ours; stop, and throw away what was made. A power cut may undo a
        beat, but nothing before it.
        """
        values = {
            "step": step,
            "total": total,
            "lease_until": self._until(lease_seconds),
            **({} if preview is None else {"preview": preview}),
            **({} if snapshot is None else {"snapshot": snapshot}),
        }
        with self._transaction("NORMAL") as db:
            if not _set(db, (_HELD, job.id, job.lease), values):
                return "lost"
            asked = db.execute("SELECT cancel_requested FROM jobs WHERE id = ?", (job.id,))
            return "cancel" if asked.fetchone()[0] else "go on"

    def finish(self, job: Job, *, result: str = "", artifacts: Iterable[Artifact] = ()) -> bool:
        """It is done. False, and nothing changes, when it is no longer ours (in all four)."""
        return self._leave(job, "done", artifacts, result=result)

    def fail(self, job: Job, code: str, text: str, *, artifacts: Iterable[Artifact] = ()) -> bool:
        """It could not be done; `text` says why to people. What there is of it is kept."""
        return self._leave(job, "failed", artifacts, error_code=code, error_text=text)

    def cancelled(self, job: Job, *, artifacts: Iterable[Artifact] = ()) -> bool:
        """It was stopped. What there is of it is kept."""
        return self._leave(job, "cancelled", artifacts)

    def pause(self, job: Job, code: str, text: str, *, snapshot: str | None = None) -> bool:
        """It will go on later, and this was no failed attempt: "paused.disk", "paused.shutdown".

        A job that somebody asked to stop is cancelled instead.
        """
        kept = {} if snapshot is None else {"snapshot": snapshot}
        return self._leave(job, "paused", (), error_code=code, error_text=text, attempt=0, **kept)

    def release(self, worker: str) -> int:
        """Take back at once what a worker held that is known to be dead; return how many."""
        with self._transaction() as db:
            return self._take_back(db, "state = 'running' AND worker = ?", worker)

    def resume_paused(self, code: str | None = None) -> int:
        """Queue what is paused, for one reason or for any; return how many."""
        with self._transaction() as db:
            paused = [
                job
                for job in _find(db, "state = 'paused' ORDER BY id")
                if code in (None, job.error_code)
            ]
            for job in paused:
                at = ("id = ?", job.id)
                self._move(db, at, "queued", "resumed", error_code="", error_text="")
            return len(paused)

    # --- looking -----------------------------------------------------------------------------

    def job(self, owner: str, job_id: str) -> Job:
        """One of somebody's jobs, a deleted one too. Raises `Refused` for anybody else's."""
        with self._connection() as db:
            return _own(db, owner, job_id)

    def history(
        self,
        owner: str,
        *,
        search: str = "",
        favourites: bool = False,
        before: str | None = None,
        limit: int = 50,
    ) -> list[Job]:
        """Somebody's jobs, newest first, in any state but deleted.

        `search`: words that the title contains, in any order and case. `before`: the last id of
        the page before. At most `MOST_PAGE`.
        """
        words = _fold(search).split()
        query = _HISTORY.format(and_words="AND instr(words, ?) " * len(words))
        known = (owner, _AFTER_ALL if before is None else _storable(before), favourites, *words)
        with self._connection() as db:
            return [_job(row) for row in db.execute(query, (*known, min(max(1, limit), MOST_PAGE)))]

    def usage(self, owner: str) -> Usage:
        """How much of the disk is somebody's. A file that two jobs share counts once."""
        query = """SELECT (SELECT count(*) FROM jobs WHERE owner = ?1), coalesce(sum(bytes), 0)
            FROM (SELECT DISTINCT path, artifacts.bytes FROM jobs
                JOIN artifacts ON job = jobs.id WHERE owner = ?1)"""
        with self._connection() as db:
            return Usage(*db.execute(query, (owner,)).fetchone())

    def export(self, owner: str) -> list[Job]:
        """All that is known of somebody, oldest first, what is deleted but not gone too."""
        with self._connection() as db:
            return _find(db, "owner = ? ORDER BY id", owner)

    def events(self, job_id: str) -> list[Event]:
        """What happened to a job, in order."""
        query = "SELECT at, what, text FROM events WHERE job = ? ORDER BY id"
        with self._connection() as db:
            return [Event(*row) for row in db.execute(query, (job_id,))]

    # --- tidying -----------------------------------------------------------------------------

    def favourite(self, owner: str, job_id: str, on: bool) -> Job:
        """Mark a job, or take the mark away."""
        with self._transaction() as db:
            _own(db, owner, job_id)
            _set(db, ("id = ?", job_id), {"favourite": on})
            return _own(db, owner, job_id)

    def delete(self, owner: str, job_id: str) -> Job:
        """Take a job out of the history, and stop it if it is not over; `restore` undoes this."""
        with self._transaction() as db:
            job = _own(db, owner, job_id)
            self._cancel(db, job)
            if job.deleted is None:
                _set(db, ("id = ?", job_id), {"deleted": self._clock()})
            return _own(db, owner, job_id)

    def restore(self, owner: str, job_id: str) -> Job:
        """Bring a deleted job back into the history; it does not start again."""
        with self._transaction() as db:
            _own(db, owner, job_id)
            _set(db, ("id = ?", job_id), {"deleted": None})
            return _own(db, owner, job_id)

    def purge(self, older_than: float) -> list[str]:
        """Drop what was deleted more than so many seconds ago; return the files that no job needs.

        Previews, snapshots and artifacts, as paths; whoever wrote them removes them.
        """
        over = "deleted <= ? AND state IN ('done', 'failed', 'cancelled')"
        with self._transaction() as db:
            return _drop(db, over, self._clock() - older_than)

    def forget(self, owner: str) -> list[str]:
        """Drop all that is somebody's, and return the files that no job needs any more.

        The worker of a job that runs hears "lost". Copies made by `backup` keep what they hold.
        """
        with self._transaction() as db:
            paths = _drop(db, "owner = ?", owner)
            db.execute("DELETE FROM turns WHERE owner = ?", (owner,))
            return paths

    def unneeded(self, paths: list[str]) -> list[str]:
        """Those of some files that belong to no job."""
        with self._connection() as db:
            return [path for path in paths if not db.execute(_NEEDED, (path,)).fetchone()]

    def held_by(self, worker: str) -> list[Job]:
        """What somebody holds now."""
        with self._connection() as db:
            return _find(db, "state = 'running' AND worker = ?", worker)

    def adopt(self, job_id: str, artifacts: Iterable[Artifact]) -> bool | None:
        """Add to a job that is over what was made and never told; None: there is no such job.

        False, and nothing changes, while it is not over.
        """
        with self._transaction() as db:
            found = _find(db, "id = ?", _storable(job_id))
            if not found:
                return None
            if found[0].is_over:
                _add(db, job_id, artifacts)
            return found[0].is_over

    def backup(self, to: Path) -> Path:
        """Write a copy to a file, or to the next free name beside it, and return its path."""
        with self._connection() as db:
            return ledger.copy(db, to)

    # --- inside ------------------------------------------------------------------------------

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        if os.getpid() != self._process:  # SQLite's locks do not survive a fork
            raise RuntimeError(
                "This list was opened by another process. Open it again in this one."
            )
        with self._lock, ledger.explained(self.path):
            yield self._db

    @contextmanager
    def _transaction(self, synchronous: str = "FULL") -> Iterator[sqlite3.Connection]:
        """Inside, all changes happen or none. FULL: they are on the disk when this ends."""
        with self._connection() as db:
            db.execute(f"PRAGMA synchronous = {synchronous}")
            # a deferred transaction would lose to another process between reading and writing
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # SQLite ends it by itself when the disk is full
                    db.execute("ROLLBACK")
                raise

    def _admit(self, db: sqlite3.Connection, owner: str, seconds: float) -> None:
        """Raise `Busy` when there is no room for so many seconds more of this owner."""
        running, line = _work(db)
        work, limits = running + line, self.limits
        mine = [number for number, part in enumerate(work) if part.owner == owner]
        total, own = _seconds(work), _seconds(work[number] for number in mine)
        waiting = "owner = ? AND state IN ('queued', 'running', 'paused')"
        (count,) = db.execute(f"SELECT count(*) FROM jobs WHERE {waiting}", (owner,)).fetchone()
        if count >= limits.owner_jobs or (own and own + seconds > limits.owner_seconds):
            jobs = f"{count} job{'s' * (count > 1)}"
            raise Busy(
                "queue.quota",
                f"You have {jobs} waiting already, {_roughly(own)} of work. "
                "Cancel one, or wait until one is ready.",
                _seconds(work[: mine[0] + 1] if mine else ()),
            )
        if total and total + seconds > limits.queue_seconds:
            wait = min(total, total + seconds - limits.queue_seconds)
            raise Busy(
                "queue.full",
                f"The queue is full: {_roughly(total)} of work wait already. Try again in "
                f"{_roughly(wait)}; something quicker may fit now.",
                wait,
            )

    def _until(self, lease_seconds: float) -> float:
        if not 0 < lease_seconds <= MOST_LEASE:
            raise ValueError(f"A lease of {lease_seconds} s cannot be. Give up to {MOST_LEASE}.")
        return self._clock() + lease_seconds

    def _note(self, db: sqlite3.Connection, job_id: str, what: str, text: str = "") -> None:
        row = (job_id, self._clock(), what, text)
        db.execute("INSERT INTO events (job, at, what, text) VALUES (?, ?, ?, ?)", row)

    def _move(
        self, db: sqlite3.Connection, at: tuple[Any, ...], state: State, text: str, **values: Any
    ) -> bool:
        """Bring the job that `at` finds into another state; False when there is none.

        `at`: a condition, and what its question marks stand for, the id first.
        """
        free = {} if state == "running" else _FREE
        over = {"finished": self._clock()} if state in ENDED else {}
        moved = _set(db, at, {"state": state, **free, **over, **values})
        if moved:
            self._note(db, at[1], state, text)
        return bool(moved)

    def _leave(self, job: Job, state: State, artifacts: Iterable[Artifact], **values: Any) -> bool:
        """Give a lease back; False, and nothing changes, for whoever does not hold it."""
        with self._transaction() as db:
            at = (_HELD, job.id, job.lease)
            now = _find(db, *at)
            if now and state == "paused" and now[0].cancel_requested:
                state, values = "cancelled", {"snapshot": values.get("snapshot", now[0].snapshot)}
            if not self._move(db, at, state, values.get("error_text", ""), **values):
                return False
            _add(db, job.id, artifacts)
            return True

    def _cancel(self, db: sqlite3.Connection, job: Job) -> None:
        if job.state == "running" and not job.cancel_requested:
            _set(db, ("id = ?", job.id), {"cancel_requested": True})
            self._note(db, job.id, "asked to stop")
        elif not job.is_over and job.state != "running":
            self._move(db, ("id = ?", job.id), "cancelled", "", error_code="", error_text="")

    def _recover(self, db: sqlite3.Connection) -> None:
        """Take back the jobs whose worker fell silent, or whose lease no clock can have given."""
        now = self._clock()  # it may have been set back: then leases seem to end in days
        self._take_back(db, _SILENT, now, now + MOST_LEASE)

    def _take_back(self, db: sqlite3.Connection, where: str, *known: Any) -> int:
        lost = _find(db, where, *known)
        for job in lost:
            at = (_HELD, job.id, job.lease)
            if job.cancel_requested:
                self._move(db, at, "cancelled", "its worker is gone")
            elif job.attempt < self.limits.attempts:
                self._move(db, at, "queued", "its worker is gone")
            else:
                text = (
                    f"The program that worked on it ended {job.attempt} times in the middle. "
                    "Something smaller may work."
                )
                self._move(db, at, "failed", text, error_code="failed.crashed", error_text=text)
        return len(lost)


# --- rows ----------------------------------------------------------------------------------------


def _job(row: tuple[Any, ...]) -> Job:
    values = dict(zip(_NAMES, row, strict=False))
    values |= {name: bool(values[name]) for name in ("cancel_requested", "favourite")}
    artifacts = sorted((Artifact(*file) for file in json.loads(row[-1])), key=lambda a: a.path)
    return Job(**values, artifacts=tuple(artifacts))


def _find(db: sqlite3.Connection, where: str, *known: Any) -> list[Job]:
    return [_job(row) for row in db.execute(f"{_JOBS} WHERE {where}", known)]


def _own(db: sqlite3.Connection, owner: str, job_id: str) -> Job:
    """Somebody's job; another's is as if it did not exist."""
    found = _find(db, "id = ? AND owner = ?", _storable(job_id), owner)
    if not found:
        message = f"There is no job {job_id!r} of yours. The history shows those that there are."
        raise Refused("job.missing", message)
    return found[0]


def _add(db: sqlite3.Connection, job_id: str, artifacts: Iterable[Artifact]) -> None:
    rows = [(job_id, file.path, file.kind, file.sha256, file.bytes) for file in artifacts]
    db.executemany("REPLACE INTO artifacts VALUES (?, ?, ?, ?, ?)", rows)


def _set(db: sqlite3.Connection, at: tuple[Any, ...], values: dict[str, Any]) -> int:
    where, *known = at
    names = ", ".join(f"{name} = ?" for name in values)
    return db.execute(f"UPDATE jobs SET {names} WHERE {where}", (*values.values(), *known)).rowcount


class _Work(NamedTuple):
    """What is still to do of a job."""

    job: str
    owner: str
    seconds: float


def _work(db: sqlite3.Connection) -> tuple[list[_Work], list[_Work]]:
    """The jobs that run, and those that wait, in the order in which they will be served."""
    running, line = ([_Work(*row) for row in db.execute(query)] for query in (_RUNNING, _LINE))
    return running, line


def _seconds(work: Iterable[_Work]) -> float:
    return sum(part.seconds for part in work)


def _drop(db: sqlite3.Connection, where: str, *known: Any) -> list[str]:
    """Delete jobs with all that hangs on them; return their files that no other job has."""
    jobs = _find(db, where, *known)
    paths = {path for job in jobs for path in (job.preview, job.snapshot) if path}
    paths |= {file.path for job in jobs for file in job.artifacts}
    db.execute(f"DELETE FROM jobs WHERE {where}", known)
    return sorted(path for path in paths if not db.execute(_NEEDED, (path,)).fetchone())


def _next_id(db: sqlite3.Connection, now: float) -> str:
    """An id behind all that there are, even when the clock was set back."""
    (last,) = db.execute("SELECT max(id) FROM jobs").fetchone()
    return ulid(now, last or "")


def ulid(seconds: float, after: str = "") -> str:
    """26 letters that sort by time (github.com/ulid/spec), always behind the id `after`.

    48 bits of milliseconds since 1970, 80 of chance.
    """
    last = sum(_LETTERS.index(letter) << 5 * n for n, letter in enumerate(reversed(after)))
    number = max(int(seconds * 1000) << 80 | secrets.randbits(80), last + 1)
    return "".join(_LETTERS[number >> 5 * n & 31] for n in reversed(range(26)))


def _storable(text: str) -> str:
    """Without the halves of letters that SQLite cannot hold."""
    return text.encode("utf-8", "replace").decode()


def _fold(text: str) -> str:
    """As it is searched: without case, and one form for each letter."""
    return unicodedata.normalize("NFKC", _storable(text)).casefold()


def _roughly(seconds: float) -> str:
    """`about 40 seconds`, `about 3 minutes`."""
    count, unit = (seconds, "second") if seconds < 90 else (seconds / 60, "minute")
    whole = max(1, round(count))
    return f"about {whole} {unit}{'s' * (whole > 1)}"
