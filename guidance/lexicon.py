"""Which words a CLIP was taught: of any other it must guess the meaning by how it is written."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

FILE = "words.txt"  # beside the weights, a word a line; of published CLIPs nobody knows

_WORD = re.compile(r"[^\W\d_]+")
_PLAIN = re.compile(r"[a-z]{3,}")  # shorter ones are left in peace
_ACCENTS = dict.fromkeys(range(0x300, 0x370))  # combining marks
_ENDINGS = (("", ""), ("s", ""), ("es", ""), ("ies", "y"), ("d", ""), ("ed", ""), ("ing", ""))


@lru_cache
def read(folder: Path) -> frozenset[str]:
    """The words that the CLIP of a folder was taught; none when it does not say."""
    file = folder / FILE
    return frozenset(file.read_text(encoding="utf-8").split()) if file.exists() else frozenset()


def write(folder: Path, texts: Iterable[str]) -> None:
    """Leave the words of all texts that a CLIP is taught beside its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    words = sorted({plain for text in texts for _, plain in _words(text)})
    (folder / FILE).write_text("\n".join(words) + "\n", encoding="utf-8")


def untaught(text: str, taught: frozenset[str], *, typing: bool = False) -> list[str]:
    """The words of a text that were taught in no form, as written, each once.

    While somebody is `typing`, the last word may be the beginning of one that was.
    """
    words = list(_words(text))
    strange = [(word, plain) for word, plain in words if taught.isdisjoint(_forms(plain))]
    if typing and strange and strange[-1] == words[-1] and text[-1].isalpha():
        begun = strange[-1][1]
        if any(word.startswith(begun) for word in taught):
            strange.pop()
    return list(dict.fromkeys(word for word, _ in strange))


def _words(text: str) -> Iterator[tuple[str, str]]:
    """Words of Latin letters: as written, and small without accents."""
    for word in _WORD.findall(text):
        plain = unicodedata.normalize("NFKD", word.casefold()).translate(_ACCENTS)
        if _PLAIN.fullmatch(plain):
            yield word, plain


def _forms(word: str) -> set[str]:
    """A word, and all that it may be the plural or the past of."""
    return {word.removesuffix(ending) + rest for ending, rest in _ENDINGS if word.endswith(ending)}
