"""The list of jobs: nothing acknowledged is lost, nothing is done twice, nobody sees another's."""

from __future__ import annotations

import math
import pickle
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.jobs import Ahead, Artifact, Busy, Store, ulid
from tests.stores import NO_BOUND, PICTURE, Clock, ask, claim, refusal, state

ROOT = Path(__file__).parent.parent


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
