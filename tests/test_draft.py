"""The draft: words become a first picture, and the loop starts from it."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from app import pipeline
from app.request import make_request
from guidance import clip, draft
from guidance.instruct import COLOURS
from guidance.layout import (
    Place,
    in_known_place,
    in_learned_colours,
    is_place,
    lay_out,
    left_out,
    undress,
)


@pytest.fixture(scope="module")
def reader(tiny_clip: Path) -> clip.Clip:
    return clip.load(tiny_clip, space="pocket")


def test_each_manner_draws_its_own_picture(tiny_drafter: draft.Draft, reader: clip.Clip) -> None:
    pictures = tiny_drafter.draw(reader.embed_text(["a fox"]))
    assert pictures.shape == (5, 3, 64, 64)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    assert len({picture.sum().item() for picture in pictures}) == 5


def test_the_same_words_and_seed_start_alike(tiny_drafter: draft.Draft, reader: clip.Clip) -> None:
    goal = reader.embed_text(["a fox"])
    first, again, other = (
        tiny_drafter.start(goal, reader, (48, 48), seed).picture for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_manner_without_the_thing_is_not_chosen(
    tiny_drafter: draft.Draft, reader: clip.Clip
) -> None:
    """A cat was a tiger, in the manner of a set that has no cat."""
    goal = reader.embed_text(["a fox"])
    memory = copy.deepcopy(tiny_drafter.network)
    said = int(memory.name(goal - memory.centre).argmax())
    memory.name.bias.data[said] += 99  # the words say one name, and nothing beside it
    kept = (memory.shows != said) | (memory.manner == 3)
    memory.shows[~kept] = (said + 1) % memory.shape.names
    drafter = draft.Draft(memory, space="pocket")
    assert memory.knows(goal).tolist() == [False, False, False, True, False]
    pictures = drafter.draw(goal)
    assert {drafter.choose(pictures, goal, reader, seed)[0] for seed in range(6)} == {3}


@pytest.mark.parametrize("size", [(32, 32), (48, 96), (96, 40), (64, 64)])
def test_a_draft_fits_any_frame(
    size: tuple[int, int], tiny_drafter: draft.Draft, reader: clip.Clip
) -> None:
    picture = tiny_drafter.start(reader.embed_text(["a fox"]), reader, size, 0).picture
    assert picture.shape == (1, 3, *size)
    assert picture.min() >= 0
    assert picture.max() <= 1


def test_a_wide_frame_goes_on_with_the_border() -> None:
    picture = torch.zeros(1, 3, 64, 64)
    picture[..., 0], picture[..., -1] = 0.25, 0.75
    wide = draft.extend(picture, (64, 128))
    assert torch.allclose(wide[..., :32], torch.tensor(0.25), atol=0.05)
    assert torch.allclose(wide[..., -32:], torch.tensor(0.75), atol=0.05)


def test_a_thing_can_be_had_alone(tiny_drafter: draft.Draft, reader: clip.Clip) -> None:
    cutouts = tiny_drafter.cutouts(reader.embed_text(["a fox"]))
    assert cutouts.shape == (5, 4, 64, 64)
    assert cutouts.min() >= 0
    assert cutouts.max() <= 1
    assert (cutouts[:, :3] <= cutouts[:, 3:]).all()  # colours times alpha


def test_a_thing_stands_where_it_is_laid() -> None:
    thing = torch.ones(1, 4, 64, 64)
    laid = draft.lay(thing, torch.zeros(1, 3, 64, 64), Place(x=0.5, y=0.75, side=0.5))
    assert laid[..., 33:63, 17:47].min() > 0.9
    assert laid[..., :31, :].max() < 0.1


def test_two_things_stand_beside_each_other(tiny_drafter: draft.Draft, reader: clip.Clip) -> None:
    whole, fox, owl = (reader.embed_text([t]) for t in ("a fox and an owl", "a fox", "an owl"))
    layout = lay_out("a fox and an owl")
    assert layout is not None
    one, other = (
        tiny_drafter.draw(whole, list(map(draft.Thing, things, layout.places)))
        for things in ((fox, owl), (owl, fox))
    )
    assert one.shape == (5, 3, 64, 64)
    assert not torch.equal(one, other)
    assert torch.equal(one[..., :2, :], other[..., :2, :])  # above both is the ground alone


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
        ("a cat next to a dog on a table", ("a cat", "a dog on a table")),
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
        ("a man in a hat", None),
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


def test_what_is_left_stands_left() -> None:
    ways = ("left of", "right of", "under", "on top of")
    left, right, under, upon = (
        layout.places[0] for words in ways if (layout := lay_out(f"a cat {words} a dog"))
    )
    assert left.x < 0.5 < right.x
    assert upon.y < 0.5 < under.y


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


def test_a_place_alone_is_drawn_with_nothing_in_it(pocket_models: Any) -> None:
    """A green meadow was a hat on grass. Of what is no place to draw, something is drawn still."""
    pictures = [
        pipeline.draft(make_request({"prompt": words}), pocket_models, 8, pipeline.Inputs()).picture
        for words in ("a green meadow", "a cow in a green meadow")
    ]
    ground, cow = (picture[0, :, 100:140, 60:130] for picture in pictures)
    assert ground.std(dim=(1, 2)).max() < 0.08 < cow.std(dim=(1, 2)).max()
    drafter, words = pocket_models.draft("pocket"), pocket_models.clip("pocket").embed_text(["cat"])
    assert torch.equal(drafter.draw(words, []), drafter.draw(words))


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("a steed", "a horse"),
        ("a hound", "a dog"),
        ("a puppy", "a dog"),
        ("an automobile", "a car"),
        ("a trout", "a fish"),
        ("a spaceship", "a rocket"),
        ("a smiley face", "a smiling face"),
    ],
)
def test_a_word_that_no_caption_had_brings_the_drawing_it_means(
    word: str, name: str, pocket_models: Any
) -> None:
    network = pocket_models.draft("pocket").network
    asked = pocket_models.clip("pocket", "float32").embed_text([word, name])
    unknown, known = network.name(asked - network.centre).argmax(dim=1).tolist()
    assert unknown == known


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a cat in the kitchen", "in the kitchen"),
        ("a pencil sketch of a cat in the Kitchen", "in the kitchen"),
        ("a cat on a chair in the kitchen", "in the kitchen"),
        ("a cat and a dog on a sofa", "on a sofa"),
        ("a cat on a chair", ""),
        ("a teddy bear on top of a car", ""),
        ("a duck on a lake", ""),
        ("a boat on the open sea", ""),
        ("a red apple on light blue", ""),
        ("a robin", ""),
        ("a cat", ""),
    ],
)
def test_a_place_that_no_draft_can_show_is_known(text: str, place: str) -> None:
    assert left_out(text) == place


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


@pytest.mark.parametrize("colour", ["turquoise", "navy", "magenta", "dark green", "gold"])
def test_a_draft_has_the_very_colour_that_was_named(colour: str, pocket_models: Any) -> None:
    """An olive balloon was an olive, a silver fish a medal: only twelve colours were learned."""
    wanted, inputs = torch.tensor(COLOURS[colour]) / 255, pipeline.Inputs()
    alone = make_request({"prompt": f"a {colour} balloon"})
    cutout = pipeline.cutout(alone, pocket_models)[0]
    tone = cutout[:3].sum(dim=(1, 2)) / cutout[3].sum()
    assert (tone - wanted).abs().max() < 0.2
    whole = make_request({"prompt": f"a cat on a {colour} background"})
    corner = pipeline.draft(whole, pocket_models, 8, inputs).picture[0, :, :9, :9].mean(dim=(1, 2))
    assert torch.allclose(corner, wanted, atol=0.01)


def test_two_things_have_each_their_own_colour(pocket_models: Any) -> None:
    request = make_request({"prompt": "a turquoise balloon next to a magenta balloon"})
    picture = pipeline.draft(request, pocket_models, 8, pipeline.Inputs()).picture[0]
    seen = picture.permute(1, 2, 0).reshape(*picture.shape[1:], 3)
    for half, colour in zip(seen.chunk(2, dim=1), ("turquoise", "magenta"), strict=True):
        near = (half - torch.tensor(COLOURS[colour]) / 255).abs().amax(dim=-1) < 0.25
        assert near.float().mean() > 0.1


@pytest.mark.parametrize("place", ["on a lake", "in the garden", "in a village", "at dawn"])
def test_a_thing_stands_before_the_place_that_was_named(place: str, pocket_models: Any) -> None:
    """Not on plain paper, as it did: the pocket CLIP has learned twelve places by other words."""
    request = make_request({"prompt": f"a red house {place}"})
    drawn = pipeline.draft(request, pocket_models, 8, pipeline.Inputs()).picture
    bare = make_request({"prompt": "a red house"})
    plain = pipeline.draft(bare, pocket_models, 8, pipeline.Inputs()).picture
    assert plain[..., :8].std() < 0.01 < drawn[..., :8].std()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    small, large = (
        draft.Shape(words=n, names=2, drawings=2, manners=1, paints=1, grounds=1, plain=1, codes=2)
        for n in (4, 8)
    )
    save_file(draft.Network(small).state_dict(), tmp_path / draft.WEIGHTS)
    draft.save_config(draft.Network(large), tmp_path, "pocket")
    with pytest.raises(ValueError, match="another network"):
        draft.load(tmp_path)
