"""Make docs/edits.png: six edits of two photographs and four drawings, before above after.

The photographs are those that scikit-learn ships: china.jpg and flower.jpg, both CC BY 2.0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont
from sklearn.datasets import load_sample_image

from app import editing, planner
from app.images import Canonical, Pixels, to_pixels
from app.models import Models
from app.pipeline import Inputs, draft
from app.request import make_request

EDITS = (
    ("a teapot on a white background", "Green"),
    ("a car on the street", "Red Bus"),
    ("flower", "make the flower blue"),
    ("china", "add snow"),
    ("a cat on the beach", "add a hat to the cat"),
    ("china", "as a pencil drawing"),
)
WIDTH, HEIGHT, LINE = 256, 192, 22


def subject(name: str, models: Models) -> Pixels:
    """A photograph by its name, or a draft of words."""
    if name in ("flower", "china"):
        return load_sample_image(f"{name}.jpg")
    request = make_request({"prompt": name, "seed": 1, "width": WIDTH, "height": HEIGHT})
    return to_pixels(draft(request, models, 16, Inputs()).picture)


def edited(pixels: Pixels, instruction: str, models: Models) -> Pixels:
    """The result of an edit at normal quality."""
    clip = models.clip("pocket", "float32")
    proposal = editing.propose(Canonical(pixels), "picture", instruction, clip)
    asked = editing.order(proposal, seed=7)
    *_, last = planner.make(planner.settle(asked.requests[0]), models, asked.inputs)
    return last.pixels()


def main() -> None:
    """Draw the sheet."""
    models, root = Models(), Path(__file__).parent.parent
    sheet = Picture.new("RGB", (WIDTH * len(EDITS) // 2, 2 * (2 * HEIGHT + LINE)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for number, (name, instruction) in enumerate(EDITS):
        left, top = number % 3 * WIDTH, number // 3 * (2 * HEIGHT + LINE)
        before = subject(name, models)
        for row, pixels in enumerate((before, edited(before, instruction, models))):
            shown = Picture.fromarray(np.ascontiguousarray(pixels)).resize((WIDTH, HEIGHT))
            sheet.paste(shown, (left, top + row * HEIGHT))
        pen.text((left + 6, top + 2 * HEIGHT + 3), instruction, fill="black", font=font)
    sheet.save(root / "docs" / "edits.png")


if __name__ == "__main__":
    main()
