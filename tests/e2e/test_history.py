"""What a visitor finds in the History tab, and does with it, in a real browser."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image as Picture
from playwright.sync_api import Locator, Page, expect

from app.images import open_picture, read_recipe

if TYPE_CHECKING:
    from conftest import Started

pytestmark = pytest.mark.e2e

Visit = Callable[..., Page]

LONG_WAIT = 240_000  # milliseconds, for what loads or computes


def order(page: Page, prompt: str, *, steps: int = 4) -> None:
    """Ask for a small draft."""
    page.get_by_role("tab", name="Generate").click()
    page.locator("#prompt textarea").fill(prompt)
    page.locator("#quality").get_by_label("Draft").check()
    write(page.locator("#size input"), "64x64")
    if not page.locator("#steps input").is_visible():
        page.get_by_role("button", name="Advanced").click()
    write(page.locator("#steps input"), str(steps))
    write(page.locator("#views input"), "2")
    write(page.locator("#seed input"), "11")
    page.locator("#generate").click()


def write(field: Locator, text: str) -> None:
    field.fill(text)
    field.press("Tab")


def make(page: Page, prompt: str) -> None:
    order(page, prompt)
    expect(page.locator("#status p")).to_have_text(
        re.compile(r"Done: \d+ steps"), timeout=LONG_WAIT
    )


def history(page: Page) -> None:
    page.get_by_role("tab", name="History").click()


def come_back(page: Page) -> None:
    """Reload, and look into the history."""
    page.reload(wait_until="domcontentloaded")
    expect(page.locator("#generate")).to_be_visible()
    history(page)


def entries(page: Page) -> Locator:
    return page.locator("#history-gallery button.thumbnail-item")


def status(page: Page) -> Locator:
    return page.locator("#history-status p")


def press(page: Page, name: str) -> None:
    page.locator(f"#history-{name}").click()


def test_a_picture_is_found_again_marked_deleted_brought_back_and_opened(visit: Visit) -> None:
    page = visit()
    make(page, "a <b>lonely</b> tree")
    come_back(page)
    expect(entries(page)).to_have_count(1)
    expect(entries(page)).to_contain_text("a <b>lonely</b> tree")
    entries(page).click()
    about = page.locator("#history-about")
    expect(about).to_contain_text("a <b>lonely</b> tree")
    shown = page.locator("#history-picture img")
    expect(shown).to_have_attribute("alt", "The picture that was chosen")
    press(page, "favourite")
    expect(status(page)).to_contain_text("is a favourite now")
    expect(entries(page)).to_contain_text("★")
    press(page, "delete")
    expect(entries(page)).to_have_count(0)
    expect(page.locator("#history-detail")).to_be_hidden()
    press(page, "undo")
    expect(entries(page)).to_have_count(1)
    expect(status(page)).to_contain_text("is back")
    press(page, "again")
    expect(page.locator("#prompt textarea")).to_have_value("a <b>lonely</b> tree")
    expect(page.locator("#status p")).to_contain_text("Open again: Generate makes the same")
    expect(page.locator("#result img")).to_be_visible()
    expect(page.get_by_role("button", name="Vary")).to_be_visible()
    expect(page.locator("#size input")).to_have_value("64x64")
    page.get_by_role("button", name="Advanced").click()
    expect(page.locator("#steps input")).to_have_value("4")
    expect(page.locator("#seed input")).to_have_value("11")
    expect(page.locator("#quality").get_by_label("Draft")).to_be_checked()


def test_another_visitor_sees_nothing_of_it(visit: Visit) -> None:
    page = visit()
    history(page)
    expect(status(page)).to_contain_text("Nothing yet", timeout=LONG_WAIT)
    expect(entries(page)).to_have_count(0)


def test_what_is_on_its_way_is_found_in_another_tab_and_stopped(
    visit: Visit, started: Started
) -> None:
    first = visit()
    order(first, "a slow river", steps=2000)
    expect(first.locator("#status p")).to_contain_text("Step", timeout=LONG_WAIT)
    page = first.context.new_page()
    page.goto(started.address, wait_until="domcontentloaded")
    history(page)
    expect(page.locator("#history-which")).to_contain_text("a slow river")
    expect(page.locator("#history-watching p")).to_contain_text("of 2000")
    press(page, "stop")
    expect(page.locator("#history-underway")).to_be_hidden(timeout=LONG_WAIT)
    expect(entries(page)).to_contain_text("(stopped)")
    expect(first.locator("#status p")).to_contain_text("Stopped at step")


def test_what_another_tab_asks_for_appears_by_itself(visit: Visit, started: Started) -> None:
    page = visit()
    history(page)
    expect(status(page)).to_contain_text("Nothing yet", timeout=LONG_WAIT)
    other = page.context.new_page()
    other.goto(started.address, wait_until="domcontentloaded")
    expect(other.locator("#generate")).to_be_visible()
    make(other, "a grey stone")
    expect(entries(page)).to_contain_text("a grey stone")


def test_a_file_is_downloaded_as_it_was_saved_and_opens_again(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    make(page, "a paper boat")
    make(page, "a red kite")
    history(page)
    expect(entries(page)).to_have_count(2)
    entries(page).filter(has_text="boat").click()
    with page.expect_download() as waiting:
        press(page, "download")
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    assert read_recipe(path)["request"]["prompt"] == "a paper boat"
    recipe = page.locator("#history-recipe textarea")
    page.get_by_role("button", name="Recipe").click()
    assert json.loads(recipe.input_value())["request"]["prompt"] == "a paper boat"
    page.locator("#history-file input[type=file]").set_input_files(path)
    expect(page.locator("#prompt textarea")).to_have_value("a paper boat")
    history(page)
    press(page, "compare")
    expect(status(page)).to_contain_text("kept for comparing")
    entries(page).filter(has_text="kite").click()
    expect(page.locator("#history-about")).to_contain_text("a red kite")
    press(page, "compare")
    expect(status(page)).to_contain_text("Left “a paper boat”, right “a red kite”.")
    after = page.locator('#history-both img[alt="The picture that was chosen"]')
    expect(after).to_be_visible()
    press(page, "zip")
    expect(status(page)).to_contain_text("The ZIP is ready: 2 pictures")
    with page.expect_download() as waiting:
        press(page, "zipped")
    waiting.value.save_as(tmp_path / "all.zip")
    assert len(zipfile.ZipFile(tmp_path / "all.zip").namelist()) == 2
    write(page.locator("#history-search input, #history-search textarea"), "KITE red")
    expect(entries(page)).to_have_count(1)


def test_an_edit_opens_again_with_its_picture_and_changes_it_alike(
    visit: Visit, started: Started
) -> None:
    page = visit()
    make(page, "a yellow pear")
    page.locator("#send").click()
    expect(page.locator("#edit-picture img")).to_be_visible()
    write(page.locator("#edit-instruction input"), "red")
    page.locator("#edit-quality").get_by_label("Draft").check()
    page.locator("#edit-edit").click()
    edited = page.locator("#edit-status p")
    expect(edited).to_contain_text("Done:", timeout=LONG_WAIT)
    come_back(page)
    entries(page).first.click()
    press(page, "again")
    expect(edited).to_contain_text("Open again: Edit changes it as before.")
    expect(page.locator("#edit-instruction input")).to_have_value("red")
    page.locator("#edit-edit").click()
    expect(edited).to_contain_text("Done:", timeout=LONG_WAIT)
    first, second = started.results.glob("a-yellow-pear-*red*.png")
    assert np.array_equal(open_picture(first).pixels, open_picture(second).pixels)


def test_everything_is_deleted_when_one_says_so_twice(visit: Visit, started: Started) -> None:
    page = visit()
    make(page, "a snowy hill")
    (file,) = started.results.glob("a-snowy-hill*.png")
    history(page)
    expect(page.locator("#history-usage")).to_contain_text("1 entry")
    press(page, "everything")
    expect(page.locator("#history-warning")).to_contain_text("1 entry of yours would be deleted")
    press(page, "keep")
    expect(page.locator("#history-asking")).to_be_hidden()
    press(page, "everything")
    page.locator("#history-files input").check()
    press(page, "sure")
    expect(status(page)).to_contain_text("Everything of yours is deleted, and 1 picture file.")
    expect(entries(page)).to_have_count(0)
    assert not file.exists()


def test_a_picture_without_a_recipe_is_refused_in_words(visit: Visit, tmp_path: Path) -> None:
    Picture.new("RGB", (32, 32)).save(tmp_path / "plain.png")
    page = visit()
    history(page)
    page.locator("#history-file input[type=file]").set_input_files(tmp_path / "plain.png")
    expect(status(page)).to_contain_text("carries no whole recipe", timeout=LONG_WAIT)


def test_a_phone_never_scrolls_sideways(visit: Visit) -> None:
    page = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    make(page, "a very long title without any end, of which the half is more than enough")
    history(page)
    entries(page).click()
    expect(page.locator("#history-about")).to_contain_text("a very long title")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_what_is_pressed_while_the_list_is_on_its_way_is_told(
    visit: Visit, hold: Callable[[Page], None]
) -> None:
    page = visit()
    make(page, "a snail")
    history(page)
    entries(page).click()
    expect(page.locator("#history-about")).to_contain_text("a snail")
    page.get_by_role("tab", name="Generate").click()
    hold(page)
    history(page)
    press(page, "compare")
    expect(status(page)).to_contain_text("kept for comparing")
    page.wait_for_timeout(500)
    expect(status(page)).to_contain_text("kept for comparing")
