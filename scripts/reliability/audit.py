"""What lies on the disk after a fault: does every file open, and is each where it belongs?"""

from __future__ import annotations

import io
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from safetensors import safe_open

from app import files


def pixels(png: bytes | Path) -> NDArray[np.uint8]:
    """All values of a picture; its text, such as the recipe, does not count."""
    with Picture.open(io.BytesIO(png) if isinstance(png, bytes) else png) as picture:
        return np.asarray(picture)


def _numbers(path: Path) -> None:
    found = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    for name in getattr(found, "files", ()):
        _ = found[name]


def _tensors(path: Path) -> None:
    with safe_open(path, framework="np") as file:
        for name in list(file.keys()):
            file.get_tensor(name)


def _film(path: Path) -> None:
    with av.open(str(path)) as film:
        if not sum(1 for _ in film.decode(video=0)):
            raise ValueError("a film without a frame")


def _list(path: Path) -> None:
    db = sqlite3.connect(f"{path.as_uri()}?mode=ro", 10, uri=True)
    try:
        if db.execute("PRAGMA integrity_check").fetchone() != ("ok",):
            raise ValueError("a damaged list")
    finally:
        db.close()


# How a file of each kind is opened whole. What a row does not name is not opened.
OPENERS: dict[str, Callable[[Path], object]] = {
    ".png": pixels,
    ".jpg": pixels,
    ".npy": _numbers,
    ".npz": _numbers,
    ".json": lambda path: json.loads(path.read_bytes()),
    ".safetensors": _tensors,
    ".mp4": _film,
    ".sqlite": _list,
}


def half_files(folders: Iterable[Path]) -> tuple[int, list[str]]:
    """How many files were opened, and those that are not whole: name and trouble.

    Frames of a film are left out: they are a diary that a kill may cut off, and whoever makes the
    film leaves such a page out.
    """
    opened, halves = 0, []
    for path in _files(folders):
        if path.suffix not in OPENERS or path.parent.name == "frames":
            continue
        try:
            OPENERS[path.suffix](path)
        except FileNotFoundError:
            continue  # it was just deleted
        except Exception as error:  # whatever a decoder says
            halves.append(f"{path.name}: {error}")
        opened += 1
    return opened, halves


def parts(folders: Iterable[Path], older: float = 0.0) -> list[Path]:
    """What was begun and never became a file, older than so many seconds."""
    found = (path for path in _files(folders) if path.suffix == ".part")
    return [path for path in found if time.time() - path.stat().st_mtime >= older]


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(path for path in folder.rglob("*") if path.is_file())


@dataclass(frozen=True)
class Books:
    """What the list says of pictures, against what lies in the folder of results."""

    states: dict[str, str]  # by job
    missing: list[str]  # in the list, and not on the disk, or not as it was
    strange: list[str]  # on the disk, and nobody's
    doubled: list[str]  # jobs with more than one picture


def compare(db: sqlite3.Connection, results: Path) -> Books:
    """Every picture belongs to one job, every job has its pictures, and one at most."""
    states = dict(db.execute("SELECT id, state FROM jobs"))
    rows = list(db.execute("SELECT job, path, sha256 FROM artifacts WHERE kind = 'picture'"))
    missing = [path for _, path, digest in rows if not _is(Path(path), digest)]
    named = {Path(path) for _, path, _ in rows}
    strange = [str(path) for path in results.glob("*.png") if path not in named]
    counted = Counter(job for job, _, _ in rows)
    return Books(states, missing, strange, [job for job, count in counted.items() if count > 1])


def _is(path: Path, digest: str) -> bool:
    try:
        return files.digest(path) == digest
    except OSError:
        return False
