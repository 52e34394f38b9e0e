"""An emoji means what it depicts; everything else is left as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guidance.emoji import is_name, spell_out
from guidance.prompt import parse


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("🐶", "dog face"),
        ("a 🚗 in the snow", "a car in the snow"),
        ("🍎🍌", "red apple banana"),
        ("❤️", "red heart"),
        ("☀️ over the sea", "sun over the sea"),
        ("👍🏽", "thumbs up"),
        ("👩‍🚀", "woman rocket"),
        ("🇫🇷", "flag"),
        ("⛄", "snowman"),
        ("⏰", "alarm clock"),
        ("⚫⚪", "black circle white circle"),
        ("a red apple", "a red apple"),
        ("été à 12:30", "été à 12:30"),
        ("红色的苹果", "红色的苹果"),
    ],
)
def test_an_emoji_means_what_it_depicts(typed: str, meant: str) -> None:
    assert spell_out(typed) == meant


def test_a_prompt_says_what_was_understood() -> None:
    (prompt,) = parse("🐱::2")
    assert prompt.text == "cat face"
    assert prompt.weight == 2


@given(st.text(st.characters(max_codepoint=0x2000)))
def test_words_are_left_alone(text: str) -> None:
    assert spell_out(text) == text


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("smiling face with horns", True),
        ("A Hammer and Wrench", True),
        ("a cat and a dog", False),
        ("", False),
    ],
)
def test_names_of_signs_are_known(words: str, named: bool) -> None:
    assert is_name(words) == named
