"""The page without a browser: what its handlers say, show and refuse, and what it costs to open."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from PIL import Image as Picture

from app import catalog, edge, options, planner, ui, worker
from app.errors import Failed
from app.images import read_recipe
from app.jobs import Limits
from app.models import Models
from app.request import CHOICES, Request
from app.slot import CLOSED
from app.tabs import Studio, common, generate, generate_parts, making
from app.worker import Worker
from tests.handlers import watch
from tests.tiny_worker import models as models

GIVEN = {
    "prompt": "a red apple",
    "negative": "",
    "quality": "draft",
    "size": "32x32",
    "count": 1,
    "seed": "7",
    "start": "flat",
    "init": None,
    "init_noise": 0,
    "image_prompt": None,
    "image_weight": 1,
    "generator": "pixels",
    "clip": "pocket",
    "steps": "3",
    "views": "2",
}
LONG = {**GIVEN, "steps": "2000"}


@pytest.fixture
def studio(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """A studio whose results go to a folder of the test."""
    monkeypatch.setenv("SYNESTHETE_RESULTS", str(tmp_path))
    studio = Studio(lambda: Worker(models))
    yield studio
    studio.close()


def press(studio: Studio, given: dict[str, Any]) -> tuple[list[Any], gr.Error | None]:
    """What a visitor sees after pressing Generate."""
    return watch(making.course(studio, making.asked(given, "somebody"), threading.Event()))


def order(studio: Studio, given: dict[str, Any]) -> worker.Run:
    """A run on the worker's list."""
    return studio.worker().result().ask(generate.typed(given), threading.Event())


def outcome(run: worker.Run) -> common.Change:
    """What the tab shows of a run that is over."""
    return common.outcome(run, making._details, making._finished)


def text(change: common.Change) -> str:
    """The status line without its markup."""
    return re.sub("<[^>]*>", "", change.get("status", ""))


# --- before anything happens -----------------------------------------------------------------


