"""How a picture came about, kept while it is made: small frames in the folder of a run, a film.

    <data>/runs/<job>/frames/000012.jpg   the picture after 12 steps, at most 256 pixels a side
    <data>/runs/<job>/timelapse.mp4       all of them, when the run is over

At most about 120 frames, some 10 kB each, evenly spaced over the steps. Who works may be killed at
any time: the frames stay, and whoever goes on writes those that follow.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from app.images import Pixels, preview_jpeg

MOST_FRAMES = 120
_SIDE = 256  # pixels


def path(folder: Path) -> Path:
    """Where the film of a run is, if there is one."""
    return folder / "timelapse.mp4"


def is_due(index: int, steps: int) -> bool:
    """Whether the picture after so many of all steps is one of the frames; the last one is."""
    return index % math.ceil(steps / MOST_FRAMES) == 0 or index == steps


def keep(folder: Path, index: int, pixels: Pixels) -> None:
    """Keep a frame. Raises OSError where it cannot be written."""
    frames = folder / "frames"
    frames.mkdir(parents=True, exist_ok=True)
    (frames / f"{index:06}.jpg").write_bytes(preview_jpeg(pixels, _SIDE))


def make(folder: Path) -> Path | None:
    """Make a film of the frames there are, in place of an older one; None if there are too few.

    Raises as `saving.write` does.
    """
    from app.video import Timelapse  # not before it is needed: PyAV takes a moment to load

    pictures = [pixels for frame in _frames(folder) if (pixels := _read(frame)) is not None]
    if len(pictures) < 2:
        return None
    path(folder).unlink(missing_ok=True)
    height, width, _ = pictures[-1].shape
    film = Timelapse(path(folder), (height, width), pictures=len(pictures))
    with film:
        for pixels in pictures:
            film.add(pixels)
    return path(folder)


def clear(folder: Path) -> None:
    """Delete the frames: the run is done, and the film holds them all."""
    shutil.rmtree(folder / "frames", ignore_errors=True)


def ready(folder: Path) -> Path | None:
    """The film of a run, once it holds all frames there are."""
    try:
        made = path(folder).stat().st_mtime_ns
        newest = max((frame.stat().st_mtime_ns for frame in _frames(folder)), default=0)
    except OSError:  # there is none, or the frames are just being deleted
        return None
    return path(folder) if made >= newest else None


def _frames(folder: Path) -> list[Path]:
    return sorted((folder / "frames").glob(f"{'[0-9]' * 6}.jpg"))


def _read(frame: Path) -> Pixels | None:
    """One that was cut off, by a full disk or by the end of the program, is left out."""
    try:
        with Picture.open(frame, formats=["JPEG"]) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError):
        return None
