"""Views: a picture seen many times, in part and whole, slightly turned, tilted and coloured.

CLIP looks at views instead of the picture so that no single arrangement of pixels can please it
by accident. All chance is drawn first and kept apart from its use, so that views can be replayed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import kornia.augmentation as K
import torch
import torch.nn.functional as F
from torch import Tensor

from generators.base import Image, Size, clamp_with_gradient

_WHOLE, _NATIVE = 0.5, 0.1  # shares of the views that show the whole frame, or real pixels


@dataclass(frozen=True)
class Drawn:
    """The chance of one set of views: where they are cut, how turned, and what comes on top."""

    boxes: Tensor  # (n, 4), pixels of the picture: top, left, height, width
    turns: Tensor  # (n, 3, 3), pixels of the view: where each point goes
    tints: Tensor  # (n, 3, 4): what each colour becomes, and what is added
    touches: Any  # what kornia drew for the augmentations that do not move points
    noise: Tensor | None  # (n, 3, s, s)


@dataclass(frozen=True)
class Views:
    """How a picture is looked at: `count` views of `side` pixels.

    `method` and the codes of `augment` are names from `METHODS` and `AUGMENTATIONS`; `noise` is
    the largest standard deviation of the noise on top.
    """

    count: int
    side: int
    method: str = "crops"
    augment: tuple[str, ...] = ("Af", "Pe", "Ji")
    noise: float = 0.1

    def draw(self, size: Size) -> Drawn:
        """Throw all dice for a picture of this size, from torch's global state."""
        shape = torch.Size((self.count, 3, self.side, self.side))
        boxes = METHODS[self.method].boxes(size, self.count, self.side)
        turns = torch.eye(3).expand(self.count, 3, 3)
        for code in self.augment:
            if code in TURNS:
                turns = draw_turns(TURNS[code](), shape) @ turns
        tints = torch.eye(3, 4).expand(self.count, 3, 4)
        for code in self.augment:
            if code in TINTS:
                tints = after(draw_tints(TINTS[code](), shape), tints)
        touches = self._touches()
        drawn = touches.forward_parameters(shape) if touches else None
        return Drawn(boxes, turns, tints, drawn, self._noise(shape))

    def _noise(self, shape: torch.Size) -> Tensor | None:
        """What is added on top: of another strength in each view."""
        strength = torch.rand(self.count, 1, 1, 1) * self.noise
        for code in self.augment:
            if code in GRAIN:
                deviation, share = GRAIN[code]
                strength = strength + deviation * (torch.rand(self.count, 1, 1, 1) < share)
        return strength * torch.randn(shape) if strength.any() else None

    def show(self, image: Image, drawn: Drawn) -> Image:
        """(1, 3, h, w) -> (count, 3, side, side), 0..1: the views that were drawn."""
        prepared = METHODS[self.method].prepare(image, self.side)
        views = sample(prepared, drawn.boxes, drawn.turns, self.side)
        views = colour(views, drawn.tints)
        touches = self._touches()
        if touches:
            views = touches(views, params=drawn.touches)
        if drawn.noise is not None:
            views = views + drawn.noise.to(views)
        return clamp_with_gradient(views)

    def __call__(self, image: Image) -> Image:
        """Draw and show."""
        return self.show(image, self.draw((image.shape[-2], image.shape[-1])))

    def _touches(self) -> K.AugmentationSequential | None:
        steps = [TOUCHES[code](self.side) for code in self.augment if code in TOUCHES]
        return K.AugmentationSequential(*steps, data_keys=["input"]) if steps else None


