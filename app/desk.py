"""The desk between the page and whoever makes pictures: orders and reports, as files.

    <data>/jobs.sqlite          the list of jobs (see `app.jobs`)
    <data>/inputs/<sha256>.npy  what requests name: pictures, masks, embeddings, sounds
    <data>/runs/<job>/          report.json and preview.jpg (how far it is), snapshots, frames of a
                                film (`app.film`), and where it ended
    <data>/costs.json           what a step costs on this machine

Whoever orders and whoever works are two processes, and either may end at any time: nothing but
these files goes from one to the other.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import platformdirs
import torch
from numpy.typing import NDArray
from PIL import Image as Picture

from app import files, planner, saving
from app.errors import Refused
from app.images import Pixels, preview_jpeg, to_pixels, to_tensor
from app.jobs import Artifact
from app.options import Asked
from app.pipeline import Inputs
from app.planner import Cost
from app.request import Request, read_request
from generators.base import Image

Named = dict[str, dict[str, str]]  # kind of input -> its name in the request -> SHA-256 of a file
PICTURE, INPUT = "picture", "input"  # kinds of artifacts: what people want, and what they gave

# Before anything was measured: a guess, for the pocket models on two cores of a busy machine.
_GUESS = Cost(pixel_seconds=1e-5, pixel_bytes=0, view_seconds=0.05, view_bytes=0)
_WAITING = 3600.0  # seconds between writing an input and putting its job on the list, at most
_ABANDONED = 7 * 86_400.0  # seconds after which an input that no job names is nobody's
_BROKEN_OFF = 3600.0  # seconds after which a file that never became whole will not
_MOST_POINTS = 200  # of a curve
_MOST_ENDS = 20  # places where runs ended that are kept: the newest; about a megabyte each
_CELL = 16  # pixels a side, for a size that is only to be estimated
_GONE = (
    "A picture, mask or sound that this needs is not on the disk any more, or was changed. "
    "Give it again."
)


class Home:
    """Where the files lie."""

    def __init__(self, root: Path | None = None) -> None:
        """By default in SYNESTHETE_DATA, or the user's data folder."""
        self.root = root or folder()
        self.jobs, self.costs = self.root / "jobs.sqlite", self.root / "costs.json"
        self.inputs, self.runs = self.root / "inputs", self.root / "runs"

    def run(self, job_id: str) -> Path:
        """The folder of one job."""
        return self.runs / job_id

    def remove(self, paths: Iterable[str]) -> None:
        """Delete what no job needs any more: files of ours alone, never people's pictures.

        An input that was given just now stays: its next job may not be on the list yet.
        """
        for path in map(Path, paths):
            if path.parent == self.inputs:
                _remove_old(path, _WAITING)
            elif self.runs in path.parents:
                shutil.rmtree(self.runs / path.relative_to(self.runs).parts[0], ignore_errors=True)

    def sweep(self, results: Path, unneeded: Callable[[list[str]], list[str]]) -> None:
        """Delete what was begun in these folders and never ended, and inputs of no job.

        Whoever is killed in the middle of writing leaves the first, whoever is turned away after
        handing in the second. `unneeded` tells which of some paths no job names.
        """
        for place in (self.root, self.inputs, results, *self.runs.glob("*")):
            for path in place.glob(saving.PARTS):
                _remove_old(path, _BROKEN_OFF)
        for name in unneeded([str(path) for path in self.inputs.glob("*.npy")]):
            _remove_old(Path(name), _ABANDONED)


def _remove_old(path: Path, age: float) -> None:
    with suppress(OSError):  # another process was quicker
        if time.time() - path.stat().st_mtime > age:
            path.unlink()


def folder() -> Path:
    """Where the studio keeps its list of jobs: SYNESTHETE_DATA, or the user's data folder."""
    chosen = os.environ.get("SYNESTHETE_DATA")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path(platformdirs.user_data_dir("synesthete", appauthor=False))


# --- orders ----------------------------------------------------------------------------------


class Parent(NamedTuple):
    """The job from whose end another one goes on: after how many steps, and what it had made."""

    job: str
    step: int
    picture: str  # the name of the file


def write_order(asked: Asked, place: Path, home: Home, parent: Parent | None = None) -> str:
    """All it takes to carry out the one request of `asked`, as text; what it names, as files.

    Raises as `saving.write` does.
    """
    (request,) = asked.requests
    order = {
        "request": request.model_dump(mode="json"),
        "place": str(place),
        "notes": list(asked.notes),
        "repeated": asked.repeated,
        "inputs": publish(asked.inputs, home.inputs),
    }
    return json.dumps({**order, "parent": parent} if parent else order)


def read_order(text: str, home: Home) -> tuple[Asked, Path]:
    """What was asked for, and where the picture goes. Raises `Refused` where an input is gone."""
    order = json.loads(text)
    inputs = rebuild(order["inputs"], home.inputs)
    return Asked([read_request(order)], inputs, order["notes"], order["repeated"]), place_of(text)


