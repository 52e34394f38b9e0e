"""Take the pictures of the page that the documents show: `python docs/screens/make.py`.

Needs the packages of requirements-test.txt and Debian's chromium and tuxpaint-stamps-default. On a
machine that has nothing else to do, it takes about three minutes; `python docs/screens/make.py
generate` takes those of one tab alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CHROMIUM = {"executable_path": "/usr/bin/chromium", "args": ["--no-sandbox", "--disable-gpu"]}
DESKTOP = {"viewport": {"width": 1200, "height": 860}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
COLOURS = 256  # enough for a page, and a third of the size
STAMPS = Path("/usr/share/tuxpaint/stamps/animals")
LONG = 1_800_000  # milliseconds

Visit = Callable[..., Page]


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


def edit(page: Page, picture: Path, instruction: str, mask: Path | None, press: str) -> None:
    """Change a picture in the Edit tab, and wait until that is done, or a question is there."""
    page.get_by_role("tab", name="Edit").click()
    page.locator("#edit-picture input[type=file]").set_input_files(picture)
    if mask:
        page.locator("#edit-mask input[type=file]").set_input_files(mask)
        expect(page.locator("#edit-mask img")).to_be_visible()
    page.locator("#edit-instruction textarea, #edit-instruction input").fill(instruction)
    page.locator("#edit-seed input, #edit-seed textarea").fill("7")
    page.locator(f"#edit-{press}").click()
    expect(page.locator("#edit-status p")).to_have_text(re.compile("^Done|Is this"), timeout=LONG)


def listen(page: Page, sound: str | Path, text: str) -> None:
    """Make a picture of a sound, or of an example of ours, in the Listen tab, beside words."""
    page.get_by_role("tab", name="Listen").click()
    if isinstance(sound, Path):
        page.locator("#listen-sound input[type=file]").set_input_files(sound)
    else:
        page.locator(f"#listen-{sound}").click()
    page.locator("#listen-text textarea, #listen-text input").fill(text)
    page.locator("#listen-seed input, #listen-seed textarea").fill("7")
    page.locator("#listen-make").click()
    expect(page.locator("#listen-status p")).to_have_text(re.compile("Done"), timeout=LONG)


def subjects(folder: Path) -> dict[str, Path]:
    """Two drawings; photographs, and a mask for one of them.

    flower.jpg and china.jpg are scikit-learn's, both CC BY 2.0; the motorcycle is scikit-image's,
    of the Middlebury 2014 stereo benchmark, and lies where `benchmarks.photographs` looks for it.
    """
    sys.path.insert(0, str(ROOT))
    from app.editing import _frame
    from app.models import Models
    from benchmarks import photographs
    from scripts.edits import subject

    names = {
        "street": "a car on the street",
        "teapot": "a teapot on a white background",
        "flower": "flower",
        "china": "china",
    }
    models = Models()
    shown = {name: subject(words, models) for name, words in names.items()}
    (outlined,) = (one for one in photographs.load() if one.photograph == "motorcycle")
    frame = _frame(outlined.object)  # a bus has another outline
    shown |= {"motorcycle": outlined.pixels, "mask": frame.astype(np.uint8) * 255}
    for name, pixels in shown.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return {name: folder / f"{name}.png" for name in shown}


def generate(visit: Visit) -> None:
    """Words become a picture: before, on the way, done, several, stopped, refused."""
    page = visit(**DESKTOP)
    shoot(page, "idle")
    ask(page, "a red apple on a blue background | leaves::0.5 | people::-0.5", 7)
    say(page, r"Step [12]\d of")
    shoot(page, "running")
    say(page, "Done")
    shoot(page, "done", whole=True)
    page.locator("#count").get_by_label("4").check()
    ask(page, "an oil painting of a fox", 7)
    say(page, "Done: 4 pictures")
    shoot(page, "variations", whole=True)
    page.locator("#prompt textarea").fill("a red apple::30")
    page.locator("#generate").click()
    expect(page.locator("[data-testid=toast-body]")).to_be_visible()
    shoot(page, "error")

    page = visit(color_scheme="dark", **DESKTOP)
    ask(page, "a sunflower in a green field", 7)
    say(page, "Done")
    shoot(page, "dark")

    page = visit(color_scheme="dark", **PHONE)
    shoot(page, "phone-dark")
    page = visit(**PHONE)
    ask(page, "a tree in a green field", 7)
    say(page, "Done")
    shoot(page, "phone")
    page.get_by_role("button", name="Advanced").click()
    shoot(page, "phone-whole", whole=True)


def edits(visit: Visit) -> None:
    """The lecture's two examples, three strengths, and a place that is in doubt."""
    with tempfile.TemporaryDirectory() as folder:
        there = subjects(Path(folder))
        for name, picture, instruction, mask, press in (
            ("edit-red-bus", "street", "Red Bus", None, "edit"),
            ("edit-red-bus-photograph", "motorcycle", "Red Bus", "mask", "edit"),
            ("edit-green", "flower", "Green", None, "edit"),
            ("edit-green-drawn", "teapot", "Green", None, "edit"),
            ("edit-three", "flower", "make the flower blue", None, "compare"),
            ("edit-asked", "china", "make the pagoda blue", None, "edit"),
        ):
            page = visit(**DESKTOP)
            edit(page, there[picture], instruction, there[mask] if mask else None, press)
            if press == "compare":
                page.locator("#edit-three .thumbnail-item").nth(1).click()
                expect(page.locator("#edit-status p")).to_contain_text("Taken")
            shoot(page, name, whole=True)


def sounds(visit: Visit) -> None:
    """What is heard becomes a picture: a recording of an animal, a spoken name, rain and words."""
    for name, sound, text in (
        ("listen", "rain", "a house"),
        ("listen-animal", STAMPS / "birds" / "duck.ogg", ""),
        ("listen-spoken", STAMPS / "mammals" / "elephant_desc.ogg", ""),
    ):
        page = visit(**DESKTOP)
        listen(page, sound, text)
        shoot(page, name, whole=True)


def history(visit: Visit) -> None:
    """What was made is found again."""
    page = visit(**DESKTOP)
    for seed, prompt in enumerate(("a sailing boat", "a sunflower", "a red heart"), 1):
        ask(page, prompt, seed)
        expect(page.locator("#reuse")).to_have_text(f"Reuse seed {seed}", timeout=LONG)
        say(page, "Done")
    page.get_by_role("tab", name="History").click()
    page.locator("#history-gallery img").first.click()
    expect(page.locator("#history-again")).to_be_visible()
    shoot(page, "history", whole=True)


def models(visit: Visit) -> None:
    """What is here, and what can be had."""
    page = visit(**DESKTOP)
    page.get_by_role("tab", name="Models").click()
    expect(page.locator("#models-list")).to_contain_text("pocket")
    shoot(page, "models", whole=True)


TABS = {
    "generate": generate,
    "edit": edits,
    "listen": sounds,
    "history": history,
    "models": models,
}


def main() -> None:
    """Take those that were asked for, or all."""
    wanted = sys.argv[1:] or list(TABS)
    with studio() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(**CHROMIUM)

        def visit(**how: object) -> Page:
            page = browser.new_page(**how)
            page.goto(address, wait_until="domcontentloaded")
            say(page, "Ready")
            return page

        for name in wanted:
            TABS[name](visit)


if __name__ == "__main__":
    main()
