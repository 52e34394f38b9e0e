"""The recipe that the pocket CLIP has to beat learns, phase by phase, and can be gone on with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import baseline
from benchmarks.baseline import Plainly
from tests.pupils import TINY, teach
from training.clip import Lessons
from training.measure import right
from training.pupil import Pupil

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = [f"{shade} {colour}" for shade in ("pale", "deep") for colour in ("red", "blue", "grey")]
PLAN = baseline.Plan(steps=90, warm_up=3, rate=3e-3, tower_rate=3e-3, workers=0)
PLANS = {"plain": PLAN, "attacked": replace(PLAN, radius=0.5)}
NOTHING = torch.empty(0, 0)


class Fields(torch.utils.data.Dataset[tuple[Tensor, list[str]]]):
    """Always the same six flat pictures, told apart by colour."""

    def __getitem__(self, step: int) -> tuple[Tensor, list[str]]:
        colours = torch.randint(256, (len(NAMES), 3, 1, 1), generator=torch.Generator())
        return colours.expand(-1, 3, 32, 32).byte(), NAMES


def begin() -> Plainly:
    torch.manual_seed(0)
    return Plainly(teach, TINY)


def ask(net: Pupil) -> dict[str, float]:
    net.eval()
    pictures, names = Fields()[0]
    with torch.no_grad():
        return {"right": right(net.embed_pictures(pictures / 255), net.embed_texts(names))}


def learn(folder: Path, plans: dict[str, baseline.Plan]) -> dict[str, baseline.Answers]:
    lessons = Lessons(NOTHING, NOTHING)
    return baseline.train_all(folder, plans, begin(), lambda plan: Fields(), lessons, ask)


def test_it_learns_which_caption_belongs_to_which_picture(tmp_path: Path) -> None:
    assert ask(begin())["right"] < 0.5
    found = learn(tmp_path, PLANS)
    assert found["plain"]["right"] > 0.8
    assert found["attacked"]["right"] > 0.8


def test_a_phase_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    first = learn(tmp_path, {"plain": PLAN})
    written = (tmp_path / "plain" / "log.jsonl").read_text().count("loss")
    again = learn(tmp_path, PLANS)
    assert again["plain"] == first["plain"]
    assert (tmp_path / "plain" / "log.jsonl").read_text().count("loss") == written


def test_what_it_reads_is_what_the_teacher_says() -> None:
    net = begin()
    assert torch.equal(net.embed_texts(NAMES), net.lift(teach(NAMES)))
