"""What a run leaves behind: the result, a film, pictures on the way, or what could be rescued."""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from app import images, options, pipeline, results, saving, snapshots
from app.errors import Failed, Refused
from app.models import Models
from app.options import Typed
from app.planner import Made
from app.recipe import make_recipe
from app.request import Request
from app.video import Timelapse
from generators.base import Image, Size

# What of a command is needed again to go on with it; the rest is in the snapshot.
_AGAIN: tuple[str, ...] = ("init", "image_prompt", "embedding", "sound", "out", "timelapse")
_AGAIN += ("save_every", "json", "quiet", "device")


class Keeper:
    """Keeps what a run leaves behind: the result, what was asked for on the way, or the rescued."""

    made: Made | None = None  # the newest step
    path: Path | None = None  # of the finished picture
    film_path: Path | None = None
    _film: Timelapse | None = None

    def __init__(self, place: Path, models: Models, typed: Typed, pictures: int) -> None:
        """`place`: of the finished picture. `pictures`: how many steps will come, the first too."""
        self.place, self.models, self.typed, self.pictures = place, models, typed, pictures

    def __enter__(self) -> Keeper:
        """Begin; nothing is written before the first step."""
        return self

    def __exit__(self, *error: object) -> None:
        """Finish the film, also when it shows half of the way."""
        if self._film:
            self.film_path = self._film.close()

    def take(self, made: Made) -> None:
        """Keep a step: its snapshot in memory, its picture where it is wanted."""
        self.made, self.snapshot, step = made, made.step.snapshot(), made.step
        every = self.typed.get("save_every", 0)
        due = every and step.index % every == 0 and step.index > 0 and not step.last
        if not (due or step.last or self.typed.get("timelapse")):
            return
        self.place.parent.mkdir(parents=True, exist_ok=True)
        pixels = made.pixels()
        if self.typed.get("timelapse"):
            self._add_to_film(made, pixels)
        if due:
            self._save(made, results.at_step(self.place, step.index), pixels)
        if step.last:
            self.path = self._save(made, self.place, pixels)

    def _add_to_film(self, made: Made, pixels: images.Pixels) -> None:
        if self._film is None:
            size = final_size(made.request, self.models)
            path = self.place.with_suffix(".mp4")
            self._film = Timelapse(path, size, pictures=self.pictures)
        self._film.add(pixels)

    def _save(self, made: Made, path: Path, pixels: images.Pixels) -> Path:
        recipe = make_recipe(made.request, self.models, made.step)
        return images.save_png(path, pixels, recipe, made.alpha)

    def rescue(self) -> str:
        """Save the picture so far and a snapshot; say where they are and how to go on."""
        if self.made is None:
            return "It had not begun; nothing was written."
        problem = ""
        for folder in (self.place.parent, Path(tempfile.gettempdir())):
            try:
                return self._rescue_to(folder, self.made)
            except (Refused, Failed, OSError) as error:
                problem = str(error)
        return f"The picture so far could not be kept: {problem}"

    def _rescue_to(self, folder: Path, made: Made) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        index, place = made.step.index, folder / self.place.name
        image = self._picture_so_far(made)
        pixels = made.stage.paste(image) if made.stage else images.to_pixels(image)
        picture = self._save(made, results.at_step(place, index), pixels)
        so_far = f"The picture after {index} of {made.request.steps} steps is {picture}."
        if made.request.edit:
            return f"{so_far} Give the same command to begin again."
        snapshot = saving.free_name(results.at_step(place, index, ".safetensors"))
        recipe = make_recipe(made.request, self.models, made.step)
        snapshots.save(self.snapshot, snapshot, recipe)
        return f"{so_far} Go on with: {go_on(snapshot, self.typed)}"

    @torch.no_grad()
    def _picture_so_far(self, made: Made) -> Image:
        """The averaged one where one was asked for; from the snapshot, as the run is over."""
        if not made.request.ema:
            return made.step.image
        generator = self.models.generator(made.request.generator, made.request.precision)
        return generator.decode(self.snapshot.average)

    def report(self, seconds: float) -> Path:
        """Print where the finished picture is; with --json, all about it on one line."""
        assert self.made is not None  # a run ends with its last step, or with an error
        assert self.path is not None
        if not self.typed.get("json"):
            sys.stdout.write("".join(f"{path}\n" for path in (self.path, self.film_path) if path))
        else:
            sys.stdout.write(json.dumps(self._about(self.made, seconds)) + "\n")
        sys.stdout.flush()
        return self.path

    def _about(self, made: Made, seconds: float) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "timelapse": self.film_path and str(self.film_path),
            "seed": made.request.seed,
            "seconds": round(seconds, 3),
            "losses": made.step.losses,
            "recipe": make_recipe(made.request, self.models, made.step),
        }


def final_size(request: Request, models: Models) -> Size:
    """(height, width) of the finished picture."""
    factor = models.generator(request.generator, request.precision).factor
    return pipeline.sizes(request, factor)[-1][1]


def go_on(snapshot: Path, typed: Typed) -> str:
    """Return the command that goes on from a snapshot, with what it does not hold given again."""
    words = ["python", "-m", "app", "generate", "--resume", str(snapshot)]
    for name in _AGAIN:
        values = typed.get(name, ())
        for value in values if isinstance(values, (list, tuple)) else [values]:
            option = options.option_name(name)
            words += [option] if value is True else [option, str(value)]
    return shlex.join(words)
