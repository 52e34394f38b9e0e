"""Files that outlive a crash: locks, pieces and names that appear whole or not at all."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest

from app.files import MIB, Part, alone, beside, digest, is_running, publish, set_aside


def test_the_digest_is_that_of_the_whole_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * (3 * MIB // 256) + b"end"
    (tmp_path / "x").write_bytes(content)
    assert digest(tmp_path / "x") == sha256(content).hexdigest()


def test_a_published_file_replaces_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    (tmp_path / "x.part").write_text("new")
    publish(tmp_path / "x.part", tmp_path / "x")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x", "new")]


def test_what_is_set_aside_keeps_its_content(tmp_path: Path) -> None:
    (tmp_path / "x.bad").write_text("older")
    (tmp_path / "x").write_text("bad")
    set_aside(tmp_path / "x", tmp_path / "x")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x.bad", "bad")]


def dead_process() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


@pytest.mark.skipif(os.name != "posix", reason="only POSIX can ask")
def test_the_living_and_the_dead_are_told_apart() -> None:
    assert is_running(os.getpid())
    assert is_running(os.getppid())
    assert not is_running(dead_process())


# --- locks -----------------------------------------------------------------------------------


@dataclass
class Trace:
    """What several processes did at once."""

    inside: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def visit(self, target: Path) -> None:
        with alone(target):
            with self.lock:
                self.inside += 1
                self.most = max(self.most, self.inside)
            time.sleep(0.02)
            with self.lock:
                self.inside -= 1


def test_one_at_a_time(tmp_path: Path) -> None:
    trace = Trace()
    visits = [threading.Thread(target=trace.visit, args=(tmp_path / "x",)) for _ in range(6)]
    for visit in visits:
        visit.start()
    for visit in visits:
        visit.join()
    assert trace.most == 1
    assert list(tmp_path.iterdir()) == []


def test_a_lock_nobody_touches_is_taken_over(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    lock.write_text("1@another-host")
    os.utime(lock, (1, 1))
    with alone(tmp_path / "x", stale=60):
        assert lock.read_text() == f"{os.getpid()}@{platform.node()}"


def test_a_dead_owner_loses_its_lock(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    lock.write_text(f"{dead_process()}@{platform.node()}")
    with alone(tmp_path / "x"):
        assert lock.read_text() == f"{os.getpid()}@{platform.node()}"


def test_who_says_it_is_alive_keeps_its_lock(tmp_path: Path) -> None:
    entered = threading.Event()

    def wait() -> None:
        with alone(tmp_path / "x", stale=0.5):
            entered.set()

    with alone(tmp_path / "x", stale=0.5) as alive:
        other = threading.Thread(target=wait)
        other.start()
        for _ in range(10):
            alive()
            time.sleep(0.1)
        assert not entered.is_set()
    other.join()
    assert entered.is_set()


def test_a_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), alone(tmp_path / "x"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_taken_over_is_left_alone(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    with alone(tmp_path / "x"):
        lock.write_text("1@another-host")
    assert lock.read_text() == "1@another-host"


# --- pieces ----------------------------------------------------------------------------------


def test_a_piece_knows_its_hash_from_the_start(tmp_path: Path) -> None:
    for chunk in (b"one", b"two"):
        with Part.of(tmp_path / "x") as part:
            part.write(chunk)
    assert part.digest == sha256(b"onetwo").hexdigest()
    assert part.size == 6


def test_a_piece_begun_anew_forgets_what_it_held(tmp_path: Path) -> None:
    with Part.of(tmp_path / "x") as part:
        part.write(b"wrong")
        part.restart("tag")
        part.write(b"right")
    part.become(tmp_path / "x")
    assert part.digest == sha256(b"right").hexdigest()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", b"right")]


def test_the_largest_piece_of_the_dead_is_adopted_with_its_tag(tmp_path: Path) -> None:
    for content in (b"1234", b"12"):
        piece = beside(tmp_path / "x", f"{dead_process()}.part")
        piece.write_bytes(content)
        beside(piece, "tag").write_text(f"tag of {len(content)}")
    with Part.of(tmp_path / "x") as part:
        assert (part.size, part.tag) == (4, "tag of 4")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_piece_of_the_living_is_left_alone(tmp_path: Path) -> None:
    theirs = beside(tmp_path / "x", f"{os.getppid()}.part")
    theirs.write_bytes(b"1234")
    with Part.of(tmp_path / "x") as part:
        assert part.size == 0
    assert theirs.exists()
