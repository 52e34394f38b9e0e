"""What programs may ask for: the fields of each kind of order, and how it becomes a job.

A field is called what the command line calls it, and the very same checks decide about it
(`app.options`, `app.request`); here it is only seen that each has the type that it should.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import Refused

if TYPE_CHECKING:
    from app.uploads import Uploads
    from app.worker import Run, Worker

Order = Mapping[str, Any]  # field -> value, as it was sent
Typed = dict[str, Any]  # the same as options, with paths for files
Find = Callable[[str, str], Path]  # (id of a file, field) -> where it lies

_HUGE = 1e300

# --- types of fields -------------------------------------------------------------------------


@dataclass(frozen=True)
class Type:
    """What a field takes: in words, whether a value is one, and what it becomes."""

    wanted: str
    fits: Callable[[Any], bool]
    read: Callable[[Any, Find, str], Any] = lambda value, find, field: value


def _is_number(value: Any) -> bool:
    kind = isinstance(value, int | float) and not isinstance(value, bool)
    return kind and -_HUGE < value < _HUGE  # no NaN either


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


def _file(value: str, find: Find, field: str) -> str:
    """`ID::0.5` -> `PATH::0.5`."""
    file_id, *steering = value.partition("::")
    return "".join([str(find(file_id, field)), *steering])


def _files(values: list[str], find: Find, field: str) -> list[str]:
    return [_file(value, find, field) for value in values]


TEXT = Type("words", _is_text)
TEXTS = Type("a list of words", _are_texts)
WHOLE = Type("a whole number", _is_whole)
NUMBER = Type("a number", _is_number)
YES = Type("true or false", lambda value: isinstance(value, bool))
FILE = Type("the id of a file that you sent", _is_text, _file)
FILES = Type("a list of ids of files, each with ::weight if you like", _are_texts, _files)


# --- kinds of orders -------------------------------------------------------------------------

_EFFORT = {"quality": TEXT, "steps": WHOLE, "views": WHOLE, "seed": WHOLE}
_MODELS = {"generator": TEXT, "clip": TEXTS}

PICTURE: dict[str, Type] = {
    "prompt": TEXT,
    "negative": TEXT,
    **_EFFORT,
    "size": TEXT,
    "image_prompt": FILES,
    "embedding": FILES,
    "sound": FILES,
    "init": FILE,
    "init_noise": NUMBER,
    "start": TEXT,
    "coarse_to_fine": YES,
    "patience": WHOLE,
    **_MODELS,
    "optimiser": TEXT,
    "step_size": NUMBER,
    "schedule": TEXT,
    "ema": NUMBER,
    "method": TEXT,
    "augment": TEXT,
    "noise": NUMBER,
    "distance": TEXT,
    "before": TEXT,
    "regularise": TEXT,
    "palette": TEXT,
    "from": FILE,
}
EDIT: dict[str, Type] = {
    "picture": FILE,
    "instruction": TEXT,
    "mask": FILE,
    "region": TEXT,
    "everywhere": YES,
    "invert": YES,
    "grow": NUMBER,
    "strength": NUMBER,
    **_EFFORT,
    **_MODELS,
}
LISTEN: dict[str, Type] = {
    "sound": FILE,
    "text": TEXT,
    "weight_text": NUMBER,
    "begin": NUMBER,
    "seconds": NUMBER,
    "weight_sound": NUMBER,
    "words": TEXT,
    "no_speech": YES,
    "no_sound": YES,
    "no_mood": YES,
    **_EFFORT,
    "size": TEXT,
    **_MODELS,
}


@dataclass(frozen=True)
class Kind:
    """One kind of order: its fields, those it cannot do without, and who makes a job of it."""

    fields: Mapping[str, Type]
    needed: tuple[str, ...]
    make: Callable[[Worker, Typed, str, str | None], Run]


def _picture(worker: Worker, typed: Typed, owner: str, client_key: str | None) -> Run:
    from app import options
    from app.images import open_picture

    for path in _pictures(typed):
        open_picture(path, in_child=True)  # one that breaks its decoder goes no further
    return worker.order(options.read(typed), threading.Event(), owner, client_key=client_key)


def _pictures(typed: Typed) -> Iterator[Path]:
    from app.options import weighted

    for name in ("init", "from"):
        if name in typed:
            yield Path(typed[name])
    yield from (weighted(given)[0] for given in typed.get("image_prompt", ()))


def _edit(worker: Worker, typed: Typed, owner: str, client_key: str | None) -> Run:
    from app import editing
    from app.images import open_picture

    quality, settings = _settings(typed, EDIT)
    picture = open_picture(typed["picture"], in_child=True)
    mask = open_picture(typed["mask"], in_child=True).pixels if "mask" in typed else None
    proposal = worker.propose(
        picture,
        Path(typed["picture"]).name,
        typed["instruction"],
        mask=mask,
        region="" if typed.get("everywhere") else typed.get("region"),
        invert=typed.get("invert", False),
        grow=typed.get("grow", 0.0),
    )
    asked = editing.order(proposal, typed.get("strength", 0.8), quality, **settings)
    return worker.order(asked, threading.Event(), owner, client_key=client_key)


def _listen(worker: Worker, typed: Typed, owner: str, client_key: str | None) -> Run:
    from app import listening
    from app.listen import steering

    quality, settings = _settings(typed, LISTEN)
    path = Path(typed["sound"])
    heard = worker.hear(
        path,
        path.name,
        start=typed.get("begin", 0.0),
        seconds=typed.get("seconds", 30.0),
        speech=not typed.get("no_speech"),
        sound=not typed.get("no_sound"),
        mood=not typed.get("no_mood"),
    )
    asked = listening.order(
        heard,
        steering(heard, typed),
        typed.get("text", ""),
        text_weight=typed.get("weight_text", 1.0),
        quality=quality,
        **settings,
    )
    return worker.order(asked, threading.Event(), owner, client_key=client_key)


def _settings(typed: Typed, fields: Mapping[str, Type]) -> tuple[str, Typed]:
    """The quality, and fields of a request that are the same for all kinds.

    What cannot be is refused now, before looking or listening takes its time.
    """
    from app import options
    from app.request import make_request

    same = PICTURE.keys() & fields.keys() - {"sound", "quality"}
    settings = options.fields(
        {name: typed[name] for name in typed if name in same}, options.Shelf()
    )
    if settings.get("seed") == -1:
        del settings["seed"]
    quality = typed.get("quality", "normal")
    make_request({"prompt": "x", **settings}, quality)
    return quality, settings


KINDS: dict[str, Kind] = {
    "picture": Kind(PICTURE, (), _picture),
    "edit": Kind(EDIT, ("picture", "instruction"), _edit),
    "listen": Kind(LISTEN, ("sound",), _listen),
}

# Fields of a request -> what the order calls them.
_CALLED = {
    "pictures": "image_prompt",
    "embeddings": "embedding",
    "sounds": "sound",
    "clips": "clip",
    "width": "size",
    "height": "size",
}


def read(order: Order, owner: str, uploads: Uploads) -> tuple[Kind, Typed]:
    """Check which fields there are and of which types. Raises `Refused`, naming the field."""
    kind = _kind(order)
    for name in order:
        if name != "kind" and name not in kind.fields:
            known = ", ".join(kind.fields)
            said = f"There is no field {name[:40]!r} here. There are: kind, client_key, {known}."
            raise Refused("request.unknown", said, name[:40])
    for name in kind.needed:
        if name not in order:
            said = f"{name}: it is needed. Give {kind.fields[name].wanted}."
            raise Refused(f"request.{name}", said, name)

    def find(file_id: str, field: str) -> Path:
        return uploads.find(owner, file_id, field)

    return kind, {
        name: _read(name, value, kind.fields[name], find)
        for name, value in order.items()
        if name != "kind"
    }


def _kind(order: Order) -> Kind:
    name = order.get("kind", "picture")
    if not isinstance(name, str) or name not in KINDS:
        said = f"kind: there is no {name!r:.40}. Give one of: {', '.join(KINDS)}."
        raise Refused("request.kind", said, "kind")
    return KINDS[name]


def _read(name: str, value: Any, kind: Type, find: Find) -> Any:
    if not kind.fits(value):
        raise Refused(
            f"request.{name}", f"{name}: give {kind.wanted}. You gave {value!r:.100}.", name
        )
    return kind.read(value, find, name)


def field_of(error: Refused) -> str | None:
    """Which field of an order an error is about, as far as it is known."""
    family, _, rest = error.code.partition(".")
    if error.code == "request.unknown":
        return error.field
    first = (error.field or rest).removeprefix("edit.").partition(".")[0]
    name = _CALLED.get(first, first)
    if name in ("kind", "client_key", *(field for kind in KINDS.values() for field in kind.fields)):
        return name
    return "prompt" if family == "prompt" else None
