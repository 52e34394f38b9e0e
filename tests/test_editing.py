"""An edit: a picture and an instruction become a proposal, a request and a changed picture."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import editing, planner, stage
from app.editing import Proposal
from app.errors import Refused
from app.images import Canonical, Pixels
from app.pipeline import Inputs
from app.planner import Made
from app.stage import Mask, Scene, composite
from guidance import clip
from guidance.clip import Clip
from guidance.instruct import Plan

RED, WHITE = (215, 40, 40), (250, 250, 250)


def disc(side: int = 96, colour: tuple[int, ...] = RED) -> Pixels:
    """A disc in the middle of white paper."""
    pixels = np.full((side, side, 3), WHITE, np.uint8)
    cv2.circle(pixels, (side // 2, side // 2), side // 4, colour, -1)
    return pixels


def is_disc(side: int = 96) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    cv2.circle(mask, (side // 2, side // 2), side // 4, 1, -1)
    return mask.astype(bool)


@pytest.fixture(scope="module")
def reader(pocket_models: Any) -> Clip:
    return pocket_models.clip("pocket", "float32")


def propose(reader: Clip, words: str, pixels: Pixels | None = None, **where: Any) -> Proposal:
    picture = Canonical(disc() if pixels is None else pixels)
    return editing.propose(picture, "disc.png", words, reader, **where)


def carry_out(proposal: Proposal, models: Any, **more: Any) -> Made:
    """The last step of a short run."""
    asked = editing.order(proposal, **{"quality": "draft", "seed": 7, "steps": 4, **more})
    request = planner.settle(asked.requests[0])
    *_, last = planner.make(request, models, asked.inputs)
    return last


# --- what is proposed -----------------------------------------------------------------------------


def test_a_bare_colour_is_for_the_thing_that_is_seen(reader: Clip) -> None:
    proposal = propose(reader, "Green")
    assert proposal.plan.kind == "recolour"
    assert proposal.plan.how == "green"
    where = proposal.mask > 0
    assert (where & is_disc()).sum() / (where | is_disc()).sum() > 0.85


def test_each_clip_has_names_of_its_own(reader: Clip, tiny_clip: Path) -> None:
    """Both are called "pocket": what one knows is of no use to the other."""
    other = clip.load(tiny_clip, space=reader.space)
    of_other, ours = editing._named(other), editing._named(reader)
    assert of_other.shape[1] != ours.shape[1]
    assert editing._named(reader) is ours  # made once


def test_a_style_is_for_everything(reader: Clip) -> None:
    proposal = propose(reader, "as a pencil drawing")
    assert proposal.is_everywhere
    assert str(proposal) == "Redraw everything as a pencil drawing. Everything may change."


def test_words_for_the_place_take_the_place_of_the_plans_own(reader: Clip) -> None:
    assert propose(reader, "green", region="").is_everywhere


def test_a_mask_is_the_place(reader: Clip) -> None:
    mask = np.zeros((96, 96), np.uint8)
    mask[:40] = 255
    proposal = propose(reader, "green", mask=mask)
    assert np.array_equal(proposal.mask > 0, mask > 0)
    turned = propose(reader, "green", mask=mask, invert=True)
    assert np.array_equal(turned.mask > 0, mask == 0)


def test_a_mask_of_another_size_is_brought_to_the_pictures(reader: Clip) -> None:
    mask = np.zeros((48, 48), np.uint8)
    mask[:24] = 255
    proposal = propose(reader, "green", mask=mask)
    assert proposal.mask.shape == (96, 96)
    assert proposal.notes == ("mask brought from 48x48 to 96x96",)


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ({"mask": np.zeros((96, 96), np.uint8)}, "mask.empty"),
        ({"mask": np.full((96, 96), 255, np.uint8), "invert": True}, "mask.empty"),
        ({"mask": np.full((96, 40), 255, np.uint8)}, "mask.form"),
        ({"grow": -0.9}, "mask.empty"),
    ],
)
def test_a_place_that_is_none_is_refused(where: dict[str, Any], code: str, reader: Clip) -> None:
    with pytest.raises(Refused) as refused:
        propose(reader, "green", **where)
    assert refused.value.code == code


def test_a_thing_that_is_not_there_is_not_changed(reader: Clip) -> None:
    with pytest.raises(Refused, match=r"No bus found.* seems to show"):
        propose(reader, "make the bus green")


def test_a_place_in_doubt_is_shown_to_who_can_be_asked_and_to_nobody_else(
    reader: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(editing, "_POSSIBLE", 1.0)  # else a disc is nearly no bus
    doubtful = propose(reader, "make the bus green", ask=True)
    assert re.fullmatch(r"Is this the bus\? It looks more like an? .+ or an? .+\.", doubtful.doubt)
    where = doubtful.mask > 0
    assert (where & is_disc()).sum() / (where | is_disc()).sum() > 0.8
    with pytest.raises(Refused, match=r"Is this the bus\?.* show the place with a mask"):
        propose(reader, "make the bus green")


def test_no_question_is_asked_of_what_is_known_or_shown(reader: Clip) -> None:
    mask = is_disc().astype(np.uint8) * 255
    for where in ({}, {"mask": mask}, {"region": ""}):
        assert propose(reader, "green", ask=True, **where).doubt == ""
    with pytest.raises(Refused, match=r"No bus found.* seems to show"):
        propose(reader, "make the bus green", ask=True)


@pytest.mark.parametrize("words", ["", "   ", "зелёный", "...", "x" * 301])
def test_an_instruction_that_is_none_is_refused(words: str, reader: Clip) -> None:
    with pytest.raises(Refused) as refused:
        propose(reader, words)
    assert refused.value.code == "edit.instruction"


def test_growing_widens_the_place_and_shrinking_narrows_it(reader: Clip) -> None:
    plain, wide, narrow = (
        (propose(reader, "green", grow=grow).mask > 0).sum() for grow in (0.0, 0.05, -0.05)
    )
    assert narrow < plain < wide


def test_what_is_added_somewhere_covers_nothing(reader: Clip) -> None:
    pixels = np.full((128, 192, 3), WHITE, np.uint8)
    cv2.circle(pixels, (50, 64), 30, RED, -1)
    proposal = propose(reader, "add a star", pixels)
    assert proposal.plan.kind == "add"
    assert not (proposal.mask[:, 25:75] > 0).any()


def test_a_soft_edge_lies_inside_the_place() -> None:
    region = is_disc(200)
    mask = editing.soften(region)
    assert not mask[~region].any()
    assert mask[100, 100] == 255
    assert ((mask > 0) == region).all()
    assert editing.soften(np.ones((20, 30), bool)).min() == 255  # no edge at the border


def test_the_overlay_shows_the_place_and_no_more(reader: Clip) -> None:
    proposal = propose(reader, "green")
    shown, pixels = proposal.overlay(), proposal.picture.pixels
    assert shown.shape == pixels.shape
    assert not np.array_equal(shown[48, 48], pixels[48, 48])
    assert np.array_equal(shown[2, 2], pixels[2, 2])


# --- what comes of it -----------------------------------------------------------------------------


def test_the_disc_turns_green_and_nothing_else_changes(reader: Clip, pocket_models: Any) -> None:
    proposal = propose(reader, "Green")
    changed = carry_out(proposal, pocket_models).pixels()
    outside = proposal.mask == 0
    assert np.array_equal(changed[outside], proposal.picture.pixels[outside])
    red, green, blue = changed[48, 48].astype(int)
    assert green > red + 40
    assert green > blue + 40


@pytest.mark.parametrize(
    "words",
    ["make it a blue star", "remove it", "add a hat to the circle", "add snow", "as a neon sign"],
)
def test_every_kind_of_edit_changes_something_and_keeps_its_promise(
    words: str, reader: Clip, pocket_models: Any
) -> None:
    mask = np.zeros((96, 96), np.uint8)
    mask[16:80, 16:80] = 255
    proposal = propose(reader, words, mask=mask)
    changed = carry_out(proposal, pocket_models).pixels()
    before = proposal.picture.pixels
    assert np.array_equal(changed[proposal.mask == 0], before[proposal.mask == 0])
    assert not np.array_equal(changed, before)


def test_the_same_edit_gives_the_same_picture(reader: Clip, pocket_models: Any) -> None:
    first, again = (
        carry_out(propose(reader, "make it a blue star"), pocket_models).pixels() for _ in range(2)
    )
    assert np.array_equal(first, again)


def test_no_strength_leaves_a_colour_nearly_alone(reader: Clip, pocket_models: Any) -> None:
    proposal = propose(reader, "green")
    faint, strong = (
        np.abs(carry_out(proposal, pocket_models, strength=s).pixels() - disc().astype(int)).mean()
        for s in (0.1, 1.0)
    )
    assert faint < strong / 2


def test_the_request_says_what_was_asked_and_holds_hashes(reader: Clip) -> None:
    proposal = propose(reader, "make it a blue star")
    asked = editing.order(proposal, seed=3)
    (request,) = asked.requests
    assert request.edit is not None
    assert request.edit.instruction == "make it a blue star"
    assert request.init is not None
    assert request.init.sha256 == proposal.picture.sha256
    assert request.edit.mask is not None
    assert set(asked.inputs.masks) >= {request.edit.mask.sha256}


@pytest.mark.parametrize("words", ["green", "make it a blue star", "as a pencil drawing"])
def test_an_order_tells_the_proposal_that_it_was_made_of(reader: Clip, words: str) -> None:
    proposal = propose(reader, words, **({} if words == "green" else {"grow": 0.02}))
    told = editing.proposed(editing.order(proposal))
    assert str(told) == str(proposal)
    assert told.picture.sha256 == proposal.picture.sha256
    for one, other in ((told.mask, proposal.mask), (told.thing, proposal.thing)):
        assert (one is None) == (other is None)
        assert one is None or np.array_equal(one, other)


# --- the promise, on anything ---------------------------------------------------------------------


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 10_000), st.integers(17, 70), st.integers(17, 70), st.data())
def test_where_the_mask_is_0_not_a_bit_changes(
    seed: int, height: int, width: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    pixels, guess = (rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(2))
    mask: Mask = rng.integers(0, 256, (height, width)).astype(np.uint8)
    mask[rng.random((height, width)) < data.draw(st.floats(0, 0.95))] = 0
    mask[0, 0] = 255
    box = stage.window(mask)
    size = stage.working_size(box, 48 * 48)
    shown = stage.Stage(pixels, guess, mask, mask, box, size)
    image = torch.from_numpy(rng.random((1, 3, *size), np.float32))
    changed = shown.paste(image)
    assert changed.shape == pixels.shape
    assert np.array_equal(changed[mask == 0], pixels[mask == 0])


def test_a_whole_mask_gives_the_whole_of_the_new() -> None:
    rng = np.random.default_rng(1)
    below, above = (rng.integers(0, 256, (9, 7, 3), np.uint8) for _ in range(2))
    assert np.array_equal(composite(below, above, np.full((9, 7), 255, np.uint8)), above)
    assert np.array_equal(composite(below, above, np.zeros((9, 7), np.uint8)), below)


@pytest.mark.parametrize("form", [(200, 200), (60, 400), (400, 60)])
def test_the_window_shows_the_place_and_lies_in_the_picture(form: tuple[int, int]) -> None:
    mask = np.zeros(form, np.uint8)
    mask[form[0] // 2 : form[0] // 2 + 20, 3:9] = 255
    top, left, height, width = stage.window(mask)
    assert top >= 0
    assert left >= 0
    assert top + height <= form[0]
    assert left + width <= form[1]
    assert mask[top : top + height, left : left + width].sum() == mask.sum()


def test_the_guess_is_pasted_as_it_is_before_the_first_update() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    guess = 255 - pixels
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 20:40] = 255
    shown = stage.Stage(pixels, guess, mask, mask, stage.window(mask), (64, 64))
    assert np.array_equal(shown.paste(shown.retouched), composite(pixels, guess, mask))


def test_an_edit_without_its_mask_asks_for_it(reader: Clip, pocket_models: Any) -> None:
    asked = editing.order(propose(reader, "green"), seed=1)
    request = planner.settle(asked.requests[0])
    with pytest.raises(Refused, match="needs its mask"):
        next(iter(planner.make(request, pocket_models, Inputs(asked.inputs.pictures))))


def test_every_kind_has_a_guess() -> None:
    from guidance.instruct import KINDS

    assert set(stage.GUESSES) == set(KINDS)
    assert set(stage.DRAWN) <= set(KINDS)


def test_words_of_a_plan_become_a_prompt() -> None:
    plan = Plan("remove", "a cup", "", "cup")
    assert editing._prompt(plan) == "a cup::-1"
    assert editing._prompt(Plan("weather", "a cat", "snow", "", "snow")) == "a cat in the snow"
    assert (
        editing._prompt(Plan("restyle", "a cat", "a pencil drawing", "", "pencil"))
        == "a pencil drawing of a cat"
    )


def test_a_scene_without_a_drawing_is_only_cleared() -> None:
    pixels = disc()
    mask = is_disc().astype(np.float32)
    from app.request import Edit

    edit = Edit(instruction="x", kind="replace", after="a star")
    shown = Scene(pixels, mask, mask, None, edit, 0)
    assert np.abs(stage.GUESSES["replace"](shown)[48, 48].astype(int) - WHITE).max() < 30
