"""How the studio is served: its address, who may reach it, what it says of itself, how it ends."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from app import edge, ledger
from app.edge import Settings, why_not_ready
from app.errors import Failed, Refused
from app.guard import COOKIE, Guard
from app.jobs import Store
from app.tabs import Studio
from tests.guarded import run
from tests.tiny_studio import SMALL, bearer, send
from tests.tiny_studio import address as address
from tests.tiny_studio import models as models
from tests.tiny_studio import results as results
from tests.tiny_studio import studio as studio

ROOT = Path(__file__).parents[1]
PATIENCE = 120  # seconds: what a busy machine may need to import torch
LONGEST_GOODBYE = 10  # seconds


# --- what is asked for -----------------------------------------------------------------------


def read(*words: str, **environment: str) -> Settings:
    """What the command line and the environment come to."""
    return edge.read(edge._parser().parse_args(words), environment)


SAFE: list[tuple[tuple[str, ...], dict[str, str]]] = [
    ((), {}),
    (("--auth", "me:long enough"), {}),
    (("--listen", "127.0.0.1"), {}),
    (("--listen", "--auth", "me:long enough"), {}),
    (("--listen",), {"SYNESTHETE_AUTH": "me:long enough"}),
    (("--listen", "--public"), {}),
    (("--share", "--public"), {}),
    (("--share", "--auth", "me:long enough"), {}),
    (("--name", "studio.example", "--public"), {}),
    ((), {"SPACE_ID": "me/studio", "SPACE_HOST": "me-studio.hf.space"}),
]
UNSAFE: list[tuple[tuple[str, ...], dict[str, str], str]] = [
    (("--listen",), {}, "listen.open"),
    (("--listen", "192.168.1.5"), {}, "listen.open"),
    (("--share",), {}, "listen.open"),
    (("--name", "studio.example"), {}, "listen.open"),
    (("--listen", "--share"), {}, "listen.open"),
    (("--public",), {}, "listen.public"),
    (("--auth", "me"), {}, "auth.weak"),
    (("--auth", "me:short"), {}, "auth.weak"),
    (("--auth", ":long enough"), {}, "auth.weak"),
    ((), {"SYNESTHETE_AUTH": "long enough"}, "auth.weak"),
    (("--share", "--public"), {"SYNESTHETE_OFFLINE": "1"}, "share.useless"),
    (("--share",), {"SPACE_ID": "me/studio"}, "share.useless"),
]


@pytest.mark.parametrize(("words", "environment"), SAFE)
def test_what_is_safe_is_served(words: tuple[str, ...], environment: dict[str, str]) -> None:
    assert isinstance(read(*words, **environment), Settings)


@pytest.mark.parametrize(("words", "environment", "code"), UNSAFE)
def test_what_is_not_safe_is_refused_in_a_sentence(
    words: tuple[str, ...], environment: dict[str, str], code: str
) -> None:
    with pytest.raises(Refused) as told:
        read(*words, **environment)
    assert told.value.code == code
    assert str(told.value).endswith(".")
    for secret in ("short", "long enough"):
        assert secret not in str(told.value)


def test_by_default_only_this_machine_comes_in() -> None:
    settings = read()
    assert settings.address == "127.0.0.1"
    assert settings.door.names == {"localhost", "127.0.0.1", "::1"}
    assert not settings.door.addresses


def test_on_a_network_it_goes_by_its_addresses_and_its_own_name() -> None:
    door = read("--listen", "--public", "--name", "Studio.Example").door
    assert door.addresses
    assert door.names > {"localhost", "studio.example", "0.0.0.0"}


def test_a_space_is_reached_by_its_own_name_inside_another_site() -> None:
    settings = read(SPACE_ID="me/studio", SPACE_HOST="me-studio.hf.space")
    assert settings.address == "0.0.0.0"
    assert settings.door.on_space
    assert "me-studio.hf.space" in settings.door.names


def test_settings_do_not_show_the_password() -> None:
    assert "long enough" not in repr(read("--auth", "me:long enough"))


@pytest.mark.parametrize("typed", ["0", "65536", "-1", "http", "7860.5", ""])
def test_a_wrong_port_is_refused(typed: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="1 to 65535"):
        edge._port(typed)


def test_a_taken_port_is_refused_and_without_one_the_next_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Failed, match=r"is taken\. Choose another with --port"):
            edge._listen(Settings(port=taken.getsockname()[1]))
    with edge._listen(Settings()) as first, edge._listen(Settings()) as second:
        ports = [one.getsockname()[1] for one in (first, second)]
    assert 7860 <= ports[0] < ports[1] < 7960


# --- whose a session is ----------------------------------------------------------------------


def test_a_session_belongs_to_whoever_spoke_for_it_first() -> None:
    studio = Studio()
    assert studio.recognise("one", "a" * 32)
    assert studio.recognise("two", "a" * 32)
    assert studio.owner("one") == studio.owner("two") == "a" * 32
    assert not studio.recognise("one", "b" * 32)
    assert not studio.recognise("one", "")
    assert studio.owner("one") == "a" * 32
    studio.close()


def test_who_keeps_no_cookie_has_one_session_alone_and_can_be_no_other() -> None:
    studio = Studio()
    assert studio.recognise("a" * 32, "")
    assert studio.owner("a" * 32) not in ("a" * 32, "")
    assert studio.owner("a" * 32) != studio.owner("b" * 32)
    assert studio.recognise("a" * 32, "")
    assert not studio.recognise("a" * 32, "c" * 32)
    studio.close()


def test_nobody_speaks_for_the_session_of_another(address: str) -> None:
    def join(token: str) -> httpx.Response:
        body = {"data": [], "fn_index": 0, "session_hash": "mine"}
        return httpx.post(f"{address}/gradio_api/queue/join", json=body, headers=bearer(token))

    def listen(token: str) -> int:
        where = f"{address}/gradio_api/queue/data?session_hash=mine"
        with httpx.stream("GET", where, headers=bearer(token)) as answer:
            return answer.status_code

    mine, theirs = "m" * 40, "t" * 40
    assert join(mine).status_code != 401
    assert [join(theirs).status_code, listen(theirs)] == [401, 401]
    assert listen(mine) == 200


# --- the page --------------------------------------------------------------------------------


def test_the_page_has_a_cookie_a_policy_and_no_owner_in_it(address: str) -> None:
    page = httpx.get(f"{address}/")
    assert page.status_code == 200
    assert COOKIE in page.cookies
    policy = page.headers["content-security-policy"]
    assert policy.count("'sha256-") == len(re.findall(r"<script(?![^>]*\ssrc=)", page.text)) >= 3
    again = httpx.get(f"{address}/", headers={"Cookie": f"{COOKIE}={page.cookies[COOKIE]}"})
    assert page.cookies[COOKIE] not in again.text


def test_other_sites_read_nothing(address: str) -> None:
    for path in ("/", "/config", "/api/jobs/x"):
        answer = httpx.get(f"{address}{path}", headers={"Origin": "http://evil.example"})
        assert not [name for name in answer.headers if name.startswith("access-control-allow")]
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    preflight = httpx.options(f"{address}/api/jobs", headers=asked)
    assert "access-control-allow-origin" not in preflight.headers


def test_an_upload_of_the_page_has_its_limit(address: str) -> None:
    with httpx.Client(base_url=address, timeout=60) as client:
        files = {"files": ("a.png", b"x" * 26_400_000)}
        told = client.post("/gradio_api/upload", files=files)
        assert (told.status_code, told.text[:22]) == (413, "That is more than 25 M")
        assert client.post("/gradio_api/upload", files={"files": b"x"}).status_code == 200


def test_a_stream_without_a_length_is_cut_off(address: str) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(600):
            yield b"x" * 100_000

    told = httpx.post(f"{address}/api/files", content=endless(), headers=bearer(), timeout=60)
    assert (told.status_code, told.json()["code"]) == (413, "body.too_big")


def test_who_does_not_say_what_they_want_is_hung_up_on(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "_HEADERS", 0.3)
    host, port = address.removeprefix("http://").split(":")
    for said in (b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "):
        with socket.create_connection((host, int(port)), timeout=30) as line:
            line.sendall(said)
            assert line.recv(100) == b""


# --- how it is -------------------------------------------------------------------------------


def test_it_lives_and_is_ready(address: str) -> None:
    assert httpx.get(f"{address}/healthz").json() == {"alive": True}
    ready = httpx.get(f"{address}/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True})


def done(result: Any = None, error: Exception | None = None) -> Future[Any]:
    """A future that is over."""
    future: Future[Any] = Future()
    future.set_exception(error) if error else future.set_result(result)
    return future


def reason(opened: Future[Any] | None) -> str:
    """Why a studio with such a worker is not ready, if it is not."""
    guard = Guard(lambda *_: None)
    return str(run(why_not_ready(SimpleNamespace(opened=opened), guard)).get("code", ""))


def test_what_keeps_it_from_being_ready_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_PATIENCE", 0.05)
    store = Store(tmp_path / "jobs.sqlite")

    def worker(warm: Future[Any], *, is_alive: bool = True) -> Future[Any]:
        return done(SimpleNamespace(warm=warm, is_alive=is_alive, store=store))

    assert reason(None) == reason(Future()) == "models.loading"
    assert reason(done(error=Refused("x", "y"))) == "studio.failed"
    assert reason(worker(Future())) == "models.loading"
    assert reason(worker(done(error=Failed("x", "y")))) == "models.cold"
    assert reason(worker(done(), is_alive=False)) == "executor.dead"
    assert reason(worker(done())) == ""
    with closing(sqlite3.connect(tmp_path / "jobs.sqlite")) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert reason(worker(done())) == "jobs.busy"
    store.close()


def test_asking_whether_it_is_ready_loads_nothing() -> None:
    studio = Studio(lambda: pytest.fail("nobody asked for it"))
    assert run(why_not_ready(studio, Guard(lambda *_: None)))["code"] == "models.loading"
    assert studio.opened is None
    studio.close()


def test_a_studio_that_closes_is_not_ready(studio: Studio) -> None:
    guard = Guard(lambda *_: None)
    assert run(why_not_ready(studio, guard)) == {}
    guard.close()
    assert run(why_not_ready(studio, guard))["code"] == "studio.closing"


# --- a process of its own --------------------------------------------------------------------

REAL = """
import sys
from app import desk, edge, ui
from app.executors import ProcessExecutor
from app.tabs import Studio
from app.worker import Worker
executor = lambda: ProcessExecutor(desk.Home(), models="tiny_slot:open_models")
studio = Studio(lambda: Worker(executor=executor()))
edge.serve(ui.build(studio), studio)
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def process(*command: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A studio that runs by itself, and its address."""
    running = subprocess.Popen(
        [sys.executable, *command, "--port", str(free_port())],
        cwd=ROOT,
        env={**os.environ, "SYNESTHETE_OFFLINE": "1", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr
    try:
        line = running.stderr.readline()
        assert re.fullmatch(r"Synesthete is at http://\S+ \(Ctrl-C ends it\)\.\n", line), line
        yield running, line.split()[3].rstrip("/")
    finally:
        running.kill()
        running.wait()
        running.stderr.close()


def end(running: subprocess.Popen[str], number: int) -> float:
    """Ask it to end; after how many seconds it did."""
    began = time.monotonic()
    running.send_signal(number)
    assert running.wait(3 * LONGEST_GOODBYE) == 0
    return time.monotonic() - began


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_it_is_asked_to_and_leaves_nothing_in_the_log(
    number: int, tmp_path: Path
) -> None:
    with process("app.py", SYNESTHETE_DATA=str(tmp_path)) as (running, address):
        assert httpx.get(f"{address}/readyz").json()["code"] == "models.loading"
        page = httpx.Client(base_url=address)
        with page.stream("GET", "/gradio_api/heartbeat/mine") as open_page:  # as a page does
            assert open_page.status_code == 200
            assert end(running, number) < LONGEST_GOODBYE
        page.close()
        assert running.stderr
        assert running.stderr.read() == ""


def test_sigterm_leaves_what_runs_to_its_snapshot(
    tiny_clip: Path, tiny_vqgan: Path, tmp_path: Path
) -> None:
    for name, folder in (("clip", tiny_clip), ("vqgan", tiny_vqgan)):
        (tmp_path / name).symlink_to(folder)
    ours = {
        "SYNESTHETE_TINY": str(tmp_path),
        "SYNESTHETE_DATA": str(tmp_path / "data"),
        "SYNESTHETE_RESULTS": str(tmp_path / "results"),
        "PYTHONPATH": str(ROOT / "tests"),
    }
    with process("-c", REAL, **ours) as (running, address):
        client = httpx.Client(base_url=address, headers=bearer(), timeout=PATIENCE)
        until = time.monotonic() + PATIENCE
        order = {**SMALL, "generator": "pocket", "steps": 2000}
        job = send(client, order).raise_for_status().json()
        while client.get(f"/api/jobs/{job['id']}").json()["step"] < 2:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert client.get("/readyz").status_code == 200
        running.send_signal(signal.SIGTERM)
        codes = []
        while not codes or codes[-1] != 503:
            codes.append(client.get("/readyz").status_code)
            assert len(codes) < 50
        assert send(client, SMALL).status_code == 503
        client.close()
        began = time.monotonic()
        assert running.wait(3 * LONGEST_GOODBYE) == 0
        assert time.monotonic() - began < LONGEST_GOODBYE
    with closing(sqlite3.connect(tmp_path / "data/jobs.sqlite")) as db:
        found = db.execute("SELECT state, error_code, snapshot FROM jobs").fetchone()
    state, code, snapshot = found
    assert (state, code) == ("paused", "paused.shutdown")
    assert Path(snapshot).exists()


def test_what_is_not_safe_does_not_even_start() -> None:
    found = subprocess.run(
        [sys.executable, "app.py", "--listen"],
        cwd=ROOT,
        env={**os.environ, "SYNESTHETE_AUTH": "me:short"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 2
    assert "a password of at least 8 letters" in found.stderr
    assert "Traceback" not in found.stderr
    assert "me:short" not in found.stderr


def test_a_password_guards_page_api_and_pictures(tmp_path: Path) -> None:
    login = {"SYNESTHETE_AUTH": "me:long enough", "SYNESTHETE_DATA": str(tmp_path)}
    with process("app.py", **login) as (_, address):
        for path in ("/", "/config", "/api/jobs/x", "/jobs/x/picture.png", "/gradio_api/info"):
            assert httpx.get(f"{address}{path}").status_code == 401
        assert httpx.get(f"{address}/healthz").status_code == 200
        inside = httpx.get(f"{address}/", auth=("me", "long enough"))
        assert inside.status_code == 200
        assert "long enough" not in json.dumps(dict(inside.headers)) + inside.text
