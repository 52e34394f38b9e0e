"""What people ask of a picture, and the plan that it makes."""

from __future__ import annotations

import contextlib
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guidance import styles
from guidance.instruct import (
    COLOURS,
    KINDS,
    MOST_CHARACTERS,
    STYLES,
    WEATHERS,
    NotUnderstood,
    Plan,
    article,
    things,
    understand,
)
from training import captions


def plan(typed: str) -> Plan:
    """Read "make it green | frog": an instruction, and what is seen."""
    instruction, _, sees = typed.partition(" | ")
    return understand(instruction, sees)


def refusal(typed: str) -> str:
    """What is said to an instruction that makes no plan."""
    with pytest.raises(NotUnderstood) as refused:
        plan(typed)
    return str(refused.value)


def test_a_bare_colour_recolours_what_is_seen() -> None:
    assert plan("Green | frog") == Plan("recolour", "a frog", "a green frog", "frog", "green")


def test_a_bare_colour_with_nothing_seen_recolours_everything() -> None:
    assert plan("Green") == Plan("recolour", "", "green", "", "green")


def test_a_bare_thing_replaces_what_is_seen() -> None:
    assert plan("Red Bus | frog") == Plan("replace", "a frog", "a red bus", "frog")
    assert plan("Red Bus") == Plan("replace", "", "a red bus", "")


@pytest.mark.parametrize(
    ("typed", "before", "after", "how"),
    [
        ("dark blue | car", "a car", "a dark blue car", "dark blue"),
        ("pale green | bus", "a bus", "a light green bus", "light green"),
        ("sky blue | bus", "a bus", "a light blue bus", "light blue"),
        ("orange | bus", "a bus", "an orange bus", "orange"),
        ("a red one | bus", "a bus", "a red bus", "red"),
        ("in grey | bus", "a bus", "a grey bus", "grey"),
        ("Red Bus | bus", "a bus", "a red bus", "red"),
        ("Red Bus | school bus", "a school bus", "a red school bus", "red"),
        ("gold ring | ring", "a ring", "a gold ring", "gold"),
        ("silver car | a red car", "a red car", "a silver car", "silver"),
        ("pink flamingo | flamingo", "a flamingo", "a pink flamingo", "pink"),
        ("make it green | frog", "a frog", "a green frog", "green"),
        ("make it a red bus | bus", "a bus", "a red bus", "red"),
        ("turn it blue | cup", "a cup", "a blue cup", "blue"),
        ("could it be green? | frog", "a frog", "a green frog", "green"),
        ("change the colour to red | car", "a car", "a red car", "red"),
        ("change red to blue | bus", "a red bus", "a blue bus", "blue"),
        ("add orange | bus", "a bus", "an orange bus", "orange"),
        ("make the car green", "a car", "a green car", "green"),
        ("MAKE   the car dark-green!!!", "a car", "a dark green car", "dark green"),
        ("Please, can you make the car green?", "a car", "a green car", "green"),
        ("I want the car to be red, please.", "a car", "a red car", "red"),
        ("the car's color should be red", "a car", "a red car", "red"),
        ("change the car to red", "a car", "a red car", "red"),
        ("change the color of the car to red", "a car", "a red car", "red"),
        ("change the red car to a blue one", "a red car", "a blue car", "blue"),
        ("give the car a red colour", "a car", "a red car", "red"),
        ("make the car lime green", "a car", "a lime car", "lime"),
        ("make the car light green", "a car", "a light green car", "light green"),
        ("make the cars red", "cars", "red cars", "red"),
        ("make the two cars red", "cars", "red cars", "red"),
        ("paint the house yellow", "a house", "a yellow house", "yellow"),
        ("Colour the shirt pink", "a shirt", "a pink shirt", "pink"),
        ("color the shirt pink", "a shirt", "a pink shirt", "pink"),
        ("dye the shirt light blue", "a shirt", "a light blue shirt", "light blue"),
        ("tint my shirt teal", "a shirt", "a teal shirt", "teal"),
        ("the sky should be purple", "a sky", "a purple sky", "purple"),
        ("make the bus a red bus", "a bus", "a red bus", "red"),
        ("make the black cat white", "a black cat", "a white cat", "white"),
        ("replace the red bus with a blue bus", "a red bus", "a blue bus", "blue"),
        ("make the bus on the left red", "a bus", "a red bus", "red"),
        ("make the grass blue", "grass", "blue grass", "blue"),
        ("turn the apple orange", "an apple", "an orange apple", "orange"),
        ("turn the orange blue", "an orange", "a blue orange", "blue"),
    ],
)
def test_a_colour_recolours_a_thing(typed: str, before: str, after: str, how: str) -> None:
    told = plan(typed)
    assert (told.kind, told.before, told.after, told.how) == ("recolour", before, after, how)


