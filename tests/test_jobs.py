"""The list of jobs: nothing acknowledged is lost, nothing is done twice, nobody sees another's."""

from __future__ import annotations

import itertools
import json
import math
import os
import pickle
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app import jobs, ledger
from app.errors import Failed, Refused
from app.jobs import Ahead, Artifact, Busy, Job, Limits, Store, Usage, ulid

ROOT = Path(__file__).parent.parent
PICTURE = Artifact("picture", "apple.png", "a" * 64, 1000)
NO_BOUND = Limits(math.inf, math.inf, owner_jobs=10**6)


class Clock:
    """A clock that a test can move."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    with closing(Store(tmp_path / "jobs.sqlite", clock=clock)) as store:
        yield store


keys = map(str, itertools.count())


def ask(store: Store, owner: str = "ann", **given: Any) -> Job:
    wish = {"client_key": next(keys), "title": "a red apple", "seconds": 10.0, **given}
    return store.submit(owner, "generate", wish.pop("request", "{}"), **wish)


def claim(store: Store, worker: str = "one") -> Job:
    job = store.claim(worker, 10)
    assert job
    return job


def state(store: Store, job: Job) -> str:
    return store.job(job.owner, job.id).state


def refusal(action: Callable[[], object]) -> Refused:
    with pytest.raises(Refused) as caught:
        action()
    return caught.value


# --- asking ----------------------------------------------------------------------------------


def test_a_job_is_there_as_it_was_asked_for(store: Store, clock: Clock) -> None:
    job = store.submit("ann", "edit", '{"a": 1}', client_key="k", title="Äpfel 🍎", seconds=7)
    assert job == store.job("ann", job.id)
    assert (job.owner, job.kind, job.request, job.title) == ("ann", "edit", '{"a": 1}', "Äpfel 🍎")
    assert (job.state, job.seconds, job.created, job.attempt) == ("queued", 7, clock.now, 0)
    assert not job.is_over


def test_the_same_key_is_the_same_job(store: Store) -> None:
    first = ask(store, client_key="k")
    assert ask(store, client_key="k", title="sent again") == first
    assert ask(store, "bob", client_key="k").id != first.id
    assert len(store.history("ann")) == 1


def test_a_job_that_is_over_is_not_begun_again_by_its_key(store: Store) -> None:
    ask(store, client_key="k")
    store.finish(claim(store))
    assert ask(store, client_key="k").state == "done"
    assert store.claim("one", 10) is None


def test_ids_sort_in_order_even_when_the_clock_is_set_back(store: Store, clock: Clock) -> None:
    ids = []
    for change in (0, 0, -86_400, 0, 86_400, 1, -3600):
        clock.now += change
        ids.append(ask(store).id)
    assert ids == sorted(set(ids))
    assert [job.id for job in store.history("ann")] == ids[::-1]


def test_an_id_tells_its_time() -> None:
    assert ulid(1_469_918_176.385).startswith("01ARYZ6S41")  # the example of the specification
    assert ulid(0, "01ARYZ6S41ZZZZZZZZZZZZZZZZ") == "01ARYZ6S420000000000000000"


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0])
def test_work_that_cannot_be_is_a_mistake(store: Store, seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds of work"):
        ask(store, seconds=seconds)


# --- how much may wait -----------------------------------------------------------------------


def test_one_owner_may_only_have_so_many(store: Store) -> None:
    for _ in range(10):
        ask(store, seconds=20)
    error = refusal(lambda: ask(store))
    assert isinstance(error, Busy)
    assert error.code == "queue.quota"
    assert error.wait == 20  # when their first is over
    assert "Cancel one" in str(error)
    assert ask(store, "bob")


def test_one_owner_does_not_fill_the_queue_alone(store: Store) -> None:
    ask(store, seconds=200)
    error = refusal(lambda: ask(store, seconds=101))
    assert isinstance(error, Busy)
    assert (error.code, error.wait) == ("queue.quota", 200)
    assert "You have 1 job waiting already, about 3 minutes of work." in str(error)
    assert ask(store, seconds=100)
    assert ask(store, "bob", seconds=300)


def test_as_much_as_people_like(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "jobs.sqlite", limits=NO_BOUND)) as store:
        for _ in range(30):
            ask(store, seconds=10_000)
        assert store.ahead() == Ahead(30, 300_000)


def test_what_is_over_makes_room(store: Store) -> None:
    made = [ask(store) for _ in range(10)]
    store.finish(claim(store))
    ask(store)
    store.cancel("ann", made[5].id)
    ask(store)
    assert refusal(lambda: ask(store)).code == "queue.quota"


def test_the_queue_is_bounded_by_minutes_of_work(store: Store) -> None:
    ask(store, seconds=400)
    error = refusal(lambda: ask(store, "bob", seconds=300))
    assert isinstance(error, Busy)
    assert error.code == "queue.full"
    assert error.wait == 100
    assert "about 7 minutes of work wait already" in str(error)
    assert "in about 2 minutes" in str(error)
    assert ask(store, "bob", seconds=200)  # something quicker fits


def test_a_long_job_fits_when_nothing_waits(store: Store) -> None:
    assert ask(store, seconds=3000)
    assert refusal(lambda: ask(store, "bob", seconds=1)).code == "queue.full"


def test_work_that_is_nearly_over_hardly_counts(store: Store) -> None:
    ask(store, seconds=500)
    store.beat(claim(store), step=9, total=10, lease_seconds=10)
    assert store.ahead() == Ahead(1, pytest.approx(50))
    assert ask(store, "bob", seconds=500)


def test_no_time_at_all_counts_for_a_second(store: Store) -> None:
    assert ask(store, seconds=0).seconds == 1


def test_a_retry_is_answered_even_when_the_queue_is_full(store: Store) -> None:
    first = ask(store, client_key="k", seconds=600)
    assert refusal(lambda: ask(store, "bob")).code == "queue.full"
    assert ask(store, client_key="k", seconds=600) == first


def test_the_refusal_comes_through_between_processes() -> None:
    error = pickle.loads(pickle.dumps(Busy("queue.full", "Full.", 7.5)))
    assert (error.code, str(error), error.wait) == ("queue.full", "Full.", 7.5)


# --- turns -----------------------------------------------------------------------------------


def test_owners_take_turns_and_the_oldest_comes_first(store: Store) -> None:
    for owner in ("ann", "ann", "ann", "ann", "bob", "bob", "cid"):
        ask(store, owner)
    order = [claim(store) for _ in range(7)]
    assert [job.owner for job in order] == ["ann", "bob", "cid", "ann", "bob", "ann", "ann"]
    for owner in ("ann", "bob"):
        ids = [job.id for job in order if job.owner == owner]
        assert ids == sorted(ids)


def test_who_was_served_last_waits_for_the_others(store: Store) -> None:
    ask(store)
    claim(store)
    ask(store)
    ask(store, "bob")
    assert claim(store).owner == "bob"


def test_the_wait_that_is_shown_is_the_order_that_is_served(store: Store) -> None:
    owners = random.Random(3).choices(["ann", "bob", "cid"], k=15)
    made = [ask(store, owner, seconds=3 + n) for n, owner in enumerate(owners)]
    claim(store)
    claim(store)
    waiting = [job for job in made if state(store, job) == "queued"]
    promised = sorted(waiting, key=lambda job: store.ahead(job.id).jobs)
    running = sum(job.seconds for job in made if state(store, job) == "running")
    assert store.ahead(promised[0].id) == Ahead(2, running)
    assert store.ahead(promised[2].id).seconds == running + sum(j.seconds for j in promised[:2])
    assert [claim(store).id for _ in promised] == [job.id for job in promised]


def test_nothing_is_ahead_of_what_does_not_wait(store: Store) -> None:
    job = ask(store)
    assert store.ahead(job.id) == Ahead(0, 0)
    held = claim(store)
    ask(store, "bob")
    assert store.ahead(claim(store).id) == Ahead(0, 0)
    store.finish(held)
    ask(store)
    assert store.ahead(job.id) == Ahead(0, 0)
    assert store.ahead("nobody's") == Ahead(0, 0)


# --- leases ----------------------------------------------------------------------------------


def test_a_claimed_job_is_nobody_elses(store: Store) -> None:
    ask(store)
    job = claim(store)
    assert (job.state, job.worker, job.attempt) == ("running", "one", 1)
    assert store.claim("two", 10) is None


def test_who_beats_keeps_the_job(store: Store, clock: Clock) -> None:
    ask(store)
    job = claim(store)
    for step in range(5):
        clock.now += 9
        said = store.beat(job, step=step, total=5, lease_seconds=10, preview=f"{step}.jpg")
        assert said == "go on"
        assert store.claim("two", 10) is None
    now = store.job("ann", job.id)
    assert (now.step, now.total, now.preview, now.attempt) == (4, 5, "4.jpg", 1)


def test_a_beat_without_a_preview_keeps_the_last(store: Store) -> None:
    ask(store)
    job = claim(store)
    store.beat(job, step=1, total=5, lease_seconds=10, preview="1.jpg", snapshot="run")
    store.beat(job, step=2, total=5, lease_seconds=10)
    now = store.job("ann", job.id)
    assert (now.preview, now.snapshot) == ("1.jpg", "run")


def test_who_falls_silent_loses_the_job(store: Store, clock: Clock) -> None:
    ask(store)
    lost = claim(store)
    clock.now += 10
    taken = claim(store, "two")
    assert (taken.id, taken.attempt, taken.started) == (lost.id, 2, lost.started)
    assert store.beat(lost, step=1, total=5, lease_seconds=10) == "lost"
    assert not store.finish(lost, artifacts=[PICTURE])
    assert not store.fail(lost, "x", "X.")
    assert not store.cancelled(lost)
    assert not store.pause(lost, "paused.disk", "Full.")
    assert store.finish(taken, result="ours")
    assert (store.job("ann", taken.id).result, store.job("ann", taken.id).artifacts) == ("ours", ())


def test_a_lease_is_not_mistaken_for_a_later_one_of_the_same_worker(
    store: Store, clock: Clock
) -> None:
    ask(store)
    old = claim(store)
    clock.now += 10
    new = claim(store)  # the same worker, for example another of its threads
    assert not store.finish(old)
    assert store.finish(new)


def test_silence_does_no_harm_while_nobody_else_came(store: Store, clock: Clock) -> None:
    ask(store)
    job = claim(store)
    clock.now += 1000
    assert store.beat(job, step=1, total=2, lease_seconds=10) == "go on"
    assert store.finish(job)


def test_a_job_that_ends_its_worker_three_times_has_failed(store: Store, clock: Clock) -> None:
    poison, good = ask(store), ask(store, "bob")
    made = []
    while job := store.claim("one", 10):
        if job.id == good.id:
            store.finish(job)
        else:
            made.append(job.attempt)
        clock.now += 10
    assert made == [1, 2, 3]
    now = store.job("ann", poison.id)
    assert (now.state, now.error_code) == ("failed", "failed.crashed")
    assert "3 times" in now.error_text
    assert state(store, good) == "done"


def test_a_worker_known_to_be_dead_is_not_waited_for(store: Store) -> None:
    job, other = ask(store), ask(store, "bob")
    claim(store, "one")
    claim(store, "two")
    assert store.release("one") == 1
    assert (state(store, job), state(store, other)) == ("queued", "running")
    assert claim(store, "three").attempt == 2


def test_a_clock_set_back_frees_a_dead_workers_job(store: Store, clock: Clock) -> None:
    ask(store)
    claim(store)
    clock.now -= 86_400
    assert claim(store, "two").attempt == 2


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, 1e6])
def test_a_lease_that_cannot_be_is_a_mistake(store: Store, seconds: float) -> None:
    ask(store)
    with pytest.raises(ValueError, match="lease"):
        store.claim("one", seconds)
    assert store.history("ann")[0].state == "queued"


# --- how it ends -----------------------------------------------------------------------------


def test_a_finished_job_has_its_files(store: Store, clock: Clock) -> None:
    job = ask(store)
    clock.now += 5
    held = claim(store)
    clock.now += 3
    sound = Artifact("sound", "apple.wav", "b" * 64, 5)
    assert store.finish(held, result='{"loss": 1}', artifacts=[sound, PICTURE])
    now = store.job("ann", job.id)
    assert (now.state, now.result, now.artifacts) == ("done", '{"loss": 1}', (PICTURE, sound))
    assert (now.started, now.finished, now.lease) == (clock.now - 3, clock.now, None)
    assert now.is_over


def test_a_job_ends_once(store: Store) -> None:
    ask(store)
    job = claim(store)
    assert store.finish(job)
    assert not store.finish(job)
    assert not store.fail(job, "x", "X.")
    assert state(store, job) == "done"


def test_a_failure_says_why_and_keeps_what_there_is(store: Store) -> None:
    ask(store)
    job = claim(store)
    store.fail(job, "failed.diverged", "The picture fell apart.", artifacts=[PICTURE])
    now = store.job("ann", job.id)
    assert (now.state, now.error_code) == ("failed", "failed.diverged")
    assert (now.error_text, now.artifacts) == ("The picture fell apart.", (PICTURE,))


def test_a_finish_that_breaks_in_the_middle_did_not_happen(store: Store) -> None:
    ask(store)
    job = claim(store)
    nameless = Artifact("picture", None, "b" * 64, 5)  # type: ignore[arg-type]
    with pytest.raises(sqlite3.IntegrityError):
        store.finish(job, artifacts=[PICTURE, nameless])
    assert (state(store, job), store.job("ann", job.id).artifacts) == ("running", ())
    assert store.finish(job, artifacts=[PICTURE])


def test_the_way_of_a_job_is_written_down(store: Store, clock: Clock) -> None:
    job = ask(store)
    claim(store)
    clock.now += 10
    store.cancel("ann", job.id)
    events = store.events(job.id)
    assert [event.what for event in events] == ["queued", "running", "queued", "cancelled"]
    assert [event.text for event in events] == ["", "one", "its worker is gone", ""]
    assert [event.at - events[0].at for event in events] == [0, 0, 10, 10]


# --- cancel ----------------------------------------------------------------------------------


def test_a_job_that_waits_is_cancelled_at_once(store: Store) -> None:
    job = ask(store)
    assert store.cancel("ann", job.id).state == "cancelled"
    assert store.claim("one", 10) is None


def test_the_worker_of_a_running_job_hears_of_it(store: Store) -> None:
    ask(store)
    job = claim(store)
    assert store.cancel("ann", job.id).state == "running"
    assert store.beat(job, step=1, total=5, lease_seconds=10) == "cancel"
    assert store.cancelled(job, artifacts=[PICTURE])
    now = store.job("ann", job.id)
    assert (now.state, now.artifacts) == ("cancelled", (PICTURE,))


def test_cancelling_again_changes_nothing(store: Store) -> None:
    job = ask(store)
    claim(store)
    first = store.cancel("ann", job.id)
    assert [store.cancel("ann", job.id) for _ in range(5)] == [first] * 5
    assert len(store.events(job.id)) == 3


def test_a_job_done_before_it_heard_is_done(store: Store) -> None:
    ask(store)
    job = claim(store)
    store.cancel("ann", job.id)
    assert store.finish(job)
    assert store.cancel("ann", job.id).state == "done"


def test_a_cancelled_job_does_not_come_back_when_its_worker_dies(
    store: Store, clock: Clock
) -> None:
    ask(store)
    job = claim(store)
    store.cancel("ann", job.id)
    clock.now += 10
    assert store.claim("two", 10) is None
    assert state(store, job) == "cancelled"


def test_a_dead_workers_job_is_cancelled_at_once(store: Store, clock: Clock) -> None:
    ask(store)
    job = claim(store)
    clock.now += 10
    assert store.cancel("ann", job.id).state == "cancelled"


@pytest.mark.parametrize("what", ["job", "cancel", "requeue", "delete", "restore"])
def test_anothers_job_is_as_if_it_did_not_exist(store: Store, what: str) -> None:
    job = ask(store)
    theirs = refusal(lambda: getattr(store, what)("bob", job.id))
    nobodys = refusal(lambda: getattr(store, what)("bob", "nobody's"))
    assert theirs.code == nobodys.code == "job.missing"
    assert str(theirs).replace(job.id, "nobody's") == str(nobodys).replace('"', "'")
    assert refusal(lambda: store.favourite("bob", job.id, True)).code == "job.missing"
    assert (store.history("bob"), store.export("bob")) == ([], [])
    assert store.job("ann", job.id) == job


# --- pause and go on -------------------------------------------------------------------------


def test_a_paused_job_waits_until_it_is_resumed(store: Store) -> None:
    ask(store)
    job = claim(store)
    assert store.pause(job, "paused.disk", "The disk is full.", snapshot="run")
    now = store.job("ann", job.id)
    assert (now.state, now.error_code, now.snapshot) == ("paused", "paused.disk", "run")
    assert store.claim("one", 10) is None
    assert store.resume_paused("paused.shutdown") == 0
    assert store.resume_paused("paused.disk") == 1
    again = claim(store)
    assert (again.attempt, again.snapshot, again.error_code) == (1, "run", "")


def test_pauses_are_no_failed_attempts(store: Store) -> None:
    ask(store)
    for _ in range(5):
        store.pause(claim(store), "paused.shutdown", "The program was closed.")
        assert store.resume_paused() == 1
    assert store.finish(claim(store))


def test_a_job_asked_to_stop_is_not_paused(store: Store) -> None:
    ask(store)
    job = claim(store)
    store.cancel("ann", job.id)
    assert store.pause(job, "paused.shutdown", "The program was closed.", snapshot="run")
    now = store.job("ann", job.id)
    assert (now.state, now.snapshot, now.error_code) == ("cancelled", "run", "")


def test_a_paused_job_can_be_cancelled(store: Store) -> None:
    ask(store)
    job = claim(store)
    store.pause(job, "paused.disk", "The disk is full.")
    assert store.cancel("ann", job.id).state == "cancelled"
    assert store.resume_paused() == 0


def test_a_stopped_job_goes_on_from_its_snapshot(store: Store) -> None:
    ask(store)
    job = claim(store)
    store.beat(job, step=3, total=9, lease_seconds=10, snapshot="run")
    store.fail(job, "disk.full", "The disk is full.")
    assert store.requeue("ann", job.id).state == "queued"
    assert store.requeue("ann", job.id).state == "queued"  # once is enough
    again = claim(store)
    assert (again.attempt, again.snapshot, again.step) == (1, "run", 3)
    assert (again.error_code, again.finished) == ("", None)
    assert store.finish(again)


def test_a_job_without_a_snapshot_cannot_go_on(store: Store) -> None:
    job = ask(store)
    store.cancel("ann", job.id)
    assert refusal(lambda: store.requeue("ann", job.id)).code == "job.no_snapshot"


def test_what_is_done_does_not_go_on(store: Store) -> None:
    ask(store)
    job = claim(store)
    store.beat(job, step=3, total=9, lease_seconds=10, snapshot="run")
    store.finish(job)
    assert "is done" in str(refusal(lambda: store.requeue("ann", job.id)))


def test_going_on_needs_room_like_asking(store: Store) -> None:
    ask(store)
    job = claim(store)
    store.beat(job, step=3, total=9, lease_seconds=10, snapshot="run")
    store.cancelled(job)
    for _ in range(10):
        ask(store)
    assert refusal(lambda: store.requeue("ann", job.id)).code == "queue.quota"


# --- history ---------------------------------------------------------------------------------


def test_the_history_is_paged_newest_first(store: Store) -> None:
    made = [ask(store).id for _ in range(7)]
    ask(store, "bob")
    seen: list[str] = []
    while page := store.history("ann", before=seen[-1] if seen else None, limit=3):
        seen += [job.id for job in page]
    assert seen == made[::-1]


TITLES = ("a RED apple", "an apple tree", "Straße im Äther", "100% cotton", "snow_man", "café")


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", TITLES),
        ("red", ["a RED apple"]),
        ("APPLE", ["a RED apple", "an apple tree"]),
        ("tree apple", ["an apple tree"]),
        ("äther STRASSE", ["Straße im Äther"]),
        ("cafe\u0301", ["café"]),
        ("%", ["100% cotton"]),
        ("_", ["snow_man"]),
        ("0%c", []),
        ("s%n", []),
        ("\\", []),
        ("' OR 1=1 --", []),
        ("\ud83d", []),
    ],
)
def test_titles_are_found_by_their_words(store: Store, search: str, found: list[str]) -> None:
    for title in TITLES:
        ask(store, title=title)
    assert sorted(job.title for job in store.history("ann", search=search)) == sorted(found)


def test_half_a_letter_in_a_title_does_no_harm(store: Store) -> None:
    assert ask(store, title="half \ud83d of it").title == "half ? of it"


def test_favourites_are_found_alone(store: Store) -> None:
    one, two = ask(store), ask(store)
    assert store.favourite("ann", one.id, True).favourite
    assert [job.id for job in store.history("ann", favourites=True)] == [one.id]
    store.favourite("ann", two.id, True)
    store.favourite("ann", one.id, False)
    assert [job.id for job in store.history("ann", favourites=True)] == [two.id]


def test_deleting_can_be_undone(store: Store, clock: Clock) -> None:
    ask(store)
    job = claim(store)
    store.finish(job, artifacts=[PICTURE])
    assert store.delete("ann", job.id).deleted == clock.now
    assert store.history("ann") == []
    assert store.usage("ann") == Usage(1, 1000)  # still there
    clock.now += 3600
    assert store.purge(older_than=7200) == []
    store.restore("ann", job.id)
    assert store.purge(older_than=0) == []
    assert store.history("ann")[0].artifacts == (PICTURE,)


def test_what_is_deleted_does_not_run(store: Store) -> None:
    waiting, running = ask(store), ask(store, "bob")
    store.delete("ann", waiting.id)
    held = claim(store)
    store.delete("bob", running.id)
    assert store.beat(held, step=1, total=2, lease_seconds=10) == "cancel"
    assert store.purge(older_than=0) == []
    assert refusal(lambda: store.job("ann", waiting.id)).code == "job.missing"  # purged
    assert store.cancelled(held)
    store.purge(older_than=0)
    assert store.export("bob") == []


def test_purging_names_the_files_that_no_job_needs(store: Store, clock: Clock) -> None:
    shared = Artifact("sound", "shared.wav", "b" * 64, 5)
    ask(store)
    job = claim(store)
    store.beat(job, step=1, total=2, lease_seconds=10, preview="1.jpg", snapshot="run")
    store.finish(job, artifacts=[PICTURE, shared])
    ask(store, "bob")
    store.finish(claim(store), artifacts=[shared])
    store.delete("ann", job.id)
    clock.now += 60
    assert store.purge(older_than=60) == ["1.jpg", "apple.png", "run"]
    assert store.events(job.id) == []
    assert store.usage("ann") == Usage(0, 0)
    assert store.usage("bob") == Usage(1, 5)


def test_a_file_of_two_jobs_counts_once(store: Store) -> None:
    for _ in range(2):
        ask(store)
        store.finish(claim(store), artifacts=[PICTURE])
    assert store.usage("ann") == Usage(2, 1000)


def test_all_of_mine_can_be_taken_along_and_forgotten(store: Store, tmp_path: Path) -> None:
    title = "a secret that must not stay behind"
    made = [ask(store, title=title).id, ask(store).id]
    running = claim(store)
    store.finish(running, artifacts=[PICTURE])
    store.delete("ann", made[0])
    theirs = ask(store, "bob")
    assert [job.id for job in store.export("ann")] == made
    held = claim(store, "two")
    while held.owner != "ann":
        held = claim(store, "two")
    assert store.forget("ann") == ["apple.png"]
    assert (store.export("ann"), store.history("ann")) == ([], [])
    assert store.beat(held, step=1, total=2, lease_seconds=10) == "lost"
    assert store.job("bob", theirs.id)
    store.close()  # what is left of the log goes into the file
    assert title.encode() not in (tmp_path / "jobs.sqlite").read_bytes()


def plan(store: Store, query: str, *known: object) -> str:
    with closing(sqlite3.connect(store.path)) as db:
        return "; ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}", known))


def test_no_question_reads_the_whole_list(store: Store) -> None:
    history = jobs._HISTORY.format(and_words="AND instr(words, ?)")
    page = plan(store, history, "ann", "~", 0, "apple", 50)
    assert "SEARCH jobs USING INDEX jobs_by_owner (owner=? AND id<?)" in page
    assert "B-TREE" not in page  # nothing is sorted
    assert "jobs_by_state (state=?)" in plan(store, jobs._LINE)
    assert "jobs_by_state (state=?)" in plan(store, jobs._RUNNING)
    silent = plan(store, f"{jobs._JOBS} WHERE {jobs._SILENT}", 1, 2)
    assert "jobs_by_state (state=?)" in silent
    assert "jobs_deleted" in plan(store, f"{jobs._JOBS} WHERE deleted <= ?", 1)
    assert "SCAN jobs" not in page + silent


# --- the file --------------------------------------------------------------------------------


def test_another_store_sees_what_this_one_wrote(store: Store, clock: Clock) -> None:
    job = ask(store)
    with closing(Store(store.path, clock=clock)) as other:
        assert other.job("ann", job.id) == job
        held = claim(other)
        assert store.claim("two", 10) is None
        other.finish(held)
    assert state(store, job) == "done"


def test_threads_share_one_store(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "jobs.sqlite", limits=NO_BOUND)) as store:
        done: list[str] = []
        together = threading.Barrier(6)

        def work(owner: str) -> None:
            together.wait()
            for _ in range(5):
                ask(store, owner)
                if job := store.claim(owner, 60):
                    assert store.finish(job)
                    done.append(job.id)

        threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(done) == len(set(done)) == 30


def test_what_is_acknowledged_is_on_the_disk(store: Store) -> None:
    """Power cannot be cut here; how SQLite was told to write can be seen."""

    def synchronous() -> int:
        return int(store._db.execute("PRAGMA synchronous").fetchone()[0])

    ask(store)
    assert synchronous() == 2  # FULL
    job = claim(store)
    store.beat(job, step=1, total=2, lease_seconds=10)
    assert synchronous() == 1  # NORMAL: progress may be lost
    store.finish(job)
    assert synchronous() == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_must_open_its_own(store: Store) -> None:
    read, write = os.pipe()
    child = os.fork()
    if not child:  # must never come back to pytest
        try:
            store.history("ann")
        except RuntimeError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    assert b"opened by another process" in os.read(read, 1000)
    os.close(read)


def test_a_copy_is_whole_and_overwrites_nothing(store: Store, tmp_path: Path) -> None:
    job = ask(store)
    names = [store.backup(tmp_path / "copy.sqlite").name for _ in range(2)]
    assert names == ["copy.sqlite", "copy-2.sqlite"]
    with closing(Store(tmp_path / "copy-2.sqlite")) as copy:
        assert copy.job("ann", job.id) == job
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_is_told_and_changes_nothing(store: Store) -> None:
    job = ask(store)
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own way to be full
    with pytest.raises(Failed, match="disk is full") as caught:
        ask(store, request="x" * 10**6)
    assert caught.value.code == "disk.full"
    assert store.export("ann") == [job]
    store._db.execute("PRAGMA max_page_count = 1000000")
    assert ask(store, request="x" * 10**6)


def test_a_list_that_stays_locked_is_told(store: Store) -> None:
    store._db.execute("PRAGMA busy_timeout = 50")
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Failed) as caught:
            ask(store)
        assert caught.value.code == "jobs.busy"
        assert store.history("ann") == []  # reading goes on
    assert ask(store)


def spoil_header(path: Path) -> None:
    path.write_bytes(b"no database at all" * 500)


def spoil_middle(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + os.urandom(4096) + content[8192:])


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize("spoil", [spoil_header, spoil_middle, cut_off])
def test_a_damaged_file_is_set_aside(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = tmp_path / "jobs.sqlite"
    with closing(Store(path)) as store:
        ask(store)
    spoil(path)
    content = path.read_bytes()
    with closing(Store(path)) as store:
        (aside,) = tmp_path.glob("jobs.sqlite.*.bad")
        assert aside.read_bytes() == content
        (note,) = store.notes
        assert "damaged" in note
        assert aside.name in note
        assert store.history("ann") == []
        assert ask(store)
    with closing(Store(path)) as store:
        assert store.notes == []
        assert len(store.history("ann")) == 1


def test_an_emptied_file_keeps_its_log(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    with closing(Store(path)) as store:
        ask(store)
        log = (tmp_path / "jobs.sqlite-wal").read_bytes()
        copy = tmp_path / "elsewhere" / "jobs.sqlite"
        copy.parent.mkdir()
        copy.write_bytes(b"")
        (copy.parent / "jobs.sqlite-wal").write_bytes(log)
    with closing(Store(copy)) as store:
        assert "damaged" in store.notes[0]
    (kept,) = copy.parent.glob("*.bad-wal")
    assert kept.read_bytes() == log


def test_a_new_file_is_nothing_to_speak_of(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "some" / "where" / "jobs.sqlite")) as store:
        assert store.notes == []
        assert (tmp_path / "some" / "where" / "jobs.sqlite").exists()


def test_what_a_newer_version_wrote_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    Store(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {len(ledger.MIGRATIONS) + 1}")
    content = path.read_bytes()
    error = refusal(lambda: Store(path))
    assert error.code == "jobs.newer"
    assert "Update" in str(error)
    assert path.read_bytes() == content


def test_somebody_elses_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE jobs (id)")
    content = path.read_bytes()
    assert refusal(lambda: Store(path)).code == "jobs.foreign"
    assert path.read_bytes() == content


def test_a_place_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert refusal(lambda: Store(tmp_path / "file" / "jobs.sqlite")).code == "output.missing"


NEXT = ("ALTER TABLE jobs ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'", "CREATE TABLE moods (m)")


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Job]:
    """A file of version 1 with one job in it, and a program that knows one version more."""
    monkeypatch.setattr(ledger, "MIGRATIONS", ledger.MIGRATIONS[:1])
    with closing(Store(tmp_path / "jobs.sqlite")) as store:
        job = ask(store)
    monkeypatch.setattr(ledger, "MIGRATIONS", (*ledger.MIGRATIONS, NEXT))
    return store.path, job


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def test_an_older_file_is_copied_and_brought_up_to_date(older: tuple[Path, Job]) -> None:
    path, job = older
    with closing(Store(path)) as store:
        assert store.job("ann", job.id) == job
        assert store._db.execute("SELECT mood FROM jobs").fetchall() == [("calm",)]
    copy = path.with_name("jobs.sqlite.version-1.backup")
    assert (version(path), version(copy)) == (2, 1)
    with closing(sqlite3.connect(copy)) as db:
        assert db.execute("SELECT id FROM jobs").fetchall() == [(job.id,)]
    Store(path).close()
    assert len(list(path.parent.iterdir())) == 2  # once is enough


def test_an_upgrade_that_breaks_in_the_middle_changes_nothing(
    older: tuple[Path, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, job = older
    broken = (*ledger.MIGRATIONS[:1], (*NEXT, "CREATE TABLE jobs (id)"))
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "MIGRATIONS", broken)
        with pytest.raises(sqlite3.OperationalError, match="already exists"):
            Store(path)
    assert version(path) == 1
    with closing(Store(path)) as store:
        assert store.job("ann", job.id) == job


# --- several processes, and what kills them --------------------------------------------------

CHILD = """
import json, math, os, sys
from pathlib import Path
from app.jobs import Limits, Store

