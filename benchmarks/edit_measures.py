"""What can be measured of one edit without asking anybody, and what the guide thinks of it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from app import editing
from app.images import Pixels, to_tensor
from app.pipeline import embed_picture
from benchmarks.edit_tasks import Region, Task, words
from guidance.clip import Clip
from guidance.instruct import COLOURS, understand

_NOTICED = 2  # grey levels by which a pixel may differ and still count as kept
_FLAT = 0.5  # of 100: less spread of lightness than one sees


def measure(task: Task, changed: Pixels, place: Region) -> dict[str, Any]:
    """How far a picture moved where it should, and where it should not; colours; what was erased.

    Distances are means of absolute differences in grey levels, 0..255. `place`: what an added thing
    may cover.
    """
    found: dict[str, Any] = {}
    free = allowed(task, place)
    if not free.all():
        found |= _moved(task.pixels, changed, ~free, "outside")
    found |= {"moved inside": _apart(task.pixels, changed, task.object)}
    if task.kind == "recolour":
        found |= colours(task, changed)
    if task.kind == "remove" and task.ground is not None:
        found["from the ground"] = _apart(task.ground, changed, task.object)
    return found


def allowed(task: Task, place: Region) -> Region:
    """Where the instruction lets the picture change, by the true place of its object."""
    if task.kind == "add":
        return place
    if not understand(task.instruction).region:
        return np.ones_like(task.object)
    return editing._frame(task.object) if task.kind == "replace" else task.object


def _moved(before: Pixels, after: Pixels, where: Region, name: str) -> dict[str, float]:
    apart = np.abs(after.astype(int) - before)[where]
    kept = (apart.max(axis=1) <= _NOTICED).mean()
    return {
        f"moved {name}": round(float(apart.mean()), 3),
        f"kept {name}": round(float(kept), 4),
    }


def _apart(one: Pixels, other: Pixels, where: Region) -> float:
    return round(float(np.abs(one.astype(int) - other)[where].mean()), 3)


def colours(task: Task, changed: Pixels) -> dict[str, Any]:
    """Hue's distance from the goal in degrees, and how the shading correlates with the old."""
    old, new = (
        cv2.cvtColor(p.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for p in (task.pixels, changed)
    )
    core = cv2.erode(task.object.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    core = core if core.any() else task.object
    goal = np.array([[COLOURS[task.how]]], np.uint8).astype(np.float32) / 255
    goal = cv2.cvtColor(goal, cv2.COLOR_RGB2LAB)[0, 0]
    mean = new[core][:, 1:].mean(axis=0)
    angle = np.degrees(np.arctan2(*mean[::-1]) - np.arctan2(*goal[:0:-1]))
    neutral = np.hypot(*goal[1:]) < 10
    apart = float(np.hypot(*mean)) if neutral else float(abs((angle + 180) % 360 - 180))
    likeness = _likeness(old[core][:, 0], new[core][:, 0])
    return {("chroma" if neutral else "hue"): round(apart, 1), "shading": round(likeness, 3)}


def _likeness(old: NDArray[np.float32], new: NDArray[np.float32]) -> float:
    """How lightness correlates; what is flat and stays so is alike, though nothing correlates."""
    flat = [bool(light.std() < _FLAT) for light in (old, new)]
    return float(all(flat)) if any(flat) else float(np.corrcoef(old, new)[0, 1])


@torch.no_grad()
def opinion(task: Task, changed: Pixels, clip: Clip) -> dict[str, Any]:
    """By how much (cosine) the guide finds the words for after nearer than those for before.

    It steered, so this flatters.
    """
    texts = clip.embed_text(list(words(task)))
    then, now = (embed_picture(clip, to_tensor(changed)) @ texts.T)[0].tolist()
    return {"guide": round(now - then, 4), "guide prefers after": now > then}
