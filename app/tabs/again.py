"""A picture that was made before is opened again: every control as it was, as far as it can be."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from app.errors import Refused
from app.tabs import edit, generate, models
from app.tabs.common import Change, shown_pixels

if TYPE_CHECKING:
    from app.desk import Home
    from app.jobs import Job
    from app.pipeline import Inputs
    from app.request import Given, Request

# Parts of a request that the Generate tab may not have, as people know them.
_NAMES = {
    "init": "the picture it began from",
    "init_noise": "the noise over that picture",
    "pictures": "the pictures that steered it",
    "sounds": "the sounds that steered it",
    "embeddings": "the embeddings that steered it",
    "clips": "what compared it with the words",
    "width": "its size",
    "height": "its size",
    "ema": "the averaging",
    "augment": "its augmentations",
    "palette": "its colours",
    "regularise": "its regularisers",
}
# They follow from the machine, and are settled anew.
_SETTLED = ("precision", "chunk", "threads")


class Again(NamedTuple):
    """In which tab a picture is opened, what its fields are, and a sentence about it."""

    tab: str
    fields: Change
    said: str


def kept(job: Job, home: Home) -> Inputs:
    """The pictures and masks that a job was given, as far as they are still there."""
    from app import desk
    from app.pipeline import Inputs

    named = json.loads(job.request)["inputs"]
    found: dict[str, dict[str, Any]] = {"pictures": {}, "masks": {}}
    for kind, given in found.items():
        for name, digest in named[kind].items():
            alone = {**{other: {} for other in named}, kind: {name: digest}}
            try:
                given[name] = getattr(desk.rebuild(alone, home.inputs), kind)[name]
            except Refused:
                continue  # it was cleared away; what is missing is said in the end
    return Inputs(**found)


def reopen(request: Request, given: Inputs | None = None) -> Again:
    """Where a request came from, and what to write there. `given`: what it names and is there."""
    from app.pipeline import Inputs

    given = given or Inputs()
    return _edit(request, given) if request.edit else _generate(request, given)


# --- the Generate tab ------------------------------------------------------------------------


def _generate(request: Request, given: Inputs) -> Again:
    fields = controls(request, given)
    missing = list(dict.fromkeys(_missing(request, fields)))
    said = "Open again: Generate makes the same picture."
    if missing:
        said = f"Open again, but this page cannot bring back {_listed(missing)}."
    return Again("Generate", fields, said)


def controls(request: Request, given: Inputs) -> Change:
    """The fields of the Generate tab that ask for this request, as far as there are any."""
    from app.request import QUALITIES

    quality = _quality(request)
    preset = QUALITIES[quality]
    same_size = (request.width, request.height) == (preset["width"], preset["height"])
    steering = [(path, one) for one in request.pictures if (path := _file(one, given))]
    return {
        "prompt": request.prompt,
        "negative": request.negative,
        "quality": quality,
        "size": "" if same_size else f"{request.width}x{request.height}",
        "seed": str(request.seed),
        "start": "draft" if request.init else request.start,
        "init": _file(request.init, given),
        "init_noise": request.init_noise,
        "image_prompt": [path for path, _ in steering] or None,
        "image_weight": ", ".join(f"{one.weight:g}" for _, one in steering) or "1",
        "generator": _offered(request.generator, models.choices("generator")),
        "clip": _offered(request.clips[0].name, models.choices("clip")),
        **{
            name: "" if getattr(request, name) == preset[name] else str(getattr(request, name))
            for name in ("steps", "views")
        },
    }


def _quality(request: Request) -> str:
    """The quality that leaves least to be typed; averaging cannot be typed at all."""
    from app.request import QUALITIES

    def fits(name: str) -> tuple[bool, int]:
        preset = {"ema": 0.0, **QUALITIES[name]}
        alike = [field for field, value in preset.items() if getattr(request, field) == value]
        return "ema" in alike, len(alike)

    return max(QUALITIES, key=fits)


def _offered(name: str, menu: list[tuple[str, str]]) -> str:
    """A name that a menu has: this one, or else the first."""
    names = [row for _, row in menu]
    return name if name in names else names[0]


def _missing(request: Request, fields: Mapping[str, Any]) -> Iterator[str]:
    """What would be different if somebody pressed Generate now: we ask as the page will."""
    from app import options

    try:
        (made,) = options.read(generate.typed(fields)).requests
    except Refused:  # without its sound or picture, nothing steers
        made = None
    for name in type(request).model_fields.keys() - set(_SETTLED):
        if made is None:
            if name in ("pictures", "sounds", "embeddings") and getattr(request, name):
                yield _NAMES[name]
        elif name == "start" and made.init:
            continue  # where a picture is begun from, it does not matter how else it could begin
        elif _told(made, name) != _told(request, name):
            yield _NAMES.get(name, name.replace("_", " "))


def _told(request: Request, name: str) -> Any:
    """A part of a request, without what files were called."""
    value = getattr(request, name)
    if name == "init":
        return value and value.sha256
    if name == "pictures":
        return [(picture.sha256, picture.weight, picture.stop) for picture in value]
    return value


def _listed(things: list[str]) -> str:
    things = sorted(things)
    return things[0] if len(things) == 1 else f"{', '.join(things[:-1])} and {things[-1]}"


# --- the Edit tab ----------------------------------------------------------------------------


def _edit(request: Request, given: Inputs) -> Again:
    from app.request import QUALITIES

    wanted, picture = request.edit, request.init
    assert wanted is not None
    assert picture is not None
    qualities = [name for name, row in QUALITIES.items() if row["views"] == request.views]
    # where a thing is replaced, the place around it follows from the words, and is found again
    masked = wanted.mask if wanted.mask and not wanted.thing else None
    mask = given.masks.get(masked.sha256) if masked else None
    path = _file(picture, given)
    fields = {
        "instruction": wanted.instruction,
        "strength": wanted.strength,
        "quality": qualities[0] if qualities else "normal",
        "place": "" if mask is not None else wanted.region,
        "everywhere": wanted.mask is None,
        "mask": None if mask is None else shown_pixels(mask, "place"),
        "invert": False,
        "grow": 0,
        "seed": str(request.seed),
    }
    said = "Open again: Edit changes it as before."
    if mask is not None:
        said += " Its place is a mask, under Where: take it away before you ask for something else."
    if path is None:
        said = f"Open again, but the picture {picture.name!r} is not here: choose it once more."
    elif masked and mask is None:
        said = "Open again, but the place that was painted is not here any more: show it once more."
    return Again("Edit", edit.restored(path, fields, said), said)


# --- files that the page may show ------------------------------------------------------------


def _file(picture: Given | None, given: Inputs) -> str | None:
    """A picture that was given, as a file again; None where there is none."""
    if picture is None or picture.sha256 not in given.pictures:
        return None
    from app.images import to_pixels

    return shown_pixels(to_pixels(given.pictures[picture.sha256]), Path(picture.name).stem)
