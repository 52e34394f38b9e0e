"""How a picture came about, as a short film: MP4 with H.264, which every browser plays."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.video.reformatter import Colorspace
from numpy.typing import NDArray
from PIL import Image as Picture

from app import saving
from generators.base import Size

Pixels = NDArray[np.uint8]  # (h, w, 3), RGB

SECONDS = 7  # what a film aims at, before its last picture is held for one more
SLOWEST, FASTEST = 4, 30  # pictures a second

# crf 18: no loss that one sees. veryfast: looks only 10 pictures ahead, so holds few in memory.
_ENCODER = {"crf": "18", "preset": "veryfast", "threads": "2"}
_BT709 = 1  # the number of today's usual colours, for matrix, primaries and transfer curve alike
_STUDIO = 1  # brightness within 16..235, what players expect


def pace(pictures: int) -> tuple[int, int]:
    """Return how many to show in a second, and every which of them, for about 7 seconds of film.

    Few pictures are shown slowly, at least 4 a second, so their film is shorter. Of very many,
    not all are shown.
    """
    every = max(1, math.ceil(pictures / (FASTEST * (SECONDS + 2))))
    shown = math.ceil(pictures / every)
    return min(FASTEST, max(SLOWEST, round(shown / SECONDS))), every


class Timelapse:
    """A film to which pictures are added one by one; none is kept but the last.

        with Timelapse(path, (256, 256), pictures=121) as film:
            for step in steps:
                film.add(to_pixels(step.image))

    `size` is the (height, width) of the film: pictures of other sizes are scaled to it, and where
    it is odd, the last row or column is shown twice, since H.264 takes even sizes only.
    `pictures` is how many will come, for the pace (see `pace`); if fewer come, the film is shorter.

    The file appears when the film is closed, however the `with` block ended: half the way is a
    film too. Until then there is only a hidden `.part` beside it. Raises as `saving.write` does.
    """

    def __init__(self, path: Path | str, size: Size, *, pictures: int) -> None:
        """Begin a film; nothing of that name is there yet."""
        self.path, self.size = Path(path).absolute(), size  # absolute, lest "a:b" seem an address
        self.fps, self.every = pace(pictures)
        self._added = self._shown = 0
        self._last: Any = None
        saving.check_folder(self.path.parent)
        self._aside = saving.part(self.path)
        self._open()

    def _open(self) -> None:
        # faststart: the index comes first, so that a browser plays while it still loads
        options = {"movflags": "+faststart"}
        self._file: Any = av.open(str(self._aside), "w", format="mp4", options=options)
        stream = self._file.add_stream("libx264", rate=self.fps, options=_ENCODER)
        stream.height, stream.width = (side + side % 2 for side in self.size)
        stream.pix_fmt = "yuv420p"
        coder = stream.codec_context
        coder.colorspace = coder.color_primaries = coder.color_trc = _BT709
        coder.color_range = _STUDIO
        self._stream = stream

    def add(self, pixels: Pixels) -> None:
        """Add the next picture: uint8 RGB (h, w, 3)."""
        due = self._added % self.every == 0
        self._added += 1
        self._last = pixels
        if due:
            self._show(1)

    def close(self) -> Path | None:
        """Hold the last picture for a second, finish the file, and return its path.

        The path is the next free name if its own was taken, and None if there is nothing to show
        or the film was closed before.
        """
        if self._file is None:
            return None
        try:
            with saving.explained(self.path):
                return self._finish()
        finally:
            self._file = None
            self._aside.unlink(missing_ok=True)

    def __enter__(self) -> Timelapse:
        """Return the film."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the film."""
        self.close()

    def _finish(self) -> Path | None:
        if self._added:
            self._show(self.fps)  # a whole second, and the last picture even if it was not due
            self._encode(None)
        self._file.close()
        return saving.publish(self._aside, self.path) if self._added else None

    def _show(self, times: int) -> None:
        frame = _frame(self._last, self.size)
        frame.time_base = Fraction(1, self.fps)
        with saving.explained(self.path):
            for _ in range(times):
                frame.pts = self._shown
                self._shown += 1
                self._encode(frame)

    def _encode(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            self._file.mux(packet)


def _frame(pixels: Pixels, size: Size) -> Any:
    """Scale to the size of the film, make it even, and turn it into the film's kind of colours."""
    height, width = size
    if pixels.shape[:2] != size:
        resized = Picture.fromarray(pixels).resize((width, height), Picture.Resampling.BICUBIC)
        pixels = np.asarray(resized)
    if height % 2 or width % 2:
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    return frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
