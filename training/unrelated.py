"""Draw weights/clip/unrelated.png: sixteen things that have nothing to do with each other."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from training.captions import article
from training.data import Library
from training.scenes import Canvas, Studio, paste, solid

SOURCE = "fluent-emoji"  # MIT, so that the sheet may travel with the weights
# What is drawn, and on what: a colour or a setting.
SHEET = {
    "cat": "light blue",
    "airplane": "sky",
    "guitar": "yellow",
    "mushroom": "forest",
    "key": "dark blue",
    "sunflower": "white",
    "bus": "street",
    "hamburger": "teal",
    "umbrella": "beige",
    "octopus": "sea",
    "crown": "purple",
    "snowman": "snow",
    "bicycle": "pink",
    "rocket": "night",
    "cactus": "desert",
    "alarm clock": "green",
}


def draw_sheet(library: Library, folder: Path, size: int = 96) -> list[str]:
    """Write unrelated.png (4 x 4 tiles of ``size`` px) and unrelated.json (their captions)."""
    studio = Studio(library.part(lambda p: p.source == SOURCE and not p.held_out), size, variants=1)
    rows = {p.name: i for i, p in enumerate(studio.library.pictures)}
    missing = set(SHEET) - set(rows)
    if missing:
        raise LookupError(f"No {SOURCE} drawing of {', '.join(sorted(missing))} may be shown.")
    tiles = [
        paste(ground(studio, where), studio.cutout(rows[name]), 0.8, (0.5, 0.52))
        for name, where in SHEET.items()
    ]
    sheet = np.concatenate([np.concatenate(tiles[r : r + 4], axis=1) for r in range(0, 16, 4)])
    Image.fromarray((sheet * 255).round().astype(np.uint8)).save(folder / "unrelated.png")
    captions = [article(name) for name in SHEET]
    (folder / "unrelated.json").write_text(json.dumps(captions, indent=1) + "\n")
    return captions


def ground(studio: Studio, name: str) -> Canvas:
    """A setting or a plain colour, by name."""
    if name in studio.settings:
        return studio.settings[name][0]
    return solid(studio.size, studio.tint(np.random.default_rng(0), name))
