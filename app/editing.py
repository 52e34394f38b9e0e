"""Before an edit runs: what was understood, and where it will happen. And then the request for it.

A proposal can be looked at and corrected; the command line and the page both go this way.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import cv2
import numpy as np
from numpy.typing import NDArray

from app.errors import Refused
from app.images import Canonical, Pixels, to_pixels, to_tensor
from app.options import Asked
from app.pipeline import Inputs
from app.request import QUALITIES, make_request
from app.stage import Mask, window, working_size
from guidance import instruct
from guidance.clip import Clip, Embedding
from guidance.instruct import NotUnderstood, Plan
from guidance.prompt import clean
from guidance.relevance import Found, Region, describe, embed_cutouts, embed_names, find

FEATHER = 0.008  # width of a mask's soft edge, of the picture's shorter side
# How far a region found by its words reaches beyond the thing itself, of the thing's longer side.
_REACH = {"recolour": 0.005, "remove": 0.03, "replace": 0.1}
# A thing is there if its name is among so many, of all, that fit the best region. Up to the second
# share it may be: a person is asked. Of 20 things in photographs 9 are found so, 8 more are asked
# about; of names of things that are not there 19 and 28 of 100 (docs/quality.md).
_FAMILIAR, _POSSIBLE = 0.05, 0.15
_OR_ELSE = "Name something that is there, or show the place with a mask."
_SEEN = 3  # names for what a picture shows, in a message
_ADDED = 0.4  # side of what is added somewhere, of the picture's shorter side

# Of a quality's steps: what begins with nearly the result needs few. How firmly the guess is held.
_STEPS = {"recolour": 0.25, "remove": 0.25, "weather": 0.4, "restyle": 0.4}
_PULL = {"recolour": 4.0, "remove": 4.0, "weather": 4.0, "restyle": 4.0, "replace": 6.0, "add": 6.0}
_LOOSE = 0.5  # the pull of what is in no table

# What is asked of the CLIP, from the words of a plan.
_WEATHER = {
    "snow": "{} in the snow",
    "rain": "{} in the rain",
    "fog": "{} in the fog",
    "night": "{} at night",
    "sunset": "{} at sunset",
    "sunny": "{} in bright sunshine",
}


@dataclass(frozen=True, eq=False)
class Proposal:
    """What an edit will do: to which picture, what, and where (a mask of 0 stays as it is).

    `thing`: what has to go, where that is less than the mask. `doubt`: a question to ask before,
    where the place may be another thing than the words say.
    """

    picture: Canonical
    name: str
    instruction: str
    plan: Plan
    mask: Mask
    thing: Mask | None = None
    notes: tuple[str, ...] = ()
    doubt: str = ""

    @property
    def is_everywhere(self) -> bool:
        """Whether all of the picture may change."""
        return bool(self.mask.all())

    def __str__(self) -> str:
        """For people: what, and how much of the picture."""
        share = (self.mask > 0).mean()
        where = "Everything" if self.is_everywhere else f"{max(share, 0.01):.0%} of the picture"
        return f"{self.plan} {where} may change."

    def overlay(self) -> Pixels:
        """The picture with what may change tinted and outlined."""
        tint = np.array([230, 60, 150], np.float32)
        share = self.mask[..., None].astype(np.float32) / 255 * 0.45
        shown = (self.picture.pixels * (1 - share) + tint * share).round().astype(np.uint8)
        edges = cv2.findContours(
            (self.mask > 127).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
        )[0]
        return cv2.drawContours(
            shown, edges, -1, (230, 60, 150), max(1, min(shown.shape[:2]) // 200)
        )


class Eye:
    """What a CLIP sees in one picture; asked once for each thing."""

    def __init__(self, clip: Clip, pixels: Pixels, shown: Region | None = None) -> None:
        """Nothing is looked at yet. `shown`: what somebody points at."""
        self.clip, self.pixels, self.shown = clip, pixels, shown

    @cached_property
    def main(self) -> Found | None:
        """What is pointed at, or the thing that looks most like any thing that has a name."""
        if self.shown is not None:
            return Found(self.shown, embed_cutouts(self.clip, self.pixels, [self.shown]))
        return find(self.clip, self.pixels, _named(self.clip))

    @cached_property
    def sees(self) -> tuple[str, ...]:
        """The best names for the main thing; empty when there is none."""
        return self._names(self.main)[:_SEEN] if self.main else ()

    def find(self, words: str) -> tuple[Region, str]:
        """The region of the words, and a question where it is not sure that it is one.

        Raises `Refused`, saying what is there instead.
        """
        found = find(self.clip, self.pixels, describe(self.clip, words))
        better = self._better(found, words) if found else 1.0
        if found and better < _FAMILIAR:
            return found.region, ""
        if found and better < _POSSIBLE:
            like = _either(self._names(found)[:2])
            return found.region, f"Is this the {words}? It looks more like {like}."
        seen = f" The picture seems to show {_either(self.sees)}." if self.sees else ""
        raise Refused(
            "edit.region",
            f"No {words} found in the picture.{seen} {_OR_ELSE}",
            "region",
        )

    def _better(self, found: Found, words: str) -> float:
        """The share of all names that fit the region better than the words."""
        others = _named(self.clip) @ found.embedding[0]
        own = (describe(self.clip, words) @ found.embedding[0]).item()
        return (others > own).float().mean().item()

    def _names(self, found: Found) -> tuple[str, ...]:
        order = (_named(self.clip) @ found.embedding[0]).argsort(descending=True)
        things = instruct.things()
        return tuple(things[i] for i in order[:_SEEN].tolist())


# CLIP -> embeddings of all things, made once. By itself: two that are called alike may differ.
_NAMED: WeakKeyDictionary[Clip, Embedding] = WeakKeyDictionary()


def _named(clip: Clip) -> Embedding:
    if clip not in _NAMED:
        _NAMED[clip] = embed_names(clip, instruct.things())
    return _NAMED[clip]


def _either(words: tuple[str, ...]) -> str:
    return " or ".join(instruct.article(word) for word in words)


def propose(
    picture: Canonical,
    name: str,
    instruction: str,
    clip: Clip,
    *,
    mask: NDArray[Any] | None = None,
    region: str | None = None,
    invert: bool = False,
    grow: float = 0.0,
    ask: bool = False,
) -> Proposal:
    """Understand an instruction and find where it applies.

    `mask`: a picture of the place, white where it may change, of any size; else `region` names it
    in words ('' is everywhere); else the instruction does. `grow` widens what was found, as a
    share of the picture's shorter side (below 0: narrows). `ask`: somebody is there to be asked
    whether a place is the right one (`Proposal.doubt`). Raises `Refused` when the words mean
    nothing here, or the place is empty or, unless one may ask, in doubt.
    """
    if not abs(grow) <= 1:  # no number is no size either
        said = f"Growing the place by {grow:g} is not possible: use -1 to 1."
        raise Refused("edit.grow", said, "grow")
    size, notes = picture.pixels.shape[:2], list(picture.notes)
    shown = None if mask is None else read_mask(mask, size, notes)
    eye = Eye(clip, picture.pixels, shown)
    plan = _understand(instruction, eye)
    if region is not None:
        plan = replace(plan, region=region)
    found, doubt = (None, "") if shown is not None else _located(plan, eye)
    if doubt and not ask:
        raise Refused("edit.region", f"{doubt} {_OR_ELSE}", "region")
    place = _place(plan, eye, found)
    thing: Mask | None = None
    if found is not None and plan.kind == "replace" and not invert:
        thing, place = soften(place), _frame(found)
    place = _grow(place, round(grow * min(size)))
    soft = soften(~place if invert else place)
    if not soft.any():
        raise Refused(
            "mask.empty",
            "Nothing may change: the place is empty. Paint it, name it, or leave it out.",
            "mask",
        )
    return Proposal(picture, name, instruction, plan, soft, thing, tuple(notes), doubt)


def _understand(instruction: str, eye: Eye) -> Plan:
    """A plan; what the picture shows is looked at only when the words do not say it."""
    try:
        plan = instruct.understand(instruction)
        if not plan.before and eye.sees:
            plan = instruct.understand(instruction, eye.sees[0])
    except NotUnderstood as error:
        raise Refused("edit.instruction", str(error), "instruction") from error
    if plan.kind == "remove" and not plan.region and eye.shown is None:
        raise Refused(
            "edit.region", "Say what to remove, as in 'remove the cup', or show it with a mask."
        )
    return plan


def _located(plan: Plan, eye: Eye) -> tuple[Region | None, str]:
    """The thing that a plan names, the main one if that is what it is called, and a question."""
    if not plan.region:
        return None, ""
    if plan.kind != "add" and eye.main and plan.region in eye.sees:
        return eye.main.region, ""
    return eye.find(plan.region)


def _place(plan: Plan, eye: Eye, found: Region | None) -> Region:
    """Where a plan applies: what is pointed at, or a thing that was found, or everywhere."""
    if eye.shown is not None:
        return eye.shown
    if plan.kind == "add":
        return _free_place(eye) if found is None else _beside(found)
    if found is None:
        return np.ones(eye.pixels.shape[:2], bool)
    return _grow(found, max(1, round(_REACH.get(plan.kind, 0.03) * _longest(found))))


def _free_place(eye: Eye) -> Region:
    """A square where the least is going on: what is added must not cover what is there."""
    height, width = eye.pixels.shape[:2]
    side = round(_ADDED * min(height, width))
    grey = cv2.cvtColor(eye.pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    busy = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    if eye.main:
        busy[eye.main.region] += busy.max() + 1
    around = cv2.boxFilter(busy, -1, (side, side), borderType=cv2.BORDER_REFLECT)
    half = side // 2
    inner = around[half : height - half, half : width - half]
    row, column = np.unravel_index(int(inner.argmin()), inner.shape)
    place = np.zeros((height, width), bool)
    place[row : row + side, column : column + side] = True
    return place


def _beside(region: Region) -> Region:
    """On the upper edge of a thing, where a hat or a bird would sit."""
    ys, xs = np.where(region)
    side = max(8, round(0.6 * np.ptp(xs)))
    bottom = int(ys.min() + 0.15 * np.ptp(ys))
    left = int(xs.mean() - side / 2)
    place = np.zeros_like(region)
    place[max(0, bottom - side) : max(8, bottom), max(0, left) : left + side] = True
    return place


def _frame(region: Region) -> Region:
    """The box around a thing and a little more: another thing has another outline."""
    more = round(_REACH["replace"] * _longest(region))
    box = (np.flatnonzero(region.any(axis=axis)) for axis in (1, 0))
    frame = np.zeros_like(region)
    frame[tuple(slice(max(0, span[0] - more), span[-1] + more + 1) for span in box)] = True
    return frame


def _longest(region: Region) -> int:
    return max(int(np.ptp(found)) + 1 for found in np.where(region))


def _grow(region: Region, pixels: int) -> Region:
    """A region with a wider border; below 0, a narrower one."""
    if not pixels:
        return region
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(pixels) + 1,) * 2)
    change = cv2.dilate if pixels > 0 else cv2.erode
    return change(region.astype(np.uint8), kernel).astype(bool)


def soften(region: Region) -> Mask:
    """A mask with a soft edge that lies inside the region: outside of it all is 0."""
    width = max(1.0, FEATHER * min(region.shape))
    framed = np.pad(region.astype(np.uint8), 1, mode="edge")
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, 5)[1:-1, 1:-1]
    soft = np.where(region, np.clip(depth / width, 0, 1), 0)
    return np.asarray(soft * 255).round().astype(np.uint8)


def read_mask(given: NDArray[Any], size: tuple[int, int], notes: list[str]) -> Region:
    """Where a picture is rather white: (h, w) or (h, w, 3) of any size. Raises `Refused`."""
    mask = np.asarray(given)
    mask = mask.mean(axis=2) if mask.ndim == 3 else mask
    if mask.shape != size:
        if abs(mask.shape[0] * size[1] - mask.shape[1] * size[0]) > 0.02 * size[0] * mask.shape[1]:
            raise Refused(
                "mask.form",
                f"The mask is {mask.shape[1]}x{mask.shape[0]} and the picture {size[1]}x{size[0]}: "
                "they must have the same form. Crop one of them.",
                "mask",
            )
        notes.append(f"mask brought from {mask.shape[1]}x{mask.shape[0]} to {size[1]}x{size[0]}")
        mask = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    region: Region = mask > 127
    if not region.any():
        raise Refused(
            "mask.empty",
            "The mask is all black: nothing may change. Paint the place white.",
            "mask",
        )
    if region.all():
        notes.append("the mask is all white: everything may change")
    return region


# --- the request ---------------------------------------------------------------------------------


def order(
    proposal: Proposal, strength: float = 0.8, quality: str = "normal", **settings: Any
) -> Asked:
    """The request for a proposal, with its picture and mask. Raises `Refused`."""
    plan, picture = proposal.plan, proposal.picture
    masks = {
        name: mask
        for name, mask in (("mask", proposal.mask), ("thing", proposal.thing))
        if mask is not None and not mask.all()
    }
    if quality not in QUALITIES:
        raise Refused("request.quality", f"No quality called {quality!r}.")
    preset = QUALITIES[quality]
    height, width = working_size(window(proposal.mask), preset["width"] * preset["height"])
    given: dict[str, Any] = {
        "prompt": _prompt(plan),
        "before": plan.before or "a picture",
        "init": {"sha256": picture.sha256, "name": proposal.name},
        "edit": {
            "instruction": clean(proposal.instruction),
            **{name: getattr(plan, name) for name in ("kind", "before", "after", "region", "how")},
            **{name: {"sha256": _sha256(mask), "name": name} for name, mask in masks.items()},
            "strength": strength,
        },
        "height": height,
        "width": width,
        "ema": 0.0,
        "steps": max(4, round(preset["steps"] * _STEPS.get(plan.kind, 1.0))),
        "regularise": {"pull": _PULL.get(plan.kind, _LOOSE)},
    }
    request = make_request({**given, **settings}, quality)
    inputs = Inputs(
        pictures={picture.sha256: to_tensor(picture)},
        masks={_sha256(mask): mask for mask in masks.values()},
        alphas={} if picture.alpha is None else {picture.sha256: picture.alpha},
    )
    return Asked([request], inputs, list(proposal.notes), None, None)


def proposed(asked: Asked) -> Proposal:
    """The proposal that `order` made this of, as far as an order tells it: without its doubt."""
    (request,), inputs = asked.requests, asked.inputs
    wanted, given = request.edit, request.init
    assert wanted is not None  # these are edits
    assert given is not None
    plan = Plan(wanted.kind, wanted.before, wanted.after, wanted.region, wanted.how)
    pixels = to_pixels(inputs.pictures[given.sha256])
    picture = Canonical(pixels, inputs.alphas.get(given.sha256))
    mask = np.full(pixels.shape[:2], 255, np.uint8)
    if wanted.mask:
        mask = inputs.masks[wanted.mask.sha256]
    thing = inputs.masks[wanted.thing.sha256] if wanted.thing else None
    notes = tuple(asked.notes)
    return Proposal(picture, given.name, wanted.instruction, plan, mask, thing, notes)


def _prompt(plan: Plan) -> str:
    """What the picture is compared with."""
    if plan.kind == "remove":
        return f"{plan.before or 'a thing'}::-1"
    if plan.kind == "weather":
        return _WEATHER[plan.how].format(plan.before or "a picture")
    if plan.kind == "restyle":
        return f"{plan.after} of {plan.before or 'a picture'}"
    return plan.after


def _sha256(mask: Mask) -> str:
    height, width = mask.shape
    return hashlib.sha256(f"{width}x{height}:".encode() + mask.tobytes()).hexdigest()
