"""As which drawing does a draft recall a word that no caption had?

    python -m benchmarks.words                 # the models that ship
    python -m benchmarks.words --clip DIR --draft DIR

Each line of `words.txt` is such a word and what the drawing may be called; the list was written
before any network was asked. Needs the pictures of the training (`python -m training data`), whose
names are those of the drawings. Words that some caption has after all are counted apart.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from benchmarks.faithful import names_it
from guidance.draft import load
from training import data
from training.__main__ import reading
from training.captions import article
from training.draft import Album
from training.pupil import load_exported
from training.words import without_synonyms

WORDS = Path(__file__).with_name("words.txt")


def questions(path: Path = WORDS) -> dict[str, tuple[str, ...]]:
    """Each word, and what its drawing may be called."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.split(": ", 1) for line in lines if not line.startswith("#"))
    return {word: tuple(names.split(", ")) for word, names in pairs}


@torch.no_grad()
def recalled(words: list[str], clip: Path, draft: Path, names: list[str]) -> dict[str, str]:
    """The name of the drawing that each word leads to.

    Raises ValueError when the draft remembers other drawings than these.
    """
    network = load(draft).network.float()
    if network.shape.names != len(names):
        raise ValueError(f"{draft} remembers {network.shape.names} names, not {len(names)}.")
    embeddings = reading(load_exported(clip))([article(word) for word in words])
    rows = network.name(embeddings - network.centre).argmax(dim=1)
    return {word: names[row] for word, row in zip(words, rows.tolist(), strict=True)}


def score(
    asked: dict[str, tuple[str, ...]], found: dict[str, str], known: set[str]
) -> dict[str, object]:
    """How many were right, of those that no caption had and of the others; what went astray."""
    right = {word: names_it(found[word], names) for word, names in asked.items()}
    new = [word for word in asked if word not in known]
    return {
        "right": sum(right[word] for word in new),
        "of": len(new),
        "right of those in captions": sum(right.values()) - sum(right[word] for word in new),
        "of those in captions": len(asked) - len(new),
        "astray": {word: found[word] for word in asked if not right[word]},
    }


def main() -> None:
    """Print what came of the words as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.words", description=__doc__)
    parser.add_argument("--clip", type=Path, default=Path("weights/clip"))
    parser.add_argument("--draft", type=Path, default=Path("weights/draft"))
    args, asked = parser.parse_args(), questions()
    library = without_synonyms(data.load().part(lambda p: not p.held_out))
    known = {word for p in library.pictures for word in (p.name, *p.words)}
    found = recalled(list(asked), args.clip, args.draft, Album(library).names)
    print(json.dumps(score(asked, found, known), indent=1))


if __name__ == "__main__":
    main()
