"""The studio as a Space: the folder that is pushed, what the environment says, a GPU on loan."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import numpy as np
import pytest
import yaml
from PIL import Image as Picture

from app import space, zero
from app.desk import Home
from app.errors import Failed, Refused
from app.guard import COOKIE
from app.images import read_recipe
from app.pipeline import Inputs
from app.planner import settle
from app.request import make_request
from app.space import Passes, Space, prepare
from app.worker import Run, Worker
from app.zero import Speed, ZeroExecutor, ZeroSlot, duration, frames
from guidance.mood import _writable
from scripts.space import LARGE, MOST_BYTES, contents, installed_there, main, write
from tests.tiny_studio import LONG, SMALL, Tiny, bearer, finish, send
from tests.tiny_studio import models as models

ROOT = Path(__file__).parents[1]
PATIENCE = 120  # seconds: what a busy machine may need to import torch
HOST = "someone-synesthete.hf.space"
TOLD = {"SYSTEM": "spaces", "SPACE_ID": "someone/synesthete", "SPACE_HOST": HOST}
NOWHERE = "/proc/none"  # nobody can write there, root included


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """What would be pushed now."""
    return contents(ROOT)


# --- the folder ------------------------------------------------------------------------------


def test_a_space_is_small_and_holds_what_running_needs_alone(files: dict[str, bytes]) -> None:
    assert sum(map(len, files.values())) <= MOST_BYTES
    parts = {path.split("/")[0] for path in files}
    assert parts == {
        *("app", "generators", "guidance", "weights", "model_cards"),
        *("app.py", "LICENSE", "README.md", "requirements.txt", ".gitattributes"),
    }
    assert "weights/LICENSES.md" in files


def test_a_space_is_the_same_each_time(files: dict[str, bytes], tmp_path: Path) -> None:
    main(["--to", str(tmp_path / "space")])
    written = {path: (tmp_path / "space" / path).read_bytes() for path in files}
    assert written == files
    main(["--to", str(tmp_path / "space")])  # over an older one


def test_all_that_is_no_text_goes_there_by_lfs(files: dict[str, bytes]) -> None:
    lines = files[".gitattributes"].decode()
    for path, content in files.items():
        if b"\0" in content:
            assert f"*{Path(path).suffix} filter=lfs" in lines


def test_the_front_matter_says_what_a_space_needs(files: dict[str, bytes]) -> None:
    _, front, text = files["README.md"].decode().split("---\n", 2)
    told = yaml.safe_load(front)
    pinned = re.search(r"^gradio==(\S+)", (ROOT / "requirements.txt").read_text(), re.M)
    assert pinned
    assert (told["sdk"], told["sdk_version"]) == ("gradio", pinned[1])
    assert (told["python_version"], told["app_file"]) == ("3.12", "app.py")
    assert len(told["short_description"]) <= 60
    assert told["license_link"] in files
    assert "This Space forgets" in text


def test_a_space_installs_a_torch_that_zerogpu_has_and_no_gradio(files: dict[str, bytes]) -> None:
    lines = files["requirements.txt"].decode().splitlines()
    assert {"torch==2.13.0", "torchvision==0.28.0"} <= set(lines)
    assert not [line for line in lines if line.startswith("gradio")]
    assert installed_there("a==1  # why\n# a note\ngradio==6\n").splitlines()[1:] == ["a==1"]


def repository(folder: Path, **tracked: bytes) -> Path:
    """A repository with the files that a Space is made of, and some of another kind."""
    plain = {
        "requirements.txt": b"torch==2.14.1\ngradio==6.31.0\n",
        "app/a.py": b"x = 1\n",
        "tests/t.py": b"",
        ".gitignore": b"*.log\n",
    }
    for path, content in {**plain, **tracked}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    for words in (("init", "-q"), ("add", ".")):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    return folder


def test_what_git_does_not_track_stays_here(tmp_path: Path) -> None:
    root = repository(tmp_path)
    (root / "app" / "secret.env").write_text("TOKEN=1")
    (root / "app" / "run.log").write_text("")
    (root / "app" / "a.py").write_text("x = 2\n")
    found = contents(root)
    assert set(found) == {".gitattributes", "README.md", "app/a.py", "requirements.txt"}
    assert found["app/a.py"] == b"x = 2\n"


@pytest.mark.parametrize(
    ("tracked", "code"),
    [
        ({"weights/a.safetensors": b"\0" * 10_001}, "space.size"),
        ({"app/a.bin": b"\0"}, "space.binary"),
        ({"requirements.txt": b"torch==2.14.1\n"}, "space.pin"),
    ],
)
def test_what_could_not_be_pushed_is_refused(
    tmp_path: Path, tracked: dict[str, bytes], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.space.MOST_BYTES", 10_000)
    with pytest.raises(Refused) as told:
        contents(repository(tmp_path, **tracked))
    assert told.value.code == code
    assert str(told.value).endswith(".")


def test_outside_of_a_clone_nobody_knows_what_belongs_to_it(tmp_path: Path) -> None:
    with pytest.raises(Refused) as told:
        contents(tmp_path)
    assert told.value.code == "space.git"


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear")
    with pytest.raises(Refused, match=r"letter\.txt"):
        write({"app.py": b""}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_the_clone_of_a_space_may_be_written_over(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("")
    (tmp_path / "README.md").write_text("new")
    write({"README.md": b"ours"}, tmp_path)
    assert (tmp_path / "README.md").read_text() == "ours"


# --- what the environment says ---------------------------------------------------------------


def test_a_machine_of_ones_own_is_no_space() -> None:
    assert not Space.told_by({})
    assert not Space.told_by({"SPACES_ZERO_GPU": "true"}).zero_gpu
    assert Space.told_by({}).notice == ""


@pytest.mark.parametrize("told", [{"SYSTEM": "spaces"}, {"SPACE_ID": "a/b"}, TOLD])
def test_a_space_says_that_it_forgets(told: dict[str, str]) -> None:
    assert Space.told_by(told)
    assert "forgets" in Space.told_by(told).notice
    assert "GPU" not in Space.told_by(told).notice


def test_where_a_gpu_is_lent_visitors_hear_of_it() -> None:
    lent = Space.told_by({**TOLD, "SPACES_ZERO_GPU": "true"})
    assert lent.zero_gpu
    assert "GPU" in lent.notice


def test_at_home_nothing_is_prepared() -> None:
    environment = {"HOME": NOWHERE}
    prepare(environment)
    assert environment == {"HOME": NOWHERE}


def test_a_space_writes_into_its_home(tmp_path: Path) -> None:
    environment = {**TOLD, "HOME": str(tmp_path)}
    prepare(environment, bucket=tmp_path / "none")
    assert environment["SYNESTHETE_DATA"] == str(tmp_path / "synesthete" / "data")
    assert environment["SYNESTHETE_RESULTS"] == str(tmp_path / "synesthete" / "pictures")
    assert "XDG_CACHE_HOME" not in environment


def test_without_a_home_it_writes_into_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    environment = {**TOLD, "HOME": NOWHERE, "SYNESTHETE_MODELS": "/elsewhere"}
    prepare(environment, bucket=tmp_path / "none")
    assert environment["SYNESTHETE_DATA"] == str(tmp_path / "synesthete" / "data")
    assert environment["XDG_CACHE_HOME"].startswith(str(tmp_path))
    assert environment["SYNESTHETE_MODELS"] == "/elsewhere"


def test_only_pictures_go_to_storage_that_is_attached(tmp_path: Path) -> None:
    (bucket := tmp_path / "bucket").mkdir()
    environment = {**TOLD, "HOME": str(tmp_path)}
    prepare(environment, bucket)
    assert environment["SYNESTHETE_RESULTS"].startswith(str(bucket))
    assert not environment["SYNESTHETE_DATA"].startswith(str(bucket))


# --- the folder, started as a Space starts it ------------------------------------------------


@dataclass(frozen=True)
class Started:
    """A Space that runs."""

    address: str
    own: Path  # where it may write
    log: Path


@pytest.fixture(scope="module")
def started(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """`python app.py` in the folder, with nothing else on the path, and no home."""
    folder, own = tmp_path_factory.mktemp("space"), tmp_path_factory.mktemp("tmp")
    write(files, folder)
    quick = {
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        "HF_HUB_OFFLINE": "1",
        "NUMBA_CACHE_DIR": str(_writable()),  # else what reads music is compiled for a minute
    }
    environment = {**TOLD, **quick, "HOME": NOWHERE, "TMPDIR": str(own), "PATH": os.defpath}
    log, began = own / "log", time.monotonic()
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=folder, env=environment, stdout=said, stderr=said
        )
    try:
        while "Synesthete is at " not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() - began < PATIENCE, log.read_text()
            time.sleep(0.1)
        port = log.read_text().split("Synesthete is at ")[1].split()[0].rpartition(":")[2]
        yield Started(f"http://127.0.0.1:{port.strip('/')}", own, log)
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def client(started: Started) -> Iterator[httpx.Client]:
    """A browser that was sent here by the name of the Space."""
    through = {"Host": HOST, "X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
    with httpx.Client(base_url=started.address, headers=through, timeout=PATIENCE) as client:
        yield client


def test_the_page_says_that_the_space_forgets(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert "This Space forgets" in page.text
    assert "https://huggingface.co" in page.headers["content-security-policy"]
    cookie = page.headers["set-cookie"]
    assert cookie.startswith(COOKIE)
    assert "SameSite=None; Secure; Partitioned" in cookie


def test_a_space_answers_to_its_own_name_alone(client: httpx.Client) -> None:
    assert client.get("/", headers={"Host": "elsewhere.example"}).status_code == 421


def test_a_space_makes_a_picture_with_its_own_models(
    client: httpx.Client, started: Started
) -> None:
    order = {"prompt": "a red apple", "size": "64x64", "steps": 2, "views": 4, "seed": 7}
    mine = bearer()
    sent = send(client, order, **mine)
    assert sent.status_code == 202, sent.text
    job = finish(client, sent.json(), **mine)
    assert job["state"] == "done", (job, started.log.read_text())
    assert client.get(job["picture"], headers=bearer()).status_code == 404
    picture = client.get(job["picture"], headers=mine)
    assert picture.headers["content-type"] == "image/png"
    (started.own / "picture.png").write_bytes(picture.content)
    with Picture.open(started.own / "picture.png") as opened:
        assert opened.size == (64, 64)
    models = read_recipe(started.own / "picture.png")["models"]
    assert any(name.startswith("clip/pocket/") for name in models)
    assert (started.own / "synesthete" / "data" / "jobs.sqlite").exists()
    assert "Traceback" not in started.log.read_text()


def test_one_visitor_may_not_fill_the_queue_of_a_space(client: httpx.Client) -> None:
    mine = bearer()
    long = {**LONG, "size": "256x256", "views": 32}
    answers = [send(client, long, **mine) for _ in range(5)]
    told = [answer.json().get("code") for answer in answers if answer.status_code == 429]
    assert told
    assert set(told) == {"queue.quota"}
    for answer in answers:
        if answer.status_code == 202:
            client.post(f"/api/jobs/{answer.json()['id']}/cancel", headers=mine)


# --- a GPU on loan ---------------------------------------------------------------------------

Found = zero.Frame | Exception


def forked(*given: Any) -> Generator[Found, None, None]:
    """As ZeroGPU does it: in a forked process, and all that comes and goes is pickled."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def work() -> None:
        for frame in frames(*pickle.loads(theirs.recv_bytes())):
            theirs.send_bytes(pickle.dumps(frame))
        theirs.send_bytes(pickle.dumps(None))

    process = context.Process(target=work, daemon=True)
    with warnings.catch_warnings():  # that a fork with threads is risky is what this is about
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    try:
        ours.send_bytes(pickle.dumps(given))
        while (found := pickle.loads(ours.recv_bytes())) is not None:
            yield found
    finally:
        process.kill()
        process.join()