# The codes of the predecessors, with their settings (nerdyrodent/VQGAN-CLIP 592d555) except for a
# milder perspective and colours that move less. Turns move points and all become one reading of the
# picture: nothing is read twice, and what lies outside is the repeated border instead of black,
# which would darken the views.
TURNS: dict[str, Callable[[], Any]] = {
    "Af": lambda: K.RandomAffine(15, (0.1, 0.1), shear=5, p=0.7),
    "Pe": lambda: K.RandomPerspective(0.4, p=0.7),
    "Ro": lambda: K.RandomRotation(15, p=0.7),
    "Hf": lambda: K.RandomHorizontalFlip(p=0.5),
}
# Tints change all colours of a view alike: one small product, where kornia goes by way of hue and
# saturation, which took longer than everything else done to a view.
TINTS: dict[str, Callable[[], Any]] = {"Ji": lambda: K.ColorJiggle(0.1, 0.1, 0.1, 0.03, p=0.7)}
TOUCHES: dict[str, Callable[[int], Any]] = {
    "Sh": lambda side: K.RandomSharpness(0.3, p=0.5),
    "Et": lambda side: K.RandomElasticTransform(p=0.7),
    "Ts": lambda side: K.RandomThinPlateSpline(0.8, same_on_batch=True, p=0.7),
    "Cr": lambda side: K.RandomCrop((side, side), padding=side // 8, padding_mode="reflect", p=0.5),
    "Er": lambda side: K.RandomErasing((0.1, 0.4), (0.3, 1 / 0.3), same_on_batch=True, p=0.7),
    "Re": lambda side: K.RandomResizedCrop((side, side), (0.1, 1), (0.75, 1.333), p=0.5),
}
# Strong noise on half of the views: standard deviation and share. Drawn by us, since kornia before
# 0.9 draws it where it is used, and it could not be shown again.
GRAIN = {"Gn": (1.0, 0.5)}
AUGMENTATIONS = (*TURNS, *TINTS, *TOUCHES, *GRAIN)


def draw_turns(augmentation: Any, shape: torch.Size) -> Tensor:
    """(n, 3, 3): the transformations that a kornia augmentation draws for a batch of this shape."""
    drawn = augmentation.forward_parameters(shape)
    turns: Tensor = augmentation.generate_transformation_matrix(
        torch.empty(shape), drawn, augmentation.flags
    )
    return turns


# Red, green and blue to brightness and two differences of colour, in whose plane a hue is an angle
# (NTSC's YIQ).
_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def draw_tints(augmentation: Any, shape: torch.Size) -> Tensor:
    """(n, 3, 4): the colour changes that a kornia augmentation draws, each as one linear map.

    Hue is turned, saturation stretched, then contrast scaled and brightness added.
    """
    drawn = augmentation.forward_parameters(shape)
    hit = drawn["batch_prob"] > 0.5

    def factor(name: str, still: float) -> Tensor:
        found, row = drawn[f"{name}_factor"], torch.full(hit.shape, still)
        row[hit] = found[hit] if len(found) == len(hit) else found  # kornia before 0.9: only hits
        return row

    bright, contrast = factor("brightness", 1.0), factor("contrast", 1.0)
    stretch, turn = factor("saturation", 1.0), factor("hue", 0.0)
    plain = torch.ones_like(turn), torch.zeros_like(turn)
    cos, sin = (stretch * f(-2 * torch.pi * turn) for f in (torch.cos, torch.sin))
    rows = (*plain, plain[1]), (plain[1], cos, -sin), (plain[1], sin, cos)
    turned = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)  # (n, 3, 3)
    mixed = contrast[:, None, None] * (_YIQ.inverse() @ turned @ _YIQ)
    return torch.cat((mixed, (bright - 1)[:, None, None].expand(-1, 3, 1)), dim=-1)


def after(later: Tensor, first: Tensor) -> Tensor:
    """(n, 3, 4) each: one colour change after another, as one."""
    mixed = later[..., :3] @ first
    return torch.cat((mixed[..., :3], mixed[..., 3:] + later[..., 3:]), dim=-1)


def colour(views: Image, tints: Tensor) -> Image:
    """(n, 3, s, s), (n, 3, 4) -> (n, 3, s, s), not yet clamped."""
    tints = tints.to(views)
    changed = tints[..., :3] @ views.flatten(2) + tints[..., 3:]
    return changed.view_as(views)


def sample(image: Image, boxes: Tensor, turns: Tensor, side: int) -> Image:
    """Cut boxes out of a picture, bring each to side x side and turn it, all in one batch.

    A box much larger than its view is read from a picture halved as often as needed, so that
    shrinking averages pixels instead of skipping them.
    """
    boxes, turns = boxes.to(image.device), turns.to(image)
    shrink = boxes[:, 2:].amax(dim=1) / side
    levels = shrink.log2().floor().clamp(min=0, max=_most_halvings(image)).long()
    views = image.new_empty(len(boxes), 3, side, side)
    for level in levels.unique().tolist():
        chosen = levels == level
        smaller = F.avg_pool2d(image, 2**level) if level else image
        views[chosen] = _read(smaller, boxes[chosen] / 2**level, turns[chosen], side)
    return views


