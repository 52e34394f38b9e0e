"""The file of the list of jobs: written by many, copied, repaired, and killed at any moment."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from app import ledger
from app.errors import Failed
from app.jobs import Job, Store
from tests.stores import NO_BOUND, Clock, ask, claim, refusal, state

ROOT = Path(__file__).parent.parent


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
