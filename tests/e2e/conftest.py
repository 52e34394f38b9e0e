"""The studio as people start it, in a process of its own, and a browser that minds what it sees."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, expect

ROOT = Path(__file__).parents[2]
PATIENCE = 120  # seconds: what a busy machine may need to import torch
WAIT = 60_000  # milliseconds, for anything on the page: a busy machine is slow, not wrong


expect.set_options(timeout=WAIT)


@dataclass(frozen=True)
class Started:
    """A studio that runs: its address, where its results go, what it says, how long it took."""

    address: str
    results: Path
    log: Path
    seconds: float


@pytest.fixture(scope="session")
def started(
    browser_type_launch_args: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Started]:
    """`python app.py`, once for all tests; without a browser there is no use for it."""
    folder = tmp_path_factory.mktemp("studio")
    results, log, began = folder / "results", folder / "log", time.monotonic()
    with log.open("wb") as said, _studio(results, said) as process:
        while "Synesthete is at " not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() - began < PATIENCE, log.read_text()
            time.sleep(0.1)
        address = log.read_text().split("Synesthete is at ")[1].split()[0]
        yield Started(address, results, log, time.monotonic() - began)


@contextmanager
def _studio(results: Path, said: object) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "app.py", "--port", str(_free_port())]
    ours = {
        "SYNESTHETE_RESULTS": str(results),
        "SYNESTHETE_DATA": str(results.with_name("data")),
        "SYNESTHETE_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",  # the pictures are small, and the browser wants to work as well
    }
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **ours}, stderr=said, stdout=said
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


# What Gradio's script says of a stream when somebody reloads the page in the middle of it.
LEFT = re.compile(r"AbortError: signal is aborted|Unexpected error Connection errored out\.")


@pytest.fixture
def visit(
    new_context: Callable[..., BrowserContext], started: Started
) -> Iterator[Callable[..., Page]]:
    """Open the page as a new visitor. In the end: no request went elsewhere, no script failed."""
    foreign: list[str] = []
    errors: list[str] = []

    def watched(address: str) -> None:
        if urlsplit(address).hostname not in ("127.0.0.1", None):  # None: data: and blob:
            foreign.append(address)

    def come(**how: object) -> Page:
        page = new_context(**how).new_page()
        page.set_default_timeout(WAIT)
        page.on("request", lambda request: watched(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.goto(started.address, wait_until="domcontentloaded")
        expect(page.locator("#generate")).to_be_visible()
        return page

    yield come
    assert foreign == []
    assert [said for said in errors if not LEFT.match(said)] == []


@pytest.fixture
def slow() -> Callable[[Page, int], None]:
    """From now on, every answer to a page takes that many milliseconds more to begin."""

    def take(page: Page, latency: int) -> None:
        how = {
            "latency": latency,
            "offline": False,
            "downloadThroughput": -1,
            "uploadThroughput": -1,
        }
        page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", how)

    return take


@pytest.fixture
def hold() -> Callable[[Page], None]:
    """From now on, what a page is told is held back, and read every two seconds all at once.

    Gradio's script takes up each message by a timer of no time; a busy browser may delay these.
    """
    script = """() => {
      const set = window.setTimeout, kept = [];
      window.setTimeout = (act, time, ...given) =>
        time === 0 && given.length ? kept.push([act, given]) : set(act, time, ...given);
      setInterval(() => kept.splice(0).forEach(([act, given]) => act(...given)), 2000);
    }"""
    return lambda page: page.evaluate(script)
