"""What tests of the Edit tab share: a picture, the fields of the page, a studio, its buttons."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import gradio as gr
import numpy as np
import pytest
from PIL import Image as Picture

from app.editing import Proposal
from app.images import Pixels
from app.tabs import Studio, changing
from app.tabs.changing import Question
from app.tabs.common import Change
from app.tabs.edit import Family
from app.worker import Worker
from tests.handlers import watch

RED, WHITE = (215, 40, 40), (250, 250, 250)
SIDE = 96


def disc() -> Pixels:
    """A red disc in the middle of white paper."""
    pixels = np.full((SIDE, SIDE, 3), WHITE, np.uint8)
    return cv2.circle(pixels, (SIDE // 2, SIDE // 2), SIDE // 4, RED, -1)


def save(path: Path, pixels: Pixels) -> str:
    Picture.fromarray(pixels).save(path)
    return str(path)


# A test file imports these fixtures under their own names, so that pytest finds them there.
@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """The fields of the page: a red disc that is to be blue."""
    return {
        "picture": save(tmp_path / "disc.png", disc()),
        "painting": False,
        "canvas": None,
        "instruction": "blue",
        "strength": 0.8,
        "quality": "draft",
        "place": "",
        "everywhere": False,
        "mask": None,
        "invert": False,
        "grow": 0,
        "seed": "7",
        "family": Family(),
        "question": Question(),
    }


@pytest.fixture
def studio(pocket_models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """A studio whose results go to a folder of the test."""
    monkeypatch.setenv("SYNESTHETE_RESULTS", str(tmp_path / "results"))
    studio = Studio(lambda: Worker(pocket_models))
    yield studio
    studio.close()


def read(path: str) -> Pixels:
    with Picture.open(path) as picture:
        return np.asarray(picture)


def press_edit(studio: Studio, given: dict[str, Any]) -> tuple[list[Change], gr.Error | None]:
    return watch(changing.course(studio, given, threading.Event(), "somebody"))


def press_look(studio: Studio, given: dict[str, Any]) -> tuple[list[Change], gr.Error | None]:
    return watch(changing.glance(studio, given, threading.Event()))


def propose(studio: Studio, given: dict[str, Any], **other: Any) -> Proposal:
    return changing.propose(studio.worker().result(), {**given, **other})
