"""What a visitor does in the Listen tab and what comes of it, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from app.images import read_recipe
from app.sounds import RATE, save_wav

if TYPE_CHECKING:
    from conftest import Started

pytestmark = pytest.mark.e2e

Visit = Callable[..., Page]

SHIP = Path(__file__).parents[1] / "sounds" / "ship.flac"  # "a ship in a storm", by espeak-ng
LONG_WAIT = 240_000  # milliseconds, for what loads or computes
LISTENED = re.compile(r"Listened\. ")
DONE = re.compile(r"Done: \d+ steps")


@pytest.fixture
def alone(new_context: Callable[..., BrowserContext], started: Started) -> Visit:
    """Open the page after a script; Gradio may complain in the console, as it does of a file that
    the browser cannot play.
    """

    def come(script: str = "") -> Page:
        context = new_context()
        context.add_init_script(script)
        page = context.new_page()
        page.goto(started.address, wait_until="domcontentloaded")
        expect(page.locator("#generate")).to_be_visible()
        return page

    return come


def begin(page: Page, sound: Path | None = None) -> None:
    """Open the tab and give it a sound; a small draft is enough."""
    page.get_by_role("tab", name="Listen").click()
    page.locator("#listen-quality").get_by_label("Draft").check()
    page.locator("#listen-size input").fill("96x96")
    page.locator("#listen-size input").press("Tab")
    if sound:
        give(page, sound)


def give(page: Page, sound: Path) -> None:
    page.locator("#listen-sound input[type=file]").set_input_files(sound)
    expect(page.locator("#listen-sound").get_by_label("Clear")).to_be_visible()


def take(page: Page, example: str) -> None:
    """Choose a sound of ours, and wait until it is there."""
    page.get_by_role("button", name=example).click()
    expect(page.locator("#listen-sound").get_by_label("Clear")).to_be_visible()


def status(page: Page) -> Locator:
    """The line that says how it goes."""
    return page.locator("#listen-status p")


def listen(page: Page) -> None:
    page.locator("#listen-listen").click()
    expect(status(page)).to_have_text(LISTENED, timeout=LONG_WAIT)


def make(page: Page) -> None:
    page.locator("#listen-make").click()
    expect(status(page)).to_have_text(DONE, timeout=LONG_WAIT)


def saved(page: Page, started: Started) -> dict[str, object]:
    """What the picture that the page says it wrote was made of."""
    told = page.locator("#listen-details dd").filter(has_text=".png").inner_text()
    return read_recipe(started.results / Path(told).name)["request"]


def test_what_is_said_is_heard_corrected_and_drawn(visit: Visit, started: Started) -> None:
    page = visit()
    begin(page, SHIP)
    listen(page)
    words = page.locator("#listen-words textarea")
    expect(words).to_have_value("a ship in a storm")
    expect(page.locator("#listen-figure dd").first).to_contain_text("ship in a storm")
    drawn = page.locator("#listen-figure img")
    expect(drawn).to_have_attribute("alt", re.compile("The sound over time"))
    assert drawn.evaluate("image => image.complete && image.naturalWidth") == 720
    words.fill("a red ship")
    make(page)
    assert saved(page, started)["prompt"] == "a red ship"
    expect(page.locator("#listen-result img")).to_be_visible()
    expect(page.locator("#listen-preview")).to_be_hidden()
    losses = page.locator("#listen-details dd").filter(has_text="at first")
    expect(losses).to_have_text(re.compile(r"a red ship: \d\.\d+ at first, \d\.\d+ now"))
    expect(page.locator("#listen-reuse")).to_have_text(re.compile(r"Reuse seed \d+"))


def test_a_sound_of_ours_and_words_steer_together(visit: Visit, started: Started) -> None:
    page = visit()
    begin(page)
    take(page, "A duck")
    page.locator("#listen-text input").fill("snow")
    page.locator("#listen-text input").press("Control+Enter")
    expect(status(page)).to_have_text(DONE, timeout=LONG_WAIT)
    request = saved(page, started)
    assert request["prompt"] == "snow"
    assert [sound["name"] for sound in request["sounds"]] == ["duck.flac"]
    losses = page.locator("#listen-details dd").filter(has_text="at first")
    expect(losses).to_have_text(re.compile(r"snow: .+ now · duck\.flac: .+ now"))
    expect(page.locator(".studio-labels li").first).to_have_text(re.compile(r"\w+ \d+%"))
    page.locator("#listen-send").click()
    expect(page.locator("#edit-picture img")).to_be_visible()


def test_the_mood_of_music_has_words_and_colours(visit: Visit) -> None:
    page = visit()
    begin(page)
    take(page, "A little music")
    page.locator("#listen-by_words input").uncheck()
    page.locator("#listen-by_sound input").uncheck()
    listen(page)
    expect(status(page)).to_have_text("Listened. What steers: the mood.")
    expect(page.locator("#listen-mood textarea")).to_have_value(re.compile(r"a .+ picture"))
    expect(page.locator("#listen-swatches i")).to_have_count(5)
    page.locator("#listen-colours input").fill("#102030 #ffeedd")
    expect(page.locator("#listen-swatches i")).to_have_count(2)
    page.get_by_role("button", name="Rain").click()  # another sound: what was heard is gone
    expect(page.locator("#listen-mood textarea")).to_have_value("")
    expect(page.locator("#listen-swatches i")).to_have_count(0)


def test_a_broken_sound_is_refused_and_the_next_one_works(alone: Visit, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF....WAVE nothing of the kind")
    page = alone()
    begin(page, broken)
    page.locator("#listen-make").click()
    sentence = "'broken.wav' is damaged, or of a rare kind."
    expect(status(page)).to_contain_text(sentence, timeout=LONG_WAIT)
    expect(page.locator("[data-testid=toast-body]").first).to_contain_text(sentence)
    expect(page.locator("#listen-make")).to_be_enabled()
    page.locator("#listen-sound").get_by_label("Clear").click()
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    give(page, save_wav(tmp_path / "tone.wav", tone.astype(np.float32)))
    listen(page)
    expect(page.locator("#listen-figure figcaption")).to_contain_text("0 to 1 s of 1.")


def test_without_a_sound_one_is_asked_for(visit: Visit) -> None:
    page = visit()
    begin(page)
    page.locator("#listen-make").click()
    expect(status(page)).to_contain_text("There is no sound yet", timeout=LONG_WAIT)


def test_what_the_microphone_recorded_is_listened_to(visit: Visit) -> None:
    page = visit()  # the browser pretends a microphone that beeps once a second
    begin(page)
    page.locator("#listen-sound").get_by_label("Record audio").click()
    page.locator("#listen-sound").get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(2_500)
    page.locator("#listen-sound").get_by_role("button", name="Stop", exact=True).click()
    expect(status(page)).to_have_text(re.compile("Recorded. "), timeout=LONG_WAIT)
    listen(page)
    expect(page.locator("#listen-figure dd").first).not_to_be_empty()
    caption = page.locator("#listen-figure figcaption").inner_text()
    assert 1 < float(re.search(r"0 to (\d\.?\d*) s of", caption)[1]) < 9


def test_a_refused_microphone_is_explained(alone: Visit) -> None:
    page = alone(
        "MediaDevices.prototype.getUserMedia = () =>"
        " Promise.reject(new DOMException('Permission denied', 'NotAllowedError'))"
    )
    begin(page)
    page.locator("#listen-sound").get_by_label("Record audio").click()
    page.locator("#listen-sound").get_by_role("button", name="Record", exact=True).click()
    expect(status(page)).to_contain_text("The browser gave no microphone: allow it beside")


def test_a_phone_never_scrolls_sideways(visit: Visit) -> None:
    page = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    begin(page)
    take(page, "A little music")
    listen(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
