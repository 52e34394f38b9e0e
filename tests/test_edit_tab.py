"""The Edit tab without a browser: what its handlers understand, say, show, refuse and keep."""

from __future__ import annotations

import asyncio
import io
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import gradio as gr
import numpy as np
import pytest
from gradio.components.image_editor import EditorData, EditorDataBlobs
from gradio.data_classes import FileData
from PIL import Image as Picture

from app import editing
from app.editing import Proposal
from app.errors import Refused
from app.images import Canonical, Pixels, read_recipe
from app.tabs import Studio, changing, common, edit, making, strengths
from app.tabs.changing import CANVAS_SIDE, Question
from app.tabs.common import Change, Visits
from app.tabs.edit import Family
from app.tabs.strengths import STRENGTHS, Tries
from app.worker import Worker
from guidance.instruct import KINDS
from tests.handlers import last, text, watch

RED, WHITE = (215, 40, 40), (250, 250, 250)
SIDE = 96


def disc() -> Pixels:
    """A red disc in the middle of white paper."""
    pixels = np.full((SIDE, SIDE, 3), WHITE, np.uint8)
    return cv2.circle(pixels, (SIDE // 2, SIDE // 2), SIDE // 4, RED, -1)


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


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """The fields of the page: a red disc that is to be blue."""
    return {
        "picture": save(tmp_path / "disc.png", disc()),
        "painting": False,
        "canvas": None,
        "instruction": "blue",
        "strength": 0.8,
        "quality": "draft",
        "place": "",
        "everywhere": False,
        "mask": None,
        "invert": False,
        "grow": 0,
        "seed": "7",
        "family": Family(),
        "question": Question(),
    }


def save(path: Path, pixels: Pixels) -> str:
    Picture.fromarray(pixels).save(path)
    return str(path)


@pytest.fixture
def studio(pocket_models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """A studio whose results go to a folder of the test."""
    monkeypatch.setenv("SYNESTHETE_RESULTS", str(tmp_path / "results"))
    studio = Studio(lambda: Worker(pocket_models))
    yield studio
    studio.close()


def read(path: str) -> Pixels:
    with Picture.open(path) as picture:
        return np.asarray(picture)


def press_edit(studio: Studio, given: dict[str, Any]) -> tuple[list[Change], gr.Error | None]:
    return watch(changing.course(studio, given, threading.Event(), "somebody"))


def press_look(studio: Studio, given: dict[str, Any]) -> tuple[list[Change], gr.Error | None]:
    return watch(changing.glance(studio, given, threading.Event()))


def propose(studio: Studio, given: dict[str, Any], **other: Any) -> Proposal:
    return changing.propose(studio.worker().result(), {**given, **other})


# --- the page ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page() -> list[dict[str, Any]]:
    """All parts of the page; laid out elsewhere, for Gradio leaves an event loop behind."""
    code = (
        "import json\n"
        "from app.tabs import Studio\n"
        "from app.ui import build\n"
        "told = ('elem_id', 'label', 'info', 'alt_text')\n"
        "of = lambda part: {'kind': type(part).__name__,\n"
        "    **{name: getattr(part, name, None) for name in told}}\n"
        "print(json.dumps([of(part) for part in build(Studio()).blocks.values()]))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(found.stdout)


def test_no_two_parts_of_the_page_have_the_same_name(page: list[dict[str, Any]]) -> None:
    names = [part["elem_id"] for part in page if part["elem_id"]]
    assert len(names) == len(set(names))


def test_every_control_has_a_label_and_says_what_it_is_for(page: list[dict[str, Any]]) -> None:
    pictures = ("Image", "ImageEditor", "ImageSlider")
    fields = ("Textbox", "Slider", "Checkbox", "Radio")
    ours = [part for part in page if (part["elem_id"] or "").startswith("edit-")]
    assert {part["kind"] for part in ours} > {*pictures, *fields}
    for part in ours:
        assert part["kind"] not in (*pictures, *fields) or part["label"] or part["alt_text"], part
        assert part["kind"] not in fields or part["info"], part


def test_every_kind_of_plan_has_words_for_people() -> None:
    assert tuple(changing.KINDS) == KINDS


# --- looking first ----------------------------------------------------------------------------


def test_looking_first_says_what_is_understood_and_marks_the_place(
    studio: Studio, given: dict[str, Any], tmp_path: Path
) -> None:
    seen, error = press_look(studio, given)
    assert error is None
    assert re.fullmatch(
        r"Recolour the .+ blue\. \d+% of the picture may change\.", text(last(seen, "status"))
    )
    assert "<dt>Kind</dt><dd>a new colour</dd>" in last(seen, "details")
    marked = np.asarray(last(seen, "preview")["value"])
    changed = (marked != disc()).any(axis=2)
    assert changed[SIDE // 2, SIDE // 2]
    assert not changed[:8].any()
    assert not (tmp_path / "results").exists()


def test_the_buttons_change_places_and_back(studio: Studio, given: dict[str, Any]) -> None:
    for press in (press_look, press_edit):
        seen, _ = press(studio, given)
        states = [
            tuple(change[name]["interactive"] for name in ("look", "edit", "stop"))
            for change in seen
            if "stop" in change
        ]
        assert states == [(False, False, True), (True, True, False)]


def test_who_stops_while_it_is_looked_at_gets_no_picture(
    studio: Studio, given: dict[str, Any], tmp_path: Path
) -> None:
    stop = threading.Event()
    stop.set()
    seen, error = watch(changing.course(studio, given, stop, "somebody"))
    assert error is None
    assert text(last(seen, "status")) == "Stopped before it began."
    assert not (tmp_path / "results").exists()


# --- an edit ----------------------------------------------------------------------------------


def test_an_edit_ends_with_before_and_after(
    studio: Studio, given: dict[str, Any], tmp_path: Path
) -> None:
    seen, error = press_edit(studio, given)
    assert error is None
    (saved,) = (tmp_path / "results").glob("*.png")
    assert saved.name == "disc-blue-seed7.png"
    before, after = last(seen, "result")["value"]
    assert np.array_equal(read(before), disc())
    assert Path(after).read_bytes() == saved.read_bytes()
    pixels = read(after)
    red, _, blue = pixels[SIDE // 2, SIDE // 2].astype(int)
    assert blue > red + 60
    assert np.array_equal(pixels[:8], disc()[:8])
    assert read_recipe(saved)["request"]["edit"]["instruction"] == "blue"


def test_what_is_told_in_the_end(studio: Studio, given: dict[str, Any]) -> None:
    seen, _ = press_edit(studio, given)
    told = re.findall("<dt>(.*?)</dt><dd>(.+?)</dd>", last(seen, "details"))
    assert [name for name, _ in told] == [
        "Understood",
        "Kind",
        "Strength",
        "Seed",
        "Time",
        "Saved as",
    ]
    assert dict(told)["Seed"] == "7"
    assert last(seen, "reuse")["value"] == "Reuse seed 7"


def test_a_picture_is_shown_and_edited_upright(studio: Studio, given: dict[str, Any]) -> None:
    exif = Picture.Exif()
    exif[0x0112] = 6  # lying on its side
    Picture.fromarray(disc()[:64]).save(given["picture"], exif=exif)
    proposal = propose(studio, given)
    assert proposal.picture.pixels.shape == (96, 64, 3)
    assert read(changing._as_png(proposal.picture.pixels)).shape == (96, 64, 3)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"picture": None}, "There is no picture yet. Choose one, paste one, or send one"),
        ({"picture": __file__}, "is no picture that we can read"),
        ({"picture": "/nowhere/at-all.png"}, "The picture is not here any more"),
        ({"instruction": ""}, "Nothing was typed. Try"),
        ({"instruction": None}, "Nothing was typed. Try"),
        ({"instruction": "remove the <b>unicorn</b>"}, "found in the picture"),
        ({"mask": __file__}, "is no picture that we can read"),
        ({"seed": "seven"}, "seed: 'seven' is no whole number"),
        ({"everywhere": True, "invert": True}, "Nothing may change: the place is empty"),
        ({"painting": True, "canvas": b"no picture"}, "The paint is no picture"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(
    studio: Studio, given: dict[str, Any], tmp_path: Path, wrong: dict[str, Any], sentence: str
) -> None:
    seen, error = press_edit(studio, {**given, **wrong})
    assert error is not None
    assert sentence in error.message
    assert sentence in text(last(seen, "status"))
    assert last(seen, "edit")["interactive"] is True
    assert not any("picture" in change for change in seen)  # what was uploaded is still there
    assert not (tmp_path / "results").exists()


def test_words_of_visitors_are_shown_as_words(studio: Studio, given: dict[str, Any]) -> None:
    seen, error = press_edit(studio, {**given, "instruction": "remove the <img src=x>"})
    shown = "".join(str(change.get(name, "")) for change in seen for name in ("status", "details"))
    assert "<img" not in shown + (error.message if error else "")


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


def test_who_comes_back_sees_their_edits_go_on(studio: Studio, given: dict[str, Any]) -> None:
    worker = studio.worker().result()
    runs = []
    for words in ("blue", "green"):
        asked = editing.order(propose(studio, given, instruction=words), quality="draft")
        runs.append(worker.order(asked, threading.Event(), "somebody"))
    assert all(changing.is_ours(run.request) for run in runs)
    found = worker.store.history("somebody", search="disc blue")  # by the picture's name too
    assert [job.id for job in found] == [runs[0].job.id]
    seen, error = watch(changing.resumed(studio, Family(), runs))
    assert error is None
    told = [change["instruction"] for change in seen if "instruction" in change]
    assert list(dict.fromkeys(told)) == ["blue", "green"]
    assert np.array_equal(read(last(seen, "picture")), disc())
    before, after = last(seen, "result")["value"]
    assert np.array_equal(read(before), disc())
    assert read_recipe(Path(after))["request"]["edit"]["instruction"] == "green"
    assert "Recolour the" in text(last(seen, "details"))
    family = last(seen, "family")
    assert family.newest == after
    assert len(family.parents) == 2
    assert last(seen, "edit")["interactive"]


def test_the_greeting_is_not_said_again_over_what_came_since(studio: Studio) -> None:
    """When a stream of changes ends, Gradio sends the last of them once more."""
    visitor: Any = SimpleNamespace(session_hash="a session with nothing on its way")
    never: Any = None
    seen, _ = watch(common.welcome(studio, Visits(), visitor, making.is_ours, never))
    assert "Ready." in str(seen[-2])
    assert seen[-1] == {"status": gr.skip()}


def test_what_belongs_in_another_tab_is_told_of(studio: Studio, given: dict[str, Any]) -> None:
    visitor: Any = SimpleNamespace(session_hash="somebody's session")
    worker, owner = studio.worker().result(), studio.owner(visitor.session_hash)
    run = worker.order(editing.order(propose(studio, given)), threading.Event(), owner)
    never: Any = None
    seen, _ = watch(common.welcome(studio, Visits(), visitor, making.is_ours, never))
    assert "on its way: the History shows it" in text(last(seen, "status"))
    run.stop.set()
    assert run.over.wait(60)


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


def test_a_canvas_gives_its_paint_as_it_was_sent(tmp_path: Path) -> None:
    stored = EditorDataBlobs(background=b"b", layers=[None, b"paint"], composite=b"c")
    canvas = SimpleNamespace(blob_storage={"7": stored})
    assert edit._layer(canvas, EditorData(id="7")) == b"paint"
    assert canvas.blob_storage == {}
    assert edit._layer(canvas, EditorData(id="7")) is None
    assert edit._layer(canvas, None) is None
    assert edit._layer(canvas, EditorData(layers=[FileData(path="a.png")])) == "a.png"


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


# --- one after the other ----------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Four pictures."""
    return [save(tmp_path / f"{name}.png", disc()) for name in "abcd"]


def test_going_on_and_undoing_walk_along_the_family(files: list[str]) -> None:
    a, b, c, _ = files
    kin = Family().with_child(a, b).with_child(b, c)
    assert edit.onward(kin)["picture"] == c
    back = edit.undo(kin, c)
    assert (back["picture"], back["undo"]["interactive"]) == (b, True)
    back = edit.undo(kin, b)
    assert (back["picture"], back["undo"]["interactive"]) == (a, False)
    assert "picture" not in edit.undo(kin, a)
    assert "picture" not in edit.undo(kin, None)


def test_a_family_branches(files: list[str]) -> None:
    a, b, c, d = files
    kin = Family().with_child(a, b).with_child(a, c).with_child(c, d)
    assert edit.onward(kin)["picture"] == d
    assert [edit.undo(kin, path)["picture"] for path in (d, c, b)] == [c, a, a]


def test_a_picture_that_was_cleared_away_is_missed_in_a_sentence() -> None:
    change = edit.undo(Family().with_child("/nowhere/a.png", "b.png"), "b.png")
    assert "picture" not in change
    assert "The picture is not here any more" in text(change["status"])


def test_an_edit_remembers_its_parent(studio: Studio, given: dict[str, Any]) -> None:
    seen, _ = press_edit(studio, given)
    first = last(seen, "family")
    seen, _ = press_edit(
        studio, {**given, "picture": first.newest, "family": first, "instruction": "green"}
    )
    kin = last(seen, "family")
    assert kin.parents[kin.newest] == first.newest
    assert kin.parents[first.newest] == given["picture"]


def test_another_picture_has_no_paint_and_no_parents(given: dict[str, Any]) -> None:
    change = edit.receive(given["picture"])
    assert change["picture"] == given["picture"]
    assert change["painting"] is False
    assert change["canvas"] is None
    assert change["undo"]["interactive"] is False


def test_each_visitor_stops_their_own() -> None:
    visits = Visits()
    one, other = SimpleNamespace(session_hash="1"), SimpleNamespace(session_hash="2")
    with visits.work(one) as first, visits.work(other) as second:
        visits.end(one)
        assert (first.is_set(), second.is_set()) == (True, False)


def test_who_leaves_stops_nothing() -> None:
    visits, visitor = Visits(), SimpleNamespace(session_hash="1")
    with visits.work(visitor) as stop:
        visits.leave(visitor)
    assert not stop.is_set()


def test_who_began_something_is_not_greeted_any_more() -> None:
    visits, visitor = Visits(), SimpleNamespace(session_hash="1")
    assert not visits.knows(visitor)
    with visits.work(visitor):
        pass
    assert visits.knows(visitor)
    visits.leave(visitor)
    assert not visits.knows(visitor)
