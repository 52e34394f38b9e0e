"""The Generate tab in a browser, as its tests use it: what is asked for, and what is seen."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Locator, Page

STEP = re.compile(r"Step \d+ of \d+ · .+ left · loss \d")
LONG_WAIT = 240_000  # milliseconds, for what loads or computes


def settle(page: Page, *, steps: int = 60, prompt: str = "a red apple") -> None:
    """Ask for a small picture."""
    page.locator("#prompt textarea").fill(prompt)
    page.locator("#quality").get_by_label("Draft").check()
    choose_text(page.locator("#size input"), "64x64")
    page.get_by_role("button", name="Advanced").click()
    choose_text(page.locator("#steps input"), str(steps))
    choose_text(page.locator("#views input"), "2")


def choose_text(field: Locator, text: str) -> None:
    """Type into a field, and leave it."""
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
