"""The Edit tab without a browser: its parts, looking first, an edit, coming back, going on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image as Picture

from app import editing
from app.images import read_recipe
from app.tabs import Studio, changing, common, edit, making
from app.tabs.common import Visits
from app.tabs.edit import Family
from guidance.instruct import KINDS
from tests.edit_page import SIDE, disc, press_edit, press_look, propose, read, save
from tests.edit_page import given as given
from tests.edit_page import studio as studio
from tests.handlers import inline, last, text, watch

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
    marked = inline(last(seen, "preview")["value"].url)
    changed = (np.abs(marked - disc().astype(int)) > 40).any(axis=2)  # more than by the JPEG
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


# --- coming back ------------------------------------------------------------------------------


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