def _most_halvings(image: Image) -> int:
    return min(image.shape[-2:]).bit_length() - 1


def _read(image: Image, boxes: Tensor, turns: Tensor, side: int) -> Image:
    """Bilinear reading of every box through one tall grid: the picture is never repeated."""
    height, width = image.shape[-2:]
    steps = torch.arange(side, device=image.device, dtype=turns.dtype)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    points = torch.stack((x, y, torch.ones_like(x)), dim=-1).reshape(1, -1, 3)
    came_from = points @ turns.inverse().transpose(1, 2)  # (n, s * s, 3), pixels of the view
    inside = (came_from[..., :2] / came_from[..., 2:] + 0.5) / side  # (x, y), 0..1 of the box
    top_left, extent = boxes[:, None, [1, 0]], boxes[:, None, [3, 2]]
    whole = torch.tensor([width, height], device=image.device)
    grid = ((top_left + inside * extent) / whole * 2 - 1).to(image)
    tall = grid.reshape(1, -1, side, 2)
    read = F.grid_sample(image, tall, padding_mode="border", align_corners=False)
    return read.reshape(3, len(boxes), side, side).transpose(0, 1)


def crop_boxes(size: Size, count: int, side: int) -> Tensor:
    """Ours: half whole frames (letter-boxed), a tenth real pixels, the rest crops N(.8, .3).

    Where the picture is not larger than a view, no real pixels are left to show and those become
    crops as well; crops vary down to half the shorter side at every size.
    """
    height, width = size
    shorter, longer = min(size), max(size)
    whole = round(count * _WHOLE)
    native = round(count * _NATIVE) if shorter > side else 0
    least = min(side / shorter, 0.5)
    share = (0.8 + 0.3 * torch.randn(count)).clamp(least, 1)
    sides = share * shorter
    sides[whole : whole + native] = side
    sides[:whole] = longer
    room = torch.stack((height - sides, width - sides), dim=1)  # negative: the box hangs over
    corner = torch.where(room > 0, room * torch.rand(count, 2), room / 2)
    return torch.cat((corner, sides[:, None].expand(-1, 2)), dim=1)


def original_boxes(size: Size, count: int, side: int) -> Tensor:
    """The classics' first rule: side = floor(u (M - m) + m), M the shorter side, m a view's."""
    shorter, least = min(size), min(*size, side)
    sides = (torch.rand(count) * (shorter - least) + least).floor()
    room = torch.tensor([float(size[0]), float(size[1])]) - sides[:, None]
    corner = (torch.rand(count, 2) * (room + 1)).floor().minimum(room)
    return torch.cat((corner, sides[:, None].expand(-1, 2)), dim=1)


def frame_boxes(size: Size, count: int, side: int) -> Tensor:
    """The whole prepared frame, every time."""
    return torch.tensor([0.0, 0.0, side, side]).expand(count, 4)


def as_it_is(image: Image, side: int) -> Image:
    """The picture itself."""
    return image


def pool_whole(image: Image, side: int) -> Image:
    """The classics' latest rule: the whole frame, half average-pooled and half max-pooled.

    It squashes the frame to a square and brightens it; kept for comparison.
    """
    size = (side, side)
    return (F.adaptive_avg_pool2d(image, size) + F.adaptive_max_pool2d(image, size)) / 2


@dataclass(frozen=True)
class Method:
    """What is done to the picture first, and where views are then cut."""

    prepare: Callable[[Image, int], Image]
    boxes: Callable[[Size, int, int], Tensor]


METHODS = {
    "crops": Method(as_it_is, crop_boxes),
    "original": Method(as_it_is, original_boxes),
    "latest": Method(pool_whole, frame_boxes),
}


def whole_frame(image: Image, side: int) -> Image:
    """(1, 3, h, w) -> (1, 3, side, side): the whole picture, letter-boxed by its own border."""
    height, width = image.shape[-2:]
    longer = max(height, width)
    box = torch.tensor([[(height - longer) / 2, (width - longer) / 2, longer, longer]])
    return sample(image, box, torch.eye(3)[None], side)
