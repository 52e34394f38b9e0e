"""Which words a CLIP was taught, and which it misreads and is to read as others.

Of a word that it was never taught it must guess the meaning by how it is written.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from open_clip.tokenizer import SimpleTokenizer

WORDS = "words.txt"  # beside the weights, a word a line; of published CLIPs nobody knows
READINGS = "readings.txt"  # beside the weights: "sheep: ewe", a line each

_WORD = re.compile(r"[^\W\d_]+")
_PLAIN = re.compile(r"[a-z]{3,}")  # shorter ones are left in peace
_ACCENTS = dict.fromkeys(range(0x300, 0x370))  # combining marks
_ENDINGS = (("", ""), ("s", ""), ("es", ""), ("ies", "y"), ("d", ""), ("ed", ""), ("ing", ""))


@lru_cache
def common() -> frozenset[str]:
    """Words that are common enough to be one token of CLIP's."""
    tokens = SimpleTokenizer().encoder
    words = (token.removesuffix("</w>") for token in tokens if token.endswith("</w>"))
    return frozenset(filter(_PLAIN.fullmatch, words))


@lru_cache
def taught(folder: Path) -> frozenset[str]:
    """The words that the CLIP of a folder was taught; none when it does not say."""
    file = folder / WORDS
    if not file.exists():
        return frozenset()
    return common().union(file.read_text(encoding="utf-8").split())


def write(folder: Path, texts: Iterable[str]) -> None:
    """Leave the words of all texts that a CLIP is taught beside its weights, but for common ones.

    Those are taught to all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words = {plain for text in texts for _, plain in _words(text)} - common()
    (folder / WORDS).write_text("\n".join(sorted(words)) + "\n", encoding="utf-8")


def untaught(text: str, known: frozenset[str], *, typing: bool = False) -> list[str]:
    """The words of a text that were taught in no form, as written, each once.

    While somebody is `typing`, the last word may be the beginning of one that was.
    """
    words = list(_words(text))
    strange = [(word, plain) for word, plain in words if known.isdisjoint(_forms(plain))]
    if typing and strange and strange[-1] == words[-1] and text[-1].isalpha():
        begun = strange[-1][1]
        if any(word.startswith(begun) for word in known):
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


# --- how words are read --------------------------------------------------------------------------

# What comes after a thing, not after a word that only belongs to it: "a moon rock" is no moon.
_AFTER = (
    r"(?=$|[^\w\s'-]|\s+(?:above|against|and|around|as|at|before|behind|below|beside|by|for|from|in|"
    r"inside|is|made|near|next|on|or|over|that|through|to|under|wearing|who|with)\b)"
)


# several of what readings lead to, and what takes no article
_SEVERAL = {"man": "men", "woman": "women", "child": "children", "elf": "elves", "people": "people"}


class Readings:
    """What a CLIP would misread in a text is said in words that it knows."""

    def __init__(self, read_as: Mapping[str, str]) -> None:
        """Each word or group of words, and how it is to be read; the longest that fits counts."""
        self.read_as = {**{read: read for read in read_as.values()}, **read_as}
        longest = sorted(map(re.escape, self.read_as), key=len, reverse=True)
        self._pattern = re.compile(
            rf"(?<![\w-])(?:(?P<article>an?) )?(?P<said>{'|'.join(longest)})(?P<many>s?){_AFTER}",
            re.IGNORECASE,
        )

    def __call__(self, text: str) -> str:
        """The same text, as it is to be read; an article goes with its word."""
        return self._pattern.sub(self._read, text) if self.read_as else text

    def _read(self, found: re.Match[str]) -> str:
        said = found["said"].casefold()
        read = self.read_as[said]
        if read == said:
            return found.group()
        *before, last = read.split()
        article = f"{'an' if read[0] in 'aeiou' else 'a'} " if found["article"] else ""
        if found["many"]:
            read = " ".join((*before, _SEVERAL.get(last, f"{last}s")))
        return read if last == "people" else f"{article}{read}"


@lru_cache
def readings(folder: Path) -> Readings:
    """How the CLIP of a folder is to read some words; as they stand, when it does not say."""
    file = folder / READINGS
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    pairs = (line.split(": ", 1) for line in lines if line and not line.startswith("#"))
    return Readings({said: read for said, read in pairs})
