"""Pictures are made by a process that may die, hang or be told to go, and none of it is lost."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from app import desk, snapshots
from app.desk import Home
from app.errors import Refused
from app.executors import Executor, InlineExecutor, ProcessExecutor
from app.images import read_recipe, to_tensor
from app.jobs import Busy, Job, Store
from app.models import Models
from app.options import Asked
from app.pipeline import Inputs
from app.request import make_request
from app.slot import Slot, Timing
from app.worker import Worker
from tests.tiny_worker import models as models

PATIENCE = 120.0  # seconds: a busy machine is slow, not wrong
QUICK = Timing(
    beat=0.2, lease=4.0, idle=0.2, snapshot=0.2, stop=1.0, kill=0.5, back_off=0.05, wedged=60.0
)
SMALL: dict[str, Any] = {
    "prompt": "a red apple",
    "width": 32,
    "height": 32,
    "seed": 7,
    "start": "flat",
    "generator": "pocket",
    "views": 2,
    "steps": 8,
    "threads": 1,
    "precision": "float32",
}
LONG = {**SMALL, "steps": 2000}
POISON = {**SMALL, "start": "draft"}  # see tiny_slot.py


def wait_for(found: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """What `found` gives, as soon as it gives something."""
    until = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < until, "That did not happen in time."
        time.sleep(0.02)
    return value


def asked(**given: Any) -> Asked:
    """An order for one picture."""
    return Asked([make_request({**SMALL, **given})], Inputs(), [])


class Desk:
    """A list of jobs, a place for pictures, and somebody who asks."""

    def __init__(self, root: Path) -> None:
        """In a folder of the test."""
        self.home, self.results = Home(root / "data"), root / "results"
        self.store = Store(self.home.jobs)
        self.count = 0

    def submit(self, owner: str = "me", order: Asked | None = None, **given: Any) -> Job:
        """Put a picture on the list."""
        self.count += 1
        order = order or asked(**given)
        text = desk.write_order(order, self.results / f"picture-{self.count}.png", self.home)
        key = str(self.count)
        return self.store.submit(
            owner, "picture", text, client_key=key, title="an apple", seconds=1
        )

    def now(self, job: Job) -> Job:
        """How it stands."""
        return self.store.job(job.owner, job.id)

    def ended(self, job: Job) -> Job:
        """How it stands in the end."""
        wait_for(lambda: self.now(job).is_over)
        return self.now(job)

    def begun(self, job: Job, index: int = 1) -> desk.Report:
        """Its report, when there is a picture of this step or a later one."""

        def found() -> desk.Report | None:
            assert not self.now(job).is_over, self.now(job)
            report = desk.read_report(self.home.run(job.id))
            return report if report and report.look and report.look.index >= index else None

        return wait_for(found)

    def cancel(self, executor: Executor, job: Job) -> None:
        """As the page does it."""
        self.store.cancel(job.owner, job.id)
        executor.cancel(job.id)


def picture(job: Job) -> np.ndarray:
    """The pixels of its result."""
    (file,) = job.artifacts
    with Picture.open(file.path) as found:
        return np.asarray(found)


@pytest.fixture
def here(tmp_path: Path) -> Desk:
    """A list of jobs that nobody works on yet."""
    return Desk(tmp_path)


@pytest.fixture
def inline(here: Desk, models: Models) -> Iterator[InlineExecutor]:
    """Somebody who works on it, in this process."""
    executor = InlineExecutor(here.home, models, timing=QUICK)
    executor.start()
    yield executor
    executor.close()


# --- what goes over the desk -------------------------------------------------------------------


def test_inputs_come_back_bit_for_bit_and_lie_there_once(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 256, (24, 32, 3), np.uint8)
    given = Inputs(
        pictures={"a" * 64: to_tensor(pixels), "b" * 64: torch.rand(1, 3, 16, 16)},
        embeddings={"c" * 64: torch.rand(1, 32)},
        masks={"d" * 64: pixels[..., 0]},
        alphas={"a" * 64: pixels[..., 1]},
        sounds={"e" * 64: chance.random(100, np.float32)},
    )
    named = desk.publish(given, tmp_path)
    assert desk.publish(given, tmp_path) == named
    assert len(list(tmp_path.iterdir())) == 6
    found = desk.rebuild(named, tmp_path)
    for kind in ("pictures", "embeddings", "masks", "alphas", "sounds"):
        before, after = getattr(given, kind), getattr(found, kind)
        assert before.keys() == after.keys()
        for key in before:
            assert before[key].dtype == after[key].dtype
            assert np.array_equal(np.asarray(before[key]), np.asarray(after[key]))


@pytest.mark.parametrize("damage", ["change", "cut", "remove"])
def test_an_input_that_is_not_what_it_was_is_refused(tmp_path: Path, damage: str) -> None:
    named = desk.publish(Inputs(masks={"d" * 64: np.zeros((8, 8), np.uint8)}), tmp_path)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(content[:-1] + (b"x" if damage == "change" else b""))
    with pytest.raises(Refused, match="not on the disk any more, or was changed"):
        desk.rebuild(named, tmp_path)


def test_only_files_of_ours_are_removed(tmp_path: Path) -> None:
    home = Home(tmp_path / "data")
    ours = [home.inputs / "a.npy", home.run("01") / "preview.jpg", home.run("02") / "x" / "y"]
    others = [tmp_path / "apple.png", home.jobs, home.inputs / "new.npy", home.run("03") / "x"]
    for path in (*ours, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    os.utime(ours[0], (0, 0))
    home.remove(map(str, [*ours[:2], home.run("02"), *others[:3]]))
    assert not any(path.exists() for path in ours)
    assert all(path.exists() for path in others)


def test_what_was_measured_is_what_is_estimated(here: Desk, models: Models) -> None:
    request = make_request(SMALL)
    guess = desk.seconds(request, here.home)
    desk.learn(request, desk.Cost(0.5, 0, 2.0, 0), 32, here.home)
    assert desk.seconds(request, here.home) == 8 * (32 * 32 * 0.5 + 2 * 2.0) != guess
    here.home.costs.write_text("[1, 2]")
    assert desk.seconds(request, here.home) == guess


# --- a thread of this process ------------------------------------------------------------------


def test_a_job_is_made_and_its_snapshots_go(here: Desk, inline: InlineExecutor) -> None:
    job = here.ended(here.submit())
    assert (job.state, job.step, job.total) == ("done", 8, 8), job
    assert read_recipe(job.result)["run"]["steps"] == 8
    assert [file.path for file in job.artifacts] == [job.result]
    assert Path(job.preview).exists()
    wait_for(lambda: not list(here.home.run(job.id).glob("snapshot-*")))
    report = desk.read_report(here.home.run(job.id))
    assert (report.look.index, report.look.steps) == (8, 8)
    assert report.look.losses.keys() == {"a red apple"}


def test_a_cancelled_job_keeps_its_picture_and_can_go_on(
    here: Desk, inline: InlineExecutor
) -> None:
    whole = picture(here.ended(here.submit(steps=40)))
    job = here.submit(steps=40)
    here.begun(job)
    here.cancel(inline, job)
    here.cancel(inline, job)  # as often as one likes
    stopped = here.ended(job)
    assert stopped.state == "cancelled"
    assert "-step" in stopped.artifacts[0].path
    assert stopped.artifacts[0].path in {str(path) for path in here.results.iterdir()}
    here.store.requeue("me", job.id)
    inline.wake()
    done = here.ended(job)
    assert done.state == "done"
    with Picture.open(done.result) as found:
        assert np.array_equal(np.asarray(found), whole)


def test_what_is_put_away_goes_on_and_comes_to_the_same(here: Desk, models: Models) -> None:
    def work() -> InlineExecutor:
        executor = InlineExecutor(here.home, models, timing=QUICK)
        executor.start()
        return executor

    first = work()
    whole = picture(here.ended(here.submit(steps=40)))
    job = here.submit(steps=40)
    here.begun(job)
    first.close()
    assert (here.now(job).state, here.now(job).error_code) == ("paused", "paused.shutdown")
    second = work()
    done = here.ended(job)
    second.close()
    assert done.state == "done"
    assert np.array_equal(picture(done), whole)


def test_a_job_that_somebody_else_has_leaves_nothing(here: Desk, models: Models) -> None:
    """Its lease ran out, perhaps because the machine slept."""
    slot = Slot(here.store, models, here.home, "late", timing=QUICK)
    job = here.submit(steps=200)
    thread = threading.Thread(target=slot.serve)
    thread.start()
    here.begun(job)
    assert here.store.release("late") == 1
    assert here.store.claim("other", 60).id == job.id
    wait_for(lambda: slot._task is None)
    slot.end()
    thread.join()
    assert here.now(job).worker == "other"
    assert not here.results.exists()


def test_an_input_that_is_gone_is_told_in_a_sentence(here: Desk, inline: InlineExecutor) -> None:
    given = to_tensor(np.zeros((32, 32, 3), np.uint8))
    request = make_request({**SMALL, "init": {"sha256": "a" * 64}})
    order = Asked([request], Inputs(pictures={"a" * 64: given}), [])
    text = desk.write_order(order, here.results / "a.png", here.home)
    for path in here.home.inputs.iterdir():
        path.unlink()
    job = here.store.submit("me", "picture", text, client_key="x", title="", seconds=1)
    failed = here.ended(job)
    assert (failed.state, failed.error_code) == ("failed", "input.missing")
    assert "Give it again" in failed.error_text
    assert here.ended(here.submit()).state == "done"


def test_what_was_given_belongs_to_the_job(here: Desk, inline: InlineExecutor) -> None:
    given = to_tensor(np.full((32, 32, 3), 99, np.uint8))
    request = make_request({**SMALL, "init": {"sha256": "a" * 64}})
    order = Asked([request], Inputs(pictures={"a" * 64: given}), [])
    one, other = (here.ended(here.submit(order=order)) for _ in range(2))
    kinds = [file.kind for file in one.artifacts]
    assert sorted(kinds) == ["input", "picture"]
    (path,) = here.home.inputs.iterdir()
    here.store.delete("me", one.id)
    assert str(path) not in here.store.purge(0)  # the other needs it
    here.store.delete("me", other.id)
    assert str(path) in here.store.purge(0)


def test_two_owners_get_turns(here: Desk, models: Models) -> None:
    jobs = [here.submit(owner, steps=1) for owner in ("greedy", "greedy", "greedy", "light")]
    executor = InlineExecutor(here.home, models, timing=QUICK)
    executor.start()
    ended = sorted((here.ended(job) for job in jobs), key=lambda job: job.finished)
    executor.close()
    assert [job.owner for job in ended] == ["greedy", "light", "greedy", "greedy"]


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """To a program this looks like a disk without room: the system says EFBIG."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_waited_out(here: Desk, inline: InlineExecutor) -> None:
    noise = {"width": 800, "height": 800, "start": "uniform", "generator": "pixels", "steps": 1}
    with no_file_larger_than(1_000_000):
        job = here.submit(**noise)
        wait_for(lambda: here.now(job).state == "paused")
    assert here.now(job).error_code == "paused.disk"
    assert "The disk is full" in here.now(job).error_text
    assert not list(here.results.glob("*"))
    here.store.resume_paused("paused.disk")
    assert here.ended(job).state == "done"


