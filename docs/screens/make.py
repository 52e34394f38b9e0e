"""Take the pictures of the page that the documents show: `python docs/screens/make.py`.

Needs the packages of requirements-test.txt and Debian's chromium. On a machine that has nothing
else to do, it takes about two minutes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CHROMIUM = {"executable_path": "/usr/bin/chromium", "args": ["--no-sandbox", "--disable-gpu"]}
DESKTOP = {"viewport": {"width": 1200, "height": 860}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
COLOURS = 256  # enough for a page, and a third of the size
LONG = 1_800_000  # milliseconds


@contextmanager
def studio() -> Iterator[str]:
    """The address of a studio that writes to a home of its own."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, str(ROOT / "app.py")]
        surroundings = {**os.environ, "HOME": home}
        process = subprocess.Popen(command, env=surroundings, stderr=subprocess.PIPE, text=True)
        assert process.stderr
        try:
            yield next(line.split()[3] for line in process.stderr if " is at " in line)
        finally:
            process.terminate()
            process.wait()


def shoot(page: Page, name: str, *, whole: bool = False) -> None:
    """Save what is to be seen, or the whole page."""
    page.mouse.move(0, 0)
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(500)  # for what fades in
    picture = Image.open(BytesIO(page.screenshot(full_page=whole))).convert("RGB")
    picture.quantize(COLOURS, kmeans=1).save(HERE / f"{name}.png", optimize=True)


def say(page: Page, pattern: str) -> None:
    """Wait until the status line says so."""
    expect(page.locator("#status p")).to_have_text(re.compile(pattern), timeout=LONG)


def ask(page: Page, prompt: str, seed: int) -> None:
    """Ask for a quick picture."""
    page.locator("#prompt textarea").fill(prompt)
    page.locator("#quality").get_by_label("Draft").check()
    page.locator("#seed input").fill(str(seed))
    page.locator("#generate").click()


def edit(page: Page, picture: Path, instruction: str) -> None:
    """Change a picture in the Edit tab, and wait until that is done."""
    page.get_by_role("tab", name="Edit").click()
    page.locator("#edit-picture input[type=file]").set_input_files(picture)
    page.locator("#edit-instruction textarea, #edit-instruction input").fill(instruction)
    page.locator("#edit-seed input, #edit-seed textarea").fill("7")
    page.locator("#edit-edit").click()
    expect(page.locator("#edit-status p")).to_have_text(re.compile("Done"), timeout=LONG)


def listen(page: Page, example: str, text: str) -> None:
    """Make a picture of one of our examples in the Listen tab, with words beside it."""
    page.get_by_role("tab", name="Listen").click()
    page.locator(f"#listen-{example}").click()
    page.locator("#listen-text textarea, #listen-text input").fill(text)
    page.locator("#listen-quality").get_by_label("Draft").check()
    page.locator("#listen-make").click()
    expect(page.locator("#listen-status p")).to_have_text(re.compile("Done"), timeout=LONG)


def subjects(folder: Path) -> tuple[Path, Path]:
    """A drawn street with a car, and a photograph (scikit-learn's flower.jpg, CC BY 2.0)."""
    sys.path.insert(0, str(ROOT))
    from app.models import Models
    from scripts.edits import subject

    places = folder / "street.png", folder / "flower.png"
    for place, name in zip(places, ("a car on the street", "flower"), strict=True):
        Image.fromarray(subject(name, Models())).save(place)
    return places


def main() -> None:
    """Take them all."""
    with studio() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(**CHROMIUM)

        def visit(**how: object) -> Page:
            page = browser.new_page(**how)
            page.goto(address, wait_until="domcontentloaded")
            say(page, "Ready")
            return page

        page = visit(**DESKTOP)
        shoot(page, "idle")
        ask(page, "a red apple on a blue background", 7)
        say(page, r"Step [12]\d of")
        shoot(page, "running")
        say(page, "Done")
        shoot(page, "done")
        page.locator("#prompt textarea").fill("a red apple::30")
        page.locator("#generate").click()
        expect(page.locator("[data-testid=toast-body]")).to_be_visible()
        shoot(page, "error")

        with tempfile.TemporaryDirectory() as folder:
            street, flower = subjects(Path(folder))
            for name, picture, instruction in (
                ("edit-red-bus", street, "Red Bus"),
                ("edit-green", flower, "Green"),
            ):
                page = visit(**DESKTOP)
                edit(page, picture, instruction)
                shoot(page, name, whole=True)

        page = visit(**DESKTOP)
        listen(page, "duck", "a house")
        shoot(page, "listen", whole=True)
        page.get_by_role("tab", name="Generate").click()
        for seed, prompt in enumerate(("a sailing boat", "a sunflower", "a red heart"), 1):
            ask(page, prompt, seed)
            expect(page.locator("#reuse")).to_have_text(f"Reuse seed {seed}", timeout=LONG)
            say(page, "Done")
        page.get_by_role("tab", name="History").click()
        page.locator("#history-gallery img").first.click()
        expect(page.locator("#history-again")).to_be_visible()
        shoot(page, "history", whole=True)

        page = visit(color_scheme="dark", **DESKTOP)
        ask(page, "a sunset over the sea", 7)
        say(page, "Done")
        shoot(page, "dark")

        page = visit(**PHONE)
        ask(page, "a tree in a green field", 7)
        say(page, "Done")
        shoot(page, "phone")
        page.get_by_role("button", name="Advanced").click()
        shoot(page, "phone-whole", whole=True)


if __name__ == "__main__":
    main()
