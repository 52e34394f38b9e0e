"""The benchmark of edits: what it measures, and what counts as a right answer."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as Picture

from app.errors import Refused
from benchmarks import edit, photographs
from guidance.instruct import COLOURS, understand
from guidance.styles import STYLES, WEATHERS
from training.data import WALLPAPERS
from training.splits import load_splits

TABLE = json.loads(photographs.MASKS.read_text())


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
    place = {"iou": 0.5, "best": 0.5, "found": True}
    told = edit.summary([row, {**row, "guide prefers after": True, "seconds": 4.0, **place}])
    assert told["outside equal"] == "2/2"
    assert told["remove"]["guide prefers after"] == "1/2"
    assert told["remove"]["seconds"] == [3.0, 4.0]
    assert told["remove"]["iou"] == {"mean": 0.5, "median": 0.5, "of": 1}


def test_an_answer_is_right_when_it_says_what_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [task(), task("remove", "", edit.SYNONYMS["remove"])]
    monkeypatch.setitem(edit.SETS, "scenes", lambda: asked)
    folder = tmp_path / "scenes"
    folder.mkdir()
    for number in range(2):
        for what in ("before", "place", "after"):
            picture = Picture.fromarray(asked[number].pixels)
            picture.save(folder / f"{number:02}-{what}.png")
    edit._sheets(folder, asked, [{"iou": 0.5}, {}])
    key = json.loads((folder / "key.json").read_text())
    changes = {0: "the ball became green", 1: "it turned purple"}
    lines = [{"sheet": k["sheet"], "cell": k["cell"], "change": changes[k["task"]]} for k in key]
    answers = tmp_path / "answers.jsonl"
    answers.write_text("\n".join(map(json.dumps, lines)))
    told = edit.score(tmp_path, answers, "scenes")
    assert told == {"right": "1/2", "recolour": "1/1", "remove": "0/1"}
    answers.write_text(json.dumps(lines[0]))
    with pytest.raises(SystemExit, match="1 cells have no answer"):
        edit.score(tmp_path, answers, "scenes")


# --- photographs ----------------------------------------------------------------------------------


def test_photographs_are_reported_before_scenes_and_twenty_edits_of_every_kind() -> None:
    assert list(edit.SETS) == ["photographs", "scenes"]
    kinds = Counter(row["kind"] for row in TABLE["regions"])
    assert set(kinds) == set(edit.SHARES)
    assert kinds.total() == 20
    assert {row["photograph"] for row in TABLE["regions"]} == set(TABLE["photographs"])


@pytest.mark.parametrize("row", TABLE["regions"], ids=lambda row: row["instruction"])
def test_an_outline_lies_in_its_photograph_and_its_words_mean_the_edit(row: Any) -> None:
    plan = understand(row["instruction"])
    assert (plan.kind, plan.region) == (row["kind"], row["thing"])
    assert row["how"] or edit.SYNONYMS[row["kind"]]
    width, height = TABLE["photographs"][row["photograph"]]["size"]
    scale = min(1, TABLE["side"] / max(width, height))
    for points in row["polygons"] + row.get("holes", []):
        assert len(points) > 3
        assert all(0 <= x <= scale * width and 0 <= y <= scale * height for x, y in points)


def test_no_outlined_wallpaper_was_trained_on() -> None:
    held_out = load_splits().photographs
    for row in TABLE["photographs"].values():
        if row["package"] in WALLPAPERS:
            assert f"{row['package']}/{Path(row['path']).parts[3]}" in held_out


@pytest.mark.parametrize("name", ["china", "flower", "lion"])
def test_the_pinned_packages_ship_the_photograph_that_was_outlined(name: str) -> None:
    row = TABLE["photographs"][name]
    pixels = photographs._read(name, row, TABLE["side"])
    assert list(pixels.shape[1::-1]) == row["size"]


def test_a_photograph_that_is_missing_is_named_and_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photographs, "EXTRA", tmp_path)
    monkeypatch.setattr(photographs, "CACHE", tmp_path)
    with pytest.raises(
        Refused, match=r"'pie' is not here: it is sweet/pie\.png of bakery\. Run `pip"
    ):
        photographs.locate("pie", "bakery", "sweet/pie.png")
    with pytest.raises(Refused, match="Run `python -m training data`"):
        photographs.locate("pie", WALLPAPERS[0], "sweet/pie.png")


def bakery(folder: Path) -> Path:
    """A package with one photograph, 80 x 40, outlined at half its size: a ring."""
    file = folder / "sweet" / "pie.png"
    file.parent.mkdir()
    Picture.fromarray(np.full((40, 80, 3), 200, np.uint8)).save(file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    region = {
        "photograph": "pie",
        "kind": "remove",
        "instruction": "remove the pie",
        "thing": "pie",
    }
    outer, inner = ([[a, a], [b, a], [b, b], [a, b]] for a, b in ((4, 15), (8, 11)))
    table = {
        "side": 40,
        "photographs": {"pie": {"package": "bakery", "path": "sweet/pie.png", "sha256": digest}},
        "regions": [{**region, "how": "", "polygons": [outer], "holes": [inner]}],
    }
    masks = folder / "masks.json"
    masks.write_text(json.dumps(table))
    return masks


def test_points_become_a_region_of_the_photograph_at_the_side_they_were_drawn_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photographs, "EXTRA", tmp_path)
    (thing,) = photographs.load(bakery(tmp_path))
    assert thing.pixels.shape == (20, 40, 3)
    assert thing.object.shape == (20, 40)
    assert thing.object.sum() == 12 * 12 - 4 * 4
    assert thing.object[4, 4]
    assert not thing.object[9, 9]


def test_another_picture_in_its_place_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photographs, "EXTRA", tmp_path)
    masks = bakery(tmp_path)
    Picture.new("RGB", (80, 40)).save(tmp_path / "sweet" / "pie.png")
    with pytest.raises(Refused, match="is not the photograph that was outlined as 'pie'"):
        photographs.load(masks)


def test_a_place_that_the_program_refuses_counts_as_nothing() -> None:
    where = task().object
    half = where & (np.arange(64) < 32)
    sure, unsure = (photographs.judge(half, is_sure, where) for is_sure in (True, False))
    assert sure["iou"] == sure["best"] == pytest.approx(0.48, abs=0.02)
    assert unsure == {"iou": 0.0, "best": sure["best"], "found": False}
    told = photographs.summary([sure, unsure])
    assert told["mean iou"] == pytest.approx(sure["iou"] / 2, abs=1e-3)
    assert told["mean iou of those found"] == sure["iou"]
    assert told["mean iou of the best places"] == sure["best"]
    assert told["found"] == "1/2"
    assert photographs.summary([unsure])["mean iou of those found"] is None


def test_where_words_find_a_thing_is_measured_set_by_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ball = task()
    asked = edit.Task(**{**ball.__dict__, "instruction": "make the red circle green"})
    everywhere = edit.Task(**{**ball.__dict__, "instruction": "add snow"})
    monkeypatch.setitem(edit.SETS, "photographs", lambda: [everywhere, asked])
    told = edit.regions(tmp_path, ["photographs"])
    (row,) = told["photographs"]["each"]
    assert row["best"] > 0.9
    assert told["photographs"]["mean iou of the best places"] == row["best"]
    assert json.loads((tmp_path / "regions.json").read_text()) == told


def test_a_drawn_place_shows_the_outline_and_what_was_found() -> None:
    asked = task()
    shown = photographs.draw(asked.pixels, asked.object, ~asked.object)
    assert (shown[0, 0] != asked.pixels[0, 0]).any()
    assert (shown[32, 32] == asked.pixels[32, 32]).all()
    assert (shown == (60, 230, 60)).all(axis=2).any()
