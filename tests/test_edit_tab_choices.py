"""The Edit tab without a browser: three strengths, a place in doubt, and where it may change."""

from __future__ import annotations

import asyncio
import io
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image as Picture

from app import editing
from app.errors import Refused
from app.images import Canonical, Pixels, read_recipe
from app.tabs import Studio, changing, edit, strengths
from app.tabs.changing import CANVAS_SIDE
from app.tabs.common import Change
from app.tabs.edit import Family
from app.tabs.strengths import STRENGTHS, Tries
from tests.edit_page import SIDE, disc, press_edit, press_look, propose, read, save
from tests.edit_page import given as given
from tests.edit_page import studio as studio
from tests.handlers import last, text, watch


def left_half() -> Pixels:
    """A mask: white where the picture may change."""
    mask = np.zeros((SIDE, SIDE, 3), np.uint8)
    mask[:, : SIDE // 2] = 255
    return mask


def paint(width: int = SIDE, height: int = SIDE, *, covered: slice = slice(None)) -> bytes:
    """What a canvas sends: pink paint in some rows, transparent elsewhere."""
    layer = np.zeros((height, width, 4), np.uint8)
    layer[covered] = (230, 60, 150, 140)
    file = io.BytesIO()
    Picture.fromarray(layer).save(file, "PNG")
    return file.getvalue()


# --- three strengths --------------------------------------------------------------------------


def press_compare(studio: Studio, given: dict[str, Any]) -> tuple[list[Change], gr.Error | None]:
    return watch(changing.course(studio, given, threading.Event(), "somebody", "compare"))


def test_three_strengths_come_one_after_another_in_one_row(
    studio: Studio, given: dict[str, Any], tmp_path: Path
) -> None:
    seen, error = press_compare(studio, given)
    assert error is None
    rows = [change["three"]["value"] for change in seen if change.get("three", {}).get("value")]
    assert [len(row) for row in rows] == [1, 2, 3, 3]  # and once more with the last status line
    assert [caption for _, caption in rows[-1]] == [
        "0.3 · a touch",
        "0.6 · plainly",
        "1 · all the way",
    ]
    assert "Done: 3 strengths. Click the one" in text(last(seen, "status"))
    edits = [read_recipe(Path(path))["request"] for path, _ in rows[-1]]
    assert [edit["edit"].pop("strength") for edit in edits] == list(STRENGTHS)
    assert edits[0] == edits[1] == edits[2]  # the same plan, place and seed
    blues = [read(path)[SIDE // 2, SIDE // 2].astype(int) @ (-1, 0, 1) for path, _ in rows[-1]]
    assert blues == sorted(set(blues))
    assert len(list((tmp_path / "results").glob("*.png"))) == 3
    assert not any("family" in change for change in seen)  # nothing is taken yet


def test_without_a_seed_all_three_have_the_same(studio: Studio, given: dict[str, Any]) -> None:
    seen, _ = press_compare(studio, {**given, "seed": ""})
    seeds = {read_recipe(Path(one.path))["request"]["seed"] for one in last(seen, "tries").those}
    assert len(seeds) == 1


def test_a_click_takes_one_as_the_result(studio: Studio, given: dict[str, Any]) -> None:
    tries: Tries = last(press_compare(studio, given)[0], "tries")
    change = strengths.taken(tries, 1, Family().with_child)
    before, after = change["result"]["value"]
    assert np.array_equal(read(before), disc())
    assert after == tries.those[1].path
    assert "<dt>Strength</dt><dd>0.6</dd>" in change["details"]
    kin: Family = change["family"]
    assert (kin.newest, kin.parents[after]) == (after, given["picture"])
    again = strengths.taken(tries, 2, kin.with_child)["family"]
    assert again.parents == {after: given["picture"], tries.those[2].path: given["picture"]}
    Path(after).unlink()
    assert "not here any more" in text(strengths.taken(tries, 1, kin.with_child)["status"])


def test_stop_does_without_those_that_are_left(studio: Studio, given: dict[str, Any]) -> None:
    stop = threading.Event()

    async def until_one_is_there() -> list[Change]:
        seen = []
        async for change in changing.course(studio, given, stop, "somebody", "compare"):
            seen.append(change)
            if "tries" in change:
                stop.set()
        return seen

    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(asyncio.run, until_one_is_there()).result()
    there = last(seen, "tries").those
    assert len(there) < 3
    assert there[0].caption == "0.3 · a touch"
    assert re.fullmatch(
        r"Stopped: \d of 3 strengths are done\. Click the one .+", text(last(seen, "status"))
    )


def test_all_three_are_asked_for_or_none(studio: Studio, given: dict[str, Any]) -> None:
    worker, stop = studio.worker().result(), threading.Event()
    proposal, order = propose(studio, given), worker.order

    def once(*ordered: Any) -> Any:
        worker.order = full
        return order(*ordered)

    def full(*_: Any) -> Any:
        raise Refused("queue.quota", "You have 1 job waiting already.")

    worker.order = once
    with pytest.raises(Refused, match="Not all of these fit on your list") as refused:
        changing._begin(worker, proposal, given, STRENGTHS, 7, stop, "somebody")
    assert refused.value.code == "queue.quota"
    assert stop.is_set()


# --- a place in doubt -------------------------------------------------------------------------


@pytest.fixture
def doubtful(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A thing that is there, if a disc may be a bus."""
    monkeypatch.setattr(editing, "_POSSIBLE", 1.0)
    return {**given, "instruction": "make the bus blue"}


def test_a_place_in_doubt_is_shown_and_asked_about(
    studio: Studio, doubtful: dict[str, Any], tmp_path: Path
) -> None:
    for press in (press_edit, press_look, press_compare):
        seen, error = press(studio, doubtful)
        assert error is None
        assert re.fullmatch(
            r'Is this the bus\? It looks more like an? .+\. If it is, press "Yes, change it"\. '
            r"If not, say where in other words, or paint the place\.",
            text(last(seen, "status")),
        )
        assert last(seen, "yes")["visible"] is True
        assert last(seen, "edit")["interactive"] is True
        marked = np.asarray(last(seen, "preview")["value"])
        assert (marked != disc())[SIDE // 2, SIDE // 2].any()
    assert not (tmp_path / "results").exists()


def test_one_yes_is_enough_for_the_same_place(
    studio: Studio, doubtful: dict[str, Any], tmp_path: Path
) -> None:
    asked = last(press_edit(studio, doubtful)[0], "question")
    answer = {**doubtful, "question": asked}
    seen, error = watch(changing.course(studio, answer, threading.Event(), "somebody", "yes"))
    assert error is None
    assert len(list((tmp_path / "results").glob("*.png"))) == 1
    sure = {**doubtful, "question": last(seen, "question")}
    assert "Done" in text(last(press_edit(studio, {**sure, "strength": 0.5})[0], "status"))
    elsewhere = press_look(studio, {**sure, "instruction": "make the cat blue"})[0]
    assert "Is this the cat?" in text(last(elsewhere, "status"))


def test_yes_does_what_was_asked_for(studio: Studio, doubtful: dict[str, Any]) -> None:
    asked = last(press_compare(studio, doubtful)[0], "question")
    answer = {**doubtful, "question": asked}
    seen, _ = watch(changing.course(studio, answer, threading.Event(), "somebody", "yes"))
    assert len(last(seen, "tries").those) == 3


def test_a_yes_is_for_the_place_that_was_shown(
    studio: Studio, doubtful: dict[str, Any], tmp_path: Path
) -> None:
    asked = last(press_edit(studio, doubtful)[0], "question")
    other = {**doubtful, "question": asked, "instruction": "make the cat blue"}
    seen, _ = watch(changing.course(studio, other, threading.Event(), "somebody", "yes"))
    assert "Is this the cat?" in text(last(seen, "status"))
    assert not (tmp_path / "results").exists()


# --- where ------------------------------------------------------------------------------------


def test_a_mask_is_the_place(studio: Studio, given: dict[str, Any], tmp_path: Path) -> None:
    mask = save(tmp_path / "mask.png", left_half())
    place = propose(studio, given, mask=mask).mask
    assert place[:, 40].all()
    assert not place[:, 50:].any()


def test_paint_counts_more_than_a_mask(
    studio: Studio, given: dict[str, Any], tmp_path: Path
) -> None:
    mask = save(tmp_path / "mask.png", left_half())
    painted = {"painting": True, "canvas": paint(covered=slice(30))}
    place = propose(studio, given, mask=mask, **painted).mask
    assert place[10].all()
    assert not place[40:].any()


def test_no_paint_is_no_mask(studio: Studio, given: dict[str, Any]) -> None:
    nothing = {"painting": True, "canvas": paint(covered=slice(0))}
    plain, unpainted = propose(studio, given), propose(studio, given, **nothing)
    wiped = propose(studio, given, painting=False, canvas=paint())
    assert np.array_equal(unpainted.mask, plain.mask)
    assert np.array_equal(wiped.mask, plain.mask)


def test_paint_on_a_small_copy_is_brought_to_the_pictures_size() -> None:
    picture = Canonical(np.zeros((200, 400, 3), np.uint8))
    mask = changing._painted(paint(100, 50, covered=slice(25)), picture)
    assert mask is not None
    assert mask.shape == (200, 400)
    assert (mask[:98] == 255).all()
    assert (mask[102:] == 0).all()


def test_everywhere_and_words_correct_the_plan(studio: Studio, given: dict[str, Any]) -> None:
    assert propose(studio, given, everywhere=True, place="disc").is_everywhere
    assert propose(studio, given, place=" red ball ").plan.region == "red ball"


def test_the_place_is_inverted_grown_and_shrunk(studio: Studio, given: dict[str, Any]) -> None:
    plain, around = propose(studio, given), propose(studio, given, invert=True)
    assert not ((plain.mask == 255) & (around.mask > 0)).any()
    areas = [(propose(studio, given, grow=grow).mask > 0).sum() for grow in (-0.1, 0, 0.1)]
    assert areas == sorted(set(areas))


def test_one_paints_on_a_copy_and_gets_the_picture_back(given: dict[str, Any]) -> None:
    save(Path(given["picture"]), np.zeros((1200, 2400, 3), np.uint8))
    ((shown,), _) = watch(edit.paint(True, given["picture"]))
    assert shown["canvas"]["background"].size == (CANVAS_SIDE, CANVAS_SIDE // 2)
    assert (shown["easel"]["visible"], shown["original"]["visible"]) == (True, False)
    ((shown,), _) = watch(edit.paint(False, given["picture"]))
    assert shown["canvas"] is None
    assert (shown["easel"]["visible"], shown["original"]["visible"]) == (False, True)


def test_without_a_picture_there_is_nothing_to_paint_on() -> None:
    ((shown,), error) = watch(edit.paint(True, None))
    assert error is not None
    assert shown["painting"] is False
    assert "There is no picture yet" in text(shown["status"])