@pytest.mark.parametrize(
    ("typed", "region"),
    [
        ("make the bus on the left red", "bus"),
        ("make the black cat white", "cat"),
        ("make the traffic light green", "traffic light"),
        ("make the lime green", "lime"),
        ("make the sky blue", "sky"),
        ("make the roof of the house red", "roof of the house"),
        ("make everything blue | dog", ""),
    ],
)
def test_the_region_is_the_noun(typed: str, region: str) -> None:
    assert plan(typed).region == region
    assert plan(typed).kind == "recolour"


@pytest.mark.parametrize(
    ("typed", "before", "after"),
    [
        ("a dog | cat", "a cat", "a dog"),
        ("the dog please | cat", "a cat", "a dog"),
        ("I'd like a dog | cat", "a cat", "a dog"),
        ("an orange | bus", "a bus", "an orange"),
        ("rose | bus", "a bus", "a rose"),
        ("red panda | panda", "a panda", "a red panda"),
        ("hot dog | dog", "a dog", "a hot dog"),
        ("scissors | cup", "a cup", "scissors"),
        ("🚌 | car", "a car", "a bus"),
        ("a wombat queen | cat", "a cat", "a wombat queen"),
        ("make it a red bus | car", "a car", "a red bus"),
        ("make it look like a tiger | cat", "a cat", "a tiger"),
        ("turn the apple into an orange", "an apple", "an orange"),
        ("change the car to a bus", "a car", "a bus"),
        ("make the boat a yellow submarine", "a boat", "a yellow submarine"),
        ("replace the cat with a dog", "a cat", "a dog"),
        ("replace the clock with a painting", "a clock", "a painting"),
        ("replace all the cats with dogs", "cats", "dogs"),
        ("make the cats dogs", "cats", "dogs"),
        ("swap the cat for a dog", "a cat", "a dog"),
        ("a dog instead of the cat", "a cat", "a dog"),
        ("a pencil drawing of a dog | cat", "a cat", "a pencil drawing of a dog"),
    ],
)
def test_a_thing_takes_the_place_of_another(typed: str, before: str, after: str) -> None:
    assert plan(typed) == Plan("replace", before, after, re.sub("^an? ", "", before))


@pytest.mark.parametrize(
    ("typed", "after", "region"),
    [
        ("add a hat", "a hat", ""),
        ("add a hat | cat", "a hat", ""),
        ("add a hat to the cat", "a hat", "cat"),
        ("add a hat to it | cat", "a hat", "cat"),
        ("add a hat on the left", "a hat", ""),
        ("add some clouds", "clouds", ""),
        ("add an orange", "an orange", ""),
        ("put a bird on the tree", "a bird", "tree"),
        ("with a moon in the sky", "a moon", "sky"),
        ("give the cat a hat", "a hat", "cat"),
        ("the cat should wear a red hat", "a red hat", "cat"),
        ("wearing a hat | cat", "a hat", "cat"),
        ("draw a hat on the cat", "a hat", "cat"),
    ],
)
def test_a_thing_is_added(typed: str, after: str, region: str) -> None:
    told = plan(typed)
    assert (told.kind, told.after, told.region, told.how) == ("add", after, region, "")


@pytest.mark.parametrize(
    "typed",
    [
        *("remove the cup", "Delete the cup.", "erase the red cup", "take away the cup", "no cup"),
        *("take the cup away", "get rid of the cup", "without the cup", "remove it | cup"),
        *("remove the cup on the left", "please remove the cup from the table"),
    ],
)
def test_a_thing_is_removed(typed: str) -> None:
    told = plan(typed)
    assert (told.kind, told.after, told.region) == ("remove", "", "cup")
    assert told.before in ("a cup", "a red cup")