path, me, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = Store(Path(path), limits=Limits(math.inf, math.inf, 10**6, attempts=10**6))
say = lambda *words: os.write(1, (json.dumps(words) + "\\n").encode())
for number in range(count):
    key = f"{me}-{number}"
    job = store.submit(me, "generate", "{}", client_key=key, title=key, seconds=1)
    say("asked", key, job.id)
    if held := store.claim(me, 100):
        store.beat(held, step=1, total=2, lease_seconds=100)
        if store.finish(held, result=me):
            say("done", held.id, me)
store.close()
"""


def spawn(path: Path, name: str, count: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", CHILD, str(path), name, str(count)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def said(output: bytes) -> list[list[str]]:
    """The whole lines of a child: the last may have been cut off."""
    return [json.loads(line) for line in output.splitlines(keepends=True) if line.endswith(b"\n")]


def test_four_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    children = [spawn(path, f"p{n}", 25) for n in range(4)]
    lines: list[list[str]] = []
    for child in children:
        output, trouble = child.communicate(timeout=120)
        assert (child.returncode, trouble) == (0, b"")
        lines += said(output)
    asked = {job for what, _, job in lines if what == "asked"}
    done = Counter(job for what, job, _ in lines if what == "done")
    assert len(asked) == 100
    assert set(done.values()) == {1}
    with closing(Store(path)) as store:
        rows = [job for n in range(4) for job in store.export(f"p{n}")]
        assert {job.id for job in rows} == asked
        assert {job.id for job in rows if job.state == "done"} == set(done)
        assert {(job.id, job.result) for job in rows if job.result} == {
            (job, me) for what, job, me in lines if what == "done"
        }


def test_what_was_acknowledged_outlives_kill_9(tmp_path: Path) -> None:
    path, chance, kills = tmp_path / "jobs.sqlite", random.Random(5), 12
    lines: list[list[str]] = []
    for number in range(kills):
        child = spawn(path, f"k{number}", 10**6)
        assert child.stdout
        assert child.stderr
        first = child.stdout.readline()
        time.sleep(chance.uniform(0, 0.1))
        child.kill()
        output, trouble = child.communicate(timeout=60)
        assert trouble == b""
        lines += said(first + output)
    asked = {key: job for what, key, job in lines if what == "asked"}
    done = {job for what, job, _ in lines if what == "done"}
    assert len(asked) >= kills
    with closing(Store(path, limits=NO_BOUND)) as store:
        assert store.notes == []
        assert store._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = {job.id: job for n in range(kills) for job in store.export(f"k{n}")}
        assert set(asked.values()) <= set(rows)
        assert len(rows) <= len(asked) + kills  # at most one each was written and not yet told
        assert all(rows[job].state == "done" for job in done)
        assert Counter(job.state for job in rows.values())["done"] <= len(done) + kills
        for key, job in asked.items():  # who heard nothing sends it again
            assert ask(store, key.partition("-")[0], client_key=key).id == job
        assert sum(len(store.export(f"k{n}")) for n in range(kills)) == len(rows)
