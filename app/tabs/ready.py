"""Prompts with ready pictures (scripts/pictures.py): what one may ask for, and what comes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import gradio as gr

from app.tabs.common import Change, rows, say, shown_copy

FOLDER = Path(__file__).resolve().parent.parent / "examples"
SEED = 7  # of all of them, in normal quality


class Example(NamedTuple):
    """A name for its file, and the words."""

    name: str
    prompt: str

    @property
    def path(self) -> Path:
        """Where its picture lies."""
        return FOLDER / f"{self.name}.webp"


# What it takes to make the same picture again, beside the words.
_FIELDS: Change = {
    "negative": "",
    "quality": "normal",
    "size": "",
    "seed": str(SEED),
    "start": "draft",
    "init": None,
    "image_prompt": None,
    "steps": "",
    "views": "",
    "generator": "pocket",
    "clip": "pocket",
}

EXAMPLES = (
    Example("apple", "a red apple on a blue background"),
    Example("owl", "an owl at night"),
    Example("neon", "a neon sign of a cocktail"),
    Example("fox", "an oil painting of a fox"),
    Example("sunflower", "a sunflower in a green field"),
    Example("cat", "a cat to the left of a dog"),
)


def shown() -> list[tuple[str, str]]:
    """Each picture, where the page may show it, and its words."""
    return [(shown_copy(example.path), example.prompt) for example in EXAMPLES]


def choose(index: int) -> Change:
    """Fill in one of them, and show what came of it."""
    example = EXAMPLES[index]
    said = "This is what came of these words. Generate makes it again, and you can watch."
    return {
        **_FIELDS,
        "prompt": example.prompt,
        "preview": gr.update(value=None, visible=False),
        "result": gr.update(value=shown_copy(example.path), visible=True),
        "several": gr.update(value=[], visible=False),
        "curves": "",
        "details": rows({"Prompt": example.prompt, "Seed": str(SEED), "Quality": "normal"}),
        "actions": gr.update(visible=False),
        "filming": gr.update(visible=False),
        "status": say(said),
    }
