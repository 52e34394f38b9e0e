"""The faults that are tried on purpose, in small, and the ledger and the audit that judge them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from app import catalog, desk, saving
from app.desk import Home
from app.executors import ProcessExecutor
from app.jobs import Artifact, Job, Store
from app.models import Models
from app.options import Asked
from app.pipeline import Inputs
from app.request import make_request
from app.slot import Slot
from scripts.reliability import audit, crowds, faults, report
from scripts.reliability.__main__ import PARTS
from scripts.reliability.faults import Plan
from scripts.reliability.ledger import Entry, Ledger
from scripts.reliability.report import Found
from scripts.reliability.studio import SMALL, Place, Studio
from tests.tiny_studio import Tiny, opened, served, tiny

ROOT = Path(__file__).parent.parent
WHERE = {
    "when": "2026-01-01",
    "commit": "abc",
    "cpu": "a processor",
    "cores": 2,
    "load": [1.0, 2.5],
    "seconds": 3,
    "seed": 0,
}


def silence(*pieces: str) -> None:
    """Nobody listens here."""


def png(path: Path, shade: int = 0) -> bytes:
    """Write a small picture, and return its bytes."""
    buffer = io.BytesIO()
    Picture.new("RGB", (32, 32), (shade, shade, shade)).save(buffer, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


# --- the ledger --------------------------------------------------------------------------------


def test_what_was_promised_and_is_not_done_is_lost() -> None:
    ledger = Ledger()
    for number, job in enumerate(("A", "B", "C", "D")):
        ledger.note(Entry(0, f"key-{number}", "apple", job))
    assert ledger.lost({"A": "done", "B": "failed", "C": "queued"}) == ["B", "C", "D"]
    assert ledger.never_asked(["A", "Z"]) == ["Z"]


def test_an_order_that_is_acknowledged_again_counts_once_but_not_as_another_job() -> None:
    ledger = Ledger()
    ledger.note(Entry(0, "key", "apple", "A"))
    ledger.note(Entry(0, "key", "apple", "A"))
    ledger.note(Entry(1, "key", "apple", "B"))  # somebody else's key
    assert len(ledger.jobs) == 2
    assert ledger.twice() == []
    ledger.note(Entry(0, "key", "apple", "C"))
    assert ledger.twice() == ["key"]


# --- the audit ---------------------------------------------------------------------------------


def test_every_kind_of_half_file_is_found(tmp_path: Path) -> None:
    Store(tmp_path / "jobs.sqlite").close()
    content = png(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", np.arange(100))
    np.savez(tmp_path / "c.npz", numbers=np.arange(100))
    (tmp_path / "d.json").write_text('{"a": 1}')
    assert audit.half_files([tmp_path]) == (5, [])
    (tmp_path / "half.png").write_bytes(content[:-20])
    for name in ("b.npy", "c.npz", "d.json"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / f"half-{name}").write_bytes(whole[: len(whole) // 2])
    opened_, halves = audit.half_files([tmp_path])
    assert opened_ == 9
    assert [half.partition(":")[0] for half in halves] == [
        *("half-b.npy", "half-c.npz", "half-d.json", "half.png")
    ]


def test_pieces_are_found_by_their_age(tmp_path: Path) -> None:
    piece = saving.part(tmp_path / "a.png")
    piece.touch()
    assert audit.parts([tmp_path]) == [piece]
    assert audit.parts([tmp_path], older=3600) == []
    os.utime(piece, (0, 0))
    assert audit.parts([tmp_path], older=3600) == [piece]


def test_the_list_and_the_folder_of_results_are_compared(tmp_path: Path) -> None:
    store, results = Store(tmp_path / "jobs.sqlite"), tmp_path / "results"
    artifacts = []
    for number in range(4):
        path = results / f"{number}.png"
        digest = hashlib.sha256(png(path, number)).hexdigest()
        artifacts.append(Artifact("picture", str(path), digest, 1))
    for count in (1, 2):
        store.submit("me", "picture", "{}", client_key=str(count), title="", seconds=1)
        store.finish(store.claim("w", 60), artifacts=[artifacts.pop() for _ in range(count)])
    place = Place("", tmp_path, results)
    with place.books() as db:
        books = audit.compare(db, results)
    assert (books.missing, len(books.doubled)) == ([], 1)
    assert books.strange == [str(results / "0.png")]
    (results / "3.png").write_bytes(b"changed")
    with place.books() as db:
        assert audit.compare(db, results).missing == [str(results / "3.png")]
    store.close()


# --- the page ----------------------------------------------------------------------------------


def test_a_figure_that_is_not_met_stands_on_the_page(tmp_path: Path) -> None:
    good, bad = Found("3 cancels"), Found("2 kills")
    good.most("seconds", 0.25, 0.5)
    bad.none("jobs lost", ["A|B"])
    report.keep(tmp_path / "r.json", "cancel", good, WHERE)
    told = report.keep(tmp_path / "r.json", "kill", bad, WHERE)
    assert report.load(tmp_path / "r.json") == told
    page = report.page(told, {"kill": "Kills", "cancel": "Cancels", "slow": "Slow"})
    assert "## Kills (`kill`): NOT as wanted" in page
    assert "| jobs lost | 1 | 0 | **no**: A/B |" in page
    assert "| seconds | 0.25 | at most 0.50 | yes |" in page
    assert page.index("Kills") < page.index("Cancels")
    assert "Slow" not in page
    assert "load average 1.0 before and 2.5 after" in page
    told = report.remark(tmp_path / "r.json", "kill", "The cat sat on it.")
    assert "Remark: The cat sat on it." in report.page(told, {"kill": "Kills"})


def test_the_published_page_is_what_the_script_writes() -> None:
    told = report.load(ROOT / "docs" / "reliability.json")
    titles = {name: part.title for name, part in PARTS.items()}
    assert (ROOT / "docs" / "reliability.md").read_text() == report.page(told, titles)


def test_quantiles_are_those_of_the_textbook() -> None:
    assert report.quantile([], 0.95) == 0
    assert report.quantile([3.0], 0.95) == 3
    assert report.quantile([float(n) for n in range(101)], 0.95) == 95
    assert report.quantile([0.0, 1.0], 0.5) == 0.5


# --- what the faults have found ----------------------------------------------------------------


def test_who_writes_again_after_a_crash_finds_the_first_file(tmp_path: Path) -> None:
    place, note = tmp_path / "a.png", tmp_path / "note.json"
    first = saving.write_once(place, b"one", note)
    assert first == place
    assert saving.write_once(place, b"another", note) == first
    assert place.read_bytes() == b"one"
    place.write_bytes(b"somebody changed it")  # then it is not ours any more
    assert saving.write_once(place, b"one", note) == tmp_path / "a-2.png"
    assert not audit.parts([tmp_path])


def test_a_note_without_its_file_is_no_file(tmp_path: Path) -> None:
    """Killed between the two; meanwhile somebody else took the name."""
    place, note = tmp_path / "a.png", tmp_path / "note.json"
    saving.write_once(place, b"one", note)
    place.unlink()
    assert saving.noted(note) is None
    place.write_bytes(b"somebody else's")
    assert saving.write_once(place, b"one", note) == tmp_path / "a-2.png"
    note.write_text("{")
    assert saving.noted(note) is None


class Desk:
    """A list of jobs, a place for pictures, and tiny models."""

    def __init__(self, root: Path, models: Models) -> None:
        """In a folder of the test."""
        self.home, self.results, self.models = Home(root / "data"), root / "results", models
        self.store = Store(self.home.jobs)

    def submit(self, **given: Any) -> Job:
        """Ask for a small picture."""
        mask = np.zeros((8, 8), np.uint8)
        wish = {"prompt": "a red apple", "width": 32, "height": 32, "steps": 2, "views": 2}
        wish |= {"generator": "pixels", "start": "flat", "precision": "float32", "seed": 7}
        asked = Asked([make_request({**wish, **given})], Inputs(masks={"d" * 64: mask}), [])
        text = desk.write_order(asked, self.results / "apple.png", self.home)
        files = desk.given(text, self.home)
        return self.store.submit(
            *("me", "picture", text), client_key="x", title="", seconds=1, artifacts=files
        )

    def now(self, job: Job) -> Job:
        """How it stands."""
        return self.store.job("me", job.id)


_DIES = """
import os, signal, sys
from pathlib import Path
from app.desk import Home
from app.jobs import Store
from app.slot import Slot
from tests.tiny_slot import open_models