def test_the_page_is_laid_out_without_torch() -> None:
    """Torch takes seconds to import, and the page is to be there first."""
    code = (
        "import sys\n"
        "from app.tabs import Studio\n"
        "from app.ui import build\n"
        "build(Studio())\n"
        "print(*{'torch', 'kornia', 'open_clip'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_what_people_choose_from_is_what_there_is() -> None:
    assert [name for _, name in generate.STARTS] == list(CHOICES["start"])
    assert [name for _, name in common.QUALITIES] == list(CHOICES["quality"])
    assert all(options.size(size) for _, size in generate.SIZES if size)
    assert {shape for _, shape in generate_parts.SHAPES} == {"", *making.SHAPES}


def test_a_visitor_hears_when_the_models_are_ready(studio: Studio) -> None:
    seen, _ = watch(common.greeting(studio))
    assert [text(change) for change in seen] == [
        "The models are loading. Go ahead meanwhile.",
        "Ready.",
    ]


def test_a_visitor_hears_why_the_models_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = replace(catalog.CLIPS["pocket"], folder=str(tmp_path / "nowhere"))
    monkeypatch.setitem(catalog.CLIPS, "pocket", nowhere)
    studio = Studio(lambda: Worker(Models("cpu")))
    seen, _ = watch(common.greeting(studio))
    studio.close()
    assert "pocket cannot be loaded" in text(seen[-1])


@pytest.mark.parametrize("typed", ["0", "65536", "-1", "http", "7860.5", ""])
def test_a_wrong_port_is_refused(typed: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="1 to 65535"):
        edge._port(typed)


def test_a_taken_port_is_told_in_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = subprocess.run(
            [sys.executable, "app.py"],
            cwd=Path(ui.__file__).parents[1],
            env={**os.environ, "PORT": str(port)},
            capture_output=True,
            text=True,
        )
    assert found.returncode == 2
    assert found.stderr.endswith(f"The port {port} is taken. Choose another with --port.\n")
    assert "Traceback" not in found.stderr


# --- fields become options -------------------------------------------------------------------


def test_every_field_is_an_option_of_the_command_line() -> None:
    filled = {**GIVEN, "init": "a.png", "image_prompt": ["b.png"], "negative": "fog"}
    known = {*Request.model_fields, *options.READERS, "quality", "count"}
    assert set(generate.typed(filled)) <= known
    assert filled.keys() - generate.typed(filled).keys() == {"image_weight", "start"}


def test_what_is_empty_is_left_to_the_quality() -> None:
    empty = {**GIVEN, "size": "", "steps": None, "views": " ", "seed": ""}
    assert generate.typed(empty).keys() & {"size", "steps", "views", "seed"} == set()


@pytest.mark.parametrize(
    ("quality", "shape", "size"),
    [
        ("draft", "", None),
        ("draft", "wide", "192x128"),
        ("normal", "tall", "192x288"),
        ("best", "large", "512x512"),
        ("best", "320x192", "320x192"),
    ],
)
def test_a_shape_is_as_large_as_the_quality_says(quality: str, shape: str, size: str) -> None:
    assert making.typed({**GIVEN, "quality": quality, "size": shape}).get("size") == size


def test_a_seed_of_0_is_a_seed() -> None:
    assert generate.typed({**GIVEN, "seed": "0"})["seed"] == 0


def test_a_picture_that_steers_has_its_weight() -> None:
    given = {**GIVEN, "image_prompt": ["a.png"], "image_weight": -0.5}
    assert generate.typed(given)["image_prompt"] == ["a.png::-0.5"]


@pytest.mark.parametrize(
    ("weights", "found"),
    [
        ("0.5, −1 2", ["a.png::0.5", "b.png::-1", "c.png::2"]),
        ("0.5", ["a.png::0.5", "b.png::1", "c.png::1"]),
        ("", ["a.png::1", "b.png::1", "c.png::1"]),
    ],
)
def test_up_to_three_pictures_steer_each_with_its_weight(weights: str, found: list[str]) -> None:
    gallery = [("a.png", None), ("b.png", None), ("c.png", None)]
    given = {**GIVEN, "image_prompt": gallery, "image_weight": weights}
    assert generate.typed(given)["image_prompt"] == found


# --- a run -----------------------------------------------------------------------------------


def test_a_run_ends_with_a_picture_that_carries_its_recipe(studio: Studio, tmp_path: Path) -> None:
    seen, error = press(studio, GIVEN)
    assert error is None
    shown = Path(
        next(change for change in seen if "result" in change and "value" in change["result"])[
            "result"
        ]["value"]
    )
    (saved,) = tmp_path.glob("*.png")
    assert saved.name == "a-red-apple-seed7.png"
    assert shown.read_bytes() == saved.read_bytes()
    assert read_recipe(shown)["request"]["steps"] == 3


def test_the_buttons_change_places_and_back(studio: Studio) -> None:
    seen, _ = press(studio, GIVEN)
    states = [
        (change["generate"]["interactive"], change["stop"]["interactive"])
        for change in seen
        if "generate" in change
    ]
    assert [state for state, _ in itertools.groupby(states)] == [(False, True), (True, False)]


def test_the_used_seed_is_shown_and_can_be_kept(studio: Studio) -> None:
    seen, _ = press(studio, {**GIVEN, "seed": ""})
    (label,) = {change["reuse"]["value"] for change in seen if "reuse" in change}
    seed = common.named_seed(label)
    assert seed.isdecimal()
    assert any(f"<dt>Seed</dt><dd>{seed}</dd>" in change.get("details", "") for change in seen)


def test_a_stopped_run_keeps_its_picture(studio: Studio, tmp_path: Path) -> None:
    run = order(studio, LONG)
    while not run.look:
        assert not run.over.wait(0.01)
    run.stop.set()
    assert run.over.wait(30)
    assert run.error == ""
    index = run.look.index
    assert run.saved == tmp_path / f"a-red-apple-seed7-step{index}.png"
    assert read_recipe(run.saved)["run"]["steps"] == index
    assert f"Stopped at step {index} of 2000" in text(outcome(run))


def test_a_run_that_fails_keeps_its_picture_and_says_why(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = planner.make

    def fail(*args: Any, **kwargs: Any) -> Iterator[planner.Made]:
        yield next(make(*args, **kwargs))
        raise Failed("test", "The power went <out>.")

    monkeypatch.setattr(planner, "make", fail)
    seen, error = press(studio, GIVEN)
    assert error is not None
    assert error.message == "The power went &lt;out&gt;."
    assert text(seen[-1]) == "The power went &lt;out&gt;."
    assert [path.name for path in tmp_path.glob("*.png")] == ["a-red-apple-seed7-step0.png"]


def test_a_bug_is_told_in_a_sentence_and_logged_in_full(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    studio.worker().result().warm.result()
    monkeypatch.setattr(planner, "plan", lambda *args: 1 / 0)
    _, error = press(studio, GIVEN)
    assert error is not None
    assert error.message.startswith("Something went wrong that should not have")
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"prompt": " "}, "Nothing steers the picture yet"),
        ({"prompt": "a::30"}, "The weight 30 of 'a' is out of range"),
        ({"size": "huge"}, "'huge' is no size"),
        ({"size": "4000"}, "width: 4000 is too large. Use 2048 or less."),
        ({"seed": str(2**64)}, "is too large. Use "),
        ({"steps": "ten"}, "steps: 'ten' is no whole number"),
        ({"steps": "0"}, "steps: 0 is too small. Use 1 or more."),
        ({"init": __file__}, "is no picture that we can read"),
        ({"generator": "coco"}, "model coco is not on this machine"),
        ({"image_prompt": [(__file__, None)] * 4}, "4 pictures as prompts are too many"),
        ({"image_prompt": [__file__], "image_weight": "heavy"}, "'heavy' is no weight"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(
    studio: Studio, tmp_path: Path, wrong: dict[str, Any], sentence: str
) -> None:
    seen, error = press(studio, {**GIVEN, **wrong})
    assert error is not None
    assert sentence in error.message
    assert seen[-1]["generate"]["interactive"] is True
    assert list(tmp_path.iterdir()) == []


def test_a_picture_to_start_from_and_one_that_steers(studio: Studio, tmp_path: Path) -> None:
    picture = tmp_path / "given.png"
    Picture.new("RGB", (48, 32), "orange").save(picture)
    given = {**GIVEN, "init": str(picture), "init_noise": 0.5, "image_prompt": [str(picture)]}
    run = order(studio, given)
    assert run.over.wait(60)
    assert run.error == ""
    request = read_recipe(run.saved)["request"]
    assert request["init"]["name"] == "given.png"
    assert request["init_noise"] == 0.5
    assert "'given.png' (+1)" in run.steering


def test_words_of_visitors_are_shown_as_words(studio: Studio) -> None:
    seen, _ = press(studio, {**GIVEN, "prompt": "<img src=x onerror=alert(1)>"})
    shown = "".join(change.get("details", "") for change in seen)
    assert "<img" not in shown
    assert "&lt;img" in shown


# --- several visitors ------------------------------------------------------------------------


def test_the_second_waits_for_the_first(studio: Studio) -> None:
    first, second = order(studio, LONG), order(studio, GIVEN)
    assert studio.worker().result().ahead(second) == 1
    assert text({"status": common.progress(second, 1)}) == "Waiting: 1 picture before yours."
    assert second.look is None
    first.stop.set()
    assert second.over.wait(60)
    assert first.over.is_set()
    assert second.saved


def test_who_leaves_while_waiting_is_passed_over(studio: Studio, tmp_path: Path) -> None:
    first, second = order(studio, LONG), order(studio, {**GIVEN, "prompt": "a pear"})
    second.stop.set()
    first.stop.set()
    assert second.over.wait(60)
    assert text(outcome(second)) == "Stopped before it began."
    assert not list(tmp_path.glob("a-pear*"))


def test_the_wait_is_shown(studio: Studio) -> None:
    first, second = order(studio, LONG), order(studio, GIVEN)
    before = studio.worker().result().wait(second)
    assert before.jobs == 1
    told = text({"status": common.progress(second, before.jobs, before.seconds)})
    assert re.fullmatch("Waiting: 1 picture before yours, about .+ s\\.", told)
    first.stop.set()
    second.stop.set()


def test_who_leaves_does_not_stop_what_they_asked_for(studio: Studio) -> None:
    async def leave() -> None:
        begin = making.asked({**GIVEN, "steps": "40"}, "somebody")
        changes = making.course(studio, begin, threading.Event())
        async for change in changes:
            if "preview" in change:
                break
        await changes.aclose()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, leave()).result()
    (run,) = studio.worker().result().runs_of("somebody")
    assert run.over.wait(60)
    assert run.look.index == 40
    assert run.saved


def test_what_is_on_the_list_waits_while_the_studio_is_closed(studio: Studio) -> None:
    run = order(studio, LONG)
    while not run.look:
        assert not run.over.wait(0.01)
    studio.close()
    assert run.over.is_set()
    assert text(outcome(run)) == CLOSED


@pytest.mark.parametrize(("shared", "minutes"), [("", 60), ("1", 5)])
def test_who_is_alone_may_have_more_of_it_wait(
    shared: str, minutes: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three of the best on a slow machine are more than one visitor of many should ask for."""

    class Idle:
        def __init__(self) -> None:
            self.store = SimpleNamespace(limits=Limits())

        def close(self) -> None:
            pass

    monkeypatch.setenv("SYNESTHETE_SHARED", shared)
    monkeypatch.setattr(worker, "Worker", Idle)
    studio = Studio()
    assert studio.worker().result().store.limits.owner_seconds == minutes * 60
    studio.close()
