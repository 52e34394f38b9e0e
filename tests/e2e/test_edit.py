"""What a visitor does in the Edit tab and what comes of it, in a real browser."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Picture
from playwright.sync_api import FloatRect, Locator, Page, expect

from app.images import read_recipe

if TYPE_CHECKING:
    from conftest import Started

pytestmark = pytest.mark.e2e

Visit = Callable[..., Page]
Pixels = NDArray[np.uint8]

SIDE = 96
LONG_WAIT = 240_000  # milliseconds, for what loads or computes
PLAN = re.compile(r"Recolour the .+ blue\. \d+% of the picture may change\.")
DONE = re.compile(r"Done: \d+ steps")


def disc(side: int = SIDE) -> Pixels:
    """A red disc in the middle of white paper."""
    pixels = np.full((side, side, 3), 250, np.uint8)
    return cv2.circle(pixels, (side // 2, side // 2), side // 4, (215, 40, 40), -1)


def save(path: Path, pixels: Pixels) -> Path:
    Picture.fromarray(pixels).save(path)
    return path


def begin(page: Page, picture: Path | None, instruction: str) -> None:
    """Open the tab, give it a picture, say what to change; a draft is enough."""
    page.get_by_role("tab", name="Edit").click()
    page.locator("#edit-quality").get_by_label("Draft").check()
    page.locator("#edit-instruction input").fill(instruction)
    if picture:
        page.locator("#edit-picture input[type=file]").set_input_files(picture)
        expect(page.locator("#edit-picture img")).to_be_visible()


def status(page: Page) -> Locator:
    """The line that says how it goes."""
    return page.locator("#edit-status p")


def edit(page: Page) -> None:
    page.locator("#edit-edit").click()
    expect(status(page)).to_have_text(DONE, timeout=LONG_WAIT)


def saved(page: Page, started: Started) -> Path:
    """The file that the page says it wrote."""
    told = page.locator("#edit-details dd").filter(has_text=".png").inner_text()
    return started.results / Path(told).name


def read(path: Path) -> Pixels:
    return np.asarray(Picture.open(path).convert("RGB"))


def is_blue(pixels: Pixels) -> NDArray[np.bool_]:
    red, _, blue = np.moveaxis(pixels.astype(int), 2, 0)
    return blue > red + 60


def shown(page: Page) -> str:
    """Which file the tab would edit."""
    return str(page.locator("#edit-picture img").get_attribute("src"))


def test_a_red_disc_turns_blue_and_nothing_else_changes(
    visit: Visit, started: Started, tmp_path: Path
) -> None:
    page = visit()
    begin(page, save(tmp_path / "disc.png", disc()), "blue")
    edit(page)
    path = saved(page, started)
    pixels = read(path)
    assert is_blue(pixels)[40:56, 40:56].all()
    outside = np.ones((SIDE, SIDE), bool)
    outside[18:78, 18:78] = False
    assert np.array_equal(pixels[outside], disc()[outside])
    assert read_recipe(path)["request"]["edit"]["instruction"] == "blue"
    assert path.name.startswith("disc-blue-seed")
    expect(page.locator("#edit-result img").first).to_be_visible()
    expect(page.locator("#edit-preview")).to_be_hidden()
    expect(page.locator("#edit-result img").last).to_have_attribute("alt", re.compile("after"))
    with page.expect_download() as waiting:
        page.locator("#edit-result").get_by_label("Download").click()
    assert waiting.value.suggested_filename == path.name
    expect(page.locator("#edit-details")).to_contain_text(PLAN)
    expect(page.locator("#edit-reuse")).to_have_text(re.compile(r"Reuse seed \d+"))


def test_looking_first_shows_the_plan_and_the_place(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    begin(page, save(tmp_path / "disc.png", disc()), "blue")
    page.locator("#edit-look").click()
    expect(status(page)).to_have_text(PLAN, timeout=LONG_WAIT)
    marked = page.locator("#edit-preview img")
    expect(marked).to_have_attribute("alt", re.compile("place"))
    expect(page.locator("#edit-result")).to_be_hidden()
    expect(page.locator("#edit-edit")).to_be_enabled()


def test_what_means_nothing_is_refused_and_the_picture_stays(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    begin(page, save(tmp_path / "disc.png", disc()), "")
    before = shown(page)
    page.locator("#edit-edit").click()
    sentence = "Nothing was typed. Try "
    expect(page.locator("[data-testid=toast-body]")).to_contain_text(sentence, timeout=LONG_WAIT)
    expect(status(page)).to_contain_text(sentence)
    assert shown(page) == before
    page.locator("#edit-instruction input").fill("blue")
    edit(page)


def test_without_a_picture_one_is_asked_for(visit: Visit) -> None:
    page = visit()
    begin(page, None, "blue")
    page.locator("#edit-look").click()
    expect(status(page)).to_contain_text("There is no picture yet", timeout=LONG_WAIT)


def test_a_mask_is_the_place(visit: Visit, started: Started, tmp_path: Path) -> None:
    page = visit()
    begin(page, save(tmp_path / "disc.png", disc()), "blue")
    mask = np.zeros((SIDE, SIDE, 3), np.uint8)
    mask[:, : SIDE // 2] = 255
    page.locator("#edit-mask input[type=file]").set_input_files(save(tmp_path / "mask.png", mask))
    expect(page.locator("#edit-mask img")).to_be_visible()
    edit(page)
    pixels = read(saved(page, started))
    assert is_blue(pixels)[40:56, 30:44].all()
    assert np.array_equal(pixels[:, SIDE // 2 :], disc()[:, SIDE // 2 :])


def settled(part: Locator) -> FloatRect:
    """Where something is once it has not moved for a second: it is drawn when the page likes."""
    page, box, since = part.page, part.bounding_box(), time.monotonic()
    while box is None or time.monotonic() - since < 1:
        page.wait_for_timeout(50)
        if (now := part.bounding_box()) != box:
            box, since = now, time.monotonic()
    return box


def paint(page: Page) -> None:
    """A stroke across the middle of the canvas, from the left to the right."""
    page.locator("#edit-painting input").check()
    canvas = page.locator("#edit-canvas canvas").first
    expect(canvas).to_be_visible()
    expect(page.locator("#edit-canvas").get_by_label("Brush", exact=True)).to_be_visible()
    canvas.scroll_into_view_if_needed()
    box = settled(canvas)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 60, y)
    page.mouse.down()
    page.mouse.move(x, y, steps=3)
    page.mouse.move(x + 60, y, steps=3)
    page.mouse.up()


def test_a_stroke_of_the_brush_is_the_place(visit: Visit, started: Started, tmp_path: Path) -> None:
    page = visit()
    begin(page, save(tmp_path / "large.png", disc(800)), "blue")
    paint(page)
    edit(page)
    pixels = read(saved(page, started))
    assert pixels.shape == (800, 800, 3)  # of the picture, not of the copy that was painted on
    assert is_blue(pixels)[396:404, 370:430].all()
    changed = (pixels != disc(800)).any(axis=2)
    assert changed.any()
    assert not changed[:320].any()
    assert not changed[480:].any()
    page.locator("#edit-painting input").uncheck()
    expect(page.locator("#edit-picture img")).to_be_visible()


def test_one_goes_on_from_a_result_and_back(visit: Visit, started: Started, tmp_path: Path) -> None:
    page = visit()
    begin(page, save(tmp_path / "disc.png", disc()), "blue")
    expect(page.locator("#edit-undo")).to_be_disabled()
    first = shown(page)
    edit(page)
    path = saved(page, started)
    page.locator("#edit-onward").click()
    expect(page.locator("#edit-undo")).to_be_enabled()
    second = shown(page)
    assert Path(second).name == path.name
    page.locator("#edit-instruction input").fill("add snow")
    edit(page)
    assert saved(page, started).name.startswith(path.stem[:20])
    page.locator("#edit-onward").click()
    expect(page.locator("#edit-picture img")).not_to_have_attribute("src", second)
    page.locator("#edit-undo").click()
    expect(page.locator("#edit-picture img")).to_have_attribute("src", second)
    page.locator("#edit-undo").click()
    expect(page.locator("#edit-picture img")).to_have_attribute("src", first)
    expect(page.locator("#edit-undo")).to_be_disabled()


def test_keys_edit_and_stop_in_the_tab_that_is_open(
    visit: Visit, started: Started, tmp_path: Path
) -> None:
    page = visit()
    begin(page, save(tmp_path / "keys.png", disc()), "a cat")
    page.locator("#edit-quality").get_by_label("Best").check()
    page.locator("#edit-instruction input").press("Control+Enter")
    expect(status(page)).to_have_text(re.compile(r"Step \d+ of \d+"), timeout=LONG_WAIT)
    page.keyboard.press("Escape")
    expect(status(page)).to_have_text(re.compile(r"Stopped at step \d+ of"))
    expect(page.locator("#edit-edit")).to_be_enabled()
    assert len(list(started.results.glob("keys-*.png"))) == 1
    expect(page.locator("#generate")).to_be_enabled()


def test_who_reloads_sees_their_edits_go_on_and_can_stop_them(visit: Visit, tmp_path: Path) -> None:
    page, step = visit(), re.compile(r"Step \d+ of \d+")
    begin(page, save(tmp_path / "disc.png", disc()), "a cat")
    page.locator("#edit-quality").get_by_label("Normal").check()
    page.locator("#edit-compare").click()  # three: one of them is still to come
    expect(status(page)).to_have_text(step, timeout=LONG_WAIT)
    page.reload(wait_until="domcontentloaded")
    page.get_by_role("tab", name="Edit").click()
    expect(status(page)).to_have_text(step, timeout=LONG_WAIT)
    expect(page.locator("#edit-picture img")).to_be_visible()
    expect(page.locator("#edit-instruction input")).to_have_value("a cat")
    page.locator("#edit-stop").click()
    expect(status(page)).to_have_text(re.compile(r"Stopped (at step|before it began)"))
    expect(page.locator("#edit-edit")).to_be_enabled()


def test_a_generated_picture_is_sent_to_the_tab(visit: Visit, started: Started) -> None:
    page = visit()
    page.locator("#quality").get_by_label("Draft").check()
    page.locator("#size input").fill("96x96")
    page.locator("#size input").press("Tab")
    expect(page.locator("#send")).to_be_hidden()
    page.locator("#generate").click()
    expect(page.locator("#status p")).to_have_text(re.compile("Done"), timeout=LONG_WAIT)
    told = page.locator("#details dd").filter(has_text=".png").inner_text()
    page.get_by_role("button", name="Send to Edit").click()
    expect(page.locator("#edit-picture img")).to_be_visible()
    assert Path(shown(page)).name == Path(told).name
    begin(page, None, "as a pencil drawing")
    edit(page)
    assert saved(page, started).name.startswith("a-red-apple")


def test_a_phone_never_scrolls_sideways(visit: Visit, tmp_path: Path) -> None:
    page = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    begin(page, save(tmp_path / "disc.png", disc()), "blue")
    edit(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#edit-painting input").check()
    expect(page.locator("#edit-canvas canvas").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_three_strengths_stand_side_by_side_and_a_click_takes_one(
    visit: Visit, started: Started, tmp_path: Path
) -> None:
    page = visit()
    begin(page, save(tmp_path / "three.png", disc()), "blue")
    first = shown(page)
    page.locator("#edit-compare").click()
    expect(status(page)).to_have_text(re.compile("Done: 3 strengths"), timeout=LONG_WAIT)
    row = page.locator("#edit-three .thumbnail-item")
    expect(row).to_have_count(3)
    expect(row.nth(1)).to_contain_text("0.6 · plainly")
    boxes = [row.nth(n).bounding_box() for n in range(3)]
    assert len({box and round(box["y"]) for box in boxes}) == 1  # one row
    expect(page.locator("#edit-onward")).to_be_disabled()
    row.nth(1).click()
    expect(status(page)).to_contain_text("Taken: 0.6 · plainly")
    path = saved(page, started)
    assert read_recipe(path)["request"]["edit"]["strength"] == 0.6
    expect(page.locator("#edit-result img").first).to_be_visible()
    page.locator("#edit-onward").click()
    expect(page.locator("#edit-undo")).to_be_enabled()
    assert Path(shown(page)).name == path.name
    page.locator("#edit-undo").click()
    expect(page.locator("#edit-picture img")).to_have_attribute("src", first)


def test_stop_does_without_the_strengths_that_are_left(
    visit: Visit, started: Started, tmp_path: Path
) -> None:
    page = visit()
    begin(page, save(tmp_path / "fewer.png", disc()), "a cat")
    page.locator("#edit-quality").get_by_label("Normal").check()
    page.locator("#edit-compare").click()
    expect(status(page)).to_have_text(re.compile(r"1 of 3 · Step \d+ of"), timeout=LONG_WAIT)
    page.locator("#edit-stop").click()
    expect(status(page)).to_have_text(re.compile("Stopped: 0 of 3 strengths"), timeout=LONG_WAIT)
    expect(page.locator("#edit-three .thumbnail-item")).to_have_count(1)
    expect(page.locator("#edit-compare")).to_be_enabled()
    assert len(list(started.results.glob("fewer-*.png"))) == 1


def test_a_place_in_doubt_is_changed_after_one_yes(
    visit: Visit, started: Started, tmp_path: Path
) -> None:
    page = visit()
    begin(page, save(tmp_path / "doubt.png", disc()), "make the candy blue")
    page.locator("#edit-edit").click()
    expect(status(page)).to_contain_text("Is this the candy? It looks more", timeout=LONG_WAIT)
    expect(page.locator("#edit-preview img")).to_have_attribute("alt", re.compile("place"))
    assert not list(started.results.glob("doubt-*.png"))
    page.get_by_role("button", name="Yes, change it").click()
    expect(status(page)).to_have_text(DONE, timeout=LONG_WAIT)
    expect(page.locator("#edit-yes")).to_be_hidden()
    assert is_blue(read(saved(page, started)))[40:56, 40:56].all()
    edit(page)  # the same place is not asked about again
