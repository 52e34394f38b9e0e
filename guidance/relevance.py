"""Where is it? Words become a region of a picture, and a picture becomes words.

First many crops are compared with the words, and give a map of where to look. From there GrabCut
(Rother, Kolmogorov and Blake, SIGGRAPH 2004) proposes regions that end where colours do. So do
pieces of like colour, grown from the pixels up, whatever the words are: where a CLIP that knows
drawings looks at a photograph, its map is often wrong. Each region is cut out, laid on plain paper,
and the CLIP says which looks most like the words; what is large, has an edge all around and lies
within the frame is more likely a thing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from guidance.augment import sample
from guidance.clip import Clip, Embedding

Pixels = NDArray[np.uint8]  # (h, w, 3), RGB
Region = NDArray[np.bool_]  # (h, w)
Heat = NDArray[np.floating[Any]]  # (h, w), 0..1

_SIDE, _FINE = 128, 448  # pixels of the longer side, at which regions are sought, and finished
_SHARES = (1.0, 0.7, 0.5, 0.35)  # sides of crops, of the shorter side
_STRIDE = 0.34  # of a crop's side
_SEEDS = ((0.25, 0.6, 0.85), (0.15, 0.5, 0.9), (0.35, 0.7, 0.9))  # surely not; perhaps; surely
_BOXES, _WIDER = 6, 3  # crops that become boxes to search in; how many of them also a little wider
_REACH = 8  # pixels around a region that may yet become part of it
_AREA = (0.004, 0.9)  # what part of the picture a thing may cover
# What makes a region a thing, as cosine: e times the area (all of it rather than its best part);
# e times as steep a picture along its border as elsewhere; all of the frame touched (a ground).
_WHOLENESS, _BORDER, _FRAME = 0.05, 0.2, 0.1
_PIECES, _LEAST_PIECE = 16, 0.01  # pieces to look at, the best as things; their least area
_GROWTH = 1.1  # a piece is kept if what it was joined into is so many times as large
_KEPT = 16  # pictures whose pieces are kept
_CHROMA = 2.0  # a difference in colour counts so many times one in lightness
_ALIKE = 0.92  # intersection over union of regions that are one
_FRAMES = ("{}", "a {}", "a picture of a {}")
_GROUNDS = (
    *("a picture", "a plain background", "a blue background", "a white background"),
    *("the sky", "grass", "a photograph of a landscape"),
)
_PAPER, _GREY = (250, 250, 250), (150, 160, 170)  # behind a cut-out
_LIGHT = 200  # of 255, in every colour


@dataclass(frozen=True, eq=False)
class Found:
    """A region of a picture, and the embedding (1, d) of what it shows."""

    region: Region
    embedding: Embedding


def find(clip: Clip, pixels: Pixels, goals: Embedding) -> Found | None:
    """The region of a picture that looks most like one of the goals, (n, d).

    None when there is no region at all. It is always the best there is: whether it is good
    enough, `names` can tell.
    """
    small = _small(pixels)
    steep = _steepness(small)
    candidates = [region for region in _propose(clip, small, goals) if _is_fair(region)]
    candidates += _kept_pieces(small.tobytes(), *small.shape[:2])
    if not candidates:
        return None
    embeddings = embed_cutouts(clip, small, candidates)
    shapes = torch.tensor([_thingness(region, steep) for region in candidates])
    best = int((_nearness(embeddings, goals).cpu() + shapes).argmax())
    region = _refine(small, candidates[best], _REACH)
    side = min(_FINE, max(pixels.shape))
    if side > _SIDE:
        larger = _small(pixels, side)
        region = _refine(larger, _resize(region, larger), 2 * side // _SIDE, sure=True)
    return Found(_resize(region, pixels), embeddings[best : best + 1])


def _resize(region: Region, like: Pixels) -> Region:
    """A region at the size of a picture."""
    size = like.shape[1::-1]
    return cv2.resize(region.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) > 0.5


def describe(clip: Clip, words: str) -> Embedding:
    """(1, d), unit length: the mean of the words in a few frames."""
    texts = clip.embed_text([frame.format(words) for frame in _FRAMES])
    return F.normalize(texts.mean(dim=0, keepdim=True), dim=-1)


def embed_names(clip: Clip, names: Sequence[str]) -> Embedding:
    """(n, d): each name with its article."""
    texts = [f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in names]
    return clip.embed_phrases(texts)


def _nearness(embeddings: Embedding, goals: Embedding) -> Tensor:
    return (embeddings @ goals.T).amax(dim=1)


@torch.no_grad()
def embed_cutouts(clip: Clip, pixels: Pixels, regions: Iterable[Region]) -> Embedding:
    """(n, d): each region cut out and laid on plain paper, as the icons of a dictionary are."""
    views = np.stack([_lay(pixels, region, clip.side) for region in regions])
    return clip.embed_image(torch.from_numpy(views).permute(0, 3, 1, 2).to(clip.device) / 255)


def _lay(pixels: Pixels, region: Region, side: int) -> NDArray[np.float32]:
    """(side, side, 3): what a region shows, in the middle of a square sheet."""
    ys, xs = np.where(region)
    top, left, height, width = ys.min(), xs.min(), np.ptp(ys) + 1, np.ptp(xs) + 1
    # grey where white would hide what light ground a region takes with it
    tones = [pixels[where].mean(axis=0) for where in (region, ~region) if where.any()]
    is_light = any(tone.min() >= _LIGHT for tone in tones)
    span = int(1.2 * max(height, width)) + 2
    sheet = np.full((span, span, 3), _GREY if is_light else _PAPER, np.float32)
    down, right = (span - height) // 2, (span - width) // 2
    inside = region[top : top + height, left : left + width]
    part = sheet[down : down + height, right : right + width]
    part[inside] = pixels[top : top + height, left : left + width][inside]
    return cv2.resize(sheet, (side, side), interpolation=cv2.INTER_AREA)


# --- proposals ----------------------------------------------------------------------------------


def _small(pixels: Pixels, side: int = _SIDE) -> Pixels:
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = max(8, round(width * scale)), max(8, round(height * scale))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def _propose(clip: Clip, pixels: Pixels, goals: Embedding) -> Iterator[Region]:
    """Regions along the colours: from the heat, and from the crops that look most like a goal."""
    height, width = pixels.shape[:2]
    boxes = crop_boxes(height, width)
    likeness = _compare(clip, pixels, boxes, goals)
    heat = spread(boxes, likeness, (height, width))
    seeds = [_seed(heat, *limits) for limits in _SEEDS]
    chosen = _apart(boxes[likeness.argsort(descending=True)], 0.12 * min(height, width))
    seeds += [_box_seed(box, (height, width)) for box in chosen]
    seeds += [_box_seed(_widen(box), (height, width)) for box in chosen[:_WIDER]]
    for seed in seeds:
        region = _cut(pixels, seed)
        if region is not None:
            yield region


def crop_boxes(height: int, width: int) -> Tensor:
    """(n, 4): top, left, height, width of squares of several sizes all over a picture."""
    boxes = []
    for share in _SHARES:
        side = share * min(height, width)
        rows, columns = (
            np.linspace(0, span - side, round((span - side) / (_STRIDE * side)) + 1)
            for span in (height, width)
        )
        boxes += [(y, x, side, side) for y in rows for x in columns]
    return torch.tensor(boxes, dtype=torch.float32)


@torch.no_grad()
def _compare(clip: Clip, pixels: Pixels, boxes: Tensor, goals: Embedding) -> Tensor:
    """(n,): how much more a crop looks like a goal than like mere background."""
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(clip.device) / 255
    turns = torch.eye(3).expand(len(boxes), 3, 3)
    views = sample(image, boxes, turns, clip.side)
    seen = torch.cat([clip.embed_image(part) for part in views.split(32)])
    grounds = clip.embed_text(list(_GROUNDS))
    return (_nearness(seen, goals) - 0.5 * (seen @ grounds.T).mean(dim=1)).cpu()


def spread(boxes: Tensor, values: Tensor, size: tuple[int, int]) -> Heat:
    """What crops say, spread over the pixels they show; small crops know better where."""
    total, weight = np.zeros(size), np.full(size, 1e-9)
    for (top, left, side, _), value in zip(boxes.tolist(), values.tolist(), strict=True):
        y, x = (
            np.exp(-2 * ((np.arange(n) + 0.5 - start - side / 2) / (side / 2)) ** 2)
            for n, start in zip(size, (top, left), strict=True)
        )
        bell = np.outer(y, x) / side**2
        total, weight = total + value * bell, weight + bell
    heat = total / weight
    return (heat - heat.min()) / max(float(np.ptp(heat)), 1e-9)


def _apart(boxes: Tensor, least: float) -> list[Tensor]:
    """The first boxes that differ from each other; the whole frame is no box to search in."""
    chosen: list[Tensor] = []
    for box in boxes[boxes[:, 2] < boxes[:, 2].max()]:
        if all((box - other).abs().max() > least for other in chosen):
            chosen.append(box)
    return chosen[:_BOXES]


def _widen(box: Tensor) -> Tensor:
    top, left, side, _ = box
    return torch.stack((top - 0.15 * side, left - 0.15 * side, 1.3 * side, 1.3 * side))


def _seed(heat: Heat, never: float, perhaps: float, surely: float) -> NDArray[np.uint8]:
    """What GrabCut begins with, from a map of heat."""
    seed = np.full(heat.shape, cv2.GC_PR_BGD, np.uint8)
    seed[heat < never] = cv2.GC_BGD
    seed[heat > perhaps] = cv2.GC_PR_FGD
    seed[heat > surely] = cv2.GC_FGD
    return seed


def _box_seed(box: Tensor, size: tuple[int, int]) -> NDArray[np.uint8]:
    """What GrabCut begins with, from a box: something in it, nothing outside."""
    top, left, side, _ = (round(float(edge)) for edge in box)
    seed = np.full(size, cv2.GC_BGD, np.uint8)
    inner = slice(max(1, top), top + side), slice(max(1, left), left + side)
    seed[:-1, :-1][inner] = cv2.GC_PR_FGD
    return seed


def _cut(pixels: Pixels, seed: NDArray[np.uint8]) -> Region | None:
    """Let GrabCut find where the thing ends; None when there is only thing, or only ground."""
    mask, models = seed.copy(), [np.zeros((1, 65)) for _ in range(2)]
    if len(np.unique(mask & 1)) < 2:
        return None
    cv2.setRNGSeed(0)  # its clusters begin by chance
    try:
        whole = (0, 0, 1, 1)  # not looked at: the mask says where
        cv2.grabCut(pixels, mask, whole, models[0], models[1], 3, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # too few pixels of one kind
        return None
    return _tidy((mask & 1).astype(bool))


def _refine(pixels: Pixels, region: Region, reach: int, *, sure: bool = False) -> Region:
    """Cut once more around a region's border, for the colours are known by now.

    What lies farther than `reach` pixels outside is surely no part of it; inside, if `sure`.
    """
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    mask = region.astype(np.uint8)
    seed = np.full(region.shape, cv2.GC_BGD, np.uint8)
    seed[cv2.dilate(mask, disc) > 0] = cv2.GC_PR_BGD
    seed[region] = cv2.GC_PR_FGD
    if sure:
        seed[cv2.erode(mask, disc) > 0] = cv2.GC_FGD
    better = _cut(pixels, seed)
    return region if better is None else better


def _tidy(region: Region) -> Region | None:
    """Drop specks, fill holes."""
    labels, count = ndimage.label(ndimage.binary_opening(region))
    if not count:
        return None
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept: Region = np.isin(labels, np.flatnonzero(sizes > 0.15 * sizes.max()))
    filled: Region = ndimage.binary_fill_holes(kept)
    return filled


def _is_fair(region: Region) -> bool:
    least, most = _AREA
    return bool(least < region.mean() < most)


# --- pieces -------------------------------------------------------------------------------------


def _lab(pixels: Pixels) -> NDArray[np.float32]:
    """(h, w, 3): lightness 0..100, and two axes of colour."""
    lab: NDArray[np.float32] = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return lab


def _steepness(pixels: Pixels) -> NDArray[np.float32]:
    """(h, w): how fast lightness and colour change."""
    lab = _lab(pixels)
    slopes = [cv2.Sobel(lab, cv2.CV_32F, *way) for way in ((1, 0), (0, 1))]
    steep: NDArray[np.float32] = np.sqrt(sum(np.square(slope).sum(axis=2) for slope in slopes))
    return steep


def _thingness(region: Region, steep: NDArray[np.float32]) -> float:
    """How much a region's form speaks for a thing, to be added to a cosine."""
    frame = np.concatenate((region[0], region[-1], region[:, 0], region[:, -1])).mean()
    edge = _edge(region, steep)
    return float(_WHOLENESS * np.log(region.mean()) + _BORDER * edge - _FRAME * frame)


