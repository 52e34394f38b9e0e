"""How far apart unrelated things are, so that words, pictures and sounds pull alike.

In a CLIP two unrelated pictures lie much closer together than a picture and an unrelated text: a
picture prompt would start near its goal and hardly pull. So each target is measured against
pictures that have nothing to do with it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image as Picture

from generators.base import Image

UNRELATED = Path(__file__).resolve().parent.parent / "weights" / "clip" / "unrelated.png"
_TILES = 4  # a sheet of 4 x 4 pictures


def unrelated_pictures() -> Image:
    """Sixteen small pictures that have nothing to do with each other, (16, 3, s, s), 0..1."""
    with Picture.open(UNRELATED) as sheet:
        pixels = torch.from_numpy(np.asarray(sheet.convert("RGB")).copy()).permute(2, 0, 1) / 255
    rows = pixels.chunk(_TILES, dim=1)
    return torch.stack([tile for row in rows for tile in row.chunk(_TILES, dim=2)])
