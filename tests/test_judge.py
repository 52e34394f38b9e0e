"""The judge: pictures of any form get a mark each, and nothing of it is a gradient."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from guidance import judge


def views(*shades: float, height: int = 40, width: int = 64) -> torch.Tensor:
    """Plain pictures, each of one grey."""
    return torch.tensor(shades)[:, None, None, None].expand(-1, 3, height, width).contiguous()


def test_the_picture_that_lies_nearest_to_the_words_has_the_best_mark(tiny_judge: Path) -> None:
    critic = judge.load(tiny_judge)
    for wanted in range(3):
        pictures = views(0.0, 0.5, 1.0)
        seen = critic.network(torch.nn.functional.interpolate(pictures, (judge.SIDE, judge.SIDE)))
        marks = critic.marks(pictures, seen[wanted : wanted + 1])
        assert marks.argmax() == wanted
        assert marks[wanted] == pytest.approx(1.0, abs=1e-3)


def test_it_gives_marks_and_no_gradient(tiny_judge: Path) -> None:
    critic = judge.load(tiny_judge)
    marks = critic.marks(views(0.3, 0.6, height=33, width=120).requires_grad_(), torch.ones(1, 32))
    assert marks.shape == (2,)
    assert not marks.requires_grad


def test_weights_of_another_network_are_refused(tiny_judge: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_judge / judge.CONFIG).read_text())
    (tmp_path / judge.CONFIG).write_text(json.dumps({**config, "width": 8}))
    (tmp_path / judge.WEIGHTS).write_bytes((tiny_judge / judge.WEIGHTS).read_bytes())
    with pytest.raises(ValueError, match="another network"):
        judge.load(tmp_path)
