"""What the examiner's marks mean: an examiner that has seen three things, and knows them apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image as Picture

from benchmarks import examiner
from benchmarks.faithful import Question

NAMES = ("red", "green", "blue")


class Eye(torch.nn.Module):
    """Sees colours and reads their names: enough to be asked as the real one is."""

    def embed_pictures(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(pictures.mean(dim=(2, 3)), dim=-1)

    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        rows = [[1.0 if name in text else 0.1 for name in NAMES] for text in texts]
        return torch.nn.functional.normalize(torch.tensor(rows), dim=-1)


def question(colour: str) -> Question:
    return Question("single", f"a {colour} thing", (colour,), "")


def plain(colour: str) -> Picture.Image:
    return Picture.new("RGB", (40, 24), colour)


def test_a_picture_is_nearest_to_what_it_shows(tmp_path: Path) -> None:
    plain("blue").save(tmp_path / "blue.png")
    tensor = torch.tensor([0.0, 1.0, 0.0])[:, None, None].expand(3, 30, 30)
    shown = [plain("red"), tensor, tmp_path / "blue.png"]
    near = examiner.nearness(Eye(), shown, [f"a {name} thing" for name in NAMES])
    assert near.argmax(dim=1).tolist() == [0, 1, 2]


@pytest.fixture
def few_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examiner, "load_library", lambda: None)
    monkeypatch.setattr(examiner, "names", lambda library: ["red", "redder than red", "blue"])


@pytest.mark.usefixtures("few_names")
def test_the_rank_counts_what_is_nearer_but_for_other_names_of_the_same() -> None:
    asked = [question("red"), question("green"), question("blue")]
    assert examiner.ranks(Eye(), [plain(n) for n in NAMES], asked) == [0, 0, 0]
    # a red picture for "green": the red prompt and both red names are nearer, and nothing else
    wrong = examiner.ranks(Eye(), [plain("red")] * 3, asked)
    assert wrong[:2] == [0, 3]


@pytest.mark.usefixtures("few_names")
def test_marks_are_told_for_all_things_and_by_group() -> None:
    asked = [question("red"), Question("scene", "a green thing", ("green",), "")]
    told = examiner.marks(Eye(), [plain("red"), plain("blue")], asked)
    assert told["things"] == {"first": "1/1", "top five": "1/1"}
    assert told["scene"]["first"] == "0/1"


def test_what_lies_among_real_scenes_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real scenes here: reddish ones. What is blue has no neighbour among them."""
    near = examiner.Cleanliness.__new__(examiner.Cleanliness)
    near.look = lambda shown: shown.mean(dim=(2, 3))  # type: ignore[method-assign]
    reds = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.0, 0.0], [1.0, 0.1, 0.0], [0.95, 0.1, 0.0]])
    near.real, near.radius = reds, torch.full((4,), 0.12)
    shown = torch.tensor([[0.98, 0.02, 0.0], [0.0, 0.0, 1.0]])[:, :, None, None].expand(2, 3, 8, 8)
    assert near.share(shown) == 0.5
