"""The benchmark of faithfulness: sheets that give nothing away, and scores that count rightly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image as Picture

from benchmarks import faithful
from training.splits import load_splits


def test_there_are_a_hundred_things_and_twenty_scenes() -> None:
    asked = faithful.questions()
    assert sum(q.group != "scene" for q in asked) == 100
    assert sum(q.group == "scene" for q in asked) == 20
    assert len({q.prompt for q in asked}) == 120


def test_thirty_things_are_held_out_from_every_training() -> None:
    splits = load_splits()
    unseen = [q for q in faithful.questions() if q.group == "held-out"]
    assert sum(splits.mentions(q.prompt) for q in unseen) >= 30


@pytest.mark.parametrize(
    ("guess", "right"),
    [
        ("a red apple", True),
        ("Apples", True),
        ("pineapple", False),
        ("teddy-bear", True),
        ("something round", False),
        ("a multiapple", False),
    ],
)
def test_a_guess_is_right_when_it_names_the_thing(guess: str, right: bool) -> None:
    assert faithful.names_it(guess, ("apple", "teddy bear")) is right


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A picture for each prompt, grey by its number, and the sheets of them."""
    for number in range(len(faithful.questions())):
        Picture.new("RGB", (8, 8), (number, number, number)).save(tmp_path / f"{number:03}.png")
    real = [(f"thing {i}", Picture.new("RGB", (8, 8), "red")) for i in range(14)]
    faithful.blind(tmp_path, real)
    return tmp_path


def test_every_picture_is_on_one_sheet_with_two_real_ones(made: Path) -> None:
    key = json.loads((made / "key.json").read_text())
    assert sorted(int(k["shows"]) for k in key if k["shows"].isdigit()) == list(range(120))
    sheets = {row["sheet"] for row in key}
    for sheet in sheets:
        assert sum(k["sheet"] == sheet and "real" in k["shows"] for k in key) == 2
        assert (made / f"sheet-{sheet:02}.png").exists()


def test_scores_count_what_a_reader_named(made: Path) -> None:
    asked, lines = faithful.questions(), []
    for row in json.loads((made / "key.json").read_text()):
        if row["shows"].startswith("real"):
            first = row["shows"].removeprefix("real ")
        else:
            question = asked[int(row["shows"])]
            first = question.names[0] if question.group != "word" else "no idea"
        lines.append(
            {"sheet": row["sheet"], "cell": row["cell"], "first": first, "second": "",
             "colour": "red", "background": "", "confidence": 2}
        )  # fmt: skip
    answers = made / "answers.jsonl"
    answers.write_text("\n".join(json.dumps(line) for line in lines))
    found = faithful.score(made, answers)
    assert found["objects"]["first"] == found["objects"]["confident"] == "92/100"
    assert found["scenes"]["first"] == "20/20"
    reds = sum(q.colour == "red" for q in asked)
    assert found["objects"]["colour"] == f"{reds}/{sum(bool(q.colour) for q in asked)}"
    assert found["real pictures named"] == "14/14"


def test_a_setting_is_a_number_or_a_word() -> None:
    assert faithful.setting("steps=40") == ("steps", 40)
    assert faithful.setting("start=flat") == ("start", "flat")


def test_pictures_made_in_two_ways_are_not_mixed(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"quality": "best", "settings": {}, "seed": 7}')
    with pytest.raises(SystemExit, match="in another way"):
        faithful.make(tmp_path, {}, "draft", 7)
