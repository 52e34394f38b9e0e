"""The benchmark of words that no caption had: what is asked, recalled and counted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import words
from guidance import draft
from tests.pupils import TINY
from training import pupil
from training.draft import export


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny CLIP, and a memory of three names that only "a steed" leads to the second of."""
    clip, memory = (tmp_path_factory.mktemp(name) for name in ("clip", "draft"))
    torch.manual_seed(0)
    net = pupil.Pupil(TINY).eval()
    pupil.export(net, clip)
    shape = draft.Shape(
        words=32, names=3, drawings=3, manners=1, paints=1, grounds=1, plain=1, codes=2
    )
    network = draft.Network(shape)
    with torch.no_grad():
        network.name.weight.zero_()
        network.name.bias.copy_(torch.tensor([0.9, 0.0, -1.0]))
        network.name.weight[1] = net.embed_tokens(pupil.tokenizer(net)(["a steed"]))[0]
    export(network, memory, "tiny")
    return clip, memory


def test_every_question_has_a_word_and_an_answer() -> None:
    asked = words.questions()
    assert len(asked) == 100
    assert all(word and all(names) for word, names in asked.items())


def test_the_likeliest_name_is_what_a_word_recalls(folders: tuple[Path, Path]) -> None:
    found = words.recalled(["steed"], *folders, ["ant", "horse", "key"])
    assert found == {"steed": "horse"}


def test_a_memory_of_other_names_is_refused(folders: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="remembers 3 names, not 2"):
        words.recalled(["steed"], *folders, ["ant", "horse"])


def test_words_that_captions_had_are_counted_apart() -> None:
    asked = {"steed": ("horse",), "brolly": ("umbrella",), "sofa": ("couch",)}
    found = {"steed": "horse face", "brolly": "tulip", "sofa": "couch"}
    assert words.score(asked, found, known={"sofa"}) == {
        "right": 1,
        "of": 2,
        "right of those in captions": 1,
        "of those in captions": 1,
        "astray": {"brolly": "tulip"},
    }
