"""The list of jobs as a history: pages, search, favourites, and what is deleted."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app import jobs
from app.jobs import Artifact, Store, Usage
from tests.stores import PICTURE, Clock, ask, claim, refusal

ROOT = Path(__file__).parent.parent


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
