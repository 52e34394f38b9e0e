"""What people type, and what it means."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guidance.emoji import spell_out
from guidance.prompt import Prompt, PromptError, clean, parse


def test_a_weight_follows_two_colons() -> None:
    assert parse("a red fox::2 | blurry::-0.5") == (Prompt("a red fox", 2), Prompt("blurry", -0.5))


def test_a_stop_follows_the_weight() -> None:
    assert parse("a fox::1.5::0.2") == (Prompt("a fox", 1.5, 0.2),)


@pytest.mark.parametrize(
    "typed",
    [
        *("at 12:30", "ratio 16:9", "http://x", "a:::", "a::", "a::nan", "a::inf", "a:2", "!!!"),
        *("a::b", "{0.__class__} %s $(id)", "../../etc/passwd", "<script>&lt;", "雪の中の狐"),
    ],
)
def test_anything_else_is_meant_literally(typed: str) -> None:
    assert parse(typed) == (Prompt(typed),)


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("a::1e400", "prompt.weight"),
        ("a::1e9", "prompt.weight"),
        ("a::-20.5", "prompt.weight"),
        ("a::0", "prompt.weight"),
        ("a::0 | b::0", "prompt.weight"),
        ("a::1::-0.2", "prompt.stop"),
        ("a::1::1e400", "prompt.stop"),
        ("::2", "prompt.empty"),
        ("|".join("a" * 17), "prompt.many"),
        ("a" * 2001, "prompt.long"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(typed: str, code: str) -> None:
    with pytest.raises(PromptError) as refused:
        parse(typed)
    assert refused.value.code == code
    assert str(refused.value).endswith((".", "'"))


def test_only_negative_weights_and_a_sum_of_zero_are_fine() -> None:
    assert parse("fog::-1") == (Prompt("fog", -1),)
    assert len(parse("a::1 | b::-1")) == 2


def test_nothing_typed_gives_no_prompts() -> None:
    assert parse("") == parse("  |  | ") == ()


def test_invisible_characters_are_dropped() -> None:
    assert clean("a\u202eb\x00c\ud800d\u2066\ne\u0301") == "abcd é"


@given(st.text(max_size=300))
def test_any_text_parses_or_is_refused(typed: str) -> None:
    prompts: tuple[Prompt, ...] = ()
    with contextlib.suppress(PromptError):
        prompts = parse(typed)
    assert all(p.text.strip() and math.isfinite(p.weight) for p in prompts)


@given(st.text(max_size=60), st.floats(-20, 20).map(lambda x: round(x, 3)).filter(bool))
def test_a_prompt_written_out_reads_the_same(text: str, weight: float) -> None:
    words = spell_out(clean(text).replace("|", " ").strip())
    if words and not words.startswith("::"):
        prompt = Prompt(words, weight)
        assert parse(str(prompt)) == (prompt,)
