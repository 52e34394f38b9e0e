"""More words for a trained CLIP: what they lead to, what stays, and that the tower learns them."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.elsewhere import learns_the_same_there
from tests.pupils import TINY, teach
from training import course, pupil, scenes, vocabulary, words
from training.data import Library, Picture
from training.vocabulary import Thesaurus

pytestmark = pytest.mark.usefixtures("one_thread")

PLAN = vocabulary.Plan(
    steps=60, warm_up=4, batch=12, captions=4, rate=3e-3, ema=0.8, workers=0, likeness=0.2
)
TABLE = (
    words.Sense("steed", "steed", "horse of war"),
    words.Sense("brolly", "brolly, gamp", "umbrella for short"),
    words.Sense("bay", "bay", "water beside land"),
    words.Sense("bay", "bay, bay horse", "horse horse horse"),
    words.Sense("quark", "quark", "a kind of particle"),
    words.Sense("horse", "horse, umbrella", "umbrella"),  # a drawing has this name
    words.Sense("melon", "melon, umbrella", "umbrella"),  # so has one that is held out
    words.Sense("painting", "painting, umbrella", "umbrella"),  # captions are made of this word
    words.Sense("gourd", "gourd", "melon melon melon"),
)


WORDS = ("steed", "brolly", "bay", "nag")  # what is led


def picture(name: str, *words: str, source: str = "noto", held_out: bool = False) -> Picture:
    return Picture(source, f"{source}/{name}", name, words, "objects", held_out)


@pytest.fixture(scope="module")
def library() -> Library:
    pictures = (
        picture("horse", "nag"),
        picture("umbrella"),
        picture("melon", "horse fruit", held_out=True),
        picture("particle", "horse bit", source="openclipart-png"),
    )
    rgba = np.stack([np.asarray(scenes.draw_shape("star"))] * len(pictures))
    backdrop = np.full((1, 192, 288, 3), 200, np.uint8)
    return Library(pictures, rgba, (Picture("ours", "ours/wall", "wall"),), backdrop)


@pytest.fixture(scope="module")
def thesaurus(library: Library) -> Thesaurus:
    return vocabulary.look_up(library, teach, PLAN.likeness, TABLE)


# --- What a word leads to -------------------------------------------------------------------------


def test_a_word_leads_to_the_drawing_that_its_meaning_names(thesaurus: Thesaurus) -> None:
    assert thesaurus["steed"] == "horse"
    assert thesaurus["brolly"] == "umbrella"


def test_another_word_for_an_icon_leads_to_it(thesaurus: Thesaurus) -> None:
    assert thesaurus["nag"] == "horse"


def test_of_several_senses_the_one_that_comes_nearest_counts(thesaurus: Thesaurus) -> None:
    assert thesaurus["bay"] == "horse"
    assert thesaurus.words.count("bay") == 1


def test_what_comes_near_nothing_and_what_has_a_picture_leads_nowhere(thesaurus: Thesaurus) -> None:
    assert set(thesaurus.words) == set(WORDS)


def test_no_word_leads_to_a_held_out_drawing_or_to_clip_art(thesaurus: Thesaurus) -> None:
    assert thesaurus.names == ["horse", "umbrella"]


def test_chances_sum_to_one_and_the_nearest_is_likeliest(thesaurus: Thesaurus) -> None:
    assert torch.allclose(thesaurus.chance.sum(dim=1), torch.ones(len(thesaurus.words)))
    assert (thesaurus.chance.argmax(dim=1) == 0).all()


def test_words_of_captions_are_never_led_elsewhere() -> None:
    assert {"painting", "oil", "snow", "red", "background"} <= vocabulary.language()
    assert "horse" not in vocabulary.language()


def test_all_that_was_taught_can_be_told(library: Library, thesaurus: Thesaurus) -> None:
    taught = vocabulary.taught(library, thesaurus)
    assert {"horse", "steed", "background", "elephant"} <= taught


def test_what_stays_holds_no_word_that_moves(library: Library) -> None:
    moved = Thesaurus(["steed", "sea horse"], ["horse"], torch.tensor([[0], [0]]), torch.ones(2, 1))
    kept = vocabulary.constant_texts(library, moved)
    assert {"horse", "umbrella"} <= set(kept)
    assert not [text for text in kept if "steed" in text.split() or "sea horse" in text]


def test_wordnet_explains_common_nouns_alone() -> None:
    table = list(words.senses())
    told = [sense for sense in table if sense.word == "brolly"]
    assert [sense.meaning for sense in told] == ["colloquial terms for an umbrella"]
    assert not [sense.word for sense in table if sense.word != sense.word.lower()]


@pytest.mark.parametrize(
    ("thing", "form", "text"),
    [
        ("owl", "{a}", "an owl"),
        ("owl", "a red {}", "a red owl"),
        ("glasses", "{a} on snow", "glasses on snow"),
    ],
)
def test_a_thing_is_put_into_a_form(thing: str, form: str, text: str) -> None:
    assert words.put(thing, form) == text


# --- Training -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def before() -> pupil.Pupil:
    torch.manual_seed(0)
    return pupil.Pupil(TINY).eval()


@pytest.fixture(scope="module")
def lessons(library: Library, thesaurus: Thesaurus) -> vocabulary.Lessons:
    known = library.part(lambda p: not p.held_out)
    batches = scenes.Batches(scenes.Studio(known, 32, variants=1), PLAN.captions, seed=0)
    return vocabulary.Lessons(thesaurus, ["a horse", "an umbrella", "a wall"], batches, PLAN)


def test_a_word_is_said_as_its_drawing_would_be(lessons: vocabulary.Lessons) -> None:
    (texts, goals), same = lessons[5]
    assert len(same) == PLAN.captions + PLAN.batch
    assert len(texts) == len(goals) == PLAN.read * PLAN.batch
    for text, goal in zip(texts, goals, strict=True):
        word = next(w for w in WORDS if w in text)
        said = text.replace(f"a {word}", "{a}").replace(word, "{}")
        assert goal in {words.put(name, said) for name in ("horse", "umbrella")}
    assert lessons[5] == ((texts, goals), same)


def trained(
    lessons: vocabulary.Lessons, before: pupil.Pupil, plan: vocabulary.Plan, folder: Path
) -> course.State:
    state = vocabulary.new_state(before, plan)
    vocabulary.train(plan, state, before, lessons, folder)
    return state


def test_the_words_are_learned_and_all_else_stays(
    lessons: vocabulary.Lessons, before: pupil.Pupil, tmp_path: Path
) -> None:
    net = trained(lessons, before, PLAN, tmp_path).mean
    tokenize = pupil.tokenizer(before)
    asked = tokenize(["a steed", "a brolly", "a horse", "an umbrella", "a wall"])
    goals = tokenize(["a horse", "an umbrella", "a horse", "an umbrella", "a wall"])
    with torch.no_grad():
        wanted = before.embed_tokens(goals)
        then, now = ((one.embed_tokens(asked) * wanted).sum(dim=1) for one in (before, net))
    assert (now[:2] > then[:2] + 0.2).all()
    assert (now[2:] > 0.8).all()
    tower, as_it_was = (one.clip.visual.state_dict() for one in (net, before))
    assert all(torch.equal(tower[name], as_it_was[name]) for name in tower)
    assert net.clip.logit_scale == before.clip.logit_scale


def test_a_resumed_vocabulary_is_the_same(
    lessons: vocabulary.Lessons, before: pupil.Pupil, tmp_path: Path
) -> None:
    plan = replace(PLAN, steps=6)
    whole = trained(lessons, before, plan, tmp_path / "whole")
    half, tokenize = vocabulary.new_state(before, plan), pupil.tokenizer(before)
    for step in range(3):
        vocabulary.train_step(plan, half, step / 6, before, tokenize, lessons[step])
        half.step += 1
    course.save(half.parts(), tmp_path / "checkpoint.pt")
    rest = vocabulary.new_state(before, plan)
    rest.resume(tmp_path / "checkpoint.pt")
    vocabulary.train(plan, rest, before, lessons, tmp_path / "half")
    for a, b in zip(whole.net.parameters(), rest.net.parameters(), strict=True):
        assert torch.equal(a, b)


def test_on_a_gpu_it_learns_the_same(
    lessons: vocabulary.Lessons, before: pupil.Pupil, tmp_path: Path
) -> None:
    def train(device: str) -> course.State:
        plan = replace(PLAN, steps=3, device=device)
        return trained(lessons, copy.deepcopy(before), plan, tmp_path)

    learns_the_same_there(train)
