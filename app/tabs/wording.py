"""The words of a prompt: what was understood of them, and the style that they ask for."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from guidance.phrases import undress
from guidance.prompt import Prompt, PromptError, parse

if TYPE_CHECKING:
    from app.worker import Worker

# A style that drafts can be drawn in (`guidance.styles`), and how a wish for it begins.
STYLES = {
    "pencil": "a pencil drawing of",
    "coloured_pencil": "a colored pencil drawing of",
    "oil": "an oil painting of",
    "watercolour": "a watercolor painting of",
    "pixel_art": "pixel art of",
    "blueprint": "a blueprint of",
    "neon": "a neon sign of",
}
_PUSH = -0.5  # a negative prompt pushes half as strongly as a prompt pulls
_ROOMY = 60  # characters that every model reads: no need to ask one


def style_of(prompt: str) -> str:
    """The style that a prompt asks for, '' for none."""
    return undress(prompt.strip())[0]


def dress(prompt: str, style: str) -> str:
    """The same prompt, its first wish in another style, or in none: ''.

    The words say it all: what is written in the recipe is what was asked for.
    """
    pieces = [piece.strip() for piece in prompt.split("|") if piece.strip()]
    if not pieces or style == style_of(prompt):
        return prompt
    bare = _bare(pieces[0])
    first = f"{STYLES[style]} {bare}" if style else bare
    return " | ".join([first, *pieces[1:]])


def _bare(wish: str) -> str:
    """A wish without its style, as it was typed."""
    style = style_of(wish)
    for cut in re.finditer(r"\bof\s+", wish if style else ""):
        if style_of(f"{wish[: cut.end()]}it") == style:
            return wish[cut.end() :]
    return wish


def understood(
    prompt: str, negative: str, unread: Sequence[str] = (), read: Callable[[str], str] = str
) -> str:
    """What was understood of the words, as markup.

    `unread`: sentences about what is not read. `read`: as what words are read that the CLIP would
    misread.
    """
    try:
        wishes = [*parse(prompt), *map(_pushed, parse(negative))]
    except PromptError as error:
        return _warning(str(error))
    if not wishes:
        return ""
    items = "".join(f"<li>{_told(wish, read(wish.text))}</li>" for wish in wishes)
    return f"<p>Understood as</p><ul>{items}</ul>{''.join(map(_warning, unread))}"


def _pushed(wish: Prompt) -> Prompt:
    return Prompt(wish.text, _PUSH * wish.weight, wish.stop)


def _told(wish: Prompt, read: str) -> str:
    """One wish, as what it is read, and how it steers, unless that is plain."""
    words = f"<b>{html.escape(wish.text)}</b>"
    how = f"weight {wish.weight:g}" if wish.weight != 1 else ""
    if wish.weight < 0:
        words, how = f"away from {words}", f"weight −{-wish.weight:g}"
    if not wish.weight:
        how = "weight 0: it does not steer"
    until = f"until {wish.stop:g} away" if wish.stop is not None else ""
    other = f"read as {html.escape(read)}" if read != wish.text else ""
    told = ", ".join(filter(None, (other, how, until)))
    return f"{words} <i>{told}</i>" if told else words


def _warning(sentence: str) -> str:
    return f'<p class="studio-warning">{html.escape(sentence)}</p>'


def readings(clip: str) -> Callable[[str], str]:
    """How a CLIP reads words that it would misread."""
    from app.catalog import find
    from app.stock import home
    from guidance import lexicon

    return lexicon.readings(home(find("clip", clip)))


def unread(worker: Worker, prompt: str, negative: str, clip: str) -> list[str]:
    """What will not be read of these words, or not be drawn at first, in sentences."""
    from app.errors import Refused
    from app.notes import foreign_letters, undrafted, untaught
    from app.notes import unread as beyond
    from app.request import make_request

    try:
        request = make_request({"prompt": prompt, "negative": negative, "clips": ({"name": clip},)})
        told = [*undrafted(request), *untaught(request, typing=True)]
        if len(prompt) + len(negative) >= _ROOMY or foreign_letters(prompt + negative):
            told = [*beyond(request, worker.models, "float32"), *told]
        return list(dict.fromkeys(told))
    except Refused:  # it is told where the words are understood
        return []