@pytest.mark.parametrize(
    ("typed", "how"),
    [
        ("as a pencil drawing", "pencil"),
        ("pencil sketch", "pencil"),
        ("sketch it", "pencil"),
        ("in coloured pencil", "coloured_pencil"),
        ("a colored pencil drawing", "coloured_pencil"),
        ("make it an oil painting", "oil"),
        ("oil painting", "oil"),
        ("in the style of watercolour", "watercolour"),
        ("in the style of a watercolor", "watercolour"),
        ("a watercolour of a cat | cat", "watercolour"),
        ("turn it into pixel art", "pixel_art"),
        ("8-bit", "pixel_art"),
        ("technical drawing", "blueprint"),
        ("turn the picture into a blueprint | dog", "blueprint"),
        ("neon", "neon"),
        ("with neon lights", "neon"),
    ],
)
def test_a_style_redraws_everything(typed: str, how: str) -> None:
    told = plan(typed)
    assert (told.kind, told.region, told.how) == ("restyle", "", how)
    assert told.after == article(STYLES[how][0])


@pytest.mark.parametrize(
    ("typed", "how"),
    [
        *(("add snow", "snow"), ("make it snow", "snow"), ("make it snowy", "snow")),
        *(("in winter", "snow"), ("let it snow", "snow"), ("put it in the snow | bus", "snow")),
        *(("make it rain", "rain"), ("make it look like it's raining", "rain")),
        *(("foggy", "fog"), ("add some mist", "fog"), ("replace the rain with fog", "fog")),
        *(("at night", "night"), ("make it night", "night"), ("turn day into night", "night")),
        *(("make it dark", "night"), ("a bus at night | bus", "night")),
        *(("during sunset", "sunset"), ("golden hour", "sunset"), ("at dusk", "sunset")),
        *(("a sunny day", "sunny"), ("bright daylight", "sunny")),
    ],
)
def test_weather_comes_everywhere(typed: str, how: str) -> None:
    told = plan(typed)
    assert (told.kind, told.after, told.region) == ("weather", WEATHERS[how][0], "")
    assert told.how == how


def test_a_look_can_have_a_place() -> None:
    assert plan("make the car a pencil drawing").region == "car"
    assert plan("make the sky foggy") == Plan("weather", "a sky", "fog", "sky", "fog")
    assert plan("add snow to the mountain").region == "mountain"


@pytest.mark.parametrize(
    ("typed", "after", "region"),
    [
        ("spooky | bus", "spooky", ""),
        ("more green | bus", "more green", ""),
        ("make it look older | bus", "an older bus", ""),
        ("make it look older", "older", ""),
        ("make the cat much bigger", "a much bigger cat", "cat"),
        ("make the bus blue and white", "a blue and white bus", "bus"),
        ("make the door dark", "a dark door", "door"),
        ("an old bus | bus", "an old bus", "bus"),
        ("brighten the sky", "brighten the sky", "sky"),
        ("in a forest | bus", "a bus in a forest", ""),
    ],
)
def test_other_words_are_the_goal_themselves(typed: str, after: str, region: str) -> None:
    told = plan(typed)
    assert (told.kind, told.after, told.region, told.how) == ("free", after, region, "")


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("", "Nothing was typed."),
        ("  \n", "Nothing was typed."),
        ("?! 12", "no words"),
        ("雪を降らせて", "English"),
        ("сделай машину зелёной", "English"),
        ("green " * 60, "too long"),
        ("🚒" * 100, "too long"),  # in words
        ("make it", "names nothing"),
        ("please", "names nothing"),
        ("add", "names nothing"),
        ("remove everything", "which thing"),
        ("replace the cat", '"the cat", but not into what'),
        ("paint the house", '"the house", but not into what'),
        ("make the car red and add a hat", "one after the other"),
        ("make the sky pink and the car blue", "one after the other"),
        ("don't make it green", "does not say"),
        ("move the car to the left", "does not say"),
        ("what is this?", "does not say"),
    ],
)
def test_a_refusal_says_why_and_shows_what_works(typed: str, says: str) -> None:
    message = refusal(typed)
    assert says in message
    assert message.endswith(".")
    for example in re.findall('"([^"]+)"', message[message.index("Try ") :]):
        assert understand(example).kind in KINDS


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("make the car green", "Recolour the car green."),
        ("dark green", "Recolour everything dark green."),
        ("replace the car with a red bus", "Replace the car with a red bus."),
        ("a red bus", "Replace everything with a red bus."),
        ("add a hat", "Add a hat."),
        ("add a hat to the cat", "Add a hat to the cat."),
        ("remove the cup", "Remove the cup."),
        ("as a pencil drawing", "Redraw everything as a pencil drawing."),
        ("make it snow", "Add snow everywhere."),
        ("make it rain on the house", "Add rain to the house."),
        ("at night", "Make it night everywhere."),
        ("the sky at sunset", "Make it sunset at the sky."),
        ("spooky", 'Change everything towards "spooky".'),
    ],
)
def test_a_plan_says_what_it_will_do(typed: str, sentence: str) -> None:
    assert str(plan(typed)) == sentence


