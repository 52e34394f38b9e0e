"""The draft: words become a first picture, and the loop starts from it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from app import pipeline
from app.request import make_request
from guidance import clip, draft
from guidance.instruct import COLOURS
from guidance.layout import Place, lay_out


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