def test_what_cannot_be_written_is_told_in_a_sentence(here: Desk, inline: InlineExecutor) -> None:
    here.results.touch()  # a file where the folder should be
    failed = here.ended(here.submit())
    assert (failed.state, failed.error_code) == ("failed", "output.failed")
    assert "'picture-1.png' could not be written" in failed.error_text
    assert failed.artifacts == ()


# --- the worker of the page --------------------------------------------------------------------


@pytest.fixture
def worker(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """With models that are here."""
    monkeypatch.setenv("SYNESTHETE_RESULTS", str(tmp_path / "results"))
    worker = Worker(models)
    yield worker
    worker.close()


def test_a_full_queue_says_how_long_to_wait(worker: Worker) -> None:
    request = make_request({**LONG, "steps": 2000, "views": 128})  # hours, by any estimate
    stop = threading.Event()
    worker.order(Asked([request], Inputs(), []), stop, "one")
    with pytest.raises(Busy, match=r"The queue is full: .* Try again in") as told:
        worker.order(asked(), stop, "other")
    assert told.value.wait > 0
    stop.set()


def test_what_somebody_asked_for_is_found_again(worker: Worker) -> None:
    mine = worker.order(asked(steps=2000), threading.Event(), "me")
    worker.order(asked(), threading.Event(), "you")
    (found,) = worker.runs_of("me")
    assert found is mine
    wait_for(lambda: mine.look)
    found.stop.set()
    assert mine.over.wait(PATIENCE)
    assert mine.saved
    assert worker.runs_of("me") == []


def test_a_run_whose_job_was_deleted_for_good_ends(worker: Worker) -> None:
    run = worker.order(asked(steps=2000), threading.Event(), "me")
    wait_for(lambda: run.look)
    worker.store.forget("me")
    assert run.over.wait(PATIENCE)
    assert "There is no job" in run.error
    assert worker.order(asked(), threading.Event()).over.wait(PATIENCE)


# --- processes ---------------------------------------------------------------------------------


class Studio(Desk):
    """A list, and a process that works on it."""

    draft: Path  # what a job that wants a draft shall come to

    def __init__(self, root: Path) -> None:
        """The models are tiny; see `tiny_slot.py`."""
        super().__init__(root)
        self.executor = ProcessExecutor(self.home, models="tiny_slot:open_models", timing=QUICK)

    @property
    def pid(self) -> int:
        """Of the child that lives now, or soon."""
        return wait_for(lambda: self.executor.pids)[0]

    def wake(self, job: Job) -> Job:
        """Do not wait until somebody looks at the list."""
        self.executor.wake()
        return job


def is_there(pid: int) -> bool:
    """Whether there is such a process, be it a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def studio(
    tiny_clip: Path, tiny_vqgan: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Studio]:
    """One for all: a process takes seconds to start."""
    folder = tmp_path_factory.mktemp("slot")
    (folder / "clip").symlink_to(tiny_clip)
    (folder / "vqgan").symlink_to(tiny_vqgan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNESTHETE_TINY", str(folder))
        patch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])
        studio = Studio(folder)
        studio.draft = folder / "draft"
        studio.executor.start()
        yield studio
        pid = studio.pid
        studio.executor.close()
        assert not is_there(pid)


@pytest.fixture(scope="module")
def whole(studio: Studio) -> np.ndarray:
    """The picture that LONG-ish jobs come to when nobody disturbs them."""
    job = studio.ended(studio.wake(studio.submit(steps=90)))
    assert job.state == "done", job
    return picture(job)


def test_a_process_makes_what_a_thread_makes(
    studio: Studio, whole: np.ndarray, here: Desk, inline: InlineExecutor
) -> None:
    studio.executor.warm.result(PATIENCE)
    job = here.submit(steps=90)
    inline.wake()
    assert np.array_equal(picture(here.ended(job)), whole)


def test_a_cancel_is_quick_and_kind(studio: Studio) -> None:
    pid = studio.pid
    job = studio.wake(studio.submit(**LONG))
    studio.begun(job)
    began = time.monotonic()
    studio.cancel(studio.executor, job)
    stopped = studio.ended(job)
    assert time.monotonic() - began < QUICK.stop  # half a second, on a machine that is not busy
    assert stopped.state == "cancelled"
    assert len(stopped.artifacts) == 1
    assert studio.pid == pid


def test_a_killed_job_goes_on_where_it_was_and_comes_to_the_same(
    studio: Studio, whole: np.ndarray
) -> None:
    pid = studio.pid
    job = studio.wake(studio.submit(steps=90))
    studio.begun(job, 5)
    folder = studio.home.run(job.id)
    wait_for(lambda: list(folder.glob("snapshot-*")))
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not is_there(pid))
    assert studio.now(job).state != "done", "It was too quick to be killed."
    (folder / "report.json").unlink()  # the next one is of the next process
    at_least = snapshots.load_latest(folder)[0].index
    assert at_least > 0
    assert studio.begun(job, 0).look.index >= at_least
    done = studio.ended(job)
    assert (done.state, done.attempt) == ("done", 2)
    assert np.array_equal(picture(done), whole)
    assert studio.pid != pid


def test_a_process_that_stands_still_is_replaced(studio: Studio, whole: np.ndarray) -> None:
    pid = studio.pid
    job = studio.wake(studio.submit(steps=90))
    studio.begun(job)
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: not is_there(pid))
    assert np.array_equal(picture(studio.ended(job)), whole)


def test_a_process_that_is_told_to_go_puts_its_job_away(studio: Studio, whole: np.ndarray) -> None:
    pid = studio.pid
    job = studio.wake(studio.submit(steps=90))
    studio.begun(job)
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not is_there(pid))
    done = studio.ended(job)
    assert "paused" in [event.what for event in studio.store.events(job.id)]
    assert (done.state, done.attempt) == ("done", 1)  # that was no failed attempt
    assert np.array_equal(picture(done), whole)


def test_a_process_that_does_not_hear_is_killed(studio: Studio) -> None:
    studio.draft.write_text("hang")
    pid = studio.pid
    job = studio.wake(studio.submit(**POISON))
    wait_for((studio.draft.parent / "hanging").exists)
    studio.cancel(studio.executor, job)
    assert studio.ended(job).state == "cancelled"
    assert not is_there(pid)


def test_of_a_job_that_is_stopped_by_force_the_last_preview_is_kept(studio: Studio) -> None:
    job = studio.wake(studio.submit(**LONG))
    studio.begun(job, 2)
    os.kill(studio.pid, signal.SIGSTOP)
    studio.cancel(studio.executor, job)
    assert studio.ended(job).state == "cancelled"
    wait_for(lambda: studio.now(job).artifacts)
    assert picture(studio.now(job)).shape == (32, 32, 3)
    (kept,) = studio.now(job).artifacts
    assert "-step" in kept.path


def test_a_job_that_kills_its_process_fails_in_the_end(studio: Studio) -> None:
    """Two processes have died of it before; the one that starts now will, too."""
    studio.draft.write_text("die")
    job = studio.submit(**POISON)
    for name in ("first", "second"):
        assert studio.store.claim(name, 60).id == job.id, "Somebody was quicker."
        assert studio.store.release(name) == 1
    failed = studio.ended(job)
    assert (failed.state, failed.error_code) == ("failed", "failed.crashed")
    assert "ended 3 times in the middle" in failed.error_text


def test_a_process_ends_when_nobody_is_left_to_watch_it(studio: Studio) -> None:
    """When the studio is killed, the system closes its end of the pipe."""
    job = studio.wake(studio.submit(**LONG))
    studio.begun(job)
    (keeper,) = studio.executor._keepers
    pid = studio.pid
    keeper.child._process.stdin.close()
    wait_for(lambda: not is_there(pid))
    events = [event.what for event in studio.store.events(job.id)]
    assert "paused" in events
    assert studio.store.cancel(job.owner, job.id)


def test_going_on_right_after_a_stop_is_not_taken_for_a_stop_that_hangs(studio: Studio) -> None:
    studio.ended(studio.wake(studio.submit()))  # what it costs is measured once, then no more
    job = studio.wake(studio.submit(**{**LONG, "views": 32}))
    studio.begun(job)
    (pid,) = studio.executor.pids
    studio.cancel(studio.executor, job)
    studio.ended(job)
    studio.store.requeue("me", job.id)
    studio.executor.wake()
    wait_for(lambda: studio.now(job).state == "running")
    until = time.monotonic() + QUICK.stop + QUICK.kill + 1
    while time.monotonic() < until:
        assert studio.executor.pids == [pid]
        time.sleep(0.05)
    assert studio.now(job).state == "running"
    studio.cancel(studio.executor, job)
    studio.ended(job)
