"""Picture files for tests: a good one, PNGs by hand, what spoils them, and how they are refused."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image as Picture

from app.errors import Refused

repeatable = settings(derandomize=True, database=None, deadline=None, max_examples=150)

# a soft gradient in three directions: every corner differs, and JPEG hardly changes it
ROWS, COLUMNS = np.mgrid[0:24, 0:40]
PHOTO = np.stack([ROWS * 10, COLUMNS * 6, (ROWS + COLUMNS) * 4], axis=-1).astype(np.uint8)
GREY = PHOTO[..., 0]


def as_file(pixels: Any, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of a picture file."""
    picture = pixels if isinstance(pixels, Picture.Image) else Picture.fromarray(pixels)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """One piece of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes, bits: int = 8, colour: int = 2) -> bytes:
    """A PNG by hand: its header, whatever else, a little data and the end."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    data = zlib.compress(bytes(100_000))
    chunks = [chunk(b"IHDR", header), *more, chunk(b"IDAT", data), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def frames(kind: str, **options: Any) -> bytes:
    """Two different pictures in one file."""
    more = [Picture.fromarray(255 - PHOTO)]
    return as_file(PHOTO, kind, save_all=True, append_images=more, **options)


def code_of(read: Callable[[], object]) -> str | None:
    """Under which code something is refused, if it is."""
    try:
        read()
    except Refused as refused:
        return refused.code
    return None


edits = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8)
