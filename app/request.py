"""What one person asked for: one frozen value, checked once at the door.

The command line, the page, the API and the recipe inside a picture all build this one.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from app.catalog import CLIPS, GENERATORS, SOUNDS
from app.errors import Refused
from generators.starts import STARTS
from guidance.augment import AUGMENTATIONS, METHODS
from guidance.instruct import KINDS
from guidance.objectives import DISTANCES
from guidance.optimise import OPTIMISERS, SCHEDULES
from guidance.prompt import MOST_WEIGHT, PromptError, clean, parse

MOST_SEED = 2**63 - 1  # what SQLite and torch take
MOST_SIDE = 2048
DRAFT = "draft"  # start from what one pass of the draft network makes of the words

# What each quality asks for, unless a request says otherwise.
QUALITIES: dict[str, dict[str, Any]] = {
    "draft": {"steps": 30, "views": 8, "width": 128, "height": 128},
    "normal": {"steps": 45, "views": 10, "width": 192, "height": 192},
    "best": {"steps": 200, "views": 24, "width": 256, "height": 256, "ema": 0.9},
}

Weight = Annotated[float, Field(ge=-MOST_WEIGHT, le=MOST_WEIGHT)]
Share = Annotated[float, Field(ge=0, le=1)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Given(_Strict):
    """A picture that was given: the hash of its pixels, and what it was called."""

    sha256: Digest
    name: str = Field(default="picture", max_length=200)


class Picture(Given):
    """A picture as a prompt: how it steers."""

    weight: Weight = 1.0
    stop: float | None = Field(default=None, ge=0)


class Vector(_Strict):
    """An embedding that was given: the hash of its numbers, and the CLIP it belongs to."""

    sha256: Digest
    space: str
    name: str = Field(default="embedding", max_length=200)
    weight: Weight = 1.0
    stop: float | None = Field(default=None, ge=0)


class Sound(Given):
    """A sound as a prompt: which part of it (in seconds), who listens, and how it steers.

    The hash is that of the part alone, so the same sound in another file is the same.
    """

    name: str = Field(default="sound", max_length=200)
    encoder: str = "pocket"
    start: float = Field(default=0.0, ge=0, le=86_400)
    seconds: float = Field(default=30.0, gt=0, le=120)
    weight: Weight = 1.0
    stop: float | None = Field(default=None, ge=0)

    @field_validator("encoder")
    @classmethod
    def _known(cls, name: str) -> str:
        return _choice("encoder", name)


class Guide(_Strict):
    """One CLIP of an ensemble and its share."""

    name: str
    weight: float = Field(default=1.0, gt=0, le=MOST_WEIGHT)


class Edit(_Strict):
    """How the picture to begin with (init) is to change: a plan (`guidance.instruct`) and where.

    `before` and `after` in words, `how` a colour, a style or a weather by name; `mask` says where
    (None: everywhere), `thing` what of it has to go (None: all); `strength` goes from nothing (0)
    to as far as it can (1).
    """

    instruction: str = Field(max_length=300)
    kind: str
    before: str = Field(default="", max_length=300)
    after: str = Field(default="", max_length=300)
    region: str = Field(default="", max_length=300)
    how: str = Field(default="", max_length=40)
    mask: Given | None = None
    thing: Given | None = None
    strength: Share = 0.8

    @field_validator("kind")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in KINDS:
            raise ValueError(f"No kind of edit called {name!r}. We have: {', '.join(KINDS)}.")
        return name


class Regularisers(_Strict):
    """What a picture should be besides faithful: weights, 0 for none.

    `smoothness` (total variation), `symmetry` (left to right), `palette` (nearness to the
    request's colours), `pull` (to the start, fading; None: a little to a draft, else none),
    `text_off` (away from written letters).
    """

    smoothness: float = Field(default=0.0, ge=0, le=100)
    symmetry: float = Field(default=0.0, ge=0, le=100)
    palette: float = Field(default=0.0, ge=0, le=100)
    pull: float | None = Field(default=None, ge=0, le=100)
    text_off: float = Field(default=0.0, ge=0, le=MOST_WEIGHT)


def _colour(value: str) -> str:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        raise ValueError(f"{value!r} is no colour: write it as #rrggbb, like #d03020.")
    return value.lower()


class Request(_Strict):
    """A picture to be made. Sizes in pixels; `steps` updates; see `--help` for each field."""

    prompt: str = ""
    negative: str = ""
    pictures: tuple[Picture, ...] = Field(default=(), max_length=16)
    embeddings: tuple[Vector, ...] = Field(default=(), max_length=16)
    sounds: tuple[Sound, ...] = Field(default=(), max_length=8)
    init: Given | None = None
    init_noise: Share = 0.0
    start: str = DRAFT
    edit: Edit | None = None

    width: int = Field(default=192, ge=32, le=MOST_SIDE)
    height: int = Field(default=192, ge=32, le=MOST_SIDE)
    seed: int = Field(default_factory=lambda: secrets.randbelow(2**32), ge=0, le=MOST_SEED)
    generator: str = "pocket"
    clips: tuple[Guide, ...] = Field(default=(Guide(name="pocket"),), min_length=1, max_length=4)

    steps: int = Field(default=45, ge=1, le=2000)
    step_size: float | None = Field(default=None, gt=0, le=1)
    optimiser: str = "adam"
    schedule: str = "drop"
    ema: float = Field(default=0.0, ge=0, lt=1)
    patience: int = Field(default=0, ge=0, le=2000)
    coarse_to_fine: bool = False

    views: int = Field(default=10, ge=1, le=128)
    method: str = "crops"
    augment: tuple[str, ...] = ("Af", "Pe", "Ji")
    noise: Share = 0.1
    distance: str = "spherical"
    before: str = Field(default="a picture", max_length=2000)
    regularise: Regularisers = Regularisers()
    palette: tuple[Annotated[str, Field()], ...] = Field(default=(), max_length=32)

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    chunk: int | None = Field(default=None, ge=1, le=128)
    threads: int | None = Field(default=None, ge=1, le=256)

    @field_validator("prompt", "negative")
    @classmethod
    def _parses(cls, typed: str) -> str:
        parse(typed)
        return clean(typed)

    @field_validator("start", "generator", "optimiser", "schedule", "method", "distance")
    @classmethod
    def _known(cls, name: str, info: Any) -> str:
        return _choice(info.field_name, name)

    @field_validator("augment")
    @classmethod
    def _augmentations(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_choice("augment", code) for code in codes)

    @field_validator("clips")
    @classmethod
    def _guides(cls, guides: tuple[Guide, ...]) -> tuple[Guide, ...]:
        for guide in guides:
            _choice("clip", guide.name)
        return guides

    @field_validator("palette")
    @classmethod
    def _colours(cls, colours: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_colour(colour) for colour in colours)

    @model_validator(mode="after")
    def _steered(self) -> Request:
        """Something must steer, and what depends on something else must find it there."""
        weights = [prompt.weight for prompt in parse(self.prompt)]
        weights += [picture.weight for picture in self.pictures]
        weights += [vector.weight for vector in self.embeddings]
        weights += [sound.weight for sound in self.sounds]
        if not any(weights):
            raise PromptError(
                "prompt.empty",
                "Nothing steers the picture yet. Type a prompt, or give a picture or a sound.",
            )
        if self.distance == "directional" and not (self.init and parse(self.prompt)):
            raise ValueError(
                "The directional loss needs a prompt and a picture to start from (init)."
            )
        if self.distance == "directional" and (idle := self._beside_the_prompt()):
            raise ValueError(
                f"The directional loss follows the prompt alone. Leave out {', '.join(idle)}."
            )
        if self.edit and not self.init:
            raise ValueError("An edit needs a picture to change (init).")
        if self.edit and (self.ema or self.coarse_to_fine or self.init_noise):
            raise ValueError("An edit takes no averaging (ema), no growing and no init_noise.")
        if self.init_noise and not self.init:
            raise ValueError(
                "init_noise mixes noise into the picture to start from: give one (init)."
            )
        if bool(self.regularise.palette) != bool(self.palette):
            raise ValueError("A palette needs both colours and a weight (regularise palette=1).")
        return self

    def _beside_the_prompt(self) -> list[str]:
        """What a loss that follows the prompt alone would not see."""
        given = {
            "the negative prompt": bool(self.negative),
            "pictures as prompts": bool(self.pictures),
            "embeddings": bool(self.embeddings),
            "sounds": bool(self.sounds),
            "text_off": bool(self.regularise.text_off),
            "stops": any(prompt.stop is not None for prompt in parse(self.prompt)),
        }
        return [what for what, there in given.items() if there]


CHOICES: dict[str, tuple[str, ...]] = {
    "start": (DRAFT, *STARTS),
    "generator": tuple(GENERATORS),
    "clip": tuple(CLIPS),
    "encoder": tuple(SOUNDS),
    "optimiser": tuple(OPTIMISERS),
    "schedule": tuple(SCHEDULES),
    "method": tuple(METHODS),
    "augment": tuple(AUGMENTATIONS),
    "distance": (*DISTANCES, "directional"),
    "quality": tuple(QUALITIES),
}


def _choice(field: str, name: str) -> str:
    if name not in CHOICES[field]:
        raise ValueError(f"No {field} called {name!r}. We have: {', '.join(CHOICES[field])}.")
    return name


def make_request(given: Mapping[str, Any], quality: str = "normal") -> Request:
    """Build a request from what was given, the rest from a quality preset.

    Raises `Refused` with one sentence: the field, what was given, what is allowed.
    """
    if quality not in QUALITIES:
        raise Refused(
            "request.quality", f"No quality called {quality!r}. We have: {', '.join(QUALITIES)}."
        )
    try:
        return Request.model_validate({**QUALITIES[quality], **given})
    except ValidationError as error:
        raise _explain(error) from error


def read_request(recipe: Mapping[str, Any]) -> Request:
    """The request inside a recipe, checked like any other. Raises `Refused`."""
    try:
        return Request.model_validate_json(json.dumps(recipe.get("request", {})))
    except ValidationError as error:
        raise _explain(error) from error


_BOUNDS = {
    "greater_than_equal": "too small. Use {ge} or more",
    "greater_than": "too small. Use more than {gt}",
    "less_than_equal": "too large. Use {le} or less",
    "less_than": "too large. Use less than {lt}",
}


def _explain(error: ValidationError) -> Refused:
    """The first problem as one sentence for people."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    field = ".".join(str(part) for part in first["loc"])
    if isinstance(cause, PromptError):
        return Refused(cause.code, str(cause), field)
    if isinstance(cause, ValueError):
        return Refused(f"request.{field or 'whole'}", str(cause), field)
    if first["type"] in _BOUNDS:
        told = _BOUNDS[first["type"]].format(**first["ctx"])
        return Refused(f"request.{field}", f"{field}: {first['input']!r} is {told}.", field)
    given = "" if first["type"] == "missing" else f" You gave {first['input']!r}."
    return Refused(f"request.{field}", f"{field}: {first['msg']}.{given}", field)
