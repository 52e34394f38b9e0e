"""What was typed at the command line becomes requests, and the pictures and numbers they name.

Every option but those in `RUN_ONLY` fills the field of `Request` that has its name, or those that
its row in `READERS` says.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor

from app import recipe, snapshots
from app.errors import Refused
from app.images import open_picture, read_recipe, to_tensor
from app.pipeline import Inputs, is_drafted
from app.request import (
    DRAFT,
    MOST_SEED,
    QUALITIES,
    Given,
    Regularisers,
    Request,
    Vector,
    make_request,
)
from app.sounds import open_sound
from guidance.audio import Wave
from guidance.optimise import Snapshot
from guidance.prompt import clean

Typed = Mapping[str, Any]  # option -> value, only those that were given
Fields = dict[str, Any]  # of a request, unchecked

# What says how to run rather than what to draw.
RUN_ONLY = frozenset(
    "quality count prompts_file from resume out timelapse save_every json quiet device".split()
)
# What may stand beside --resume: all else was decided when the run began.
_BESIDE_RESUME = frozenset(
    "resume init image_prompt embedding sound out timelapse save_every json quiet device".split()
)

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_WEIGHTED = re.compile(rf"(?P<file>.+?)::(?P<weight>{_NUMBER})(?:::(?P<stop>{_NUMBER}))?")
_MOST_FILE = 1_000_000  # bytes of a file of prompts


@dataclass(frozen=True)
class Asked:
    """What to make: a request for each picture, what they name by hash, and where to begin."""

    requests: list[Request]
    inputs: Inputs
    notes: list[str]
    repeated: Mapping[str, Any] | None = None  # the recipe that is repeated
    resume: Snapshot | None = None


def option_name(name: str) -> str:
    """What a person types for it."""
    return "the prompt" if name == "prompt" else f"--{name.replace('_', '-')}"


def read(typed: Typed) -> Asked:
    """Check everything that was typed and read every file it names. Raises `Refused`."""
    repeated, snapshot = _source(typed)
    base = recipe.read(repeated) if repeated else None
    if base and base.edit and base.init:
        raise Refused(
            "recipe.edit",
            f"That is an edit of {base.init.name!r}. Make it again from that picture: "
            f"python -m app edit {shlex.quote(base.init.name)} {shlex.quote(base.edit.instruction)}"
            f" --strength {base.edit.strength:g} --seed {base.seed}",
        )
    shelf = Shelf(base)
    settings = {**_beneath(base, typed), **fields(typed, shelf)}
    if settings.get("seed") == -1:
        del settings["seed"]  # the request draws one
    requests = [
        request
        for prompt in _prompts(typed, settings)
        for request in _series(prompt, typed.get("quality", "normal"), typed.get("count", 1))
    ]
    for request in requests:
        _refuse_missing(request, shelf)
        _refuse_idle(request, typed)
    if snapshot and requests != [base]:
        raise Refused(
            "resume.other", "The stopped run was steered by other pictures. Give the same again."
        )
    inputs = Inputs(shelf.pictures, shelf.embeddings, sounds=shelf.sounds)
    return Asked(requests, inputs, shelf.notes, None if snapshot else repeated, snapshot)


def _source(typed: Typed) -> tuple[Mapping[str, Any] | None, Snapshot | None]:
    """The recipe to begin with, and the snapshot to go on from, if any."""
    if "resume" not in typed:
        return (read_recipe(typed["from"]) if "from" in typed else None), None
    others = sorted(option_name(name) for name in typed.keys() - _BESIDE_RESUME)
    if others:
        raise Refused(
            "resume.options", f"--resume goes on as the run began. Leave out {', '.join(others)}."
        )
    snapshot, began_as = snapshots.load(typed["resume"])
    return began_as, snapshot


def _beneath(base: Request | None, typed: Typed) -> Fields:
    """What holds unless something else was typed: the recipe, and over it a quality."""
    quality = QUALITIES.get(typed.get("quality", ""), {})
    return {**(base.model_dump() if base else {}), **quality}


# --- options become fields -------------------------------------------------------------------


class Shelf:
    """What requests name by hash, gathered while options are read."""

    def __init__(self, base: Request | None = None) -> None:
        """`base`: a request that knows some pictures already, with weights of their own."""
        self._init = [base.init] if base and base.init else []
        self._pictures = base.pictures if base else ()
        self._embeddings = base.embeddings if base else ()
        self._sounds = base.sounds if base else ()
        self.pictures: dict[str, Tensor] = {}  # (1, 3, h, w), 0..1
        self.embeddings: dict[str, Tensor] = {}  # (1, d)
        self.sounds: dict[str, Wave] = {}  # (samples,)
        self.notes: list[str] = []

    def init(self, typed: str) -> Fields:
        """Read the picture to begin with."""
        return _known(self._init, self._read(Path(typed)))

    def picture(self, typed: str) -> Fields:
        """Read the picture FILE::weight::stop."""
        path, steering = weighted(typed)
        return _known(self._pictures, {**self._read(path), **steering})

    def embedding(self, typed: str) -> Fields:
        """Read the embedding FILE::weight::stop."""
        path, steering = weighted(typed)
        vector, space = read_embedding(path)
        sha256 = hashlib.sha256(vector.numpy().tobytes()).hexdigest()
        self.embeddings[sha256] = vector
        given = {"sha256": sha256, "space": space, "name": _name(path), **steering}
        return _known(self._embeddings, given)

    def sound(self, typed: str) -> Fields:
        """Read the sound FILE::weight::stop: the part that a recipe names, or the beginning."""
        path, steering = weighted(typed)
        for known in self._sounds:
            if known.name == _name(path):
                given = self._hear(path, start=known.start, seconds=known.seconds)
                if given["sha256"] == known.sha256:
                    return {**known.model_dump(), **steering}
        given = self._hear(path)
        same = [one.model_dump() for one in self._sounds if one.sha256 == given["sha256"]]
        return {**(same[0] if same else given), **steering}

    def _hear(self, path: Path, **section: float) -> Fields:
        found = open_sound(path, **section)
        self.notes += [f"{path.name}: {note}" for note in found.notes]
        self.sounds[found.sha256] = found.wave
        return {
            "sha256": found.sha256,
            "name": _name(path),
            "start": found.start,
            "seconds": found.seconds,
        }

    def _read(self, path: Path) -> Fields:
        found = open_picture(path)
        self.notes += [f"{path.name}: {note}." for note in found.notes]
        self.pictures[found.sha256] = to_tensor(found)
        return {"sha256": found.sha256, "name": _name(path)}


def _known(named: Sequence[Given | Vector], given: Fields) -> Fields:
    """What the recipe says of the same thing, unless a weight was typed with it now."""
    same = [one.model_dump() for one in named if one.sha256 == given["sha256"]]
    return given if "weight" in given or not same else same[0]


def _name(path: Path) -> str:
    return clean(path.name)[:200]


def weighted(typed: str) -> tuple[Path, dict[str, float]]:
    """`FILE::0.5::0.2` -> the file and what was said of it; a file really called so goes first."""
    found = _WEIGHTED.fullmatch(typed)
    if found is None or Path(typed).is_file():
        return Path(typed), {}
    numbers = {"weight": found["weight"], "stop": found["stop"]}
    return Path(found["file"]), {key: float(text) for key, text in numbers.items() if text}


def read_embedding(path: Path) -> tuple[Tensor, str]:
    """Return a unit vector (1, d) and the CLIP it belongs to.

    The file: safetensors with one tensor "embedding", (d,) or (1, d), and "space" in its metadata.
    Raises `Refused` for anything else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            space = (file.metadata() or {}).get("space", "")
            vector = file.get_tensor("embedding").float().flatten()
    except FileNotFoundError as error:
        raise Refused("embedding.missing", f"There is no embedding {str(path)!r}.") from error
    except (OSError, SafetensorError) as error:
        raise Refused(
            "embedding.unreadable",
            f"{path.name!r} is no safetensors file with a tensor called 'embedding'.",
        ) from error
    if not (space and vector.isfinite().all() and vector.norm() > 0):
        raise Refused(
            "embedding.unfit",
            f"{path.name!r} must say in its metadata to which CLIP it belongs ('space'), and hold "
            "finite numbers that are not all 0.",
        )
    return F.normalize(vector[None], dim=-1), space