def request_of(text: str) -> Request:
    """The request of an order alone. Raises `Refused`."""
    return read_request(json.loads(text))


def place_of(text: str) -> Path:
    """Where the picture of an order goes."""
    return Path(json.loads(text)["place"])


def parent_of(text: str) -> Parent | None:
    """From whose end an order goes on, if from anyone's."""
    found = json.loads(text).get("parent")
    return Parent(*found) if found else None


def inputs_of(text: str, home: Home) -> list[Path]:
    """The files that an order needs, as far as they are there."""
    named: Named = json.loads(text)["inputs"]
    digests = {digest for kind in named.values() for digest in kind.values()}
    paths = (_file(home.inputs, digest) for digest in sorted(digests))
    return [path for path in paths if path.exists()]


def given(text: str, home: Home) -> list[Artifact]:
    """The same as what belongs to a job."""
    return [
        Artifact(INPUT, str(path), path.stem, path.stat().st_size) for path in inputs_of(text, home)
    ]


def artifact(kind: str, path: Path) -> Artifact:
    """A file as what belongs to a job."""
    return Artifact(kind, str(path), files.digest(path), path.stat().st_size)


# --- what a request names --------------------------------------------------------------------


def _from_picture(picture: Image) -> NDArray[Any]:
    """As bytes where that loses nothing: it does not for what `to_tensor` made."""
    pixels = to_pixels(picture)
    return pixels if torch.equal(to_tensor(pixels), picture) else picture.numpy()


def _to_picture(numbers: NDArray[Any]) -> Image:
    return to_tensor(numbers) if numbers.dtype == np.uint8 else torch.from_numpy(numbers)


def _as_they_are(numbers: NDArray[Any]) -> NDArray[Any]:
    return numbers


# How each kind of `Inputs` becomes numbers for a file, and back.
_KINDS: dict[str, tuple[Callable[[Any], NDArray[Any]], Callable[[NDArray[Any]], Any]]] = {
    "pictures": (_from_picture, _to_picture),
    "embeddings": (lambda vector: vector.numpy(), torch.from_numpy),
    "masks": (_as_they_are, _as_they_are),
    "alphas": (_as_they_are, _as_they_are),
    "sounds": (_as_they_are, _as_they_are),
}


def publish(inputs: Inputs, folder: Path) -> Named:
    """Write each input to a file that is called by its own hash; what is there stays."""
    if any(getattr(inputs, kind) for kind in _KINDS):
        with saving.explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
    return {
        kind: {
            name: _publish(to_numbers(value), folder)
            for name, value in getattr(inputs, kind).items()
        }
        for kind, (to_numbers, _) in _KINDS.items()
    }


def _publish(numbers: NDArray[Any], folder: Path) -> str:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(numbers), allow_pickle=False)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    path = _file(folder, digest)
    try:
        os.utime(path)  # it is in use
    except OSError:
        saving.write(path, content, replace=True)
    return digest


def _file(folder: Path, digest: str) -> Path:
    return folder / f"{digest}.npy"


def rebuild(named: Mapping[str, Mapping[str, str]], folder: Path) -> Inputs:
    """The inputs that were published, bit for bit. Raises `Refused` for what is gone or changed."""
    return Inputs(
        **{
            kind: {
                name: from_numbers(_load(folder, digest)) for name, digest in named[kind].items()
            }
            for kind, (_, from_numbers) in _KINDS.items()
        }
    )


def _load(folder: Path, digest: str) -> NDArray[Any]:
    try:
        content = _file(folder, digest).read_bytes()
    except OSError as error:
        raise Refused("input.missing", _GONE) from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise Refused("input.missing", _GONE)
    numbers: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    return numbers


# --- reports ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Look:
    """What there is to see of a run: one step of how many, and its picture, at most 512 pixels.

    `losses` of this picture by the name of what it is compared with, `seconds` since the first.
    """

    index: int
    steps: int
    losses: Mapping[str, float]
    seconds: float
    pixels: Pixels  # (h, w, 3)

    @property
    def loss(self) -> float:
        """All losses of this picture together."""
        return sum(self.losses.values())


@dataclass(frozen=True)
class Trace:
    """The losses on the way, by name: one for each of `steps`, at most about 200 points.

    None where a target had no loss, as the pull to the start has none in the end.
    """

    steps: tuple[int, ...] = ()
    losses: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)

    def after(self, index: int, losses: Mapping[str, float], steps: int) -> Trace:
        """The same with one more point, of a run of so many steps; the newest always stays."""
        every = max(1, math.ceil(steps / (_MOST_POINTS - 2)))
        kept = [n for n, step in enumerate(self.steps) if step < index and step % every == 0]
        none = (None,) * len(self.steps)
        return Trace(
            (*(self.steps[n] for n in kept), index),
            {
                name: (*(self.losses.get(name, none)[n] for n in kept), _rounded(losses.get(name)))
                for name in {**self.losses, **losses}
            },
        )

    @staticmethod
    def read(told: Mapping[str, Any] | None) -> Trace:
        """What `asdict` made of one, and JSON of that; an older report has none."""
        if not told:
            return Trace()
        losses = {name: tuple(values) for name, values in told["losses"].items()}
        return Trace(tuple(told["steps"]), losses)


