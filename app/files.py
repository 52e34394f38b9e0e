"""Files that outlive a crash: hashes, safe writes, one process at a time, pieces to go on with."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

MIB, GIB = 1 << 20, 1 << 30


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    running = sha256()
    with path.open("rb") as file:
        while chunk := file.read(MIB):
            running.update(chunk)
    return running.hexdigest()


def flush(path: Path) -> None:
    """Have the system write a file (or, on POSIX, a folder) to the disk now."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(part: Path, target: Path) -> None:
    """Give a finished file its name: it appears there whole or not at all, even if power fails."""
    flush(part)
    os.replace(part, target)
    flush(target.parent)


def set_aside(path: Path, target: Path) -> None:
    """Keep a file that is no good as `target` with `.bad`, in place of the last such one."""
    os.replace(path, beside(target, "bad"))


def beside(path: Path, ending: str) -> Path:
    """Return `path` with one more ending."""
    return path.with_name(f"{path.name}.{ending}")


def is_running(process: int) -> bool:
    """Whether a process of this machine is alive."""
    if os.name != "posix":
        return True  # there, asking would send it a signal
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is somebody else's
    return True


# --- one process at a time -------------------------------------------------------------------


@contextmanager
def alone(target: Path, stale: float = 300.0) -> Iterator[Callable[[], None]]:
    """Wait until no other process works on `target`; yield a function that says we are still alive.

    The lock is a file that only one can create. It is taken over when its process is dead or has
    said nothing for `stale` seconds. Where locks fail, or when two take over at once, both work,
    each on files of its own: then only the work is done twice.
    """
    lock, me = beside(target, "lock"), f"{os.getpid()}@{platform.node()}"
    mine = _take(lock, me)
    while mine is None:
        if _is_abandoned(lock, stale):
            lock.unlink(missing_ok=True)
        else:
            time.sleep(0.1)
        mine = _take(lock, me)

    def alive() -> None:
        with suppress(OSError):
            os.utime(lock)

    try:
        yield alive
    finally:
        if mine and _owner(lock) == me:
            lock.unlink(missing_ok=True)


def _take(lock: Path, me: str) -> bool | None:
    """True: it is ours. None: it is somebody else's. False: locks do not work here."""
    try:
        descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return None
    except OSError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(me)
    return True


def _owner(lock: Path) -> str:
    try:
        return lock.read_text(encoding="utf-8")
    except OSError:
        return ""


def _is_abandoned(lock: Path, stale: float) -> bool:
    process, _, host = _owner(lock).partition("@")
    dead = process.isdecimal() and host == platform.node() and not is_running(int(process))
    try:
        return dead or time.time() - lock.stat().st_mtime > stale
    except OSError:
        return False  # it was taken away meanwhile


# --- pieces ----------------------------------------------------------------------------------


class Part:
    """The piece of a download we hold: its bytes, their running hash, the server's tag for them."""

    def __init__(self, path: Path) -> None:
        """Take up what is there, hashing it on the way."""
        self.path, self.tag_path = path, beside(path, "tag")
        self.tag = self.tag_path.read_text(encoding="utf-8") if self.tag_path.exists() else ""
        self.promised = ""  # the hash the server states for the whole, if it does
        self.size, self._hash = 0, sha256()
        self.file = path.open("a+b")
        self.file.seek(0)
        while chunk := self.file.read(MIB):
            self._count(chunk)

    @classmethod
    @contextmanager
    def of(cls, target: Path) -> Iterator[Part]:
        """Our own piece of `target`, or the largest that a process now dead left behind."""
        mine = beside(target, f"{os.getpid()}.part")
        left = [path for path in target.parent.glob(f"{target.name}.*.part") if _is_orphan(path)]
        for path in sorted(left, key=lambda path: path.stat().st_size):
            for piece, place in ((path, mine), (beside(path, "tag"), beside(mine, "tag"))):
                if piece.exists():
                    os.replace(piece, place)
        part = cls(mine)
        with part.file:
            yield part

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes so far."""
        return self._hash.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Append."""
        self.file.write(chunk)
        self._count(chunk)

    def restart(self, tag: str = "") -> None:
        """Throw away what is there; remember the tag of what is to come."""
        self.file.truncate(0)
        self.size, self._hash, self.tag = 0, sha256(), tag
        self.tag_path.write_text(tag, encoding="utf-8")

    def become(self, target: Path) -> None:
        """It is whole: give it its name."""
        publish(self.path, target)
        self.tag_path.unlink(missing_ok=True)

    def fail(self, target: Path) -> None:
        """It is whole and wrong: set it aside."""
        set_aside(self.path, target)
        self.tag_path.unlink(missing_ok=True)

    def _count(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self.size += len(chunk)


def _is_orphan(part: Path) -> bool:
    owner = part.name.split(".")[-2]
    return owner.isdecimal() and int(owner) != os.getpid() and not is_running(int(owner))
