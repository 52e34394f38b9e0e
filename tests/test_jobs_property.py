"""The list of jobs against a model of it in plain Python: whatever happens, in whatever order."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from app.errors import Refused
from app.jobs import ENDED, Artifact, Job, Limits, Store

OWNERS = st.sampled_from(["ann", "bob", "cid"])
WORKERS = st.sampled_from(["one", "two"])
KEYS = st.sampled_from("abcdefgh")
WISHES = st.tuples(OWNERS, KEYS, st.integers(1, 15))
NUMBERS = st.integers(0, 5)
SNAPSHOTS = st.sampled_from([None, "run"])
LEASE = 10.0
LIMITS = Limits(queue_seconds=60, owner_seconds=45, owner_jobs=4)


@dataclass
class Twin:
    """What we believe of a job."""

    owner: str
    key: str
    seconds: float
    state: str = "queued"
    attempt: int = 0
    lease: int | None = None
    until: float = 0.0
    worker: str = ""
    stop: bool = False
    step: int = 0
    snapshot: str = ""
    code: str = ""
    deleted: bool = False
    favourite: bool = False
    files: set[str] = field(default_factory=set)

    @property
    def left(self) -> float:
        """Seconds still to work; all jobs have ten steps."""
        return self.seconds * (1 - self.step / 10) if self.state == "running" else self.seconds

    def leave(self, state: str, code: str = "") -> None:
        """Out of the hands of its worker."""
        self.state, self.lease, self.code = state, None, code

    def orphan(self) -> None:
        """What becomes of it when its worker is gone."""
        if self.stop:
            self.leave("cancelled")
        elif self.attempt < LIMITS.attempts:
            self.leave("queued", self.code)
        else:
            self.leave("failed", "failed.crashed")


def answer(action: Callable[[], Job]) -> Job | Refused:
    """The job, or why not."""
    try:
        return action()
    except Refused as error:
        return error


class Machine(RuleBasedStateMachine):
    """Owners, workers, crashes and a clock, in any order."""

    jobs: Bundle[str] = Bundle("jobs")

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.now = 1_000_000.0
        self.left_open: list[Store] = []
        self.twins: dict[str, Twin] = {}  # by id, in the order of submission
        self.served: list[str] = []  # owners, the last served at the end
        self.leases: list[Job] = []  # all that were ever given, by number
        self.store = self.opened()

    def opened(self) -> Store:
        path = Path(self.folder.name) / "jobs.sqlite"
        return Store(path, clock=lambda: self.now, limits=LIMITS)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            for store in (self.store, *self.left_open):
                store.close()
            self.folder.cleanup()

    # --- asking ---

    @rule(target=jobs, wishes=st.lists(WISHES, min_size=1, max_size=5))
    def submit(self, wishes: list[tuple[str, str, int]]) -> object:
        return multiple(*(job for wish in wishes if (job := self.submit_one(*wish))))

    def submit_one(self, owner: str, key: str, seconds: int) -> str | None:
        known = [i for i, twin in self.twins.items() if (twin.owner, twin.key) == (owner, key)]
        full = "" if known else self.full(owner, seconds)
        wish = {"client_key": key, "title": key, "seconds": seconds}
        job = answer(lambda: self.store.submit(owner, "x", "{}", **wish))
        if not isinstance(job, Job):
            assert job.code == full
            return None
        assert not full
        if known:
            assert [job.id] == known
            return None
        assert all(job.id > other for other in self.twins)
        self.twins[job.id] = Twin(owner, key, float(seconds))
        return job.id

    def full(self, owner: str, seconds: float) -> str:
        waiting = [twin for twin in self.twins.values() if twin.state not in ENDED]
        own = [twin for twin in waiting if twin.owner == owner]
        mine = sum(twin.left for twin in own if twin.state != "paused")
        if len(own) >= LIMITS.owner_jobs or (mine and mine + seconds > LIMITS.owner_seconds):
            return "queue.quota"
        work = sum(twin.left for twin in waiting if twin.state != "paused")
        return "queue.full" if work and work + seconds > LIMITS.queue_seconds else ""

    @rule(job=jobs)
    def cancel(self, job: str) -> None:
        self.recover()
        twin = self.twins.get(job)
        if not twin:
            missing = answer(lambda: self.store.cancel("ann", job))
            assert isinstance(missing, Refused)
            assert missing.code == "job.missing"
            return
        self.stop(twin)
        assert self.store.cancel(twin.owner, job).state == twin.state

    @precondition(lambda self: self.is_held())
    @rule(number=NUMBERS, then=st.sampled_from(["", "", "pause", "die"]))
    def cancel_what_runs(self, number: int, then: str) -> None:
        lease = self.held(number)
        self.cancel(lease.id)
        if then == "die":
            self.worker_dies(lease.worker)
        elif then and self.holds(lease):
            self.pause(number, "run")

    @precondition(lambda self: self.is_held())
    @rule(worker=WORKERS)
    def all_hang(self, worker: str) -> None:
        self.now += LEASE
        self.claim_one(worker)

    def stop(self, twin: Twin) -> None:
        if twin.state == "running":
            twin.stop = True
        elif twin.state not in ENDED:
            twin.leave("cancelled")

    @rule(job=jobs)
    def requeue(self, job: str) -> None:
        twin = self.twins.get(job)
        if not twin:
            return
        full = self.full(twin.owner, twin.seconds)
        now = answer(lambda: self.store.requeue(twin.owner, job))
        if not isinstance(now, Job):
            nothing = twin.state in ENDED and (twin.state == "done" or not twin.snapshot)
            assert now.code == ("job.no_snapshot" if nothing else full)
            return
        if twin.state in ENDED:
            assert not full
            assert twin.snapshot
            twin.leave("queued")
            twin.attempt, twin.stop, twin.deleted = 0, False, False
        assert now.state == twin.state

    # --- working ---

    @rule(workers=st.lists(WORKERS, min_size=1, max_size=4))
    def claim(self, workers: list[str]) -> None:
        for worker in workers:
            self.claim_one(worker)

    def claim_one(self, worker: str) -> None:
        self.recover()
        expected = self.next_in_line()
        job = self.store.claim(worker, LEASE)
        assert (job.id if job else None) == expected
        if not job:
            return
        twin = self.twins[job.id]
        assert job.lease not in [lease.lease for lease in self.leases]
        self.leases.append(job)
        twin.state, twin.lease, twin.worker = "running", job.lease, worker
        twin.until, twin.attempt = self.now + LEASE, twin.attempt + 1
        if twin.owner in self.served:
            self.served.remove(twin.owner)
        self.served.append(twin.owner)

    def next_in_line(self) -> str | None:
        """The first job of the owner who waited longest for a turn."""
        first: dict[str, str] = {}
        for job, twin in self.twins.items():
            if twin.state == "queued":
                first.setdefault(twin.owner, job)
        turns = {owner: number for number, owner in enumerate(self.served, 1)}
        line = sorted((turns.get(owner, 0), job) for owner, job in first.items())
        return line[0][1] if line else None

    def holds(self, lease: Job) -> Twin | None:
        twin = self.twins.get(lease.id)
        return twin if twin and twin.state == "running" and twin.lease == lease.lease else None

    def is_held(self) -> bool:
        return any(map(self.holds, self.leases))

    def held(self, number: int) -> Job:
        held = [lease for lease in self.leases if self.holds(lease)]
        return held[number % len(held)]

    @precondition(lambda self: self.is_held())
    @rule(number=NUMBERS, step=st.integers(0, 10), snapshot=SNAPSHOTS)
    def beat(self, number: int, step: int, snapshot: str | None) -> None:
        lease = self.held(number)
        twin = self.twins[lease.id]
        said = self.store.beat(lease, step=step, total=10, lease_seconds=LEASE, snapshot=snapshot)
        assert said == ("cancel" if twin.stop else "go on")
        twin.until, twin.step = self.now + LEASE, step
        twin.snapshot = snapshot or twin.snapshot

    @precondition(lambda self: self.is_held())
    @rule(number=NUMBERS, how=st.sampled_from(["done", "failed", "cancelled"]))
    def end(self, number: int, how: str) -> None:
        lease = self.held(number)
        twin = self.twins[lease.id]
        path = f"{lease.lease}.png"
        assert self.ENDS[how](self.store, lease, [Artifact("picture", path, "0", 1)])
        twin.files.add(path)
        twin.leave(how, "failed.x" if how == "failed" else twin.code)

    ENDS: ClassVar[dict[str, Callable[[Store, Job, list[Artifact]], bool]]] = {
        "done": lambda store, lease, files: store.finish(lease, artifacts=files),
        "failed": lambda store, lease, files: store.fail(lease, "failed.x", "X.", artifacts=files),
        "cancelled": lambda store, lease, files: store.cancelled(lease, artifacts=files),
    }

    @precondition(lambda self: self.is_held())
    @rule(number=NUMBERS, snapshot=SNAPSHOTS)
    def pause(self, number: int, snapshot: str | None) -> None:
        lease = self.held(number)
        twin = self.twins[lease.id]
        assert self.store.pause(lease, "paused.disk", "X.", snapshot=snapshot)
        twin.snapshot = snapshot or twin.snapshot
        if twin.stop:
            twin.leave("cancelled", twin.code)
        else:
            twin.leave("paused", "paused.disk")
            twin.attempt = 0

    @rule(number=NUMBERS)
    def too_late(self, number: int) -> None:
        """Who lost a job can do nothing to it, whoever has it now."""
        lost = [lease for lease in self.leases if not self.holds(lease)]
        if lost:
            lease = lost[number % len(lost)]
            files = [Artifact("picture", "late.png", "0", 1)]
            assert self.store.beat(lease, step=7, total=10, lease_seconds=LEASE) == "lost"
            assert not any(end(self.store, lease, files) for end in self.ENDS.values())
            assert not self.store.pause(lease, "paused.disk", "X.", snapshot="late")

    @rule(code=st.sampled_from([None, "paused.disk", "paused.shutdown"]))
    def resume(self, code: str | None) -> None:
        paused = [t for t in self.twins.values() if t.state == "paused" and code in (None, t.code)]
        assert self.store.resume_paused(code) == len(paused)
        for twin in paused:
            twin.leave("queued")

    @rule(worker=WORKERS)
    def worker_dies(self, worker: str) -> None:
        held = [t for t in self.twins.values() if t.state == "running" and t.worker == worker]
        assert self.store.release(worker) == len(held)
        for twin in held:
            twin.orphan()

    # --- tidying ---

    @rule(job=jobs, on=st.booleans())
    def favourite(self, job: str, on: bool) -> None:
        if twin := self.twins.get(job):
            twin.favourite = on
            assert self.store.favourite(twin.owner, job, on).favourite == on

    @rule(job=jobs, back=st.booleans())
    def delete(self, job: str, back: bool) -> None:
        if twin := self.twins.get(job):
            self.stop(twin)
            assert self.store.delete(twin.owner, job).state == twin.state
            twin.deleted = not back
            if back:
                assert self.store.restore(twin.owner, job).deleted is None

    @rule(owner=st.sampled_from(["ann", "", "", ""]))
    def tidy(self, owner: str) -> None:
        """Purge; or, more rarely, forget somebody."""
        gone = [i for i, twin in self.twins.items() if twin.deleted and twin.state in ENDED]
        if owner:
            gone = [i for i, twin in self.twins.items() if twin.owner == owner]
            self.served = [other for other in self.served if other != owner]
        self.drop(gone, self.store.forget(owner) if owner else self.store.purge(older_than=0))

    def drop(self, gone: list[str], paths: list[str]) -> None:
        twins = [self.twins.pop(job) for job in gone]
        files = set().union(*(twin.files for twin in twins))
        assert set(paths) == files | {twin.snapshot for twin in twins if twin.snapshot}

    # --- the world ---

    @rule(seconds=st.sampled_from([1.0, 4.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def crash(self) -> None:
        """The store is left as it is, and another opened beside it."""
        self.left_open.append(self.store)
        self.store = self.opened()
        assert self.store.notes == []

    def recover(self) -> None:
        for twin in self.twins.values():
            if twin.state == "running" and twin.until <= self.now:
                twin.orphan()

    # --- what always holds ---

    @invariant()
    def nobody_lost_nothing_and_sees_only_their_own(self) -> None:
        if not hasattr(self, "twins"):
            return
        for owner in ("ann", "bob", "cid"):
            mine = {i: twin for i, twin in self.twins.items() if twin.owner == owner}
            assert [self.told(job) for job in self.store.export(owner)] == [
                (i, t.state, t.attempt, t.lease, t.stop, t.step, t.snapshot, t.code, t.files)
                for i, t in mine.items()
            ]
            seen = [job.id for job in self.store.history(owner)]
            assert seen == [i for i, twin in mine.items() if not twin.deleted][::-1]
            marked = [job.id for job in self.store.history(owner, favourites=True)]
            assert marked == [i for i in seen if mine[i].favourite]
        assert all(twin.attempt <= LIMITS.attempts for twin in self.twins.values())

    @staticmethod
    def told(job: Job) -> tuple[object, ...]:
        files = {file.path for file in job.artifacts}
        held = (job.id, job.state, job.attempt, job.lease, job.cancel_requested)
        return (*held, job.step, job.snapshot, job.error_code, files)

    @invariant()
    def the_wait_is_the_work_before(self) -> None:
        if not hasattr(self, "twins"):
            return
        work = [t.left for t in self.twins.values() if t.state in ("queued", "running")]
        ahead = self.store.ahead()
        assert ahead.jobs == len(work)
        assert ahead.seconds == pytest.approx(sum(work))
        if first := self.next_in_line():
            running = sum(twin.state == "running" for twin in self.twins.values())
            assert self.store.ahead(first).jobs == running


TestStore = Machine.TestCase
TestStore.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
