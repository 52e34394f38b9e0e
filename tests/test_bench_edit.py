"""The benchmark of edits: what it measures, and what counts as a right answer."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Picture

from benchmarks import edit
from guidance.instruct import COLOURS, understand
from guidance.styles import STYLES, WEATHERS


def task(kind: str = "recolour", how: str = "green", says: tuple[str, ...] = ()) -> edit.Task:
    pixels = np.full((64, 64, 3), 250, np.uint8)
    cv2.circle(pixels, (32, 32), 16, (215, 40, 40), -1)
    where = np.zeros((64, 64), np.uint8)
    cv2.circle(where, (32, 32), 16, 1, -1)
    return edit.Task(
        kind, f"make the ball {how}", "ball", pixels, where.astype(bool), says or (how,), how
    )


def test_there_are_eighty_edits_of_six_kinds() -> None:
    assert sum(edit.SHARES.values()) == 80
    assert len(edit.SHARES) == 6


@pytest.mark.parametrize("name", [*STYLES, *WEATHERS])
def test_every_style_and_weather_is_asked_for_in_words_that_mean_it(name: str) -> None:
    words = {**edit.STYLE_WORDS, **edit.WEATHER_WORDS}[name]
    assert understand(words).how == name
    assert edit.SYNONYMS[name]


def test_a_colour_is_measured_by_its_hue_and_its_shading() -> None:
    asked = task()
    rng = np.random.default_rng(0)
    shaded = asked.pixels.astype(int) - rng.integers(0, 60, (64, 64, 1))
    asked = edit.Task(**{**asked.__dict__, "pixels": shaded.clip(0, 255).astype(np.uint8)})
    lab = cv2.cvtColor(asked.pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    goal = np.array([[COLOURS["green"]]], np.uint8).astype(np.float32) / 255
    lab[..., 1:] = cv2.cvtColor(goal, cv2.COLOR_RGB2LAB)[0, 0, 1:]
    lab[..., 0] *= 0.8
    green = (cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255).round().clip(0, 255).astype(np.uint8)
    found = edit._colours(asked, green)
    assert found["hue"] < 10
    assert found["shading"] > 0.9
    assert edit._colours(asked, asked.pixels)["hue"] > 80


def test_the_summary_counts_by_kind() -> None:
    row = {"kind": "remove", "outside equal": True, "guide prefers after": False, "seconds": 2.0}
    told = edit.summary([row, {**row, "guide prefers after": True, "iou": 0.5, "seconds": 4.0}])
    assert told["outside equal"] == "2/2"
    assert told["remove"]["guide prefers after"] == "1/2"
    assert told["remove"]["seconds"] == [3.0, 4.0]
    assert told["remove"]["iou"] == {"mean": 0.5, "median": 0.5, "of": 1}


def test_an_answer_is_right_when_it_says_what_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [task(), task("remove", "", edit.SYNONYMS["remove"])]
    monkeypatch.setattr(edit, "tasks", lambda: asked)
    for number in range(2):
        for what in ("before", "place", "after"):
            picture = Picture.fromarray(asked[number].pixels)
            picture.save(tmp_path / f"{number:02}-{what}.png")
    edit._sheets(tmp_path, asked)
    key = json.loads((tmp_path / "key.json").read_text())
    changes = {0: "the ball became green", 1: "it turned purple"}
    lines = [{"sheet": k["sheet"], "cell": k["cell"], "change": changes[k["task"]]} for k in key]
    answers = tmp_path / "answers.jsonl"
    answers.write_text("\n".join(map(json.dumps, lines)))
    assert edit.score(tmp_path, answers) == {"right": "1/2", "recolour": "1/1", "remove": "0/1"}
    answers.write_text(json.dumps(lines[0]))
    with pytest.raises(SystemExit, match="1 cells have no answer"):
        edit.score(tmp_path, answers)