def _rounded(loss: float | None) -> float | None:
    return None if loss is None else round(loss, 5)  # more digits nobody can see


@dataclass(frozen=True, eq=False)
class Report:
    """How far a job is: the request as it is carried out, what is not as asked, what it costs."""

    request: Request
    notes: tuple[str, ...] = ()
    expected: str = ""  # seconds and memory, in words
    look: Look | None = None  # the newest
    trace: Trace = Trace()


def write_report(report: Report, folder: Path) -> None:
    """Replace the report in the folder of a run, the picture first.

    A power cut may take the newest one away, so it costs nothing. Raises as `saving.write` does.
    """
    told: dict[str, Any] = {
        "request": report.request.model_dump(mode="json"),
        "notes": report.notes,
        "expected": report.expected,
        "look": None,
        "trace": asdict(report.trace),
    }
    with saving.explained(folder / "report.json"):
        folder.mkdir(parents=True, exist_ok=True)
        if report.look:
            look = {**vars(report.look)}
            _replace(preview_path(folder), preview_jpeg(look.pop("pixels")))
            told["look"] = look
        _replace(folder / "report.json", json.dumps(told).encode())


def _replace(path: Path, content: bytes) -> None:
    aside = saving.part(path)
    try:
        aside.write_bytes(content)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def preview_path(folder: Path) -> Path:
    """Where the newest picture of a run lies."""
    return folder / "preview.jpg"


def end_path(folder: Path) -> Path:
    """Where it is written in which state a run ended, so that another one can go on from there."""
    return folder / "end.safetensors"


def note_path(folder: Path, place: Path) -> Path:
    """Where it is noted that a picture was written which the list does not know of yet."""
    return folder / f"saved-{place.stem}.json"


def notes_in(folder: Path) -> list[Path]:
    """All such notes of one run."""
    return sorted(folder.glob("saved-*.json"))


def forget_ends(home: Home) -> None:
    """Only the newest few are kept: nobody goes on from a picture of last year."""

    def age(path: Path) -> float:
        try:
            return -path.stat().st_mtime
        except OSError:  # another process was quicker
            return 0.0

    for path in sorted(home.runs.glob("*/end.safetensors"), key=age)[_MOST_ENDS:]:
        path.unlink(missing_ok=True)


def read_report(folder: Path) -> Report | None:
    """The newest report of a run; None before there is one that can be read."""
    try:
        told = json.loads((folder / "report.json").read_bytes())
        look = told["look"]
        if look:
            with Picture.open(preview_path(folder), formats=["JPEG"]) as picture:
                look = Look(**look, pixels=np.asarray(picture.convert("RGB")))
        trace = Trace.read(told.get("trace"))
        return Report(read_request(told), tuple(told["notes"]), told["expected"], look, trace)
    except (OSError, ValueError, KeyError, TypeError):  # `Refused` is a ValueError
        return None


def state_of(folder: Path) -> tuple[int, int] | None:
    """Something that is another whenever there is a newer report."""
    try:
        found = (folder / "report.json").stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


# --- what it will take -----------------------------------------------------------------------


def _models(request: Request) -> str:
    """The models of a request, of which each set has its own speed."""
    return " ".join([request.generator, *(guide.name for guide in request.clips)])


def learn(request: Request, cost: Cost, side: int, home: Home) -> None:
    """Remember what the models of a request cost; `side` of a view in pixels."""
    known = _costs(home)
    known[_models(request)] = {**asdict(cost), "side": side}
    with saving.explained(home.costs):
        home.root.mkdir(parents=True, exist_ok=True)
        _replace(home.costs, json.dumps(known, indent=1).encode())


def knows(request: Request, home: Home) -> bool:
    """Whether the speed of these models was measured here, by this or an earlier process."""
    return _models(request) in _costs(home)


def seconds(request: Request, home: Home) -> float:
    """About how long a request will take on this machine, by what was measured, or by a guess."""
    known = _costs(home).get(_models(request))
    if known is None:
        return planner.estimate(request, _GUESS, _CELL, 0).seconds
    side = known.pop("side")
    return planner.estimate(request, Cost(**known), _CELL, side).seconds


def _costs(home: Home) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(home.costs.read_bytes())
        return {name: row for name, row in found.items() if row.keys() == {*vars(_GUESS), "side"}}
    except (OSError, ValueError, AttributeError):
        return {}
