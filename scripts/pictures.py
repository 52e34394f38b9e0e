"""Make the pictures in app/examples that the Generate tab offers: small copies, as they came."""

from __future__ import annotations

from PIL import Image

from app.images import to_pixels
from app.models import Models
from app.pipeline import run
from app.planner import settle
from app.request import make_request
from app.tabs.ready import EXAMPLES, FOLDER, SEED


def main() -> None:
    """Write each as WebP."""
    FOLDER.mkdir(exist_ok=True)
    models = Models()
    for example in EXAMPLES:
        request = settle(make_request({"prompt": example.prompt, "seed": SEED}), models.device)
        *_, last = run(request, models)
        Image.fromarray(to_pixels(last.image)).save(example.path, "WEBP", quality=85, method=6)


if __name__ == "__main__":
    main()
