"""Give a drawing another colour and keep its shading."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Drawing = NDArray[np.floating[Any]]  # (h, w, 4), colours and alpha, 0..1


def paint(drawing: Drawing, colour: NDArray[np.floating[Any]]) -> Drawing:
    """The same drawing in a colour, (3,) in 0..1.

    The brightness of the drawing, stretched and centred, becomes a way from a darker to a lighter
    shade of the colour, so that also grey and white things really take it. Dark lines stay dark.
    """
    light = drawing[..., :3] @ np.array([0.3, 0.59, 0.11], np.float32)
    inside = drawing[..., 3] > 0.5
    low, mid, high = np.percentile(light[inside], (3, 50, 97)) if inside.any() else (0, 0.5, 1)
    shade = np.clip((light - mid) / max(high - low, 0.15), -1, 1)[..., None]  # 0: most of it
    dark, bright = colour * 0.42, colour + (1 - colour) * 0.4
    painted = (
        colour + np.maximum(shade, 0) * (bright - colour) - np.minimum(shade, 0) * (dark - colour)
    )
    lines = (light < 0.16) & inside
    if lines.sum() < 0.3 * inside.sum():
        painted = np.where(lines[..., None], drawing[..., :3] * 0.5 + dark * 0.5, painted)
    return np.concatenate((np.clip(painted, 0, 1), drawing[..., 3:]), axis=-1).astype(np.float32)
