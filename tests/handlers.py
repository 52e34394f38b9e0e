"""What tests of the page's handlers share: running one to its end, and reading what it says."""

from __future__ import annotations

import asyncio
import base64
import html
import io
import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image as Picture

from app.images import Pixels
from app.tabs.common import Change


async def collect(changes: AsyncIterator[Change]) -> tuple[list[Change], gr.Error | None]:
    """All changes of the page, and the error they end with, if any."""
    seen: list[Change] = []
    try:
        async for change in changes:
            seen.append(change)
    except gr.Error as error:
        return seen, error
    return seen, None


def watch(changes: AsyncIterator[Change]) -> tuple[list[Change], gr.Error | None]:
    """Collect in a thread of its own: the browser tests leave a loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, collect(changes)).result()


def last(seen: list[Change], name: str) -> Any:
    """The newest that a part of the page was given."""
    return next(change[name] for change in reversed(seen) if name in change)


def text(markup: str) -> str:
    """What people read of it."""
    return html.unescape(re.sub("<[^>]*>", "", markup))


def inline(address: str) -> Pixels:
    """The pixels of a picture that came within a message."""
    kind, code = address.split(",")
    assert kind == "data:image/jpeg;base64"
    return np.asarray(Picture.open(io.BytesIO(base64.b64decode(code))).convert("RGB"))
