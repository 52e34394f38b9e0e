"""The page where a network is slow or a browser busy: answers come late, or are read together."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.generate_page import LONG_WAIT, STEP, collect_previews, seen, settle, status

pytestmark = pytest.mark.e2e

Visit = Callable[..., Page]
Slow = Callable[[Page, int], None]


def test_where_the_network_is_slow_every_picture_is_shown_all_the_same(
    visit: Visit, slow: Slow
) -> None:
    page = visit()
    settle(page)
    slow(page, 1000)
    collect_previews(page)
    page.locator("#generate").click()
    expect(status(page)).to_have_text(re.compile("Done: 60 steps"), timeout=LONG_WAIT)
    assert seen(page) >= 3
    expect(page.locator("#result img")).to_be_visible()


def test_messages_that_are_read_together_are_all_heeded(
    visit: Visit, hold: Callable[[Page], None]
) -> None:
    page = visit()
    settle(page, steps=2)
    hold(page)
    page.locator("#generate").click()
    expect(status(page)).to_have_text(re.compile("Done: 2 steps"), timeout=LONG_WAIT)
    expect(page.locator("#result img")).to_be_visible()
    expect(page.locator("#preview")).to_be_hidden()
    expect(page.locator("#generate")).to_be_enabled()
    expect(page.locator("#stop")).to_be_disabled()


def test_a_late_answer_does_not_hide_what_came_of_a_stop(visit: Visit, slow: Slow) -> None:
    page = visit()
    settle(page, steps=2000)
    page.locator("#generate").click()
    expect(status(page)).to_have_text(STEP, timeout=LONG_WAIT)
    slow(page, 1000)
    page.locator("#stop").click()
    stopped = re.compile(r"Stopped at step \d+ of 2000")
    expect(status(page)).to_have_text(stopped)
    page.wait_for_timeout(2500)
    expect(status(page)).to_have_text(stopped)


def test_a_style_that_is_passed_by_changes_no_words(visit: Visit, slow: Slow) -> None:
    page = visit()
    prompt, style = page.locator("#prompt textarea"), page.locator("#style input")
    expect(page.locator("#understood")).to_contain_text("a red apple on a blue background")
    slow(page, 500)
    prompt.fill("a neon sign of a fox")
    style.focus()
    expect(style).to_have_value("As the words say")  # the answer is still on its way
    prompt.focus()
    expect(style).to_have_value("Neon")
    page.wait_for_timeout(1500)  # for an answer that would change the words
    expect(prompt).to_have_value("a neon sign of a fox")
