"""The file that holds the list of jobs: opened, looked over, brought up to date.

A damaged file is set aside and a new one begun; an older one is copied before it is changed.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app import files, saving
from app.errors import Failed, Refused

_PATIENCE = 5.0  # seconds to wait for another process
_LONGEST_UPGRADE = 60.0  # seconds; then another process may think that we died in the middle
_APPLICATION = 0x53594E45  # "SYNE", in the header of the file: it is one of ours

# Each entry brings a file from one version to the next; never change one that was published.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE jobs (
            id TEXT PRIMARY KEY,
            owner TEXT NOT NULL,
            client_key TEXT NOT NULL,
            kind TEXT NOT NULL,
            title TEXT NOT NULL,
            words TEXT NOT NULL,
            state TEXT NOT NULL DEFAULT 'queued'
                CHECK (state IN ('queued', 'running', 'paused', 'done', 'failed', 'cancelled')),
            seconds REAL NOT NULL,
            attempt INTEGER NOT NULL DEFAULT 0,
            lease INTEGER,
            lease_until REAL,
            worker TEXT NOT NULL DEFAULT '',
            cancel_requested INTEGER NOT NULL DEFAULT 0,
            step INTEGER NOT NULL DEFAULT 0,
            total INTEGER NOT NULL DEFAULT 0,
            preview TEXT NOT NULL DEFAULT '',
            snapshot TEXT NOT NULL DEFAULT '',
            result TEXT NOT NULL DEFAULT '',
            error_code TEXT NOT NULL DEFAULT '',
            error_text TEXT NOT NULL DEFAULT '',
            favourite INTEGER NOT NULL DEFAULT 0,
            created REAL NOT NULL,
            started REAL,
            finished REAL,
            deleted REAL,
            request TEXT NOT NULL,
            UNIQUE (owner, client_key),
            CHECK ((state = 'running') = (lease IS NOT NULL)),
            CHECK ((state = 'running') = (lease_until IS NOT NULL)),
            CHECK ((state IN ('done', 'failed', 'cancelled')) = (finished IS NOT NULL))
        )""",
        "CREATE INDEX jobs_by_owner ON jobs (owner, id)",
        "CREATE INDEX jobs_by_state ON jobs (state, owner, id)",
        "CREATE INDEX jobs_deleted ON jobs (deleted) WHERE deleted IS NOT NULL",
        """CREATE TABLE artifacts (
            job TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE,
            path TEXT NOT NULL,
            kind TEXT NOT NULL,
            sha256 TEXT NOT NULL,
            bytes INTEGER NOT NULL,
            PRIMARY KEY (job, path)
        ) WITHOUT ROWID""",
        "CREATE INDEX artifacts_by_path ON artifacts (path)",
        """CREATE TABLE events (
            id INTEGER PRIMARY KEY,
            job TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE,
            at REAL NOT NULL,
            what TEXT NOT NULL,
            text TEXT NOT NULL
        )""",
        "CREATE INDEX events_by_job ON events (job, id)",
        # When each owner had a turn last. The number grows for ever, so it is the lease, too.
        "CREATE TABLE turns (turn INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL UNIQUE)",
        f"PRAGMA application_id = {_APPLICATION}",
    ),
)

# What SQLite says, and how we tell it: {path} is the file.
_TROUBLE = {
    "disk is full": ("disk.full", "The disk is full: the list of jobs stays as it was. Make room."),
    "disk I/O error": ("jobs.unreadable", "The disk with {path} does not answer. Check it."),
    "locked": ("jobs.busy", "The list of jobs is busy. Try again in a moment."),
    "readonly": ("jobs.read_only", "{path} cannot be written to. Allow it, or choose another."),
    "unable to open": ("jobs.unreadable", "{path} cannot be opened. Choose another place."),
    "malformed": ("jobs.damaged", "{path} is damaged. Start again: it will be set aside."),
    "not a database": ("jobs.damaged", "{path} is damaged. Start again: it will be set aside."),
}
_DAMAGED = ("malformed", "not a database")


