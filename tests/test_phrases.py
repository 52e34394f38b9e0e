"""Grammar says before what a thing is drawn, in which colour and style, and what is left out."""

from __future__ import annotations

import pytest

from guidance.instruct import COLOURS
from guidance.layout import lay_out
from guidance.phrases import in_known_place, in_learned_colours, is_place, to_draw, undress


@pytest.mark.parametrize(
    ("text", "style", "thing"),
    [
        ("a pencil sketch of an old tree", "pencil", "an old tree"),
        ("Oil painting of a candy dish, mints", "oil", "a candy dish, mints"),
        ("A colored pencil drawing of a waterfall", "coloured_pencil", "a waterfall"),
        ("a watercolor painting of a lake", "watercolour", "a lake"),
        ("a blueprint of a bicycle", "blueprint", "a bicycle"),
        ("a neon sign of a cocktail", "neon", "a cocktail"),
        ("A fantasy painting of a city by Ivan Aivazovsky", "oil", "a city"),
        ("sketch of a 3D printer by Leonardo da Vinci", "pencil", "a 3d printer"),
        ("a flying car, trending on artstation", "", "a flying car"),
        ("a red apple on a blue background", "", "a red apple on a blue background"),
        ("a pencil", "", "a pencil"),
    ],
)
def test_a_style_is_read_and_left_out(text: str, style: str, thing: str) -> None:
    assert undress(text) == (style, thing)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a duck on a lake", "a duck on the water"),
        ("A Fox on the Frozen Lake", "A Fox on snow"),
        ("a cat and a dog in the garden", "a cat and a dog in a meadow"),
        ("a city in a deep valley", "a group of office buildings in the mountains"),
        ("an astronaut on the moon", "an astronaut in outer space"),
        ("the moon", "the moon"),
        ("a lake", "the sea"),
        ("a calm mountain lake", "a lake in the mountains"),
        ("a duck on a mountain lake", "a duck on the water"),
        ("a calm sea under a grey sky", "the sea"),
        ("a green meadow under a blue sky", "a green meadow"),
        ("a lake at sunset", "a lake at sunset"),  # the sunset is what drafts know
        ("a desert with dunes", "a desert with dunes"),
        ("a boat by a lake", "a boat by a lake"),  # beside it, not on it
        ("a lake on a plate", "a lake on a plate"),
        ("a bird on a pole in the air balloon", "a bird on a pole in the air balloon"),
        ("a boat on the sea", "a boat on the sea"),
        ("a forest", "a group of fir trees in a meadow"),
        ("A snowy forest", "a group of fir trees in the snow"),
        ("a birch forest at night", "a group of birch trees at night"),
        ("a jungle under a blue sky", "a group of palm trees in a meadow"),
        ("the village in the mountains", "a group of houses in the mountains"),
        ("a city at night", "a group of office buildings at night"),
        ("a city", "a city"),
        ("a wide field of red tulips", "a group of red tulips in a meadow"),
        ("a fox in a forest", "a fox in a forest"),
        ("a forest fire", "a forest fire"),
    ],
)
def test_a_place_is_said_in_words_that_drafts_know(text: str, told: str) -> None:
    assert in_known_place(text) == told


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        ("a green meadow under a blue sky", True),
        ("a snowy forest", False),  # it is trees in the snow
        ("The sea at night", True),
        ("a boat at sea", False),
        ("cow in field", False),
        ("a sea turtle", False),
        ("a forest fire", False),
        ("a house in a forest", False),
        ("a meadow with a cow", False),
        ("a field of sunflowers", False),
        ("a desert with dunes", True),
        ("a sunset over the sea", True),
        ("a beach by a house", False),
    ],
)
def test_a_place_can_be_all_that_is_named(text: str, alone: bool) -> None:
    assert is_place(text) == alone
    assert lay_out(text) is None or not alone


@pytest.mark.parametrize(
    ("text", "told", "thing", "ground"),
    [
        ("a silver fish", "a white fish", "silver", ""),
        ("A Golden Crown on the sea", "A yellow Crown on the sea", "golden", ""),
        ("a cat on a turquoise background", "a cat on a teal background", "", "turquoise"),
        ("a lime ball against navy", "a yellow ball against black", "lime", "navy"),
        ("a fox on a navy blue background", "a fox on a black background", "", "navy"),
        ("a sky blue car", "a blue car", "light blue", ""),
        ("a red apple on a blue background", "a red apple on a blue background", "", ""),
        ("a lime and a lemon", "a lime and a lemon", "", ""),
        ("an olive", "an olive", "", ""),
        ("a goldfish", "a goldfish", "", ""),
        ("a light bulb", "a light bulb", "", ""),
    ],
)
def test_a_colour_is_said_in_one_that_was_learned(
    text: str, told: str, thing: str, ground: str
) -> None:
    found = in_learned_colours(text)
    colours = tuple(COLOURS.get(name) for name in (thing, ground))
    assert found == (told, *colours)


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("a cat with green eyes", "a cat"),
        ("a house with a red roof and a blue door", "a house"),
        ("an elephant with a long trunk on the beach", "an elephant on the beach"),
        ("a girl in a red dress", "a girl"),
        ("a dog wearing blue sunglasses in the garden", "a dog in a meadow"),
        ("a pencil drawing of a woman with red hair", "a woman"),
        ("a cat with white fur", "a white cat"),
        ("a rose with yellow petals on a blue background", "a yellow rose on a blue background"),
        ("an old man with a long beard", "a bearded man"),
        ("a smiling face with sunglasses", "a smiling face with sunglasses"),  # it is an emoji
        ("a cat with a fish", "a cat with a fish"),
        ("a man in a boat", "a man in a boat"),
        ("a mirror", "a mirror"),
        ("a cat with white fur and blue eyes", "a white cat"),
        ("a tree with orange leaves", "an orange tree"),
        ("a rose with green leaves", "a rose"),
        ("a house and a tree with red leaves", "a house and a tree"),
        ("three cats with black fur", "three cats"),
        ("a man and a woman with a beard", "a man and a woman"),
        ("a woman with long hair by the sea", "a woman by the sea"),
        ("a robot that has red eyes", "a robot"),
        ("a monkey with glasses on its head", "a monkey"),
        ("a man with his feet on a table", "a man with his feet on a table"),
        ("a table with two wine glasses", "a table with two wine glasses"),
        ("a shelf with shoes", "a shelf with shoes"),
    ],
)
def test_what_a_thing_only_has_is_not_drafted(text: str, drawn: str) -> None:
    assert to_draw(text) == drawn