@pytest.fixture
def lent(
    models: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Any], Worker]]:
    """`lent(maker)`: a worker whose steps are made by that."""
    monkeypatch.setattr(zero, "_there", [models])
    monkeypatch.setenv("SYNESTHETE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SYNESTHETE_RESULTS", str(tmp_path / "results"))
    workers: list[Worker] = []

    def open_worker(maker: Any) -> Worker:
        class Slot(ZeroSlot):
            make = staticmethod(maker)

        class Executor(ZeroExecutor):
            slot = Slot

        workers.append(Worker(models, executor=Executor(Home(), models)))
        return workers[-1]

    yield open_worker
    for worker in workers:
        if worker.is_alive:
            worker.close()


def wait(true: Callable[[], bool]) -> None:
    """Until it is."""
    until = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def ended(run: Run) -> Run:
    """When it is over."""
    assert run.over.wait(PATIENCE)
    return run


def pixels_of(path: Path) -> Any:
    """(h, w, 3), of a file."""
    with Picture.open(path) as opened:
        return np.asarray(opened)


ORDER = {**SMALL, "steps": 4, "threads": 1}


def test_a_lent_gpu_makes_the_very_same_picture(lent: Any, models: Tiny, tmp_path: Path) -> None:
    there = ended(lent(forked).ask(ORDER, threading.Event()))
    assert there.error == ""
    (tmp_path / "here").mkdir()
    here = Worker(models)
    try:
        same = ended(here.ask(ORDER, threading.Event()))
        assert same.saved
        assert there.saved
        assert same.saved != there.saved
        pixels = [pixels_of(path) for path in (same.saved, there.saved)]
        assert (pixels[0] == pixels[1]).all()
        assert same.trace == there.trace
        assert read_recipe(same.saved)["request"] == read_recipe(there.saved)["request"]
    finally:
        here.close()