def size(typed: str) -> Fields:
    """`256` or `320x192` (width x height)."""
    found = re.fullmatch(r"(\d{1,9})(?:[xX×](\d{1,9}))?", typed.strip())
    if not found:
        raise Refused(
            "request.size", f"{typed!r} is no size: write 256, or 320x192 for a wide picture."
        )
    return {"width": int(found[1]), "height": int(found[2] or found[1])}


def guide(typed: str) -> Fields:
    """`NAME` or `NAME=weight`."""
    name, _, weight = typed.partition("=")
    return {"name": name, "weight": _number(weight or "1", typed)}


def regularisers(typed: str) -> Fields:
    """`smoothness=.1 text-off=.2`: names of `Regularisers` and their weights."""
    wanted: Fields = {}
    for piece in _pieces(typed):
        name, _, weight = piece.partition("=")
        field_name = name.replace("-", "_")
        if field_name not in Regularisers.model_fields:
            names = ", ".join(Regularisers.model_fields).replace("_", "-")
            raise Refused(
                "request.regularise", f"No regulariser called {name!r}. We have: {names}."
            )
        wanted[field_name] = _number(weight, piece)
    return wanted


def _number(weight: str, typed: str) -> float:
    if not re.fullmatch(_NUMBER, weight):
        raise Refused("request.weight", f"{typed!r} has no number as its weight: write name=0.5.")
    return float(weight)


