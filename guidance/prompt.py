"""What people type: `a red fox::2 | blurry::-0.5` becomes prompts with weights and stops.

Prompts are separated by `|`. A weight follows `::`, a stop another `::`. Anything else is literal
text, so `at 12:30`, `http://x` and `a::` mean what they say. An emoji means what it depicts.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass

from guidance.emoji import spell_out

MOST_PROMPTS, MOST_CHARACTERS, MOST_WEIGHT = 16, 2000, 20.0

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_WEIGHTED = re.compile(
    rf"(?P<text>.*?\S)\s*::\s*(?P<weight>{_NUMBER})(?:\s*::\s*(?P<stop>{_NUMBER}))?", re.S
)
_INVISIBLE = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])  # text direction marks


class PromptError(ValueError):
    """A prompt that cannot be used; `code` is stable, the text is for people."""

    def __init__(self, code: str, message: str) -> None:
        """`code` like "prompt.weight"."""
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Prompt:
    """What was typed: words, how strongly they pull (< 0: push), and where to stop (a distance)."""

    text: str
    weight: float = 1.0
    stop: float | None = None

    def __str__(self) -> str:
        """As it would be typed."""
        parts = [self.text]
        if self.weight != 1 or self.stop is not None or _WEIGHTED.fullmatch(self.text):
            parts.append(f"{self.weight:g}")
        if self.stop is not None:
            parts.append(f"{self.stop:g}")
        return "::".join(parts)


def parse(typed: str) -> tuple[Prompt, ...]:
    """Words as typed -> prompts; no words give no prompts.

    Raises `PromptError` for more than 2,000 characters or 16 prompts, a weight beyond 20, a stop
    below 0, weights that are all 0, or a weight without words.
    """
    if len(typed) > MOST_CHARACTERS:
        raise PromptError(
            "prompt.long",
            f"The prompt has {len(typed):,} characters; at most {MOST_CHARACTERS:,} can be used.",
        )
    pieces = [piece.strip() for piece in clean(typed).split("|")]
    prompts = tuple(_one(piece) for piece in pieces if piece)
    if len(prompts) > MOST_PROMPTS:
        raise PromptError(
            "prompt.many",
            f"The prompt has {len(prompts)} parts between bars; at most {MOST_PROMPTS} work.",
        )
    if prompts and all(prompt.weight == 0 for prompt in prompts):
        raise PromptError(
            "prompt.weight", "Every weight is 0, so nothing would steer. Give one of them more."
        )
    return prompts


def clean(text: str) -> str:
    """Composed characters; no control characters, lone surrogates or hidden direction marks."""
    text = unicodedata.normalize("NFC", text.translate(_INVISIBLE))
    spaced = (" " if char.isspace() else char for char in text)
    return "".join(char for char in spaced if unicodedata.category(char) not in ("Cc", "Cs"))


def _one(piece: str) -> Prompt:
    if piece.startswith("::") and _WEIGHTED.fullmatch("x" + piece):
        raise PromptError(
            "prompt.empty", f"{piece!r} is a weight without words. Write words before it."
        )
    found = _WEIGHTED.fullmatch(piece)
    if not found:
        return Prompt(spell_out(piece))
    weight, stop = float(found["weight"]), float(found["stop"]) if found["stop"] else None
    if not abs(weight) <= MOST_WEIGHT:
        raise PromptError(
            "prompt.weight",
            f"The weight {found['weight']} of {found['text']!r} is out of range: use -20 to 20.",
        )
    if stop is not None and not 0 <= stop < math.inf:
        raise PromptError(
            "prompt.stop",
            f"The stop {found['stop']} of {found['text']!r} is no distance: use 0 or more, as in "
            f"'{found['text']}::{found['weight']}::0.4'.",
        )
    return Prompt(spell_out(found["text"]), weight, stop)
