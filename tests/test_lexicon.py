"""People are told which of their words a CLIP was never taught."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from app.catalog import find
from app.notes import untaught as told
from app.request import make_request
from app.stock import home
from app.tabs import wording
from app.tabs.ready import EXAMPLES
from benchmarks.faithful import questions
from guidance import lexicon
from guidance.lexicon import Readings
from training.splits import load_splits

TAUGHT = frozenset({"cat", "elephant", "dragonfly", "bake", "jump", "cafe", "the"})


@pytest.mark.parametrize(
    "text", ["Two CATS", "dragonflies", "baked", "jumping", "the cat's café", "an ox", "!? 12 🐱"]
)
def test_a_word_is_known_in_all_its_forms(text: str) -> None:
    assert lexicon.untaught(text.replace("Two", "the"), TAUGHT) == []


def test_a_word_that_was_not_taught_is_told_as_it_is_written_and_once() -> None:
    told = lexicon.untaught("a Quokka, the quolls; cat | Quokka::2", TAUGHT)
    assert told == ["Quokka", "quolls"]


@pytest.mark.parametrize("text", ["кошка", "猫", "smørrebrød"])
def test_letters_in_which_nothing_was_taught_are_not_judged(text: str) -> None:
    assert lexicon.untaught(text, TAUGHT) == []


@pytest.mark.parametrize(
    ("text", "strange"),
    [
        ("a cat, an eleph", []),
        ("a cat, an eleph ", ["eleph"]),
        ("an eleph of the cat", ["eleph"]),
        ("a cat, a quok", ["quok"]),
    ],
)
def test_who_types_is_given_time_to_end_a_word(text: str, strange: list[str]) -> None:
    assert lexicon.untaught(text, TAUGHT, typing=True) == strange


def test_what_is_taught_is_written_beside_the_weights(tmp_path: Path) -> None:
    lexicon.write(tmp_path / "clip", ["a red Horse", "crème brûlée", "a quokka", "an ox"])
    assert (tmp_path / "clip" / "words.txt").read_text() == "brulee\nquokka\n"  # rest: common
    assert {"red", "horse", "creme", "brulee", "quokka"} <= lexicon.taught(tmp_path / "clip")
    assert "ox" not in lexicon.taught(tmp_path / "clip")
    assert lexicon.taught(tmp_path) == frozenset()  # of this one nobody knows


def test_the_pocket_clip_knows_what_it_is_measured_with() -> None:
    taught = lexicon.taught(home(find("clip", "pocket")))
    prompts = [question.prompt for question in questions()]
    strange = {word for prompt in prompts for word in lexicon.untaught(prompt, taught)}
    assert strange == {"Aivazovsky", "artstation"}
    assert not [one.prompt for one in EXAMPLES if lexicon.untaught(one.prompt, taught)]


# --- how words are read --------------------------------------------------------------------------

READINGS = Readings(
    {
        "sheep": "ewe",
        "moon": "crescent moon",
        "full moon": "full moon",
        "pine tree": "fir tree",
        "dad": "man",
        "old lady": "old woman",
        "crowd": "people",
    }
)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a sheep", "an ewe"),
        ("Two pine trees on a hill", "Two fir trees on a hill"),
        ("A red moon, a Sheep and a cat", "A red crescent moon, an ewe and a cat"),
        ("A Full Moon", "A Full Moon"),
        ("a moon rock", "a moon rock"),  # no moon
        ("a sheep-dog", "a sheep-dog"),
        ("two dads and old ladys", "two men and old women"),
        ("a crowd on a hill", "people on a hill"),
        ("a pine tree's bark", "a pine tree's bark"),
        ("sheepskin", "sheepskin"),
        ("", ""),
    ],
)
def test_what_would_be_misread_is_said_in_other_words(text: str, read: str) -> None:
    assert READINGS(text) == read


def test_a_clip_that_says_nothing_of_readings_reads_what_stands_there(tmp_path: Path) -> None:
    assert lexicon.readings(tmp_path)("a sheep") == "a sheep"


def test_the_pocket_clip_reads_a_sheep_as_an_ewe(pocket_models: Any) -> None:
    clip = pocket_models.clip("pocket")
    sheep, ewe = clip.embed_text(["a sheep", "an ewe"])
    assert torch.equal(sheep, ewe)
    assert torch.equal(clip.embed_phrases(["a sheep"]), clip.embed_phrases(["an ewe"]))


def test_the_page_knows_how_a_clip_reads() -> None:
    assert wording.readings("pocket")("a sheep") == "an ewe"
    assert wording.readings("ViT-B-32-openai")("a sheep") == "a sheep"


def test_each_reading_leads_to_words_that_were_taught_and_to_none_that_is_held_out() -> None:
    folder = home(find("clip", "pocket"))
    taught, held_out = lexicon.taught(folder), load_splits().names
    for said, read in lexicon.readings(folder).read_as.items():
        assert lexicon.untaught(read, taught) == []
        assert said == read or said not in held_out
        assert lexicon.readings(folder)(read) == read  # it is said once


# --- what people are told ------------------------------------------------------------------------


def ask(**given: Any) -> list[str]:
    return list(told(make_request({"prompt": "a quokka and an elefant", **given})))


def test_each_guide_is_spoken_for_by_what_it_was_taught() -> None:
    (sentence,) = ask()
    assert sentence == "Never taught to pocket, so drawn by guess: 'quokka', 'elefant'."
    assert ask(clips=({"name": "ViT-B-32-openai"},)) == []
    assert ask(prompt="a cat", negative="blorptang") != []
    assert ask(prompt="a cat", negative="a dog") == []


def test_pages_of_strange_words_are_told_shortly() -> None:
    (sentence,) = ask(prompt=" ".join(f"zq{'x' * n}" for n in range(1, 60)))
    assert len(sentence) < 160
