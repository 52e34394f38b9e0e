"""Results on disk: whole or not at all, never over one another, and plain words when it fails."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app import files
from app.errors import Failed, Refused

# What the system says about writing, and how we tell it: {name} is the file, {folder} its folder.
_REFUSALS = {
    "output.missing": "There is no folder {folder!r} to write to. Create it, or choose another.",
    "output.read_only": "The folder {folder!r} cannot be written to. Choose another.",
    "output.name": "{name!r} cannot be the name of a file. Choose another.",
}
_CODES = {
    errno.ENOENT: "output.missing",
    errno.ENOTDIR: "output.missing",
    errno.EACCES: "output.read_only",
    errno.EPERM: "output.read_only",
    errno.EROFS: "output.read_only",
    errno.ENAMETOOLONG: "output.name",
    errno.EISDIR: "output.name",
}
PARTS = f".{'[0-9a-f]' * 16}.part"  # what `part` gives, as a pattern
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write(path: Path, content: bytes, *, replace: bool = False) -> Path:
    """Write a whole file and return its path.

    A file that is there already stays, and the next free name is taken, unless `replace`. Raises
    `Refused` for a folder that is missing or read-only, `Failed` for a full disk; then nothing is
    left behind.
    """
    aside = part(path)
    with explained(path):
        try:
            with aside.open("xb") as file:
                file.write(content)
            return publish(aside, path, replace=replace)
        finally:
            aside.unlink(missing_ok=True)


def write_once(path: Path, content: bytes, note: Path) -> Path:
    """Write a file as `write` does; who does it again after a crash gets the one that is there.

    `note` is a file that remembers where it went. As long as it is there, and the file is as it
    was, the file is what we return, whatever `content` is now.
    """
    if known := noted(note):
        return known
    aside = part(path)
    with explained(path):
        try:
            with aside.open("xb") as file:
                file.write(content)
            files.flush(aside)
            while True:  # first the note, then the file: what lies there is always known
                name = free_name(path)
                told = {"path": str(name), "sha256": hashlib.sha256(content).hexdigest()}
                write(note, json.dumps(told).encode(), replace=True)
                if _take(aside, name):
                    files.flush(name.parent)
                    return name
        finally:
            aside.unlink(missing_ok=True)


def noted(note: Path) -> Path | None:
    """The file that a note of `write_once` tells of, if it is there and as it was written."""
    try:
        told = json.loads(note.read_bytes())
        path = Path(told["path"])
        return path if files.digest(path) == told["sha256"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def part(path: Path) -> Path:
    """Where to write what will be called `path`: hidden, beside it, unlike any other."""
    return path.with_name(f".{secrets.token_hex(8)}.part")


def publish(aside: Path, path: Path, *, replace: bool = False) -> Path:
    """Give a finished file its name, or the next free one, and return it."""
    if replace:
        files.publish(aside, path)
        return path
    files.flush(aside)
    path = _claim(aside, path)
    files.flush(path.parent)  # the name, too, has to survive a power cut
    return path


def free_name(path: Path) -> Path:
    """Return `apple.png`, or `apple-2.png` if that is taken, and so on."""
    others = (path.with_name(f"{path.stem}-{n}{path.suffix}") for n in itertools.count(2))
    return next(name for name in itertools.chain([path], others) if not os.path.lexists(name))


def check_folder(path: Path, may_make: int | None = 0) -> None:
    """Try whether files can be written to a folder, leaving nothing behind.

    `may_make` new folders on the way are all right (None: any number). Raises `Refused`.
    """
    there, missing = path.absolute(), 0
    with explained(path / "file"):
        while not there.exists() and there != there.parent:
            there, missing = there.parent, missing + 1
        if may_make is not None and missing > may_make:
            raise FileNotFoundError(errno.ENOENT, "")
    with explained(there / "file"), tempfile.TemporaryFile(dir=there):
        pass


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the system says about writing `path` into a sentence for people."""
    try:
        yield
    except OSError as error:
        raise _explanation(error, path) from error


def _explanation(error: OSError, path: Path) -> Refused | Failed:
    number = error.errno or 0
    if number in _CODES:
        code = _CODES[number]
        sentence = _REFUSALS[code].format(name=path.name, folder=str(path.parent))
        return Refused(code, sentence, "out")
    if number in _NO_ROOM:
        return Failed("disk.full", f"The disk is full: {path.name!r} was not written. Make room.")
    said = error.strerror or error
    return Failed("output.failed", f"{path.name!r} could not be written: {said}.")


def _claim(aside: Path, path: Path) -> Path:
    """Take a free name in one step, so that two runs never share one."""
    while True:
        name = free_name(path)
        if _take(aside, name):
            return name


def _take(aside: Path, name: Path) -> bool:
    """Give it this very name; False when another run took that in this very moment."""
    try:
        os.link(aside, name)
    except FileExistsError:
        return False
    except OSError:  # some file systems have no links: a moment stays open there
        os.replace(aside, name)
    return True
