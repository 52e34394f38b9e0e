"""Sentences about everything in a request that is not done exactly as it was asked for."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterator

from app import pipeline, planner
from app.catalog import find
from app.keeper import final_size
from app.models import Models
from app.options import Asked
from app.recipe import differences
from app.request import Request
from app.stock import home
from guidance import lexicon
from guidance.layout import left_out


def notes(asked: Asked, request: Request, models: Models) -> list[str]:
    """All that there is to say before a run; nothing is said twice."""
    told = list(asked.notes)
    height, width = final_size(request, models)
    if (width, height) != (request.width, request.height):
        told.append(
            f"The picture will be {width}x{height}, the nearest that {request.generator} can make."
        )
    told += [
        sentence for one in asked.requests for sentence in unread(one, models, request.precision)
    ]
    for one in asked.requests:
        told += [*undrafted(one), *untaught(one)]
    wanted = planner.settle(asked.requests[0], models.device).chunk
    if request.chunk != wanted:
        told.append(
            f"Little memory is free: {request.chunk} views at a time instead of {wanted}, so a "
            "repeat with more may differ by rounding."
        )
    if asked.repeated:
        told += differences(asked.repeated, request, models)
    if asked.resume:
        told.append(f"Going on at step {asked.resume.index}.")
    return list(dict.fromkeys(told))


def unread(request: Request, models: Models, precision: str) -> Iterator[str]:
    """Say which words are beyond what a CLIP reads, or in letters it has hardly seen."""
    for prompt in pipeline.words(request):
        if foreign := foreign_letters(prompt.text):
            yield f"The models here read English: they will not understand {_short(foreign)!r}."
    for guide in request.clips:
        clip = models.clip(guide.name, precision)
        for prompt in pipeline.words(request):
            if rest := clip.unread(prompt.text):
                rest = _short(rest)
                yield f"The prompt is too long for {guide.name}, which does not read {rest!r}."


def _short(words: str) -> str:
    return textwrap.shorten(words, 60, placeholder=" …")


def undrafted(request: Request) -> Iterator[str]:
    """Say what the first draft of a request will not show."""
    if pipeline.is_drafted(request):
        for prompt in pipeline.words(request):
            for left in left_out(prompt.text) if prompt.weight > 0 else ():
                yield f"The first draft leaves out {left!r}; the steps after it may show it."


def untaught(request: Request, *, typing: bool = False) -> Iterator[str]:
    """Say which words a CLIP was not taught; of some CLIPs it is not known.

    While somebody is `typing`, the last word may not be finished.
    """
    for guide in request.clips:
        if not (known := lexicon.taught(home(find("clip", guide.name)))):
            continue
        texts = [prompt.text for prompt in pipeline.words(request)]
        words = [word for text in texts for word in lexicon.untaught(text, known, typing=typing)]
        if words:
            named = _short(", ".join(map(repr, dict.fromkeys(words))))
            yield f"Never taught to {guide.name}, so drawn by guess: {named}."


def foreign_letters(text: str) -> str:
    """The words in letters that are not Latin; empty when there are none."""
    words = re.findall(r"[^\W\d_]+", text)
    return " ".join(word for word in words if any(map(_is_foreign, word)))


def _is_foreign(letter: str) -> bool:
    familiar = ("LATIN", "MODIFIER", "FEMININE", "MASCULINE", "MICRO")
    return not unicodedata.name(letter, "LATIN").startswith(familiar)