def _pieces(typed: str) -> tuple[str, ...]:
    """Split at blanks and commas; `none` is nothing."""
    pieces = tuple(re.split(r"[\s,]+", typed.strip()))
    return () if pieces in (("",), ("none",)) else pieces


# option -> how it becomes fields of a request; all others are a field as they stand
READERS: dict[str, Callable[[Any, Shelf], Fields]] = {
    "size": lambda typed, _: size(typed),
    "init": lambda typed, shelf: {"init": shelf.init(typed)},
    "image_prompt": lambda typed, shelf: {"pictures": tuple(map(shelf.picture, typed))},
    "embedding": lambda typed, shelf: {"embeddings": tuple(map(shelf.embedding, typed))},
    "sound": lambda typed, shelf: {"sounds": tuple(map(shelf.sound, typed))},
    "clip": lambda typed, _: {"clips": tuple(map(guide, typed))},
    "augment": lambda typed, _: {"augment": _pieces(typed)},
    "regularise": lambda typed, _: {"regularise": regularisers(typed)},
    "palette": lambda typed, _: {"palette": _pieces(typed)},
}


def fields(typed: Typed, shelf: Shelf) -> Fields:
    """Turn options into fields of a request. Raises `Refused`."""
    found: Fields = {}
    for name, value in typed.items():
        if name not in RUN_ONLY:
            found |= READERS[name](value, shelf) if name in READERS else {name: value}
    return found


# --- one request for each picture ------------------------------------------------------------


def _prompts(typed: Typed, settings: Fields) -> Iterator[tuple[str, Fields]]:
    """Where each prompt stands, for messages, and the settings with it."""
    if "prompts_file" not in typed:
        yield "", settings
        return
    if "prompt" in typed:
        raise Refused("prompt.both", "Give a prompt or --prompts-file, not both.")
    path = Path(typed["prompts_file"])
    for number, prompt in _lines(path):
        yield f"{path.name}, line {number}: ", {**settings, "prompt": prompt}


def _lines(path: Path) -> list[tuple[int, str]]:
    """Number and text of each line that is not empty and no `# comment`."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(_MOST_FILE)
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(
            "prompts.unreadable", f"{str(path)!r} is no text file that can be read. Give another."
        ) from error
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    prompts = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if not prompts:
        raise Refused("prompts.none", f"{str(path)!r} holds no prompts: write one on each line.")
    return prompts


def _series(prompt: tuple[str, Fields], quality: str, count: int) -> list[Request]:
    """`count` requests with one seed after another."""
    where, settings = prompt
    try:
        first = make_request(settings, quality)
    except Refused as error:
        raise Refused(error.code, f"{where}{error}", error.field) from error
    seeds = [(first.seed + more) % (MOST_SEED + 1) for more in range(count)]
    return [first.model_copy(update={"seed": seed}) for seed in seeds]


def _refuse_missing(request: Request, shelf: Shelf) -> None:
    """A recipe names pictures by what they show; the files have to be given again."""
    needed = [("--init", request.init)] if request.init else []
    needed += [("--image-prompt", picture) for picture in request.pictures]
    for option, picture in needed:
        if picture.sha256 not in shelf.pictures:
            raise Refused("input.missing", _again(option, picture.name))
    for vector in request.embeddings:
        if vector.sha256 not in shelf.embeddings:
            raise Refused("input.missing", _again("--embedding", vector.name))
    for sound in request.sounds:
        if sound.sha256 not in shelf.sounds:
            raise Refused("input.missing", _again("--sound", sound.name))


def _again(option: str, name: str) -> str:
    return f"It was made with {name!r}, which a recipe does not hold. Give it again: {option} FILE."


# option, when it would do nothing, and what to tell then
_IDLE: tuple[tuple[str, Callable[[Request], bool], str], ...] = (
    (
        "start",
        lambda request: request.init is not None,
        "--start says what to begin with without --init. Leave one of them out.",
    ),
    (
        "start",
        lambda request: request.start == DRAFT and not request.init and not is_drafted(request),
        "--start draft draws words and sounds that pull, and there are none. Leave it out.",
    ),
    (
        "before",
        lambda request: request.distance != "directional",
        "--before is for --distance directional. Add that, or leave it out.",
    ),
)


def _refuse_idle(request: Request, typed: Typed) -> None:
    """An option that would do nothing is more likely a mistake than meant so."""
    for name, idle, sentence in _IDLE:
        if name in typed and idle(request):
            raise Refused(f"option.{name}", sentence, name)