def _edge(region: Region, steep: NDArray[np.float32]) -> float:
    """How much steeper the picture is along a region's border than elsewhere; 0 is no edge."""
    mask, box = region.astype(np.uint8), np.ones((3, 3), np.uint8)
    border = cv2.dilate(mask, box) > cv2.erode(mask, box)
    return float(np.log((steep[border].mean() + 1) / (steep.mean() + 1)))


@lru_cache(_KEPT)
def _kept_pieces(content: bytes, height: int, width: int) -> tuple[Region, ...]:
    """The best pieces of a small picture; people ask about one picture again and again."""
    pixels = np.frombuffer(content, np.uint8).reshape(height, width, 3)
    pieces = tuple(_best_pieces(pixels, _steepness(pixels)))
    for piece in pieces:
        piece.flags.writeable = False
    return pieces


def _best_pieces(pixels: Pixels, steep: NDArray[np.float32]) -> list[Region]:
    """The pieces that are most like things, each once."""
    tidied = (_tidy(piece) for piece in _pieces(pixels))
    fair = [
        piece
        for piece in tidied
        if piece is not None and _is_fair(piece) and _edge(piece, steep) > 0
    ]
    chosen: list[Region] = []
    for piece in sorted(fair, key=lambda piece: -_thingness(piece, steep)):
        if len(chosen) == _PIECES:
            break
        if all((piece & one).sum() < _ALIKE * (piece | one).sum() for one in chosen):
            chosen.append(piece)
    return chosen


