"""The benchmark of levers: each changes the request, all see the same prompts, in pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from app.request import make_request
from benchmarks import levers
from benchmarks.levers import LEVERS, SEEDS, SHIPS


def test_each_lever_changes_the_request_and_no_two_are_the_same() -> None:
    asked = [
        make_request({"prompt": "a cat", "seed": 7, **settings}, levers.QUALITY)
        for settings in LEVERS.values()
    ]
    assert len(set(asked)) == len(LEVERS)


def test_prompts_come_from_every_group() -> None:
    assert len(levers.chosen()) == 30
    assert {q.group for q in levers.chosen()} == {q.group for q in levers.questions()}


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was asked of the engine; the picture is grey, and redder the more steps it has."""
    asked: list[dict[str, Any]] = []

    def paint(given: dict[str, Any], quality: str, models: Any) -> Picture.Image:
        asked.append(given)
        return Picture.new("RGB", (8, 8), (200 if "steps" in given else 100, 100, 100))

    monkeypatch.setattr(levers, "paint", paint)
    monkeypatch.setattr(levers, "Models", lambda: None)
    return asked


def test_pictures_that_lie_there_are_kept(tmp_path: Path, painted: list[Any]) -> None:
    levers.make(tmp_path, [SHIPS, "twice the steps"])
    assert len(painted) == 2 * 30 * len(SEEDS)
    levers.make(tmp_path, [SHIPS, "twice the steps", "no draft"])
    assert len(painted) == 3 * 30 * len(SEEDS)
    assert all(given["start"] == "flat" for given in painted[-60:])


def test_a_lever_is_compared_with_the_engine_pair_by_pair(
    tmp_path: Path, painted: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tower that likes red: the lever that makes pictures redder is better in every pair."""

    class Clean:
        def __init__(self, library: Any) -> None:
            pass

        def share(self, shown: Any) -> float:
            return 0.5

    def rivals(net: Any, shown: list[Path], *others: Any) -> Any:
        red = [Picture.open(path).getpixel((0, 0))[0] / 255 for path in shown]  # type: ignore[index]
        return torch.tensor([[value, 0.5, 0.2] for value in red])

    monkeypatch.setattr(
        levers, "load", lambda folder: type("Net", (), {"scale": lambda self: 9.0})()
    )
    monkeypatch.setattr(levers, "load_library", lambda: None)
    monkeypatch.setattr(levers.examiner, "Cleanliness", Clean)
    monkeypatch.setattr(levers.examiner, "rivals", rivals)
    levers.make(tmp_path, [SHIPS, "twice the steps"])
    found = levers.compare(tmp_path)
    assert list(found) == [SHIPS, "twice the steps"]  # the others were not made
    assert found[SHIPS]["first"] == "0/60"
    assert found["twice the steps"]["first"] == "60/60"
    assert found["twice the steps"]["better"] == "60/60"
    assert found["twice the steps"]["moves"] > 0
    assert found["twice the steps"]["p"] < 0.001
    assert json.dumps(found)


def test_pairs_that_are_alike_show_nothing() -> None:
    alike = levers.paired(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]))
    assert alike == {"moves": 0.0, "better": "0/3", "p": 1.0}
