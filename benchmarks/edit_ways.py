"""Ways to carry an edit out: ours, ours with one thing done otherwise, and what was done before.

The plain way is that of the programs since 2021 (VQGAN+CLIP, Crowson et al. 2022, arXiv 2204.08583,
section 4): start from the picture, match views of it with words for the picture that is wanted, let
everything change. It runs on the same engine, with the same views and generator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
import torch

from app import editing, pipeline
from app.editing import Proposal
from app.images import Pixels, to_pixels
from app.models import Models
from app.planner import settle
from app.request import QUALITIES, Edit, Request
from app.stage import Stage, working_size
from generators.base import Generator
from generators.held import Held
from guidance.instruct import KINDS

_WORDED = tuple(kind for kind in KINDS if kind != "remove")  # kinds that have words for after
_PLACED = ("recolour", "replace", "add", "remove")  # kinds that are not for the whole picture
_PAINTED = tuple(kind for kind in KINDS if kind != "recolour")  # kinds that the VQGAN draws


@dataclass(frozen=True)
class Order:
    """An edit to carry out; `words` say what the whole picture shows when it is done."""

    proposal: Proposal
    words: str
    quality: str = "normal"
    strength: float = 0.8
    seed: int = 7


@dataclass(frozen=True)
class Way:
    """What is done otherwise than we do it, in words and in deed.

    `kinds`: those that it makes another picture of; the others are as ours are. `settings` of the
    request; `looped`: whether the loop runs at all.
    """

    told: str
    kinds: tuple[str, ...] = KINDS
    settings: Mapping[str, Any] = field(default_factory=dict)
    looped: bool = True
    ask: Callable[[Request], Request] = lambda request: request
    set_up: Callable[[Stage], Stage] = lambda stage: stage

    def __call__(self, order: Order, models: Models) -> Pixels:
        """The changed picture, at its own size."""
        given = {"seed": order.seed, **self.settings}
        asked = editing.order(order.proposal, order.strength, order.quality, **given)
        request = settle(self.ask(asked.requests[0]))
        stage = pipeline.stage(request, models, asked.inputs)
        assert stage is not None
        stage = self.set_up(stage)
        for step in pipeline.run(request, models, asked.inputs, stage=stage):
            last = step
            if not self.looped:
                break
        return stage.paste(last.settled())


@dataclass(frozen=True)
class Plain:
    """The way of the predecessors: no mask, no retouch, nothing held.

    `steps`: how many ("ours": as many as ours takes for this kind; "all": those of the quality).
    """

    told: str
    steps: str = "ours"
    kinds: tuple[str, ...] = KINDS

    def __call__(self, order: Order, models: Models) -> Pixels:
        """The changed picture, at its own size."""
        asked = editing.order(order.proposal, order.strength, order.quality, seed=order.seed)
        preset, pixels = QUALITIES[order.quality], order.proposal.picture.pixels
        height, width = working_size((0, 0, *pixels.shape[:2]), preset["width"] * preset["height"])
        change = {
            "prompt": order.words,
            "edit": None,
            "height": height,
            "width": width,
            "steps": preset["steps"] if self.steps == "all" else asked.requests[0].steps,
            "regularise": asked.requests[0].regularise.model_copy(update={"pull": 0.0}),
        }
        request = settle(asked.requests[0].model_copy(update=change))
        *_, last = pipeline.run(request, models, asked.inputs)
        made = to_pixels(last.settled())
        return cv2.resize(made, pixels.shape[1::-1], interpolation=cv2.INTER_CUBIC)


# --- one thing done otherwise ---------------------------------------------------------------------


def _unguessed(stage: Stage) -> Stage:
    """The loop begins with the picture itself, and may move all of the mask."""
    return replace(stage, guess=stage.pixels, movable=stage.mask)


def _whole(stage: Stage) -> Stage:
    """The loop sees all of the picture, at as many pixels."""
    box = (0, 0, *stage.mask.shape)
    return replace(stage, box=box, size=working_size(box, stage.size[0] * stage.size[1]))


def _unfrozen(stage: Stage) -> Stage:
    """The loop may move all that it sees; only the last act puts the mask's outside back."""
    return replace(stage, movable=np.full_like(stage.movable, 255))


def _as(kind: type[Stage]) -> Callable[[Stage], Stage]:
    """The same stage, held in another way."""

    def change(stage: Stage) -> Stage:
        fields = ("pixels", "guess", "mask", "movable", "box", "size", "alpha")
        return kind(**{name: getattr(stage, name) for name in fields})

    return change


class _Shapeless(Stage):
    """A recolouring may move lightness and edges too."""

    def hold(self, generator: Generator, edit: Edit, seed: int, device: torch.device) -> Held:
        return Held(generator, self.retouched.to(device), self.freedom.to(device), seed)


class _Lossy(Stage):
    """What the generator cannot reproduce is lost where the picture may change."""

    def hold(self, generator: Generator, edit: Edit, seed: int, device: torch.device) -> Held:
        held = super().hold(generator, edit, seed, device)
        held.residual = torch.zeros_like(held.residual)
        return held


def _matched_alone(request: Request) -> Request:
    """Without words for after there is no direction to turn to: the prompt is matched all the same.

    That is the rule of `pipeline.match`.
    """
    assert request.edit is not None
    edit = request.edit.model_copy(update={"after": ""})
    return request.model_copy(update={"edit": edit})


def _steps(times: float) -> Callable[[Request], Request]:
    def ask(request: Request) -> Request:
        return request.model_copy(update={"steps": max(1, round(request.steps * times))})

    return ask


def _pull(times: float) -> Callable[[Request], Request]:
    def ask(request: Request) -> Request:
        wanted = request.regularise
        pull = wanted.model_copy(update={"pull": (wanted.pull or 0.0) * times})
        return request.model_copy(update={"regularise": pull})

    return ask


OURS = "ours"
WAYS: dict[str, Way | Plain] = {
    OURS: Way("as it ships"),
    "plain": Plain("the predecessors' way, as many steps as ours takes"),
    "plain-long": Plain("the predecessors' way, all steps of the quality", "all"),
    "retouch-only": Way("the retouch alone, no loop", looped=False),
    "no-retouch": Way("the loop alone, from the picture itself", set_up=_unguessed),
    "no-direction": Way(
        "words matched, no direction from before to after", _WORDED, ask=_matched_alone
    ),
    "no-residual": Way("what the VQGAN cannot reproduce is lost", _PAINTED, set_up=_as(_Lossy)),
    "no-structure": Way(
        "a recolouring may move lightness too", ("recolour",), set_up=_as(_Shapeless)
    ),
    "no-pull": Way("nothing pulls back to the retouch", ask=_pull(0)),
    "pull-x4": Way("pulled back to the retouch four times as firmly", ask=_pull(4)),
    "steps-x3": Way("three times as many steps", ask=_steps(3)),
    "whole-picture": Way("the loop sees the whole picture, no window", _PLACED, set_up=_whole),
    "not-frozen": Way("the loop may move what is beside the place", _PLACED, set_up=_unfrozen),
    "pyramid": Way(
        "a sum of images instead of the VQGAN", _PAINTED, settings={"generator": "pyramid"}
    ),
}