def test_what_is_stopped_on_a_lent_gpu_goes_on_where_it_was(lent: Any) -> None:
    begun: list[int] = []

    def noted(request: Any, inputs: Any, snapshot: Any, seconds: float) -> Any:
        begun.append(snapshot.index if snapshot else 0)
        yield from forked(request, inputs, snapshot, seconds)

    worker, stop = lent(noted), threading.Event()
    run = worker.ask(LONG, stop)
    wait(lambda: run.look is not None and run.look.index >= 3)
    stop.set()
    assert ended(run).job.state == "cancelled"
    again = worker.go_on(run.job.id, stop := threading.Event())
    wait(lambda: len(begun) == 2)
    stop.set()
    ended(again)
    assert begun[0] == 0
    assert begun[1] >= 3


def test_no_process_with_a_gpu_outlives_the_studio(lent: Any) -> None:
    worker = lent(forked)
    idle = multiprocessing.get_context("spawn").Process(target=time.sleep, args=[600])
    idle.start()
    worker.close()
    idle.join(PATIENCE)
    assert idle.exitcode == -signal.SIGKILL


def test_why_no_gpu_was_lent_is_a_sentence(lent: Any) -> None:
    def nobody(*given: Any) -> Generator[Found, None, None]:
        raise gr.Error("You have exceeded your free ZeroGPU quota (60s requested vs. 3s left).")
        yield

    run = ended(lent(nobody).ask(ORDER, threading.Event()))
    assert run.job.error_code == "gpu.none"
    assert "3s left" in run.error


