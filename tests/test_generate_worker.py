"""What a worker does beside a picture: going on, more steps, varying, several, curves and films."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from app import desk, film, video
from app.desk import Trace
from app.errors import Refused
from app.images import read_recipe
from app.jobs import Limits
from app.worker import Run, Worker
from tests.tiny_worker import OWNER
from tests.tiny_worker import models as models
from tests.tiny_worker import worker as worker

TYPED: dict[str, Any] = {
    "prompt": "a red apple",
    "quality": "draft",
    "size": "32x32",
    "seed": 7,
    "start": "flat",
    "steps": 6,
    "views": 2,
}
PLENTY = Limits(owner_seconds=math.inf, queue_seconds=math.inf)


def make(worker: Worker, **typed: Any) -> Run:
    """A picture, ready."""
    run = worker.ask({**TYPED, **typed}, threading.Event(), OWNER)
    return over(run)


def over(run: Run) -> Run:
    assert run.over.wait(60)
    assert run.error == ""
    return run


def stop_early(worker: Worker, **typed: Any) -> Run:
    """A picture, stopped in the middle."""
    run = worker.ask({**TYPED, **typed}, threading.Event(), OWNER)
    while not (run.look and run.look.index):
        assert not run.over.wait(0.005)
    run.stop.set()
    return over(run)


def pixels(run: Run) -> np.ndarray:
    assert run.saved is not None
    with Picture.open(run.saved) as picture:
        return np.asarray(picture)


def recipe(run: Run) -> dict[str, Any]:
    assert run.saved is not None
    return dict(read_recipe(run.saved))


# --- going on --------------------------------------------------------------------------------


def test_what_was_stopped_goes_on_to_the_very_picture_of_a_run_that_never_stopped(
    worker: Worker,
) -> None:
    whole = make(worker, steps=60)
    stopped = stop_early(worker, steps=60)
    assert stopped.look.index < 60
    assert worker.can_go_on(stopped.job)
    done = over(worker.go_on(stopped.job.id, threading.Event(), OWNER))
    assert done.look.index == 60
    assert done.saved != stopped.saved
    assert np.array_equal(pixels(done), pixels(whole))
    assert not worker.can_go_on(done.job)
    assert "from" not in recipe(done)["run"]
    assert len(worker.store.history(OWNER)) == 2  # it is the same picture, not another one


def test_stopped_twice_shows_the_newest_picture(worker: Worker) -> None:
    first = stop_early(worker, steps=2000)
    run = worker.go_on(first.job.id, threading.Event(), OWNER)
    while not run.look or run.look.index <= first.look.index:
        assert not run.over.wait(0.005)
    run.stop.set()
    over(run)
    assert run.saved.stem.endswith(f"-step{run.look.index}")


def test_what_never_began_has_nothing_to_go_on_from(worker: Worker) -> None:
    first = worker.ask({**TYPED, "steps": 2000}, threading.Event(), OWNER)
    second = worker.ask(TYPED, threading.Event(), OWNER)
    second.stop.set()
    over(second)
    first.stop.set()
    over(first)
    assert not worker.can_go_on(second.job)
    with pytest.raises(Refused, match="nothing to go on from"):
        worker.go_on(second.job.id, threading.Event(), OWNER)


def test_more_steps_begin_where_the_picture_ended_and_say_so(worker: Worker) -> None:
    done = make(worker)
    assert worker.can_take_more(done.job)
    more = over(worker.more(done.job.id, 4, threading.Event(), OWNER))
    assert (more.look.index, more.look.steps) == (10, 10)
    assert more.trace.steps[: len(done.trace.steps)] == done.trace.steps
    assert f"Goes on from step 6 of {done.saved.name}." in more.notes
    assert recipe(more)["run"]["from"] == {"picture": done.saved.name, "step": 6}
    assert recipe(more)["request"]["steps"] == 10
    assert not np.array_equal(pixels(more), pixels(done))


def test_no_more_steps_than_a_request_takes_and_none_of_what_is_not_done(worker: Worker) -> None:
    done = make(worker)
    for steps in (0, 1995):
        with pytest.raises(Refused, match="at most 2000"):
            worker.more(done.job.id, steps, threading.Event(), OWNER)
    desk.end_path(worker.home.run(done.job.id)).unlink()
    assert not worker.can_take_more(done.job)
    with pytest.raises(Refused, match="Use it as a start instead"):
        worker.more(done.job.id, 4, threading.Event(), OWNER)
    stopped = stop_early(worker, steps=2000)
    with pytest.raises(Refused, match="Continue this one first"):
        worker.more(stopped.job.id, 4, threading.Event(), OWNER)


def test_where_runs_ended_is_kept_of_the_newest_alone(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "_MOST_ENDS", 2)
    runs = [make(worker, steps=1) for _ in range(3)]
    assert [worker.can_take_more(run.job) for run in runs] == [False, True, True]


def test_variations_are_the_same_request_with_other_seeds(worker: Worker) -> None:
    done = make(worker)
    others = [over(run) for run in worker.vary(done.job.id, 2, threading.Event(), OWNER)]
    seeds = {recipe(run)["request"]["seed"] for run in (done, *others)}
    assert len(seeds) == 3
    for run in others:
        assert {**recipe(run)["request"], "seed": 7} == recipe(done)["request"]


def test_another_owner_reaches_none_of_it(worker: Worker) -> None:
    done = make(worker)
    for act in (
        lambda: worker.go_on(done.job.id, threading.Event(), "b" * 32),
        lambda: worker.more(done.job.id, 4, threading.Event(), "b" * 32),
        lambda: worker.vary(done.job.id, 1, threading.Event(), "b" * 32),
    ):
        with pytest.raises(Refused, match="There is no job"):
            act()


# --- several at once -------------------------------------------------------------------------


def test_several_pictures_are_several_jobs_and_one_stop_ends_all(worker: Worker) -> None:
    stop = threading.Event()
    worker.store.limits = PLENTY
    runs = worker.ask_all({**TYPED, "steps": 2000, "count": 3}, stop, OWNER)
    assert [run.request.seed for run in runs] == [7, 8, 9]
    while not runs[0].look:
        assert not runs[0].over.wait(0.005)
    stop.set()
    for run in runs:
        over(run)
    assert runs[0].saved
    assert [run.saved for run in runs[1:]] == [None, None]
    assert worker.best(runs) is None  # whoever stopped one wants to see that one


def test_where_not_all_fit_none_is_made(worker: Worker) -> None:
    worker.store.limits = replace(PLENTY, owner_jobs=2)
    with pytest.raises(Refused, match="2 of these 3 pictures fit"):
        worker.ask_all({**TYPED, "steps": 2000, "count": 3}, threading.Event(), OWNER)
    assert worker.store.history(OWNER) == []


# --- curves ----------------------------------------------------------------------------------


def test_a_trace_keeps_the_whole_way_in_few_points() -> None:
    trace = Trace()
    for step in range(2001):
        trace = trace.after(step, {"a": step / 7}, 2000)
    assert len(trace.steps) <= 200
    assert (trace.steps[0], trace.steps[-1]) == (0, 2000)
    assert trace.losses["a"][-1] == round(2000 / 7, 5)
    gaps = {after - before for before, after in zip(trace.steps, trace.steps[1:], strict=False)}
    assert max(gaps) == 11


def test_a_trace_holds_what_comes_late_and_what_ends_early() -> None:
    trace = Trace().after(0, {"a": 1.0}, 3).after(1, {"a": 0.5, "b": 2.0}, 3)
    trace = trace.after(2, {"b": 1.0}, 3)
    assert trace.losses == {"a": (1.0, 0.5, None), "b": (None, 2.0, 1.0)}


def test_going_back_to_a_snapshot_draws_that_part_of_a_trace_anew() -> None:
    trace = Trace()
    for step in (0, 1, 2, 3, 2, 3, 4):
        trace = trace.after(step, {"a": float(step)}, 9)
    assert trace.steps == (0, 1, 2, 3, 4)


def test_a_run_has_a_trace_of_every_target(worker: Worker) -> None:
    run = make(worker, prompt="a red apple | fog::-0.5")
    assert run.trace.steps == tuple(range(7))
    assert run.trace.losses.keys() >= {"a red apple", "fog"}
    newest = {name: values[-1] for name, values in run.trace.losses.items()}
    assert newest == {name: round(loss, 5) for name, loss in run.look.losses.items()}


# --- films -----------------------------------------------------------------------------------


def frames(path: Path) -> int:
    """How many pictures are in a film."""
    import av

    with av.open(str(path)) as file:
        return sum(1 for _ in file.decode(video=0))


def wait_for_film(worker: Worker, run: Run) -> Path:
    for _ in range(1000):
        if path := worker.film(run.job):
            return path
        threading.Event().wait(0.02)
    raise AssertionError("There is no film.")


def test_a_run_leaves_a_film_and_no_frames(worker: Worker) -> None:
    run = make(worker, steps=8)
    path = wait_for_film(worker, run)
    fps, _ = video.pace(9)
    assert frames(path) == 9 + fps  # the last one is held for a second
    for _ in range(500):
        if not (path.parent / "frames").exists():
            break
        threading.Event().wait(0.02)
    assert not (path.parent / "frames").exists()


def test_what_was_stopped_and_goes_on_has_one_film_of_the_whole_way(worker: Worker) -> None:
    stopped = stop_early(worker, steps=40)
    half = frames(wait_for_film(worker, stopped))
    done = over(worker.go_on(stopped.job.id, threading.Event(), OWNER))
    for _ in range(1000):
        path = worker.film(done.job)
        if path and not (path.parent / "frames").exists():
            break
        threading.Event().wait(0.02)
    assert frames(path) > half
    fps, _ = video.pace(41)
    assert frames(path) == 41 + fps


def test_frames_are_few_and_one_that_is_broken_is_left_out(tmp_path: Path) -> None:
    due = [index for index in range(2001) if film.is_due(index, 2000)]
    assert len(due) <= film.MOST_FRAMES + 1
    assert due[-1] == 2000
    for index in range(3):
        film.keep(tmp_path, index, np.full((600, 400, 3), 60 * index, np.uint8))
    with Picture.open(tmp_path / "frames" / "000001.jpg") as frame:
        assert max(frame.size) == 256
    (tmp_path / "frames" / "000001.jpg").write_bytes(b"half a fr")
    path = film.make(tmp_path)
    fps, _ = video.pace(2)
    assert path is not None
    assert frames(path) == 2 + fps
    film.clear(tmp_path)
    assert film.make(tmp_path) is None