def _pieces(pixels: Pixels) -> Iterator[Region]:
    """Regions of like colour, each as it was just before it was joined with something large."""
    colours = cv2.GaussianBlur(_lab(pixels), (0, 0), 0.7) * (1, _CHROMA, _CHROMA)
    sizes, joined = _join(colours)
    count = len(sizes) - len(joined)
    starts, wholes = [0] * len(sizes), [0] * len(sizes)
    # numbered so that the pixels of each region follow one another
    for node in reversed(range(count, len(sizes))):
        one, two = joined[node - count]
        starts[one], starts[two] = starts[node], starts[node] + sizes[one]
        wholes[one] = wholes[two] = sizes[node]
    place = np.array(starts[:count]).reshape(colours.shape[:2])
    for node in range(count, len(sizes)):
        if sizes[node] >= _LEAST_PIECE * count and wholes[node] > _GROWTH * sizes[node]:
            yield (place >= starts[node]) & (place < starts[node] + sizes[node])


Colour = tuple[float, float, float]


def _join(colours: NDArray[np.floating[Any]]) -> tuple[list[int], list[tuple[int, int]]]:
    """Join neighbours until one is left, always those whose joining adds the least variance.

    Beaulieu and Goldberg, PAMI 1989. Returns the sizes of all regions that ever were, the pixels of
    `colours` (h, w, 3) first, and of which two each of the others was made.
    """
    height, width = colours.shape[:2]
    ids = np.arange(height * width).reshape(height, width)
    sides = ((ids[:, :-1], ids[:, 1:]), (ids[:-1], ids[1:]))
    pairs = [pair for one, two in sides for pair in zip(one.flat, two.flat, strict=True)]
    means: list[Colour] = [(a, b, c) for a, b, c in colours.reshape(-1, 3).tolist()]
    sizes, joined = [1] * len(means), list[tuple[int, int]]()
    near: list[set[int]] = [set() for _ in means]
    gone: set[int] = set()
    queue = []
    for one, two in ((int(one), int(two)) for one, two in pairs):
        near[one].add(two)
        near[two].add(one)
        queue.append((_price(means[one], 1, means[two], 1), one, two))
    heapq.heapify(queue)
    while queue:
        _, one, two = heapq.heappop(queue)
        if one in gone or two in gone:
            continue
        gone |= {one, two}
        new, size = len(sizes), sizes[one] + sizes[two]
        mean = _mix(means[one], sizes[one], means[two], sizes[two])
        around = (near[one] | near[two]) - {one, two}
        joined.append((one, two))
        sizes.append(size)
        means.append(mean)
        near.append(around)
        for other in around:
            near[other] -= {one, two}
            near[other].add(new)
            heapq.heappush(queue, (_price(mean, size, means[other], sizes[other]), new, other))
    return sizes, joined


def _mix(one: Colour, many: int, two: Colour, more: int) -> Colour:
    """The mean colour of two regions."""
    a, b, c = ((x * many + y * more) / (many + more) for x, y in zip(one, two, strict=True))
    return a, b, c


def _price(one: Colour, many: int, two: Colour, more: int) -> float:
    """How much the squared distances to the mean grow when two regions become one (Ward, 1963)."""
    apart = (one[0] - two[0]) ** 2 + (one[1] - two[1]) ** 2 + (one[2] - two[2]) ** 2
    return apart * many * more / (many + more)
