"""What a visitor does on the page and what comes of it, in a real browser."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image as Picture
from playwright.sync_api import Page, expect

from app.images import read_recipe
from tests.e2e.generate_page import (
    LONG_WAIT,
    STEP,
    choose_text,
    collect_previews,
    download,
    seen,
    settle,
    status,
)

if TYPE_CHECKING:
    from conftest import Started

pytestmark = pytest.mark.e2e

Visit = Callable[..., Page]


def test_the_page_opens_and_says_when_the_models_are_ready(visit: Visit) -> None:
    page = visit()
    expect(page).to_have_title("Synesthete")
    expect(page.locator("#prompt textarea")).to_have_value("a red apple on a blue background")
    expect(status(page)).to_have_text(re.compile("Ready"), timeout=LONG_WAIT)
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


def test_who_reloads_or_opens_another_page_sees_it_go_on_and_can_stop_it(visit: Visit) -> None:
    page = visit()
    settle(page, steps=2000, prompt="a long river")
    page.locator("#generate").click()
    expect(status(page)).to_have_text(STEP, timeout=LONG_WAIT)
    page.reload(wait_until="domcontentloaded")
    expect(status(page)).to_have_text(re.compile(r"Step \d+ of 2000"), timeout=LONG_WAIT)
    expect(page.get_by_alt_text("The picture as it is now")).to_be_visible()
    expect(page.locator("#generate")).to_be_disabled()
    expect(page.locator("#prompt textarea")).to_have_value("a long river")
    expect(page.locator("#size input")).to_have_value("64x64")
    other = page.context.new_page()
    other.goto(page.url, wait_until="domcontentloaded")
    expect(status(other)).to_have_text(re.compile(r"Step \d+ of 2000"), timeout=LONG_WAIT)
    other.locator("#stop").click()
    for each in (page, other):
        expect(status(each)).to_have_text(re.compile(r"Stopped at step \d+ of 2000"))
        expect(each.locator("#details")).to_contain_text("a long river")
        expect(each.locator("#generate")).to_be_enabled()
        expect(each.locator("#further")).to_have_text("Continue")


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


def test_what_was_understood_is_shown_while_somebody_types(visit: Visit) -> None:
    page = visit()
    understood = page.locator("#understood")
    expect(understood).to_contain_text("a red apple on a blue background")
    page.locator("#prompt textarea").fill("a castle | fog::0.5 | people::-1")
    expect(understood).to_contain_text("fog weight 0.5")
    expect(understood).to_contain_text("away from people weight −1")
    page.locator("#prompt textarea").fill("a castle::99")
    expect(understood).to_contain_text("out of range")


def test_a_style_puts_its_words_into_the_prompt(visit: Visit) -> None:
    page = visit()
    prompt, style = page.locator("#prompt textarea"), page.locator("#style input")
    prompt.fill("a fox")
    style.click()
    page.get_by_role("option", name="Watercolour").click()
    expect(prompt).to_have_value("a watercolor painting of a fox")
    prompt.fill("a neon sign of a fox")
    expect(style).to_have_value("Neon")
    prompt.fill("a fox")
    expect(style).to_have_value("As the words say")
    style.fill("blue")
    style.press("Enter")
    expect(prompt).to_have_value("a blueprint of a fox")


def test_a_chosen_style_is_put_into_the_prompt_once(visit: Visit) -> None:
    page = visit()
    prompt, style = page.locator("#prompt textarea"), page.locator("#style input")
    prompt.fill("a fox")
    expect(page.locator("#understood")).to_contain_text("a fox")
    asked: list[str] = []  # a second answer would come after what is typed next, and replace it
    page.on("request", lambda request: asked.append(request.post_data or ""))
    style.click()
    page.get_by_role("option", name="Watercolour").click()
    expect(prompt).to_have_value("a watercolor painting of a fox")
    prompt.fill("a neon sign of a fox")
    expect(style).to_have_value("Neon")
    assert sum('"a fox","watercolour"' in data for data in asked) == 1


def test_losses_are_drawn_as_curves_beside_the_picture(visit: Visit) -> None:
    page = visit()
    settle(page, steps=2000, prompt="a red apple | fog::-0.5")
    page.locator("#generate").click()
    curves = page.locator("#curves svg")
    expect(curves.first).to_be_visible(timeout=LONG_WAIT)
    drawn = curves.first.locator("polyline")
    before = drawn.get_attribute("points")
    expect(page.locator("#curves")).to_contain_text("fog")
    expect(drawn).not_to_have_attribute("points", str(before))
    expect(curves.first).to_have_attribute("aria-label", re.compile("a red apple: .+ at step 0, "))
    page.locator("#stop").click()
    expect(status(page)).to_have_text(re.compile("Stopped at step"))


def test_the_title_tells_how_far_it_is(visit: Visit) -> None:
    page = visit()
    settle(page, steps=2000)
    page.locator("#generate").click()
    expect(page).to_have_title(re.compile(r"\d+ % · Synesthete"), timeout=LONG_WAIT)
    page.locator("#stop").click()
    expect(status(page)).to_have_text(re.compile("Stopped at step"))
    expect(page).to_have_title("Synesthete")


def test_stopped_continued_varied_and_given_more_steps(visit: Visit, started: Started) -> None:
    page = visit()
    settle(page, steps=300, prompt="a patient snail")
    page.locator("#generate").click()
    expect(status(page)).to_have_text(STEP, timeout=LONG_WAIT)
    page.locator("#stop").click()
    expect(status(page)).to_have_text(re.compile(r"Stopped at step \d+ of 300"))
    expect(page.locator("#further")).to_have_text("Continue")
    page.locator("#further").click()
    expect(status(page)).to_have_text(re.compile("Done: 300 steps"), timeout=LONG_WAIT)

    expect(page.locator("#further")).to_have_text("More steps")
    page.locator("#further").click()
    expect(status(page)).to_have_text(re.compile("Done: 330 steps"), timeout=LONG_WAIT)
    expect(page.locator("#details")).to_contain_text("Goes on from step 300 of a-patient-snail")

    page.get_by_role("button", name="Timelapse").click()
    film = page.locator("#film video")
    expect(film).to_be_visible()
    expect(page.locator("#film_note")).to_contain_text("It begins at step 300")
    page.wait_for_function("document.querySelector('#film video').duration > 1")


def test_another_prompt_goes_on_from_the_picture(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    settle(page, steps=4, prompt="a round moon")
    page.locator("#generate").click()
    expect(status(page)).to_have_text(re.compile("Done"), timeout=LONG_WAIT)
    page.locator("#prompt textarea").fill("a lemon")
    page.get_by_role("button", name="More to do with this picture").click()
    page.locator("#retell").click()
    expect(page.locator("#details")).to_contain_text("Begun from", timeout=LONG_WAIT)
    expect(status(page)).to_have_text(re.compile("Done"), timeout=LONG_WAIT)
    request = read_recipe(download(page, tmp_path))["request"]
    assert request["prompt"] == "a lemon"
    assert request["init"]["name"].startswith("a-round-moon")

    page.get_by_role("button", name="Advanced").click()  # closed, and opened by this:
    page.locator("#as_start").click()
    expect(page.locator("#init img")).to_be_visible()


def test_several_pictures_come_one_by_one(visit: Visit) -> None:
    page = visit()
    settle(page, steps=4, prompt="a small bird")
    page.locator("#count").get_by_label("3").check()
    choose_text(page.locator("#seed input"), "21")
    page.locator("#generate").click()
    expect(status(page)).to_contain_text("Done: 3 pictures", timeout=LONG_WAIT)
    pictures = page.locator("#several button.thumbnail-item")
    expect(pictures).to_have_count(3)
    expect(pictures.filter(has_text="judged best")).to_have_count(1)
    pictures.filter(has_text="Seed 22").click()
    expect(page.locator("#details")).to_contain_text("seed22.png")


def test_an_example_fills_in_its_words_and_shows_what_came_of_them(visit: Visit) -> None:
    page = visit()
    page.locator("#examples button.thumbnail-item").filter(has_text="an owl at night").click()
    expect(page.locator("#prompt textarea")).to_have_value("an owl at night")
    expect(page.locator("#seed input")).to_have_value("7")
    expect(page.locator("#result img")).to_be_visible()
    expect(status(page)).to_contain_text("This is what came of these words")


def test_pictures_steer_with_weights(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    settle(page, steps=2, prompt="a hat")
    paths = [tmp_path / "red.png", tmp_path / "blue.png"]
    for path in paths:
        Picture.new("RGB", (32, 32), path.stem).save(path)
    page.locator("#image_prompt input[type=file]").set_input_files(paths)
    expect(page.locator("#image_prompt img").first).to_be_visible()
    choose_text(page.locator("#image_weight input"), "0.5, -0.25")
    page.locator("#generate").click()
    expect(status(page)).to_have_text(re.compile("Done"), timeout=LONG_WAIT)
    expect(page.locator("#details")).to_contain_text("'red.png' (+0.5), 'blue.png' (-0.25)")


DROP = """([place, name, type, code]) => {
  const bytes = Uint8Array.from(atob(code), (letter) => letter.charCodeAt(0));
  const handed = new DataTransfer();
  handed.items.add(new File([bytes], name, { type }));
  const how = { dataTransfer: handed, bubbles: true, cancelable: true };
  const target = document.querySelector(place);
  return ["dragover", "drop"].map((kind) => !target.dispatchEvent(new DragEvent(kind, how)));
}"""


def drop(page: Page, place: str, path: Path) -> None:
    """Drop a file somewhere; the browser must never open it instead of the page."""
    code = base64.b64encode(path.read_bytes()).decode()
    taken = page.evaluate(DROP, [place, path.name, "image/png", code])
    assert taken == [True, True]


def test_a_picture_dropped_anywhere_is_opened_again(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    settle(page, steps=3, prompt="a dropped coin")
    page.locator("#generate").click()
    expect(status(page)).to_have_text(re.compile("Done"), timeout=LONG_WAIT)
    path = download(page, tmp_path)
    page.reload(wait_until="domcontentloaded")
    expect(page.locator("#generate")).to_be_visible()
    drop(page, "#title", path)
    expect(page.locator("#prompt textarea")).to_have_value("a dropped coin")
    expect(status(page)).to_contain_text("Open again")
    expect(page.get_by_role("tab", name="Generate")).to_have_attribute("aria-selected", "true")

    (tmp_path / "words.txt").write_text("These are words.")
    drop(page, "#title", tmp_path / "words.txt")
    expect(status(page)).to_contain_text("Only a PNG that was made here")


def test_a_notification_comes_only_if_somebody_asked_for_it(visit: Visit) -> None:
    page = visit(permissions=["notifications"])
    page.evaluate(
        """() => {
          window.told = [];
          window.Notification = class { constructor(...words) { window.told.push(words); }
            static permission = "granted";
            static requestPermission = async () => "granted"; };
          document.hasFocus = () => false;
        }"""
    )
    settle(page, steps=2)
    page.locator("#generate").click()
    expect(status(page)).to_have_text(re.compile("Done"), timeout=LONG_WAIT)
    assert page.evaluate("window.told") == []
    page.get_by_label("Tell me when it is done").check()
    page.locator("#generate").click()
    page.wait_for_function("window.told.length === 1", timeout=LONG_WAIT)
    ((name, words),) = page.evaluate("window.told")
    assert name == "Synesthete"
    assert words["body"].startswith("Done: 2 steps")
    expect(page.locator("#generate")).to_be_enabled()
    page.reload(wait_until="domcontentloaded")
    page.get_by_role("button", name="Advanced").click()
    expect(page.get_by_label("Tell me when it is done")).to_be_checked()


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
