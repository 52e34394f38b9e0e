"""What the loop sees of an edit, and how its picture is put back into the one that was given.

The promise: where the mask is 0, the result is the picture that was given, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from app.images import Pixels, fit, to_tensor
from app.request import Edit, Request
from generators.base import Generator, Image, Size
from generators.chroma import Chroma
from generators.held import Held
from guidance import retouch
from guidance.draft import Cutout
from guidance.instruct import COLOURS

Mask = NDArray[np.uint8]  # (h, w): 0 stays, 255 may become anything
Box = tuple[int, int, int, int]  # top, left, height, width

_MARGIN = 0.25  # around the mask, of its longer side: what the CLIP sees beside it
_LEAST_WINDOW = 64  # pixels
_MOST_ASPECT = 2.0  # of the window, where the picture has room


@dataclass(frozen=True, eq=False)
class Stage:
    """A picture, a guess at the edited one, where they may differ, and the window that is shown.

    All at the picture's own size; the loop works on the window, brought to `size`, and changes the
    guess where it is `movable`, a part of the mask.
    """

    pixels: Pixels
    guess: Pixels
    mask: Mask
    movable: Mask
    box: Box
    size: Size
    alpha: NDArray[np.uint8] | None = None  # of the picture, to be put back

    @cached_property
    def picture(self) -> Image:
        """(1, 3, *size): the window as it was."""
        return fit(to_tensor(self._crop(self.pixels)), self.size)

    @cached_property
    def retouched(self) -> Image:
        """(1, 3, *size): the window of the guess, laid over the picture as far as the mask says."""
        return fit(to_tensor(self._crop(composite(self.pixels, self.guess, self.mask))), self.size)

    @cached_property
    def freedom(self) -> Image:
        """(1, 1, *size): how far the loop may change each pixel of the window, 0..1."""
        mask = torch.from_numpy(self._crop(self.movable).astype(np.float32) / 255)[None, None]
        return F.interpolate(mask, self.size, mode="area")

    def hold(self, generator: Generator, edit: Edit, seed: int, device: torch.device) -> Held:
        """The generator, held to what may change; a recolouring moves colours and nothing else."""
        guess, freedom = self.retouched.to(device), self.freedom.to(device)
        moved = Chroma(guess) if edit.kind == "recolour" else generator
        return Held(moved, guess, freedom, seed)

    def paste(self, image: Image) -> Pixels:
        """Put the loop's picture of the window, (1, 3, *size), back: (h, w, 3).

        What the loop changed is added to the guess at full resolution, so fine detail stays.
        """
        moved = (image.detach().float().cpu() - self.retouched)[0].permute(1, 2, 0).numpy()
        top, left, height, width = self.box
        moved = cv2.resize(moved, (width, height), interpolation=cv2.INTER_CUBIC)
        changed = self.guess.astype(np.float32)
        changed[top : top + height, left : left + width] += moved * 255
        return composite(self.pixels, changed.round().clip(0, 255).astype(np.uint8), self.mask)

    def _crop(self, whole: NDArray[np.uint8]) -> NDArray[np.uint8]:
        top, left, height, width = self.box
        return whole[top : top + height, left : left + width]


def composite(below: Pixels, above: Pixels, mask: Mask) -> Pixels:
    """Lay one picture over another as far as the mask says, in whole numbers: 0 changes no bit."""
    share = mask[..., None].astype(np.int32)
    mixed = (below * (255 - share) + above * share + 127) // 255
    return mixed.astype(np.uint8)


def window(mask: Mask) -> Box:
    """What to show the loop: the masked part and some of what is around it."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    spans = [(int(found[0]), int(found[-1]) + 1) for found in (rows, columns)]
    longest = max(end - start for start, end in spans)
    least = max(_LEAST_WINDOW, round(longest * (1 + 2 * _MARGIN) / _MOST_ASPECT))
    (top, bottom), (left, right) = (
        _around(span, max(least, span[1] - span[0] + round(2 * _MARGIN * longest)), whole)
        for span, whole in zip(spans, mask.shape, strict=True)
    )
    return top, left, bottom - top, right - left


def _around(span: tuple[int, int], length: int, whole: int) -> tuple[int, int]:
    """A longer span with the same middle, moved to where the picture is."""
    length = min(length, whole)
    start = min(max(0, (span[0] + span[1] - length) // 2), whole - length)
    return start, start + length


def working_size(box: Box, area: int, factor: int = 8) -> Size:
    """(height, width) with about this area and the form of the box, in multiples of `factor`."""
    _, _, height, width = box
    scale = (area / (height * width)) ** 0.5
    return tuple(max(32, round(side * scale / factor) * factor) for side in (height, width))


# --- the guess: what an edit begins with --------------------------------------------------------

Soft = NDArray[np.float32]  # (h, w), 0..1
_NOTICED = 6  # grey levels by which a pixel must differ to belong to what was added
_AROUND = 0.02  # what the loop may change around it, of the picture's shorter side


@dataclass(frozen=True, eq=False)
class Scene:
    """What a guess is drawn from: the picture, where, and what was there or is to be there.

    `thing`: what has to go, the mask or less. `drawing`: a draft of what is to be added.
    """

    pixels: Pixels
    mask: Soft
    thing: Soft
    drawing: Cutout | None
    edit: Edit
    seed: int
    alpha: NDArray[np.uint8] | None = None


def prepare(request: Request, scene: Scene, mask: Mask) -> Stage:
    """Draw the guess, find what the loop may move of it, and choose the window."""
    guess, movable = GUESSES[scene.edit.kind](scene), mask
    if scene.edit.kind in DRAWN:
        movable = np.minimum(mask, _changed(_cleared(scene), guess))
    size = (request.height, request.width)
    return Stage(scene.pixels, guess, mask, movable, window(mask), size, scene.alpha)


def _changed(before: Pixels, after: Pixels) -> Mask:
    """Where two pictures differ, and a little around it."""
    apart = np.abs(after.astype(int) - before).max(axis=2) > _NOTICED
    reach = 2 * max(1, round(_AROUND * min(apart.shape))) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    return cv2.dilate(apart.astype(np.uint8) * 255, disc)


def _cleared(scene: Scene) -> Pixels:
    """What was there is gone, if it has to make room."""
    if scene.edit.kind == "add":
        return scene.pixels
    return retouch.erase(scene.pixels, scene.thing)


def _recoloured(scene: Scene) -> Pixels:
    edit = scene.edit
    return retouch.recolour(scene.pixels, scene.mask, COLOURS[edit.how], edit.strength)


def _with_drawing(scene: Scene) -> Pixels:
    cleared = _cleared(scene)
    if scene.drawing is None:
        return cleared
    return retouch.insert(cleared, scene.mask, scene.drawing, scene.edit.strength)


def _restyled(scene: Scene) -> Pixels:
    return retouch.restyle(scene.pixels, scene.edit.how, scene.edit.strength, scene.seed)


def _weathered(scene: Scene) -> Pixels:
    return retouch.weather(scene.pixels, scene.edit.how, scene.edit.strength, scene.seed)


def _as_it_is(scene: Scene) -> Pixels:
    return scene.pixels


GUESSES: dict[str, Callable[[Scene], Pixels]] = {
    "recolour": _recoloured,
    "replace": _with_drawing,
    "add": _with_drawing,
    "remove": _cleared,
    "restyle": _restyled,
    "weather": _weathered,
    "free": _as_it_is,
}
DRAWN = ("replace", "add")  # kinds that begin with a draft of what is wanted
