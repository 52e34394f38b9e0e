"""Emoji in words: a CLIP of words reads "a slice of pizza" where somebody typed its picture."""

from __future__ import annotations

import re
import unicodedata

# Joiners, variation selectors and tags hold an emoji together; skin tones and parts of flags have
# no picture of their own.
_GLUE = re.compile("[\u200d\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")
_FLAG = re.compile("[\U0001f1e6-\U0001f1ff]{2}")
_EMOJI = re.compile(
    "[\u231a\u231b\u2328\u23e9-\u23fa\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff]"
)

# What the old names say of the ink, and what nobody says aloud.
_OLD = re.compile(r"\b(black|white|heavy|medium|sign|symbol|suit|with rays|without snow)\b")
_SAID = {
    "\u2764": "red heart",
    "\u26aa": "white circle",
    "\u26ab": "black circle",
    "\u2b1b": "black square",
    "\u2b1c": "white square",
    "\u2b50": "yellow star",
    "\u26a1": "lightning bolt",
    "\u2615": "cup of coffee",
    "\u26fa": "tent",
    "\U0001f44d": "thumbs up",
    "\U0001f44e": "thumbs down",
    "\U0001f697": "car",
    "\U0001f698": "front of a car",
    "\U0001f30a": "wave of the sea",
    "\U0001f384": "christmas tree",
    "\U0001f355": "slice of pizza",
}


def spell_out(text: str) -> str:
    """Replace each emoji by its name, as Unicode has it; all other characters stay.

    Joined emoji are read one after the other, a flag is "flag", a skin tone is left out.
    """
    if not (_EMOJI.search(text) or _FLAG.search(text)):
        return text
    spaced = _EMOJI.sub(_name, _FLAG.sub(" flag ", _GLUE.sub("", text)))
    return re.sub(r"\s+", " ", spaced).strip() or text


def is_name(text: str) -> bool:
    """Whether Unicode calls one sign so: "a hammer and a wrench", "smiling face with horns"."""
    try:
        unicodedata.lookup(re.sub(r"\b(?:an?|the) ", "", text.casefold()))
    except KeyError:
        return False
    return True


def _name(found: re.Match[str]) -> str:
    emoji = found.group()
    name = unicodedata.name(emoji, "").lower()
    if emoji < "\U0001f000":
        name = _OLD.sub("", name)
    return f" {_SAID.get(emoji, name)} " if name else emoji
