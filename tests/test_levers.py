"""The benchmark of levers: one at a time, all see the same prompts, pairs are compared."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from benchmarks import levers
from benchmarks.levers import LEVERS, OTHERS, SEEDS, SHIPS
from guidance.optimise import Step

TWICE = "twice the steps"


def test_prompts_come_from_every_group() -> None:
    assert len(levers.chosen()) == 30
    assert {q.group for q in levers.chosen()} == {q.group for q in levers.questions()}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The requests that the engine got; its pictures are redder the more steps there are."""
    asked: list[Any] = []

    def take(request: Any, models: Any) -> Any:
        asked.append(request)
        for index in range(request.steps + 1):
            shade = index / 100 + request.seed / 1000
            image = torch.tensor([shade, 0.4, 0.4])[None, :, None, None].expand(1, 3, 16, 16)
            last, nothing = index == request.steps, cast(Any, None)
            yield Step(index, last, image, {}, nothing, partial(torch.clone, image))

    monkeypatch.setattr(levers.pipeline, "run", take)
    monkeypatch.setattr(levers, "Models", lambda: None)
    return asked


class Pockets:
    """Models of which nobody asks more than how long a step is."""

    def generator(self, name: str, precision: str) -> Any:
        return SimpleNamespace(step_size=0.2)


def test_each_lever_but_those_of_the_judge_changes_the_request(run: list[Any]) -> None:
    names = list(LEVERS)[: list(LEVERS).index("draft chosen by the judge")]
    for name in names:
        LEVERS[name]("a cat", 7, Pockets())  # type: ignore[arg-type]
    assert len(set(run)) == len(names)
    assert {request.seed for request in run} == {7}


def test_pictures_that_lie_there_are_kept(tmp_path: Path, run: list[Any]) -> None:
    levers.make(tmp_path, [SHIPS, TWICE])
    assert len(run) == 2 * 30 * len(SEEDS)
    levers.make(tmp_path, [SHIPS, TWICE, "no draft"])
    assert len(run) == 3 * 30 * len(SEEDS)
    assert all(request.start == "flat" for request in run[-60:])


def test_the_best_of_four_is_one_of_four_seeds(run: list[Any]) -> None:
    lever = levers.best_of_four(lambda prompt, models, pictures: 2)
    made = lever("a cat", 7, None)  # type: ignore[arg-type]
    assert [request.seed for request in run] == [7 + more for more in (0, *OTHERS)]
    assert made.picture[0, 0, 0, 0] == pytest.approx(0.3 + (7 + OTHERS[1]) / 1000)


def test_the_best_step_is_one_of_every_fifth(run: list[Any]) -> None:
    seen: list[int] = []

    def choose(prompt: str, models: Any, pictures: Any) -> int:
        seen.append(len(pictures))
        return 1

    made = levers.best_step(choose)("a cat", 0, None)  # type: ignore[arg-type]
    assert seen == [7]  # 0, 5, ... 30
    assert made.picture[0, 0, 0, 0] == pytest.approx(0.05)


def test_the_judge_can_choose_the_draft(pocket_models: Any) -> None:
    """The guide's own choice does not count."""
    drafter = levers.JudgedDraft(pocket_models.draft("pocket"), pocket_models.judge("pocket"))
    reader = pocket_models.clip("pocket")
    goal = reader.embed_text(["a cat"])
    pictures = drafter.draw(goal)
    best, fit = drafter.choose(pictures, goal, reader, seed=3)
    assert best == drafter.judge.marks(pictures, goal).argmax()
    assert -1 <= fit <= 1


def test_the_lever_of_the_draft_leaves_all_other_models_as_they_are(
    pocket_models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take(prompt: str, seed: int, models: Any) -> list[torch.Tensor]:
        assert isinstance(models.draft("pocket"), levers.JudgedDraft)
        assert models.clip("pocket") is pocket_models.clip("pocket")
        return [torch.zeros(1, 3, 16, 16)]

    monkeypatch.setattr(levers, "steps", take)
    levers.judged_draft("a cat", 7, pocket_models)
    assert not isinstance(pocket_models.draft("pocket"), levers.JudgedDraft)


def test_a_lever_is_compared_with_the_engine_pair_by_pair(
    tmp_path: Path, run: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An examiner that likes red: the lever that makes pictures redder is better in every pair."""

    class Clean:
        def __init__(self, library: Any) -> None:
            pass

        def share(self, shown: Any) -> float:
            return 0.5

    def rivals(net: Any, shown: list[Path], *others: Any) -> torch.Tensor:
        red = [np.asarray(Picture.open(path))[0, 0, 0] / 255 for path in shown]
        return torch.tensor([[value, 0.5, 0.2] for value in red])

    net = type("Net", (), {"scale": lambda self: 9.0})()
    monkeypatch.setattr(levers, "load", lambda folder: net)
    monkeypatch.setattr(levers, "load_library", lambda: None)
    monkeypatch.setattr(levers.examiner, "Cleanliness", Clean)
    monkeypatch.setattr(levers.examiner, "rivals", rivals)
    levers.make(tmp_path, [SHIPS, TWICE])
    found = levers.compare(tmp_path)
    assert list(found) == [SHIPS, TWICE]  # the others were not made
    assert found[SHIPS]["first"] == "0/60"
    assert found[TWICE]["first"] == "60/60"
    assert found[TWICE]["better"] == "60/60"
    assert found[TWICE]["moves"] > 0
    assert found[TWICE]["p"] < 0.001
    assert json.dumps(found)
    assert levers.draw_sheet(tmp_path, list(found)).size == (960, 192)
    turned = levers.compare(tmp_path, base=TWICE)  # as it ships, compared with the lever
    assert turned[SHIPS]["better"] == "0/60"
    assert turned[SHIPS]["moves"] == -found[TWICE]["moves"]
    assert "p" not in turned[TWICE]


def test_pairs_that_are_alike_show_nothing() -> None:
    alike = levers.paired(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]))
    assert alike == {"moves": 0.0, "better": "0/3", "p": 1.0}
