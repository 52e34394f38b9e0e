"""Grammar says which things are in a picture, and where each stands."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guidance.layout import lay_out, left_out
from guidance.phrases import to_draw


@pytest.mark.parametrize(
    ("text", "things"),
    [
        ("a cat and a dog", ("a cat", "a dog")),
        ("A red apple next to a green pear", ("a red apple", "a green pear")),
        ("a cat to the left of a house", ("a cat", "a house")),
        ("a bird above a tree on a blue background", ("a bird", "a tree on a blue background")),
        ("a vase on a table on a blue background", ("a vase", "a table on a blue background")),
        ("a teddy bear on top of a car", ("a teddy bear", "a car")),
        ("a cat in a box", ("a cat", "a box")),
        ("a cat next to a dog on a table", ("a cat", "a dog", "a table")),
        ("a cat on a chair next to a dog", ("a cat on a chair", "a dog")),
        ("a bird above a house on a table", ("a bird", "a house", "a table")),
        ("a monkey eating a banana on a bicycle", ("a monkey", "a banana", "a bicycle")),
        ("two cats", ("cats", "cats")),
        ("three red apples", ("red apples",) * 3),
        ("a pair of scissors", None),
        ("6 balloons", ("balloons",) * 6),
        ("seven balloons", None),
        ("a cat", None),
        ("a black and white cat", None),
        ("a crab on the beach", None),
        ("a lighthouse on a white background", None),
        ("a red circle on a blue square", None),
        ("a man in a hat", ("a man", "a hat")),
        ("a frog wearing a golden crown", ("a frog", "a golden crown")),
        ("a man in a blue suit", None),
        ("a boy and a dog", ("a boy", "a dog")),
        ("two women", ("woman", "woman")),
        ("three old men on the beach", ("old man on the beach",) * 3),
        ("a dog chasing a cat", ("a dog", "a cat")),
        ("two men holding hands", None),  # of which there is a drawing
        ("a fork and knife", None),
        ("a fox, oil painting", None),
        ("an apple, a banana and a pear", ("an apple", "a banana", "a pear")),
        ("two cats and a dog", ("cats", "cats", "a dog")),
        ("three birds on a tree", ("bird", "bird", "bird", "a tree")),
        ("a boy flying a kite with a dog", ("a boy", "a kite", "a dog")),
        ("a bear and a rabbit drinking tea", ("a bear", "a rabbit", "tea")),
        ("a red and green parrot", None),
        ("a diamond wedding ring", None),
        ("four cats on a sofa", (*("cats",) * 4, "a sofa")),
        ("two cats and five dogs", ("cats", "dogs")),  # too many: one of each
        ("flowers in a vase on a table", ("flowers", "a vase", "a table")),
        ("a cat wearing a crown sitting on a throne", ("a cat", "a crown", "a throne")),
        ("a cowboy with a hat riding a horse", ("a cowboy", "a hat", "a horse")),
        ("a dog and a cat with a hat", ("a dog", "a cat")),
        ("a girl with a hat, digital art", ("a girl", "a hat")),
        ("two cats with hats", ("cats", "cats")),
        ("a girl reading a book under a tree", ("a girl", "a book", "a tree")),
        ("a swarm of bees around a flower", ("a swarm of bees", "a flower")),
        ("three rabbits jumping out of a hat", ("rabbits",) * 3),
        ("a man on the phone", None),
        ("a phone showing a cat", None),
        ("a cat that was a dog", None),
        ("a photo of a man and a woman", ("a man", "a woman")),
        ("a bow and an arrow", None),  # it is one sign
        ("a man and a woman holding hands", None),
        ("three people holding hands", ("person", "person", "person")),
        ("two policemen", ("policeman", "policeman")),
        ("a group of three cats", None),
        ("a girl drinking from a cup", None),
        ("a fireman saving a kitten from a tall tree", ("a fireman", "a kitten")),
        ("two old ladies playing cards", ("old lady", "old lady")),
        ("two gold earrings", ("gold earrings", "gold earrings")),
        ("a wizard who owns a fat toad", ("a wizard", "a fat toad")),
        ("a bird above a tree and a house", ("a bird", "a tree", "a house")),
        ("a girl walking on the beach", None),
        ("a monkey riding a red bicycle", ("a monkey", "a red bicycle")),
        ("a cat is sleeping on a sofa", ("a cat", "a sofa")),
        ("two ducks swimming in a lake", ("ducks in a lake",) * 2),
        ("a bird flying over a house", ("a bird", "a house")),
        ("a smiling face with open hands", None),
        ("a cat under a starry sky", None),
        ("a cat on a green field at night", None),
        ("a red apple on a blue background", None),
        ("rhythm and blues", None),
        ("two", None),
        ("", None),
    ],
)
def test_things_are_laid_out_by_grammar(text: str, things: tuple[str, ...] | None) -> None:
    layout = lay_out(text)
    assert (layout.things if layout else None) == things


def test_things_of_a_kind_do_not_cover_each_other() -> None:
    for count in ("two", "three", "four", "five", "six"):
        layout = lay_out(f"{count} balloons")
        assert layout
        for one, other in itertools.combinations(layout.places, 2):
            apart = max(abs(one.x - other.x), abs(one.y - other.y))
            assert apart >= (one.side + other.side) / 2 - 0.02
        for place in layout.places:
            assert place.side / 2 <= min(place.x, 1 - place.x, place.y, 1 - place.y) + 0.001


@pytest.mark.parametrize(
    ("text", "thing"),
    [
        ("a flock of sheep in a meadow", "sheep"),
        ("the small herd of brown cows", "brown cows"),
        ("a fleet of ships on the sea", "ships"),
        ("a group of penguins", "penguins"),
        ("a group of children in the snow", "child"),
    ],
)
def test_a_crowd_stands_in_depth(text: str, thing: str) -> None:
    layout = lay_out(text)
    assert layout
    assert layout.things == (thing,) * 5
    assert sorted(layout.places, key=lambda place: place.y) == sorted(
        layout.places, key=lambda place: place.side
    )  # what is nearer is larger, and drawn over what is behind


@pytest.mark.parametrize("text", ["a group of people", "a flock of the old days", "a school"])
def test_what_is_no_crowd_of_things_is_left_to_the_memory(text: str) -> None:
    assert lay_out(text) is None


@given(
    st.lists(
        st.sampled_from(
            "a the two red cat dogs man and with holding riding on in hat eyes ,".split()
        ),
        max_size=60,
    )
)
def test_whatever_is_said_two_to_six_things_are_laid_out_or_none(words: list[str]) -> None:
    layout = lay_out(to_draw(" ".join(words)))
    assert layout is None or 2 <= len(layout.things) == len(layout.places) <= 6


def test_a_hat_is_above_and_a_rider_too() -> None:
    hat, rider = (lay_out(f"a bear {words}") for words in ("with a hat", "riding a horse"))
    assert hat
    assert rider
    assert hat.places[1].y < hat.places[0].y
    assert rider.places[0].y < rider.places[1].y


def test_what_is_left_stands_left() -> None:
    ways = ("left of", "right of", "under", "on top of")
    left, right, under, upon = (
        layout.places[0] for words in ways if (layout := lay_out(f"a cat {words} a dog"))
    )
    assert left.x < 0.5 < right.x
    assert upon.y < 0.5 < under.y


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a cat in the kitchen", ["in the kitchen"]),
        ("a pencil sketch of a cat in the Kitchen", ["in the kitchen"]),
        ("a cat on a chair in the kitchen", ["in the kitchen"]),
        ("a cat and a dog on a sofa", []),
        ("a cat on a chair", []),
        ("a teddy bear on top of a car", []),
        ("a duck on a lake", []),
        ("a boat on the open sea", []),
        ("a red apple on light blue", []),
        ("a robin", []),
        ("a cat with green eyes", ["with green eyes"]),
        ("a girl in a red dress in the kitchen", ["in a red dress", "in the kitchen"]),
        ("a cat with white fur", []),
        ("a cat with white fur and blue eyes", ["with white fur and blue eyes"]),
        (
            "a cat with green eyes and a dog with long ears",
            ["with green eyes", "with long ears"],
        ),
        ("a cat with a hat on its head", []),
        ("a man with a beard", []),
        ("a cat", []),
    ],
)
def test_what_no_draft_can_show_is_known(text: str, left: list[str]) -> None:
    assert left_out(text) == left
