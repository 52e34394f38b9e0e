"""The History tab without a browser: what its handlers find, keep, delete, and open again."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app import desk, files, options
from app.errors import Refused
from app.images import Canonical, open_picture, read_recipe, save_png, to_pixels, to_tensor
from app.jobs import Artifact, Job
from app.models import Models
from app.pipeline import Inputs
from app.recipe import VERSION
from app.request import Request, make_request
from app.slot import PICTURE
from app.tabs import again, generate, history, past
from app.tabs.common import Change
from app.tabs.past import PAGE, View
from app.terminal import amount
from app.worker import Worker
from tests.handlers import text

OWNER = "a" * 32


class Idle:
    """An executor that leaves the list to the test."""

    def __init__(self) -> None:
        self.warm: Future[None] = Future()
        self.warm.set_result(None)

    def start(self) -> None: ...

    def wake(self) -> None: ...

    def cancel(self, job_id: str) -> None: ...

    def close(self, deadline: float = 15.0) -> None: ...


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker whose list and results lie in a folder of the test."""
    monkeypatch.setenv("SYNESTHETE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SYNESTHETE_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    worker = Worker(Models("cpu"), executor=Idle())
    yield worker
    worker.close()


def order(worker: Worker, prompt: str = "a red apple", owner: str = OWNER, **typed: Any) -> Job:
    """A job that waits."""
    asked = options.read({"prompt": prompt, "seed": 7, **typed})
    return worker.order(asked, threading.Event(), owner).job


def finish(worker: Worker, job: Job, shade: int = 90) -> Path:
    """Make its picture: one colour, and its recipe."""
    claimed = worker.store.claim("test", 60)
    assert claimed is not None
    assert claimed.id == job.id
    request = desk.request_of(job.request).model_dump(mode="json")
    recipe = {"synesthete": VERSION, "request": request}
    place = desk.place_of(job.request)
    place.parent.mkdir(exist_ok=True)
    path = save_png(place, np.full((32, 32, 3), shade, np.uint8), recipe)
    file = Artifact(PICTURE, str(path), files.digest(path), path.stat().st_size)
    assert worker.store.finish(claimed, artifacts=[file])
    return path


def made(worker: Worker, prompt: str = "a red apple", owner: str = OWNER, **typed: Any) -> Path:
    return finish(worker, order(worker, prompt, owner, **typed))


def fields(view: View | None = None, **others: Any) -> dict[str, Any]:
    return {"search": "", "favourites": False, "which": "", "view": view or View(), **others}


def arrive(worker: Worker, owner: str = OWNER, **others: Any) -> Change:
    return past.arrive(worker, fields(**others), owner=owner)


def choose(worker: Worker, index: int = 0, view: View | None = None) -> View:
    """Choose one of the list; what is looked at then."""
    view = view or arrive(worker)["view"]
    return past.choose(worker, {"view": view}, owner=OWNER, index=index)["view"]


def captions(change: Change) -> list[str]:
    return [caption for _, caption in change["gallery"]["value"]]


# --- the list --------------------------------------------------------------------------------


def test_the_newest_comes_first_and_each_has_a_thumbnail(worker: Worker) -> None:
    made(worker, "a red apple")
    made(worker, "a green pear")
    change = arrive(worker)
    assert captions(change) == ["a green pear", "a red apple"]
    for path, _ in change["gallery"]["value"]:
        assert open_picture(path).pixels.shape == (32, 32, 3)
    assert "2 entries" in text(change["usage"])


def test_variations_are_told_apart_by_their_seeds(worker: Worker) -> None:
    made(worker, "a red apple", seed=8)
    made(worker, "a green pear")
    made(worker, "a red apple", seed=9)
    seen = captions(arrive(worker))
    assert seen == ["a red apple (seed 9)", "a green pear", "a red apple (seed 8)"]


def test_another_owner_sees_nothing_and_reaches_nothing(worker: Worker) -> None:
    made(worker)
    change = arrive(worker, owner="b" * 32)
    assert captions(change) == []
    assert "Nothing yet" in text(change["status"])
    view = choose(worker)
    for act in (past.favourite, past.delete, past.compare):
        with pytest.raises(Refused, match="There is no job"):
            act(worker, fields(view), owner="b" * 32)


def test_search_and_favourites_narrow_the_list(worker: Worker) -> None:
    made(worker, "a red apple")
    made(worker, "a green pear")
    assert captions(arrive(worker, search="APPLE red")) == ["a red apple"]
    change = arrive(worker, search="plum")
    assert "Nothing here matches" in text(change["status"])
    assert "favourites" not in text(change["status"])
    change = past.favourite(worker, fields(choose(worker, 1)), owner=OWNER)
    assert captions(change) == ["a green pear", "★ a red apple"]
    assert change["gallery"]["selected_index"] == 1
    assert captions(arrive(worker, favourites=True)) == ["★ a red apple"]
    past.favourite(worker, fields(choose(worker, 1)), owner=OWNER)
    assert captions(arrive(worker, favourites=True)) == []


def test_older_and_newer_turn_the_pages(worker: Worker) -> None:
    for number in range(PAGE + 2):
        made(worker, f"apple {number}")
    first = arrive(worker)
    assert len(captions(first)) == PAGE
    assert first["older"]["interactive"]
    assert not first["newer"]["interactive"]
    second = past.older(worker, fields(first["view"]), owner=OWNER)
    assert captions(second) == ["apple 1", "apple 0"]
    assert not second["older"]["interactive"]
    back = past.newer(worker, fields(second["view"]), owner=OWNER)
    assert captions(back) == captions(first)


def test_words_of_people_are_never_markup(worker: Worker) -> None:
    made(worker, "<img src=x onerror=alert(1)> & co")
    view = arrive(worker)["view"]
    change = past.choose(worker, {"view": view}, owner=OWNER, index=0)
    assert "<img" not in change["about"]
    assert "&lt;img" in change["about"]
    assert "<img" not in past.delete(worker, fields(change["view"]), owner=OWNER)["status"]


def test_what_has_no_picture_says_why_in_its_place(worker: Worker) -> None:
    job = order(worker)
    claimed = worker.store.claim("test", 60)
    assert claimed is not None
    worker.store.fail(claimed, "failed.bug", "The sky fell.")
    change = arrive(worker)
    assert captions(change) == ["a red apple (failed)"]
    shown = past.choose(worker, {"view": change["view"]}, owner=OWNER, index=0)
    assert "Failed. The sky fell." in text(shown["about"])
    assert shown["download"]["visible"] is False
    assert json.loads(shown["recipe"])["request"]["prompt"] == "a red apple"
    with pytest.raises(Refused, match="has no picture"):
        past.compare(worker, fields(shown["view"]), owner=OWNER)
    assert job.id in change["view"].shown


def test_a_file_that_somebody_moved_is_missed_in_words(worker: Worker) -> None:
    made(worker).unlink()
    change = arrive(worker)
    assert captions(change) == ["a red apple"]
    shown = past.choose(worker, {"view": change["view"]}, owner=OWNER, index=0)
    assert "not where it was saved" in text(shown["about"])
    assert shown["picture"]["visible"] is False


def test_the_file_to_download_is_the_one_that_was_saved(worker: Worker) -> None:
    path = made(worker)
    change = past.choose(worker, {"view": arrive(worker)["view"]}, owner=OWNER, index=0)
    copy = Path(change["download"]["value"])
    assert copy.name == path.name
    assert copy.read_bytes() == path.read_bytes()
    assert json.loads(change["recipe"]) == read_recipe(path)


def test_what_is_highlighted_and_what_is_shown_are_one(worker: Worker) -> None:
    for prompt in ("a red apple", "a green pear", "a duck"):
        made(worker, prompt)
    view = choose(worker, 1)  # the pear
    change = arrive(worker, view=view, search="duck")
    assert change["view"].chosen == change["view"].shown[0]
    assert "a duck" in change["about"]
    assert change["gallery"]["selected_index"] == 0
    change = arrive(worker, view=change["view"], search="plum")
    assert (change["view"].chosen, change["detail"]["visible"]) == ("", False)
    change = past.delete(worker, fields(choose(worker, 1)), owner=OWNER)
    assert "a red apple" in change["about"]
    assert change["gallery"]["selected_index"] == 1


# --- deleting --------------------------------------------------------------------------------


def test_delete_hides_keeps_the_file_and_undo_brings_back_the_last(worker: Worker) -> None:
    paths = [made(worker, "a red apple"), made(worker, "a green pear")]
    view = past.delete(worker, fields(choose(worker, 0)), owner=OWNER)["view"]
    change = past.delete(worker, fields(view), owner=OWNER)  # its neighbour is looked at now
    assert captions(change) == []
    assert change["detail"]["visible"] is False
    assert change["undo"]["interactive"]
    assert all(path.exists() for path in paths)
    change = past.undo(worker, fields(change["view"]), owner=OWNER)
    assert captions(change) == ["a red apple"]
    change = past.undo(worker, fields(change["view"]), owner=OWNER)
    assert captions(change) == ["a green pear", "a red apple"]
    assert not change["undo"]["interactive"]


@pytest.mark.parametrize("too", [True, False])
def test_everything_goes_and_files_only_when_that_is_wished(worker: Worker, too: bool) -> None:
    mine, changed, other = made(worker), made(worker, "a pear"), made(worker, "a plum", "b" * 32)
    changed.write_bytes(changed.read_bytes() + b"somebody painted on it")
    assert "2 entries of yours" in text(past.warn(worker, {}, owner=OWNER)["warning"])
    change = past.forget(worker, fields(files=too), owner=OWNER)
    assert captions(change) == []
    assert worker.store.export(OWNER) == []
    assert mine.exists() is not too
    assert changed.exists()
    assert other.exists()
    assert captions(arrive(worker, owner="b" * 32)) == ["a plum"]
    with pytest.raises(Refused, match="nothing of yours"):
        past.warn(worker, {}, owner=OWNER)


# --- on its way ------------------------------------------------------------------------------


def test_what_waits_stands_on_top_and_can_be_stopped(worker: Worker) -> None:
    done = made(worker, "a pear")
    assert done.exists()
    first, second = order(worker, "a red apple"), order(worker, "a plum")
    change = arrive(worker)
    assert captions(change) == ["a pear"]
    assert change["underway"]["visible"]
    assert change["which"]["choices"] == [("a red apple", first.id), ("a plum", second.id)]
    given = fields(change["view"], which=second.id)
    assert "1 picture before yours" in text(past.tick(worker, given, owner=OWNER)["watching"])
    past.stop(worker, given, owner=OWNER)
    (run,) = [run for run in worker.runs_of(OWNER) if run.job.id == second.id]
    assert run.over.wait(10)
    change = past.tick(worker, given, owner=OWNER)
    assert captions(change) == ["a plum (stopped)", "a pear"]
    said = past.stop(worker, given, owner=OWNER)["status"]
    assert "over already" in text(said)


def test_nobody_stops_what_is_another_owners(worker: Worker) -> None:
    job = order(worker)
    past.stop(worker, fields(which=job.id), owner="b" * 32)
    (run,) = worker.runs_of(OWNER)
    assert not run.stop.is_set()


def test_a_page_looks_more_often_while_something_is_on_its_way(worker: Worker) -> None:
    change = arrive(worker)
    assert change["underway"]["visible"] is False
    rest = change["timer"]["value"]
    order(worker)  # in another tab
    change = past.tick(worker, fields(change["view"]), owner=OWNER)
    assert change["underway"]["visible"]
    assert change["timer"]["value"] < rest
    assert text(change["status"]) == ""


def test_what_began_and_ended_between_two_looks_is_in_the_list(worker: Worker) -> None:
    change = arrive(worker)
    made(worker)
    assert worker.runs_of(OWNER) == []
    change = past.tick(worker, fields(change["view"]), owner=OWNER)
    assert captions(change) == ["a red apple"]
    assert "gallery" not in past.tick(worker, fields(change["view"]), owner=OWNER)


# --- several ---------------------------------------------------------------------------------


def test_two_are_compared_once_both_were_chosen(worker: Worker) -> None:
    paths = [made(worker, "a red apple"), made(worker, "a green pear")]
    change = past.compare(worker, fields(choose(worker, 1)), owner=OWNER)
    assert "both" not in change
    view = choose(worker, 0, change["view"])
    change = past.compare(worker, fields(view), owner=OWNER)
    shown = [Path(path).read_bytes() for path in change["both"]["value"]]
    assert shown == [path.read_bytes() for path in paths]
    assert change["view"].held == ""


def test_a_zip_holds_what_the_search_finds_as_it_was_saved(worker: Worker) -> None:
    path = made(worker, "a red apple")
    made(worker, "a green pear")
    change = past.pack(worker, fields(search="apple"), owner=OWNER)
    with zipfile.ZipFile(change["zipped"]["value"]) as packed:
        assert packed.namelist() == [path.name]
        assert packed.read(path.name) == path.read_bytes()
    with pytest.raises(Refused, match="no picture here"):
        past.pack(worker, fields(search="plum"), owner=OWNER)


def test_two_files_of_one_name_both_go_into_a_zip(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "x.png" for folder in "ab"]
    for path in paths:
        path.parent.mkdir()
        path.write_text(path.parent.name)
    past.write_zip(tmp_path / "all.zip", paths)
    with zipfile.ZipFile(tmp_path / "all.zip") as packed:
        assert [packed.read(name) for name in ("x.png", "x-2.png")] == [b"a", b"b"]


def test_too_much_for_a_zip_is_refused(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    made(worker)
    monkeypatch.setattr(past, "MOST_ZIP", 10)
    with pytest.raises(Refused, match="a ZIP holds at most"):
        past.pack(worker, fields(), owner=OWNER)


# --- open again ------------------------------------------------------------------------------

REQUESTS: list[dict[str, Any]] = [
    {"prompt": "a castle | fog::0.5", "quality": "best"},
    {"prompt": "x", "negative": "people", "quality": "draft", "seed": 0, "start": "fractal"},
    {"prompt": "x", "size": "320x192", "steps": 12, "views": 3, "generator": "pixels"},
    {"prompt": "x", "size": "128x128", "steps": 45, "views": 10},
]


@pytest.mark.parametrize("typed", REQUESTS)
def test_the_page_asks_again_for_the_very_same(typed: dict[str, Any]) -> None:
    (request,) = options.read({"seed": 7, **typed}).requests
    opened = again.reopen(request)
    assert opened.tab == "Generate"
    assert opened.said == "Open again: Generate makes the same picture."
    assert opened.fields.keys() < set(history.AGAIN["Generate"])
    assert options.read(generate.typed(opened.fields)).requests == [request]


def test_the_picture_stands_there_again_with_what_can_be_done_with_it(worker: Worker) -> None:
    path = made(worker)
    opened = past.from_list(worker, OWNER, choose(worker))
    assert opened.fields.keys() == set(history.AGAIN["Generate"])
    (card,) = opened.fields["shown"].cards
    assert Path(card.path).read_bytes() == path.read_bytes()
    assert opened.fields["result"]["value"] == opened.fields["finished"] == card.path
    assert opened.fields["actions"]["visible"]
    path.unlink()
    assert "shown" not in past.from_list(worker, OWNER, choose(worker)).fields


def test_pictures_that_were_given_come_back_with_it(worker: Worker, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 3), np.uint8)
    begin = save_png(tmp_path / "begin.png", noise)
    like = save_png(tmp_path / "like.png", noise[:, ::-1])
    job = order(worker, init=str(begin), init_noise=0.3, image_prompt=[f"{like}::-0.5"])
    opened = again.reopen(desk.request_of(job.request), again.kept(job, worker.home))
    assert np.array_equal(open_picture(opened.fields["init"]).pixels, noise)
    assert np.array_equal(open_picture(opened.fields["image_prompt"][0]).pixels, noise[:, ::-1])
    assert (opened.fields["init_noise"], opened.fields["image_weight"]) == (0.3, "-0.5")
    assert "makes the same" in opened.said
    for file in worker.home.inputs.iterdir():
        file.unlink()
    opened = again.reopen(desk.request_of(job.request), again.kept(job, worker.home))
    assert opened.fields["init"] is None
    assert "the picture it began from" in opened.said
    assert "the pictures that steered it" in opened.said


def test_all_pictures_that_steered_come_back_each_with_its_weight(
    worker: Worker, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 3), np.uint8)
    one = save_png(tmp_path / "one.png", noise)
    other = save_png(tmp_path / "other.png", noise[::-1])
    job = order(worker, image_prompt=[f"{one}::0.5", f"{other}::2"])
    opened = again.reopen(desk.request_of(job.request), again.kept(job, worker.home))
    found = [open_picture(path).pixels for path in opened.fields["image_prompt"]]
    assert [np.array_equal(a, b) for a, b in zip(found, (noise, noise[::-1]), strict=True)] == [
        True,
        True,
    ]
    assert opened.fields["image_weight"] == "0.5, 2"
    assert "makes the same" in opened.said


