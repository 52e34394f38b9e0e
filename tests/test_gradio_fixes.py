"""Gradio as the page needs it: what is sent stays closed, a preview is inline, no news is lost."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from gradio.components.image_editor import EditorData, EditorDataBlobs
from gradio.data_classes import FileData
from PIL import Image as Picture

from app.tabs import gradio_fixes
from app.tabs.common import preview
from tests.edit_page import read
from tests.handlers import inline


@pytest.fixture(autouse=True)
def applied() -> None:
    """As the page has it; twice, as two pages of a process have it."""
    gradio_fixes.apply()
    gradio_fixes.apply()


def test_fields_that_gradio_builds_anew_open_nothing_either() -> None:
    """It does so for each visitor, when an event might have written into a field and did not."""
    assert gr.Image().preprocess(FileData(path="notes.png")) == "notes.png"
    assert gr.ImageEditor().preprocess(EditorData(layers=[FileData(path="a.png")])) == "a.png"


def test_a_canvas_gives_its_paint_as_it_was_sent() -> None:
    stored = EditorDataBlobs(background=b"b", layers=[None, b"paint"], composite=b"c")
    canvas = SimpleNamespace(blob_storage={"7": stored})
    take = gradio_fixes._paint
    assert take(canvas, EditorData(id="7")) == b"paint"
    assert canvas.blob_storage == {}
    assert take(canvas, EditorData(id="7")) is None
    assert take(canvas, None) is None
    assert take(canvas, EditorData(layers=[FileData(path="a.png")])) == "a.png"


def test_a_preview_comes_within_the_message_small_and_as_it_looks(tmp_path: Path) -> None:
    pixels = np.tile(np.linspace(0, 255, 800).astype(np.uint8)[:, None, None], (1, 600, 3))
    picture = gr.Image()
    picture.GRADIO_CACHE = str(tmp_path)
    sent = picture.postprocess(preview(pixels))
    assert sent.path is None
    shown = inline(sent.url)
    assert shown.shape == (512, 384, 3)
    like = np.asarray(Picture.fromarray(pixels).resize((384, 512)))
    assert np.abs(shown.astype(int) - like).max() < 8
    assert not list(tmp_path.iterdir())


def test_any_other_picture_is_a_file_as_before(tmp_path: Path) -> None:
    picture = gr.Image(format="png")
    picture.GRADIO_CACHE = str(tmp_path)
    sent = picture.postprocess(np.zeros((8, 8, 3), np.uint8))
    assert read(sent.path).shape == (8, 8, 3)
    assert picture.postprocess(None) is None


def test_what_is_new_is_told_whole_and_what_is_not_at_all() -> None:
    """In place is nothing changed: the page may not have read yet what came before."""
    told = gradio_fixes.utils.diff
    assert told({"visible": True}, {"value": 1}) == [["replace", [], {"value": 1}]]
    assert told("Step 1", "Step 12") == [["replace", [], "Step 12"]]
    assert told({"visible": True}, {"visible": True}) == []
