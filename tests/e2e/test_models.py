"""What a visitor finds in the Models tab, and fetches from a Hub of our own, in a real browser.

The Hub is the server of `tests/hub.py`. It holds the files of the Whisper that comes with
the requirements, under another name: so what is fetched is whole, and can be tried out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from app import stock
from app.catalog import SPEECH
from app.files import MIB
from tests.hub import Request, Server, serving

if TYPE_CHECKING:
    from conftest import Started

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
LONG_WAIT = 240_000  # milliseconds, for what loads or computes
PAUSE = 0.1  # seconds between two megabytes
MAY_END = threading.Event()  # else a slow page would come too late to see it on its way
NAME = "base.en"


class Studio(NamedTuple):
    """A studio that runs, and the Hub it asks."""

    address: str
    hub: Server
    models: Path


def shop(request: Request, server: Server) -> None:
    """Send a file of the Whisper here, a megabyte at a time; the last one when `MAY_END` is set."""
    path = stock.home(SPEECH["tiny.en"]) / request.path.rpartition("/")[2]
    if f"faster-whisper-{NAME}/" not in request.path or not path.is_file():
        request.head(404, 0)
        return
    content, tag = path.read_bytes(), f'"{path.name}"'
    wanted = request.headers.get("Range", "")
    first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
    span = {"Content_Range": f"bytes {first}-{len(content) - 1}/{len(content)}"} if first else {}
    request.head(206 if first else 200, len(content) - first, ETag=tag, **span)
    while first < len(content):
        held = path.name == "model.bin" and len(content) - first <= MIB and not MAY_END.is_set()
        size = 1024 if held else MIB
        request.wfile.write(content[first : first + size])
        first += size
        time.sleep(PAUSE)


@pytest.fixture(scope="module")
def studio(
    browser_type_launch_args: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Studio]:
    """`python app.py`, whose Hub is on this machine."""
    with serving() as hub:
        hub.always = shop
        yield from _started(tmp_path_factory.mktemp("studio"), hub)


def _started(folder: Path, hub: Server) -> Iterator[Studio]:
    ours = {
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "NO_PROXY": "127.0.0.1",
        "SYNESTHETE_MODELS": str(folder / "models"),
        "SYNESTHETE_RESULTS": str(folder / "results"),
        "SYNESTHETE_DATA": str(folder / "data"),
        "OMP_NUM_THREADS": "1",
    }
    log = folder / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=ROOT,
            env={**os.environ, **ours},
            stdout=said,
            stderr=said,
        )
        try:
            while " is at " not in log.read_text():
                assert process.poll() is None, log.read_text()
                time.sleep(0.1)
            yield Studio(log.read_text().split(" is at ")[1].split()[0], hub, folder / "models")
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def errors() -> list[str]:
    """What the pages complained of."""
    return []


@pytest.fixture
def visit(
    new_context: Callable[..., BrowserContext], errors: list[str]
) -> Iterator[Callable[..., Page]]:
    """Open the Models tab as a new visitor. In the end: no script failed."""

    def come(studio: Studio | Started, **how: object) -> Page:
        page = new_context(**how).new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.goto(studio.address, wait_until="domcontentloaded")
        arrive(page)
        return page

    yield come
    assert errors == []


def arrive(page: Page) -> None:
    """Open the tab."""
    expect(page.locator("#generate")).to_be_visible()
    if (more := page.get_by_label("More tabs")).is_visible():  # a phone has no room for all
        more.click()
    tab = page.get_by_role("tab", name="Models")
    tab.or_(page.get_by_role("button", name="Models", exact=True)).click()
    expect(status(page)).to_contain_text("Generators: ", timeout=LONG_WAIT)


def look(page: Page, kind: str) -> None:
    """Look at what there is of a kind."""
    page.locator("#models-kind").get_by_label(kind).check()
    expect(status(page)).to_contain_text(f"{kind}: ")


def status(page: Page) -> Locator:
    return page.locator("#models-status p")


def row(page: Page, key: str = f"speech/{NAME}") -> Locator:
    return page.locator(f'#models-list li[data-key="{key}"]')


def press(page: Page, words: str, name: str = NAME) -> None:
    page.get_by_role("button", name=f"{words}: {name}", exact=True).click()


def test_a_whisper_is_fetched_with_a_stop_and_a_reload_on_the_way_and_deleted(
    visit: Callable[..., Page], studio: Studio, errors: list[str]
) -> None:
    page, other = visit(studio), visit(studio)
    for one in (page, other):
        look(one, "Speech")
    press(page, "Download")
    expect(row(page)).to_contain_text("We have never fetched base.en ourselves")
    press(page, "Download it")
    expect(status(page)).to_contain_text("Tick the box")
    assert studio.hub.asked == []
    row(page).get_by_role("checkbox").check()
    press(page, "Download it")
    expect(row(page)).to_contain_text(re.compile(r"MB of 75\.5 MB · [\d.]+ MB/s · \d+ s left"))
    expect(row(page).get_by_role("progressbar")).to_be_visible()

    expect(row(other)).to_contain_text("MB of 75.5 MB")  # what one fetches comes for all
    press(page, "Stop")
    expect(status(page)).to_contain_text("is kept: Go on takes it up")
    expect(row(page)).to_contain_text("partly here")

    press(page, "Go on")
    expect(row(page)).to_contain_text("MB of 75.5 MB")
    assert errors == []
    page.reload(wait_until="domcontentloaded")
    arrive(page)
    errors.clear()  # of the page that went: Gradio complains of each answer it still waited for
    look(page, "CLIPs")
    expect(row(page)).to_contain_text("on its way")
    MAY_END.set()
    expect(status(page)).to_contain_text("base.en is here and can be used", timeout=LONG_WAIT)
    look(page, "Speech")
    expect(row(page)).to_contain_text("here")
    model_bin = [begun for path, begun in studio.hub.asked if path.endswith("model.bin")]
    assert len(model_bin) == 2
    assert int(model_bin[1].removeprefix("bytes=").rstrip("-")) > MIB
    theirs = stock.home(SPEECH["tiny.en"]) / "model.bin"
    assert (studio.models / "speech" / NAME / "model.bin").read_bytes() == theirs.read_bytes()

    press(page, "Delete")
    expect(row(page)).to_contain_text("Delete base.en?")
    press(page, "Not now")
    expect(row(page)).not_to_contain_text("Delete base.en?")
    press(page, "Delete")
    press(page, "Yes, delete it")
    expect(status(page)).to_contain_text(re.compile(r"base\.en is deleted: 7\d\.\d MB"))
    assert not (studio.models / "speech" / NAME).exists()
    expect(row(other)).to_contain_text("can be had")


def test_a_file_that_is_not_there_is_told(visit: Callable[..., Page], studio: Studio) -> None:
    page = visit(studio)
    look(page, "Speech")
    press(page, "Download", "small.en")
    row(page, "speech/small.en").get_by_role("checkbox").check()
    press(page, "Download it", "small.en")
    expect(status(page)).to_contain_text("answers 404")
    expect(row(page, "speech/small.en")).to_contain_text("answers 404")


def test_the_keyboard_is_enough_and_keeps_its_place(
    visit: Callable[..., Page], studio: Studio
) -> None:
    page = visit(studio)
    look(page, "Speech")
    page.get_by_role("button", name="Download: base", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Not now: base", exact=True)).to_be_focused()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    box = row(page, "speech/base").get_by_role("checkbox")
    expect(box).to_be_focused()
    page.keyboard.press("Space")
    expect(box).to_be_checked()
    page.wait_for_timeout(6000)  # the list is looked at again meanwhile
    expect(box).to_be_checked()
    expect(box).to_be_focused()


def test_a_phone_never_scrolls_sideways(visit: Callable[..., Page], studio: Studio) -> None:
    how = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    page = visit(studio, **how)
    press(page, "Download", "imagenet_16384")
    expect(row(page, "generator/imagenet_16384")).to_contain_text("Its hash is known")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_without_a_network_it_says_why_and_what_to_do(
    visit: Callable[..., Page], started: Started
) -> None:
    page = visit(started)
    notice = page.locator("#models-list .notice")
    expect(notice).to_contain_text("SYNESTHETE_OFFLINE switches the network off")
    expect(notice).to_contain_text("start the studio without it")
    expect(row(page, "generator/coco")).to_contain_text("can be had")
    expect(page.get_by_role("button", name="Download: coco")).to_have_count(0)
