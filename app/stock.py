"""The stock of models: where each lies, whether it is here, what it takes up, its hash.

What ships with the project lies in its tree, what a package carries in the package, and what was
fetched in a folder of its own, beside a file of pins: the hash that each file must have.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import platformdirs

from app.catalog import TABLES, Entry, File, Kind, ModelError, Package, find
from app.convert import ROOT
from app.fetching import need_room
from app.files import alone, beside, publish


def folder() -> Path:
    """Where fetched models live: SYNESTHETE_MODELS, or the user's data folder."""
    chosen = os.environ.get("SYNESTHETE_MODELS")
    if chosen:
        return Path(chosen).expanduser()
    return Path(platformdirs.user_data_dir("synesthete", appauthor=False)) / "models"


def home(entry: Entry) -> Path:
    """The folder of one model."""
    if entry.folder:
        return ROOT / entry.folder
    inside = entry.package and carried(entry.package)
    return inside or folder() / entry.kind / entry.name


def weights(entry: Entry) -> list[Path]:
    """The files of weights that are here, by name."""
    place = home(entry)
    return sorted([*place.glob("*.safetensors"), *place.glob("model.bin")])


def carried(package: Package) -> Path | None:
    """Where a package's weights lie, found without running its code. None: it is not installed."""
    try:
        return Path(str(distribution(package.name).locate_file(package.folder)))
    except PackageNotFoundError:
        return None


# --- what is here ----------------------------------------------------------------------------


def installed() -> list[Entry]:
    """The rows that can be used now, in menu order."""
    return [entry for table in TABLES.values() for entry in table.values() if is_there(entry)]


def is_there(entry: Entry) -> bool:
    if entry.folder:
        return bool(weights(entry))
    if entry.package:
        return all((home(entry) / file.name).is_file() for file in entry.package.files)
    known = pins()
    return all(
        (home(entry) / file.name).exists() and key(entry, file) in known for file in entry.files
    )


def absent(entry: Entry) -> str:
    return (
        f"The model {entry.name} is not on this machine. Fetch it first: in the Models tab, or by "
        f"`python -m app download {entry.name}`."
    )


def refuse_absent(names: Iterable[tuple[Kind, str]]) -> None:
    """Raise ModelError where one of these models would have to be fetched."""
    for kind, name in names:
        entry = find(kind, name)
        if entry.files and not is_there(entry):
            raise ModelError(absent(entry))


def occupied(entry: Entry) -> int:
    """Bytes on the disk under a model's folder, whole or in pieces, wherever they come from."""
    return sum(path.stat().st_size for path in home(entry).glob("*") if path.is_file())


def arrived(entry: Entry) -> int:
    """Bytes of a model that were fetched and are kept, while it is not whole."""
    if not entry.files or is_there(entry):
        return 0
    return sum(
        path.stat().st_size for file in entry.files for path in _pieces(home(entry) / file.name)
    )


def _pieces(target: Path) -> list[Path]:
    """What there is of a file under the names it has on its way here."""
    old = target.with_suffix(".ckpt")
    names = {target.name, old.name}
    return [path for path in target.parent.glob("*") if _before_part(path.name) in names]


def _before_part(name: str) -> str:
    """`model.ckpt.4711.part` is a part of `model.ckpt`."""
    return re.sub(r"\.\d+\.part$", "", name)


def refuse_full(entry: Entry) -> None:
    """Raise ModelError when the disk has no room for the rest of a row whose size is known."""
    known, place = [file.bytes for file in entry.files], folder()
    if known and None not in known:
        there = next(each for each in (place, *place.absolute().parents) if each.exists())
        need_room(entry.name, sum(filter(None, known)) - arrived(entry), there)


def remove(entry: Entry) -> None:
    """Delete the files of a fetched model. Its pinned hash stays: a later fetch must match it."""
    if not entry.files:
        raise ModelError(f"{entry.name} is part of the program and is not removed.")
    place = home(entry)
    if not place.exists():
        raise ModelError(f"{entry.name} is not on this machine.")
    try:
        with alone(place):
            shutil.rmtree(place)
    except OSError as error:
        raise ModelError(f"Cannot delete {place}: {error.strerror or error}.") from error


# --- pins: the hashes of what was fetched ----------------------------------------------------


def is_trusted(entry: Entry) -> bool:
    """Whether a row is fetched without `trust`: we checked it, or its hash is pinned already."""
    return entry.verified or all(key(entry, file) in pins() for file in entry.files)


def key(entry: Entry, file: File) -> str:
    return f"{entry.kind}/{entry.name}/{file.name}"


def pins() -> dict[str, dict[str, str]]:
    """For each file: its hash as fetched (`source`) and as it lies here (`sha256`)."""
    path = folder() / "pins.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise ModelError(f"{path} is damaged ({error}). Delete it to fetch models anew.") from error


def pin(new: Mapping[str, dict[str, str]]) -> None:
    path = folder() / "pins.json"
    part = beside(path, f"{os.getpid()}.part")
    with alone(path):
        part.write_text(json.dumps({**pins(), **new}, indent=1) + "\n", encoding="utf-8")
        publish(part, path)