def open_file(path: Path, notes: list[str]) -> sqlite3.Connection:
    """Connect to a file that is whole and of the newest version, or to a new one.

    `notes` gets a sentence if a damaged one was set aside. Raises `Refused` for one that a newer
    version wrote, or that is none of ours.
    """
    db = _open(path, notes)
    try:
        _set_up(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _open(path: Path, notes: list[str]) -> sqlite3.Connection:
    """Connect to a file that is whole: a damaged one is set aside first."""
    if db := _connect_if_whole(path):
        return db
    with files.alone(path):
        if db := _connect_if_whole(path):  # another process was quicker
            return db
        aside = _set_aside(path)
        notes.append(
            f"The list of jobs in {path} was damaged. It is kept as {aside.name}, and a new one "
            "was begun; pictures that were made are where they were."
        )
    return _connect(path)


def _connect_if_whole(path: Path) -> sqlite3.Connection | None:
    log = _log(path, "wal")
    if path.exists() and not path.stat().st_size and log.exists() and log.stat().st_size:
        return None  # it was cut off, and SQLite would delete the log that still holds something
    db = _connect(path)
    try:
        if db.execute("PRAGMA quick_check(1)").fetchone() == ("ok",):
            return db
    except sqlite3.DatabaseError as error:
        if not any(words in str(error) for words in _DAMAGED):
            db.close()
            raise
    db.close()
    return None


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, _PATIENCE, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA foreign_keys = ON")
    return db


def _log(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}-{ending}")


def _set_aside(path: Path) -> Path:
    """Rename a file and its log; the log under its new name still belongs to it."""
    date = time.strftime("%Y-%m-%d-%H%M%S")
    aside = saving.free_name(files.beside(path, f"{date}.bad"))
    for ending in ("wal", "shm"):
        with suppress(FileNotFoundError):
            os.replace(_log(path, ending), _log(aside, ending))
    os.replace(path, aside)
    return aside


def _set_up(db: sqlite3.Connection, path: Path) -> None:
    """Make a file what we expect: the newest version, and readers beside a writer (WAL)."""
    if not _is_current(db, path):
        with files.alone(path, stale=_LONGEST_UPGRADE):
            version = _version(db, path)
            if 0 < version < len(MIGRATIONS):
                copy(db, files.beside(path, f"version-{version}.backup"))
            db.execute("PRAGMA journal_mode = WAL")  # stays with the file
            _migrate(db, path)
    db.execute("PRAGMA secure_delete = ON")  # what people delete shall be gone


def _is_current(db: sqlite3.Connection, path: Path) -> bool:
    (mode,) = db.execute("PRAGMA journal_mode").fetchone()
    return _version(db, path) == len(MIGRATIONS) and mode == "wal"


def _version(db: sqlite3.Connection, path: Path) -> int:
    """Which version a file has; 0 if it is new. Raises `Refused` where we must not touch it."""
    # in this order: another process may be setting the file up, all three in one moment
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if tables and application != _APPLICATION:
        message = f"{path} is a database, but no list of jobs. Choose another name."
        raise Refused("jobs.foreign", message)
    if version > len(MIGRATIONS):
        message = f"{path} was written by a newer version of the program. Update the program."
        raise Refused("jobs.newer", message)
    return version


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    """Bring a file to the newest version, in one transaction."""
    db.execute("BEGIN IMMEDIATE")
    try:
        for statements in MIGRATIONS[_version(db, path) :]:
            for statement in statements:
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def copy(db: sqlite3.Connection, to: Path) -> Path:
    """Write a copy of a database under a free name, whole or not at all."""
    aside = saving.part(to)
    with saving.explained(to):
        try:
            db.execute("VACUUM INTO ?", (str(aside),))
            return saving.publish(aside, to)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite says into a sentence for people, where it is no mistake of ours."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        for words, (code, sentence) in _TROUBLE.items():
            if words in str(error):
                raise Failed(code, sentence.format(path=path)) from error
        raise