def test_what_the_page_has_no_control_for_is_named() -> None:
    (request,) = options.read({"prompt": "x", "seed": 7, "augment": "Af"}).requests
    said = again.reopen(request).said
    assert said == "Open again, but this page cannot bring back its augmentations."
    sound = {"sha256": "0" * 64, "name": "duck.flac"}
    request = Request.model_validate({"sounds": (sound,), "seed": 7})
    assert "cannot bring back the sounds that steered it" in again.reopen(request).said


def edit_request(**edit: Any) -> tuple[Request, Inputs]:
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255
    given = {
        "prompt": "a green apple",
        "init": {"sha256": "1" * 64, "name": "apple.jpg"},
        "edit": {
            "instruction": "green",
            "kind": "recolour",
            "mask": {"sha256": "2" * 64, "name": "mask"},
            "strength": 0.6,
            **edit,
        },
        "seed": 9,
    }
    inputs = Inputs({"1" * 64: to_tensor(Canonical(noise))}, masks={"2" * 64: mask})
    return make_request(given, "draft"), inputs


def test_an_edit_comes_back_with_its_picture_and_place() -> None:
    request, inputs = edit_request()
    opened = again.reopen(request, inputs)
    assert opened.tab == "Edit"
    fields = opened.fields
    picture = to_pixels(inputs.pictures["1" * 64])
    assert np.array_equal(open_picture(fields["picture"]).pixels, picture)
    assert np.array_equal(open_picture(fields["mask"]).pixels[..., 0], inputs.masks["2" * 64])
    wanted = {"instruction": "green", "strength": 0.6, "quality": "draft", "seed": "9"}
    assert {name: fields[name] for name in wanted} == wanted
    assert fields["everywhere"] is False
    assert fields.keys() - {"status"} == set(history.AGAIN["Edit"])


def test_an_edit_whose_picture_is_gone_says_so() -> None:
    request, _ = edit_request(region="the apple")
    opened = again.reopen(request)
    assert opened.fields["picture"] is None
    assert opened.fields["place"] == "the apple"
    assert "the picture 'apple.jpg' is not here" in opened.said


def test_a_file_with_a_recipe_opens_and_one_of_ours_with_all_that_was_given(
    worker: Worker, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 3), np.uint8)
    begin = save_png(tmp_path / "begin.png", noise)
    path = made(worker, "a red apple", init=str(begin))
    ours = past.from_file(worker, OWNER, str(path))
    theirs = past.from_file(worker, "b" * 32, str(path))
    assert ours.fields["prompt"] == theirs.fields["prompt"] == "a red apple"
    assert ours.fields["init"]
    assert theirs.fields["init"] is None
    with pytest.raises(Refused, match="carries no whole recipe"):
        past.from_file(worker, OWNER, str(begin))


# --- words -----------------------------------------------------------------------------------


def test_amounts_are_told_in_words() -> None:
    told = [amount(size) for size in (0, 10, 340_000, 12_500_000, 2_000_000_000)]
    assert told == ["0 kB", "1 kB", "340 kB", "12.5 MB", "2.0 GB"]
