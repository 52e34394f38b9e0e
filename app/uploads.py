"""Files that a program hands in before it names them in an order: each with its owner, for a day.

    <data>/uploads/<owner>/<id>/<name>

Nothing is opened here. Who reads such a file later does so as carefully as any from a stranger.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app import saving
from app.errors import Failed, Refused
from app.files import GIB, MIB
from guidance.prompt import clean

_ID = re.compile("[0-9a-f]{32}")
_MOST_NAME = 80  # characters, of which some take four bytes
_SWEEP = 600.0  # seconds between two looks at what is old


@dataclass(frozen=True)
class Limits:
    """How much may lie here."""

    file: int = 25_000_000  # bytes
    owner: int = 250_000_000  # bytes of one owner
    files: int = 100  # of one owner
    whole: int = 2 * GIB  # bytes of all owners together
    free: int = 256 * MIB  # bytes of the disk that stay free
    age: float = 86_400.0  # seconds since somebody used it


@dataclass(frozen=True)
class Kept:
    """A file that lies here."""

    id: str
    name: str
    bytes: int


class Incoming:
    """A file that is on its way; whoever began it also ends it, with `keep` or `drop`."""

    def __init__(self, folder: Path, name: str, room: int, why: Refused) -> None:
        """No more than `room` bytes, or `why` is raised. Raises as `saving.write` does."""
        self._folder, self._name, self._left, self._why = folder, name, room, why
        with saving.explained(folder):
            folder.mkdir(parents=True)
            self._file = (folder / name).open("xb")

    def write(self, piece: bytes) -> None:
        """Append. Raises `Refused` for too much, and `Failed` where the disk is full."""
        self._left -= len(piece)
        if self._left < 0:
            raise self._why
        with saving.explained(self._folder):
            self._file.write(piece)

    def keep(self) -> Kept:
        """It is whole. Raises `Refused` for an empty one."""
        size = self._file.tell()
        if not size:
            raise Refused("upload.empty", f"{self._name!r} is empty (0 bytes). Send its content.")
        with saving.explained(self._folder):
            self._file.close()
        return Kept(self._folder.name, self._name, size)

    def drop(self) -> None:
        """It does not come, or is no good."""
        with suppress(OSError):
            self._file.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class Uploads:
    """The folder of all of them."""

    def __init__(
        self, root: Path, limits: Limits | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        """Nothing is made until there is a file."""
        self.root, self.limits, self._clock = root, limits or Limits(), clock
        self._swept = float("-inf")

    def begin(self, owner: str, name: str) -> Incoming:
        """Make room for a file. Raises `Refused` ("upload.quota") and `Failed` ("disk.full")."""
        self._sweep()
        room, why = self._room(owner)
        return Incoming(self.root / owner / secrets.token_hex(16), safe_name(name), room, why)

    def find(self, owner: str, file_id: str, field: str | None = None) -> Path:
        """Where a file lies; another's is as if it did not exist. Raises `Refused`."""
        folder = self.root / owner / file_id
        with suppress(OSError, StopIteration):
            if _ID.fullmatch(owner) and _ID.fullmatch(file_id):
                os.utime(folder)  # it is in use
                return next(folder.iterdir())
        raise Refused(
            "input.missing",
            f"There is no file {file_id[:40]!r} of yours. Send it first, to /api/files; it stays "
            "for a day.",
            field,
        )

    def _room(self, owner: str) -> tuple[int, Refused]:
        """How many bytes a file may have, and what is said of more."""
        limits, mine = self.limits, _sizes(self.root / owner)
        if len(mine) >= limits.files:
            message = f"You have {len(mine)} files here already. They go after a day without use."
            raise Refused("upload.quota", message)
        total = sum(sum(_sizes(folder)) for folder in _folders(self.root))
        there = next(path for path in (self.root, *self.root.parents) if path.exists())
        if shutil.disk_usage(there).free - limits.file < limits.free or total >= limits.whole:
            raise Failed("disk.full", "There is no room for more files now. Try again later.")
        left = limits.owner - sum(mine)
        if left < limits.file:
            message = f"Your files here may have {_mb(limits.owner)} together."
            return left, Refused("upload.quota", f"{message} They go after a day without use.")
        message = f"A file may have {_mb(limits.file)}. Send something smaller."
        return limits.file, Refused("upload.too_big", message)

    def _sweep(self) -> None:
        """Remove what nobody used for a day, and what never became whole."""
        now = self._clock()
        if now - self._swept < _SWEEP:
            return
        self._swept = now
        for owner in _folders(self.root):
            for folder in _folders(owner):
                with suppress(OSError):
                    if now - folder.stat().st_mtime > self.limits.age:
                        shutil.rmtree(folder)
            with suppress(OSError):
                owner.rmdir()  # if nothing is left


def safe_name(given: str) -> str:
    """What a file may be called on any system: its own name, without what could lead elsewhere."""
    name = clean(re.split(r"[/\\]", given)[-1])
    name = re.sub(r"[^\w.() +-]", "", name).strip(". ")
    stem, dot, ending = name.rpartition(".")
    if dot and len(ending) < 8:  # it tells people something, so it stays
        name = f"{stem[: _MOST_NAME - len(ending) - 1]}.{ending}"
    name = name[:_MOST_NAME].encode()[:240].decode(errors="ignore")
    reserved = re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name)
    return f"file-{name}" if reserved else name or "file"


def _folders(path: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from (Path(entry.path) for entry in os.scandir(path) if entry.is_dir())


def _sizes(owner: Path) -> list[int]:
    """Of all files of one owner, in bytes."""
    found = []
    for folder in _folders(owner):
        with suppress(OSError):
            found += [file.stat().st_size for file in os.scandir(folder)]
    return found


def _mb(size: int) -> str:
    return f"{size // 1_000_000} MB"
