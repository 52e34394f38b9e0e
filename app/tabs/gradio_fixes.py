"""Where Gradio does not do what the page needs: four of its functions, replaced."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio import utils
from gradio.data_classes import ImageData


def apply() -> None:
    """Replace them, once or again.

    On the classes: whatever an event may write and does not, Gradio builds anew for that visitor.
    """
    gr.Image.preprocess = _path
    gr.Image.postprocess = _shown
    gr.ImageEditor.preprocess = _paint
    utils.diff = _whole


def _path(picture: Any, given: Any) -> str | None:
    """Of a picture that is sent its file alone: our own limits act before anything is decoded."""
    return given and given.path


_as_file = gr.Image.postprocess


def _shown(picture: Any, value: Any) -> Any:
    """What is ready to be shown passes; anything else becomes a file, as before."""
    return value if isinstance(value, ImageData) else _as_file(picture, value)


def _paint(canvas: Any, given: Any) -> bytes | str | None:
    """Of what comes from a canvas the paint alone: the content of a file, or its path.

    It is opened as carefully as any picture, and in one place.
    """
    if given is None:
        return None
    sent = canvas.blob_storage.pop(given.id, None) if given.id else given
    layers = [layer for layer in (sent.layers if sent else []) if layer is not None]
    if not layers:
        return None
    return bytes(layers[0]) if isinstance(layers[0], (bytes, bytearray)) else str(layers[0].path)


def _whole(before: Any, now: Any) -> list[list[Any]]:
    """How the script comes from one value of a part of the page to the next: the whole next one.

    Gradio tells what differs, and its script changes the value before in place. Of two messages
    that arrive together the page would see the second twice, and miss what the first alone says.
    """
    return [] if before == now else [["replace", [], now]]
