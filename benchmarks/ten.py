"""Ten prompts through the command line: does the guide rank each picture first for its own?

    python -m benchmarks.ten            # writes docs/ten-prompts.png, prints the table as JSON

The guide judges its own work here, so this shows that the whole chain works, not that a stranger
would recognise the objects.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image as Picture
from PIL import ImageDraw

from app.images import open_picture, to_tensor
from app.models import Models
from app.pipeline import embed_picture

PROMPTS = (
    "a red apple on a blue background",
    "a sunflower",
    "a blue car",
    "a slice of pizza",
    "a green tree",
    "a yellow smiley face",
    "a cat",
    "a house",
    "a red heart",
    "a strawberry on a white background",
)
SEED = 7
SHEET = Path(__file__).parent.parent / "docs" / "ten-prompts.png"
_COLUMNS, _SIDE, _LINE = 5, 192, 22  # pixels


def make(prompt: str, folder: Path) -> tuple[Path, float]:
    """Run the command line as a person would; return the picture and the seconds it took."""
    path = folder / f"{prompt.replace(' ', '-')}.png"
    command = [sys.executable, "-m", "app", "generate", prompt, "--seed", str(SEED), "--quiet"]
    began = time.perf_counter()
    subprocess.run([*command, "--out", str(path)], check=True, capture_output=True)
    return path, time.perf_counter() - began


def ranks(pictures: list[Path]) -> list[int]:
    """For each picture, the rank of its own prompt among all (1 is first), by the guide."""
    clip = Models().clip("pocket")
    seen = [embed_picture(clip, to_tensor(open_picture(path))) for path in pictures]
    scores = torch.cat(seen) @ clip.embed_text(list(PROMPTS)).T
    return [int((row > row[own]).sum()) + 1 for own, row in enumerate(scores)]


def contact_sheet(pictures: list[Path]) -> Picture.Image:
    """All pictures, each above its prompt."""
    rows = -(-len(pictures) // _COLUMNS)
    sheet = Picture.new("RGB", (_COLUMNS * _SIDE, rows * (_SIDE + _LINE)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (path, prompt) in enumerate(zip(pictures, PROMPTS, strict=True)):
        left, top = number % _COLUMNS * _SIDE, number // _COLUMNS * (_SIDE + _LINE)
        sheet.paste(Picture.open(path).resize((_SIDE, _SIDE)), (left, top))
        draw.text((left + 4, top + _SIDE + 4), prompt, fill="black")
    return sheet


def main() -> None:
    """Make, rank, time and show the ten."""
    with tempfile.TemporaryDirectory() as folder:
        made = [make(prompt, Path(folder)) for prompt in PROMPTS]
        pictures = [path for path, _ in made]
        found = ranks(pictures)
        contact_sheet(pictures).save(SHEET, optimize=True)
    rows = [
        {"prompt": prompt, "rank": rank, "seconds": round(seconds, 1)}
        for prompt, rank, (_, seconds) in zip(PROMPTS, found, made, strict=True)
    ]
    host = {"machine": platform.machine(), "threads": torch.get_num_threads()}
    print(json.dumps({"first": found.count(1), "of": len(PROMPTS), "rows": rows, **host}, indent=2))


if __name__ == "__main__":
    main()