def test_what_is_refused_where_the_gpu_is_arrives_as_it_was_said() -> None:
    request = settle(make_request({"prompt": "x", "init": {"sha256": "0" * 64, "name": "a.png"}}))
    try:
        (told,) = forked(request, Inputs(), None, 60.0)
    except EOFError:
        pytest.fail("The process with the GPU died.")
    assert isinstance(told, Refused | Failed)
    assert "a.png" in str(told)


def test_a_gpu_is_asked_for_as_long_as_it_was_needed() -> None:
    speed, request = Speed(), settle(make_request({"prompt": "x"}))
    assert speed.seconds(request) == 60
    speed.learn(request, seconds=20, part=0.5)
    assert speed.seconds(request) == pytest.approx(10 + 1.5 * 40)
    twice = request.model_copy(update={"steps": 2 * request.steps})
    assert speed.seconds(twice) == 120
    assert duration(request, Inputs(), None, 69.6) == 70


def test_a_visitor_is_known_by_the_newest_pass() -> None:
    passes = Passes()
    passes.note("me", {space.PASS: "old"})
    passes.note("me", {space.PASS: "new"})
    passes.note("me", {})
    passes.note("", {space.PASS: "nobody's"})
    assert passes.headers("me") == {space.PASS: "new"}
    assert passes.headers("you") == passes.headers("") == {}


def test_passes_are_not_kept_for_ever() -> None:
    passes = Passes()
    for number in range(1001):
        passes.note(str(number), {space.PASS: "x"})
    assert passes.headers("0") == {}
    assert passes.headers("1000")


def test_every_kind_of_large_file_is_there_for_a_reason(files: dict[str, bytes]) -> None:
    assert {Path(path).suffix for path in files} >= set(LARGE)
