"""First guesses at an edit, drawn directly at full size: the loop only has to refine them.

Every function gives a new picture of the same size and leaves its inputs alone. Where a mask may
be soft, the new is whole from one half on: the caller lays it over the old by the mask again.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from guidance.draft import Cutout
from guidance.styles import STYLES, WEATHERS, Canvas, Field, Filter, blur, step

Pixels = NDArray[np.uint8]  # (h, w, 3), RGB
Mask = NDArray[np.float32]  # (h, w), 0..1: 1 may change


def _canvas(pixels: Pixels) -> Canvas:
    """(h, w, 3), 0..1."""
    return pixels.astype(np.float32) / 255


def _pixels(canvas: Canvas) -> Pixels:
    return (canvas * 255).round().clip(0, 255).astype(np.uint8)


def _early(strength: float, power: int = 2) -> float:
    """0 to 1, most of it early: a fifth of the old spoils a colour, or makes a ghost of a thing."""
    return 1 - (1 - strength) ** power


# --- another colour -----------------------------------------------------------------------------


def recolour(pixels: Pixels, mask: Mask, colour: tuple[int, int, int], strength: float) -> Pixels:
    """Give what is masked another colour; its shading stays, and what is grey beside colours."""
    inside = mask > 0.5
    if not inside.any():
        return pixels.copy()
    lab = cv2.cvtColor(_canvas(pixels), cv2.COLOR_RGB2LAB)  # L 0..100, a and b about -100..100
    goal = cv2.cvtColor(_canvas(np.array([[colour]], np.uint8)), cv2.COLOR_RGB2LAB)[0, 0]
    light = _relight(lab[..., 0], inside, float(goal[0]))
    chroma = float(np.linalg.norm(goal[1:]))
    hue = goal[1:] / max(chroma, 1e-6)  # a unit vector
    reached = np.minimum(chroma * _coloured(lab, inside), _most_chroma(light, hue))
    painted = np.dstack([light, reached[..., None] * hue]).astype(np.float32)
    share = _early(strength, 3) * (2 * mask).clip(0, 1)[..., None]
    changed = cv2.cvtColor(lab + (painted - lab) * share, cv2.COLOR_LAB2RGB)
    return np.where(share > 0, _pixels(changed), pixels)


def _relight(light: Field, inside: NDArray[np.bool_], goal: float) -> Field:
    """Move the middle lightness nearly to the goal; what is darker or lighter stays so."""
    middle, high = (float(level) for level in np.percentile(light[inside], (50, 95)))
    new = middle + 0.94 * (goal - middle)
    new = min(new, max(84, 100 - 0.3 * (high - middle)))  # what is lighter still needs room
    # one factor below and one above, as if paint were exchanged; bounded, for black has no shading
    up = np.clip((100 - new) / max(100 - middle, 1), 0.5, 1)
    down = np.clip(new / max(middle, 1), 0.7, 1.3)
    down = min(down, max(0.5, 3 * (100 - new) / max(high - middle, 1)))
    darker, lighter = (middle - light).clip(0), (light - middle).clip(0)
    return new - _bounded(darker * down, new) + _bounded(lighter * up, 100 - new)


def _bounded(distance: Field, room: float) -> Field:
    """Distances as they are while there is room, and never more than that."""
    room = max(room, 1)
    return distance / (1 + (distance / room) ** 4) ** 0.25


def _coloured(lab: Canvas, inside: NDArray[np.bool_]) -> Field:
    """0..1: less where a coloured thing is grey itself, such as the wheels of a red bus."""
    chroma = blur(np.hypot(lab[..., 1], lab[..., 2]), min(inside.shape) / 300)
    usual = float(np.median(chroma[inside]))
    return 1 - step(np.float32(usual), 8, 24) * (1 - step(chroma / max(usual, 1), 0.15, 0.55))


def _most_chroma(light: Field, hue: NDArray[np.float32]) -> Field:
    """The largest chroma that sRGB has for each lightness, 0..100, at one hue."""
    steps, chromas = np.arange(101, dtype=np.float32), np.arange(140, dtype=np.float32)
    ab = chromas[None, :, None] * hue  # (1, 140, 2)
    asked = np.dstack(np.broadcast_arrays(steps[:, None], *np.moveaxis(ab, -1, 0)))
    shown = cv2.cvtColor(cv2.cvtColor(asked, cv2.COLOR_LAB2RGB), cv2.COLOR_RGB2LAB)
    exists = np.abs(shown - asked).max(axis=-1) < 1.5  # else cv2 has cut something off
    return np.interp(light, steps, chromas[exists.cumprod(axis=1).sum(axis=1) - 1])


# --- nothing there any more ---------------------------------------------------------------------

_REGION, _PART = 96, 240  # longest sides of a region and its surroundings where it is decided
_TILE, _STRIDE = 24, 8  # side of what is copied at once, and from one tile to the next
_GUESSED = 0.15  # trust in what is only guessed, beside 1 in what is known
_DRIFT = 24.0  # grey levels by which a tile may be made lighter or darker, as a sky is
_COVERED = 0.25**4  # the weight of a tile where another need not come over it

Place = tuple[int, int]  # row and column of a corner
Window = tuple[slice, slice]


def erase(pixels: Pixels, mask: Mask) -> Pixels:
    """Fill what is masked with tiles of its surroundings, from the border inwards.

    Exemplar-based inpainting (Criminisi, Perez and Toyama, IEEE TIP 2004), in large soft tiles.
    """
    width = 2 * max(1, round(min(mask.shape) / 100)) + 1
    # a little more than the mask: things have soft borders
    hole = cv2.dilate((mask > 0.1).astype(np.uint8), np.ones((width, width), np.uint8))
    if not hole.any() or hole.all():
        return pixels.copy()
    spans = [np.flatnonzero(hole.any(axis=axis)) for axis in (1, 0)]
    longest = max(int(span[-1] - span[0]) + 1 for span in spans)
    near = tuple(slice(max(0, s[0] - longest - 16), s[-1] + longest + 17) for s in spans)
    part, gap = pixels[near].astype(np.float32), hole[near]
    filled = _filled(part, gap > 0, max(1, longest / _REGION, max(gap.shape) / _PART))
    share = np.maximum(gap, step(blur(gap, width / 4), 0, 0.5))[..., None]
    result = pixels.copy()
    result[near] = (part + (filled - part) * share).round().clip(0, 255)
    return result


def _filled(part: Canvas, gap: NDArray[np.bool_], zoom: float) -> Canvas:
    """A picture of 0..255 without its gap. A copy, `zoom` times smaller, says what fits."""
    size = [max(round(side / zoom), 1) for side in gap.shape[::-1]]
    tiny = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    missing = cv2.resize(gap.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    guess = _evened(tiny, missing)
    wide = cv2.resize(guess, gap.shape[::-1], interpolation=cv2.INTER_CUBIC)
    small = _Filling(tiny, missing, guess)
    large = _Filling(part, gap, np.where(gap[..., None], wide, part))
    for corner in _corners(missing):
        found = small.copy(corner, _TILE, np.s_[0:, 0:])
        if found:
            (y, v), (x, u) = (
                (round(c * zoom), round(f * zoom)) for c, f in zip(corner, found, strict=True)
            )
            side, off = round(_TILE * zoom), round(zoom) + 2  # off: what rounding may have lost
            top, left = max(0, v - off), max(0, u - off)
            large.copy((y, x), side, np.s_[top : v + side + off, left : u + side + off])
    return large.picture


def _evened(picture: Canvas, missing: NDArray[np.bool_]) -> Canvas:
    """A smooth guess: what cv2 finds, which ends in rays, evened out."""
    levels = picture.astype(np.uint8), missing.astype(np.uint8)
    guess = cv2.inpaint(*levels, 3, cv2.INPAINT_TELEA).astype(np.float32)
    for _ in range(300):
        guess[missing] = cv2.blur(guess, (5, 5), borderType=cv2.BORDER_REFLECT)[missing]
    return np.where(missing[..., None], guess, picture)


def _corners(missing: NDArray[np.bool_]) -> list[Place]:
    """Tiles that cover what is missing, those at its border first."""
    depth = cv2.distanceTransform(missing.astype(np.uint8), cv2.DIST_L2, 5)
    rows, columns = (range(0, max(side - _TILE, 0) + _STRIDE, _STRIDE) for side in depth.shape)
    deepest = {(y, x): depth[y : y + _TILE, x : x + _TILE].max() for y in rows for x in columns}
    return sorted((at for at, deep in deepest.items() if deep > 0), key=deepest.__getitem__)


class _Filling:
    """A picture with a gap that is being filled from what was known of it at first."""

    def __init__(self, source: Canvas, gap: NDArray[np.bool_], guess: Canvas) -> None:
        self.source, self.gap, self.picture = source, gap, guess.copy()
        self.weight = (~gap).astype(np.float32)  # how firmly each pixel is known

    def copy(self, at: Place, side: int, near: Window) -> Place | None:
        """Fill a tile from the best place in a window, and return that place."""
        tile = np.s_[at[0] : at[0] + side, at[1] : at[1] + side]
        found = None if self.weight[tile].min() > _COVERED else self._fitting(tile, near)
        if found:
            self._lay(tile, self.source[found[0] :, found[1] :])
        return found

    def _fitting(self, tile: Window, near: Window) -> Place | None:
        """Where in a window the source looks most like the tile, and misses nothing."""
        trust = np.where(self.weight[tile] > 0, 1, _GUESSED).astype(np.float32)
        cost = cv2.matchTemplate(
            self.source[near], self.picture[tile], cv2.TM_SQDIFF, mask=np.dstack([trust] * 3)
        )
        gaps = cv2.integral(self.gap[near].astype(np.uint8))  # how many pixels above and left
        h, w = trust.shape
        missed = gaps[h:, w:] - gaps[:-h, w:] - gaps[h:, :-w] + gaps[:-h, :-w]
        cost[missed > 0] = np.inf
        row, column = (int(at) for at in np.unravel_index(cost.argmin(), cost.shape))
        if np.isinf(cost[row, column]):
            return None
        return row + near[0].start, column + near[1].start

    def _lay(self, tile: Window, new: Canvas) -> None:
        """Lay something over a tile: most of it in the middle, least over what is known firmly."""
        old, weight = self.picture[tile], self.weight[tile]
        (h, w), blurred = weight.shape, max(weight.shape) / 5
        new, firm = new[:h, :w], weight.clip(0.02, 1)
        drift = blur((old - new) * firm[..., None], blurred) / blur(firm, blurred)[..., None]
        hats = (1 - np.abs(np.linspace(-1, 1, side + 2)[1:-1]) for side in (h, w))
        share = np.minimum.outer(*hats) ** 4 * self.gap[tile]
        old += (new + drift.clip(-_DRIFT, _DRIFT) - old) * (share / (share + weight))[..., None]
        weight += share


# --- something else instead ---------------------------------------------------------------------


def insert(pixels: Pixels, mask: Mask, drawing: Cutout, strength: float) -> Pixels:
    """Stand a thing, (1, 4, h, w), colours times alpha and alpha, in the box around the mask."""
    inside, drawn = mask > 0.5, drawing[0].detach().float().cpu().permute(1, 2, 0).numpy()
    there = drawn[..., 3] > 0.05
    if not inside.any() or not there.any():
        return pixels.copy()
    top, bottom, left, right = _box(inside)
    high, low, first, last = _box(there)
    scale = min((bottom - top) / (low - high), (right - left) / (last - first))
    height, width = (max(1, round(side * scale)) for side in (low - high, last - first))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    thing = cv2.resize(drawn[high:low, first:last], (width, height), interpolation=method)
    thing = thing.clip(0, 1) * _early(strength)
    start = (left + right - width) // 2
    place = np.s_[bottom - height : bottom, start : start + width]
    result = pixels.copy()
    result[place] = _pixels(_canvas(pixels[place]) * (1 - thing[..., 3:]) + thing[..., :3])
    return result


def _box(inside: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of what is inside."""
    spans = [np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0)]
    top, bottom, left, right = (int(end) for span in spans for end in (span[0], span[-1] + 1))
    return top, bottom, left, right


# --- everywhere: weather and style --------------------------------------------------------------


def weather(pixels: Pixels, name: str, strength: float, seed: int) -> Pixels:
    """The picture in the snow, at night and so on; `name` is one of WEATHERS."""
    return _mixed(pixels, WEATHERS[name], strength, seed)


def restyle(pixels: Pixels, name: str, strength: float, seed: int) -> Pixels:
    """The picture as a pencil drawing, an oil painting and so on; `name` is one of STYLES."""
    return _mixed(pixels, STYLES[name], strength, seed)


def _mixed(pixels: Pixels, effect: Filter, strength: float, seed: int) -> Pixels:
    canvas = _canvas(pixels)
    changed = effect(canvas, np.random.default_rng(seed))
    return _pixels(canvas + (changed - canvas) * _early(strength))