@pytest.mark.parametrize(
    ("words", "with_article"),
    [
        *(("old car", "an old car"), ("unicorn", "a unicorn"), ("umbrella", "an umbrella")),
        *(("hourglass", "an hourglass"), ("x-ray", "an x-ray"), ("bus", "a bus")),
        *(("glass", "a glass"), ("scissors", "scissors"), ("cup of tea", "a cup of tea")),
        *(("two dogs", "two dogs"), ("fresh snow", "fresh snow"), ("", "")),
    ],
)
def test_a_thing_has_the_right_article(words: str, with_article: str) -> None:
    assert article(words) == with_article


def test_names_agree_with_those_of_the_painters() -> None:
    assert set(captions.COLOURS) <= set(COLOURS)
    assert set(styles.STYLES) == set(STYLES)
    assert set(styles.WEATHERS) == set(WEATHERS)


@pytest.mark.parametrize("table", [STYLES, WEATHERS])
def test_every_word_of_a_table_is_understood(table: dict[str, tuple[str, ...]]) -> None:
    for name, words in table.items():
        assert {understand(word).how for word in words} == {name}


def test_every_colour_is_understood() -> None:
    assert all(understand(f"make the car {colour}").how == colour for colour in COLOURS)


def test_the_things_are_sorted_plain_and_without_repeats() -> None:
    assert 900 <= len(things()) <= 1300
    assert list(things()) == sorted(set(things()))
    assert all(re.fullmatch(r"[a-z]+(?:[ '-][a-z]+)*", thing) for thing in things())


def test_every_thing_is_a_region() -> None:
    regions = [understand(f"make the {thing} green").region for thing in things()]
    assert regions == list(things())


PIECES = (
    "make turn change paint add put remove replace with instead of into to be the a an it and dark "
    "light blue orange red car cat fire engine on in night snow pencil drawing look like give no "
    "should more hat sky's of , . 's 8-bit 🚌 colour all please"
).split()


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=400),
        st.lists(st.sampled_from(PIECES), max_size=60).map(" ".join),
        st.tuples(st.sampled_from(PIECES), st.integers(1, 100)).map(lambda p: f"{p[0]} " * p[1]),
    ),
    st.one_of(st.sampled_from(["", "bus"]), st.text(max_size=400)),
)
def test_any_text_makes_a_plan_or_is_refused(typed: str, sees: str) -> None:
    things()  # read once, before the clock starts
    start, sentence = time.process_time(), "."
    with contextlib.suppress(NotUnderstood):
        told = understand(typed, sees)
        sentence = str(told)
        assert told.kind in KINDS
        assert told.how in ("", *COLOURS, *STYLES, *WEATHERS)
    assert sentence.endswith(".")
    assert time.process_time() - start < 0.05


def test_a_long_instruction_is_read_in_no_time() -> None:
    for word in ("look like", "into", "in to", "a", "of the", "the car", "make it", "snow"):
        start = time.process_time()
        with contextlib.suppress(NotUnderstood):
            understand(f"{word} " * (MOST_CHARACTERS // (len(word) + 1)))
        assert time.process_time() - start < 0.05