class Deadly(Store):
    def finish(self, *given, **more):
        os.kill(os.getpid(), signal.SIGKILL)

home = Home(Path(sys.argv[1]))
Slot(Deadly(home.jobs), open_models(), home, "first").work()
"""


@pytest.fixture
def here(
    tmp_path: Path, tiny_clip: Path, tiny_vqgan: Path, monkeypatch: pytest.MonkeyPatch
) -> Desk:
    """Nobody works yet."""
    for table, folder in ((catalog.CLIPS, tiny_clip), (catalog.GENERATORS, tiny_vqgan)):
        monkeypatch.setitem(table, "pocket", replace(table["pocket"], folder=str(folder)))
    (tmp_path / "clip").symlink_to(tiny_clip)
    (tmp_path / "vqgan").symlink_to(tiny_vqgan)
    monkeypatch.setenv("SYNESTHETE_TINY", str(tmp_path))
    return Desk(tmp_path, Models("cpu"))


@pytest.fixture
def died(here: Desk) -> Job:
    """A job whose process was killed after it had saved the picture, before it could say so."""
    job = here.submit()
    ended = subprocess.run(
        [sys.executable, "-c", _DIES, str(here.home.root)], cwd=ROOT, check=False
    )
    assert ended.returncode == -9
    assert [path.name for path in here.results.iterdir()] == ["apple.png"]
    assert here.now(job).state == "running"
    here.store.release("first")
    return job


def test_a_picture_is_saved_once_by_a_job_that_is_made_twice(here: Desk, died: Job) -> None:
    before = (here.results / "apple.png").read_bytes()
    assert Slot(here.store, here.models, here.home, "second").work()
    done = here.now(died)
    assert (done.state, done.attempt, done.result) == ("done", 2, str(here.results / "apple.png"))
    assert [path.name for path in here.results.iterdir()] == ["apple.png"]
    assert (here.results / "apple.png").read_bytes() == before
    assert desk.notes_in(here.home.run(died.id)) == []


def test_a_picture_that_nobody_told_of_is_given_to_its_job(here: Desk, died: Job) -> None:
    executor = ProcessExecutor(here.home)
    executor._adopt()
    assert not [file for file in here.now(died).artifacts if file.kind == "picture"]  # it may go on
    here.store.cancel("me", died.id)
    executor._adopt()
    (found,) = [file for file in here.now(died).artifacts if file.kind == "picture"]
    assert found.path == str(here.results / "apple.png")
    assert desk.notes_in(here.home.run(died.id)) == []
    executor.close()


def test_a_picture_of_a_job_that_was_deleted_for_good_goes(here: Desk, died: Job) -> None:
    executor = ProcessExecutor(here.home)
    here.store.forget("me")
    executor._adopt()
    assert list(here.results.iterdir()) == []
    executor.close()


def test_what_a_job_needs_goes_with_it_even_if_it_never_began(here: Desk) -> None:
    job = here.submit()
    (given,) = here.home.inputs.iterdir()
    here.store.cancel("me", job.id)
    here.store.delete("me", job.id)
    paths = here.store.purge(0)
    assert str(given) in paths
    here.home.remove(paths)
    assert given.exists()  # somebody may be about to order with it
    os.utime(given, (time.time() - 7200,) * 2)
    here.home.remove(paths)
    assert not given.exists()


def test_what_was_broken_off_is_swept_and_what_is_needed_stays(here: Desk) -> None:
    here.submit()
    (needed,) = here.home.inputs.iterdir()
    here.results.mkdir()
    pieces = [
        saving.part(place / "x") for place in (here.results, here.home.inputs, here.home.root)
    ]
    nobodys, people = here.home.inputs / "a.npy", here.results / "mine.part"
    new = saving.part(here.results / "x")
    for path in (*pieces, nobodys, people, new):
        path.touch()
    for path in (*pieces, nobodys, people, needed):
        os.utime(path, (0, 0))
    here.home.sweep(here.results, here.store.unneeded)
    assert not any(path.exists() for path in (*pieces, nobodys))
    assert all(path.exists() for path in (needed, people, new))


# --- each fault, in small ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(
    tiny_clip: Path,
    tiny_vqgan: Path,
    tiny_ear: Any,
    tiny_drafter: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Place]:
    """A studio with tiny models behind a real server, in this process."""
    results = tmp_path_factory.mktemp("reliability") / "results"
    with tiny(tiny_clip, tiny_vqgan, tiny_ear, tiny_drafter) as models:
        assert isinstance(models, Tiny)
        with opened(models, results) as studio, served(studio) as address:
            yield Place(address, studio.worker().result().home.root, results)


def unmet(found: Found) -> list[str]:
    """The figures that are not as wanted, but for time: this machine may be busy."""
    return [
        f"{figure.what}: {figure.value} {figure.examples}"
        for figure in found.figures
        if not figure.is_met and "seconds" not in figure.what
    ]


def test_a_small_storm_of_cancels(place: Place) -> None:
    found = crowds.cancels(place, Plan(len(crowds.PHASES), seconds=120), silence)
    assert found.n.startswith("6 cancels (1 queued, 1 starting")
    assert unmet(found) == []


def test_a_few_visitors_at_once(place: Place) -> None:
    found = crowds.visitors(place, Plan(4, seconds=120), silence)
    assert unmet(found) == []
    assert found.figures[0].value == "4 of 4"


def test_a_small_flood_of_files(place: Place) -> None:
    found = crowds.uploads(place, Plan(90, seconds=6), silence)
    assert unmet(found) == []
    told = {figure.what: figure.value for figure in found.figures}
    assert told["answers"].startswith("{201: ")


def test_a_few_slow_clients(place: Place) -> None:
    found = crowds.slow(place, Plan(4, seconds=2), silence)
    kept = "slow headers that still have their socket after 2 s"  # they may, for ten
    assert [figure for figure in unmet(found) if not figure.startswith(kept)] == []


@pytest.mark.timeout(1800)  # again and again a program that loads all of torch
def test_a_kill(tmp_path: Path) -> None:
    """With the models that ship with the project: what is killed is what people start."""
    studio, wishes = Studio(tmp_path), {"quick": {**SMALL, "steps": 6}}
    try:
        studio.start()
        plan = Plan(1, visitors=2)
        killed = faults.kills(studio, plan, silence, wishes, sweep=False)
        assert unmet(killed) == []
        assert killed.n.startswith("1 kills of 1")
        pids = studio.workers()
    finally:
        studio.close()
    assert pids
    assert studio.workers() == []
    assert json.loads((tmp_path / "data" / "costs.json").read_bytes())  # it was a whole studio
