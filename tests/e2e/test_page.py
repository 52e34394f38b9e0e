"""What a visitor does on the page and what comes of it, in a real browser."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image as Picture
from playwright.sync_api import Locator, Page, expect

from app.images import read_recipe

if TYPE_CHECKING:
    from conftest import Started

pytestmark = pytest.mark.e2e

Visit = Callable[..., Page]

READY = re.compile("Ready")
STEP = re.compile(r"Step \d+ of \d+ · .+ left · loss \d")
LONG_WAIT = 240_000  # milliseconds, for what loads or computes


def settle(page: Page, *, steps: int = 60, prompt: str = "a red apple") -> None:
    """Ask for a small picture."""
    page.locator("#prompt textarea").fill(prompt)
    page.locator("#quality").get_by_label("Draft").check()
    _type(page.locator("#size input"), "64x64")
    page.get_by_role("button", name="Advanced").click()
    _type(page.locator("#steps input"), str(steps))
    _type(page.locator("#views input"), "2")


def _type(field: Locator, text: str) -> None:
    field.fill(text)
    field.press("Tab")


def collect_previews(page: Page) -> None:
    """From now on, note every picture that is shown; `seen(page)` counts them."""
    page.evaluate(
        """() => {
          window.seen = new Set();
          const look = () => {
            const shown = document.querySelector("#preview img");
            if (shown && shown.complete && shown.naturalWidth) window.seen.add(shown.src);
          };
          setInterval(look, 20);
        }"""
    )


def seen(page: Page) -> int:
    """How many different pictures were shown."""
    return int(page.evaluate("window.seen.size"))


def download(page: Page, folder: Path) -> Path:
    """The result, by the button on it."""
    with page.expect_download() as waiting:
        page.locator("#result").get_by_label("Download").click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def status(page: Page) -> Locator:
    """The line that says how it goes."""
    return page.locator("#status p")


def test_the_page_opens_and_says_when_the_models_are_ready(visit: Visit) -> None:
    page = visit()
    expect(page).to_have_title("Synesthete")
    expect(page.locator("#prompt textarea")).to_have_value("a red apple on a blue background")
    expect(status(page)).to_have_text(READY, timeout=LONG_WAIT)
    expect(page.locator("#stop")).to_be_disabled()
    expect(page.locator("#status")).to_have_attribute("aria-live", "polite")


def test_generate_shows_the_picture_growing_and_a_result_with_its_recipe(
    visit: Visit, started: Started, tmp_path: Path
) -> None:
    page = visit()
    settle(page)
    collect_previews(page)
    page.locator("#generate").click()
    expect(status(page)).to_have_text(STEP, timeout=LONG_WAIT)
    expect(status(page)).to_have_text(re.compile("Done: 60 steps"), timeout=LONG_WAIT)
    assert seen(page) >= 3
    expect(page.locator("#preview")).to_be_hidden()
    expect(page.locator("#result img")).to_have_attribute("alt", "The finished picture")

    path = download(page, tmp_path)
    request = read_recipe(path)["request"]
    assert (request["prompt"], request["steps"], request["width"]) == ("a red apple", 60, 64)
    assert path.name == f"a-red-apple-seed{request['seed']}.png"
    assert path.read_bytes() == (started.results / path.name).read_bytes()


def test_a_seed_that_is_kept_gives_the_same_picture(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    settle(page, steps=4)
    page.locator("#generate").click()
    expect(status(page)).to_have_text(re.compile("Done"), timeout=LONG_WAIT)
    first = download(page, tmp_path)
    seed = read_recipe(first)["request"]["seed"]
    page.get_by_role("button", name=f"Reuse seed {seed}").click()
    expect(page.locator("#seed input")).to_have_value(str(seed))
    page.locator("#generate").click()
    expect(page.locator("#details")).to_contain_text(f"seed{seed}-2.png", timeout=LONG_WAIT)
    second = download(page, tmp_path)
    assert second.stem == f"{first.stem}-2"
    assert np.array_equal(*(np.asarray(Picture.open(path)) for path in (first, second)))
    page.get_by_role("button", name="Random seed").click()
    expect(page.locator("#seed input")).to_have_value("")


def test_stop_works_at_once_and_keeps_the_picture(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    settle(page, steps=2000)
    page.locator("#generate").click()
    expect(status(page)).to_have_text(STEP, timeout=LONG_WAIT)
    expect(page.locator("#generate")).to_be_disabled()
    began = time.monotonic()
    page.locator("#stop").click()
    expect(status(page)).to_have_text(re.compile(r"Stopped at step \d+ of 2000"))
    assert time.monotonic() - began < 10  # half a second, on a machine that is not busy
    expect(page.locator("#generate")).to_be_enabled()
    path = download(page, tmp_path)
    told = re.search(r"step (\d+)", status(page).inner_text())
    assert told is not None
    assert path.stem.endswith(f"-step{told[1]}")
    assert read_recipe(path)["run"]["steps"] == int(told[1])


def test_keys_start_and_stop(visit: Visit) -> None:
    page = visit()
    settle(page, steps=2000)
    page.locator("#prompt textarea").press("Control+Enter")
    expect(status(page)).to_have_text(STEP, timeout=LONG_WAIT)
    page.keyboard.press("Escape")
    expect(status(page)).to_have_text(re.compile("Stopped at step"))


def test_an_empty_prompt_is_refused_in_a_sentence(visit: Visit) -> None:
    page = visit()
    page.locator("#prompt textarea").fill("")
    page.locator("#generate").click()
    sentence = "Nothing steers the picture yet. Type a prompt, or give a picture or a sound."
    expect(page.locator("[data-testid=toast-body]")).to_contain_text(sentence, timeout=LONG_WAIT)
    expect(status(page)).to_have_text(sentence)
    expect(page.locator("#generate")).to_be_enabled()


def test_a_file_that_is_no_picture_is_refused_in_a_sentence(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    settle(page)
    (tmp_path / "notes.png").write_text("These are words.")
    page.locator("#init input[type=file]").set_input_files(tmp_path / "notes.png")
    expect(page.locator("#init").get_by_label("Remove Image")).to_be_visible()
    page.locator("#generate").click()
    toast = page.locator("[data-testid=toast-body]")
    expect(toast).to_contain_text("'notes.png' is no picture that we can read", timeout=LONG_WAIT)


def test_a_second_visitor_waits_and_is_served_next(visit: Visit) -> None:
    first, second = visit(), visit()
    settle(first, steps=800, prompt="a long one")
    settle(second, steps=4, prompt="a short one")
    first.locator("#generate").click()
    expect(status(first)).to_have_text(STEP, timeout=LONG_WAIT)
    second.locator("#generate").click()
    waiting = re.compile(r"Waiting: 1 picture before yours, about .+\.")
    expect(status(second)).to_have_text(waiting)
    first.locator("#stop").click()
    expect(status(second)).to_have_text(re.compile("Done: 4 steps"), timeout=LONG_WAIT)


def test_the_work_goes_on_when_the_tab_is_closed(visit: Visit, started: Started) -> None:
    page = visit()
    settle(page, steps=40, prompt="a forgotten one")
    page.locator("#generate").click()
    expect(status(page)).to_have_text(STEP, timeout=LONG_WAIT)
    page.close()
    until = time.monotonic() + LONG_WAIT / 1000
    while not list(started.results.glob("a-forgotten-one-*.png")):
        assert time.monotonic() < until
        time.sleep(0.2)
    (path,) = started.results.glob("a-forgotten-one-*.png")
    assert read_recipe(path)["run"]["steps"] == 40


def test_a_phone_never_scrolls_sideways(visit: Visit) -> None:
    page = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    settle(page, steps=2, prompt="incomprehensibilities " * 8)
    page.locator("#generate").click()
    expect(status(page)).to_have_text(re.compile("Done"), timeout=LONG_WAIT)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize(("scheme", "bright"), [("light", True), ("dark", False)])
def test_the_page_is_as_bright_as_the_visitor_likes(
    visit: Visit, scheme: str, bright: bool
) -> None:
    page = visit(color_scheme=scheme)
    for element in ("body", "#prompt textarea"):
        colour = page.locator(element).evaluate("it => getComputedStyle(it).backgroundColor")
        red, green, blue = (int(part) for part in re.findall(r"\d+", colour)[:3])
        assert (red + green + blue > 382) is bright


def test_starting_and_all_this_left_nothing_in_the_log(started: Started) -> None:
    assert re.fullmatch(r"Synesthete is at http://127\.0\.0\.1:\d+/ .*\n", started.log.read_text())
