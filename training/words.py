"""The texts that carry the teacher's knowledge of words over to the pocket model."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import timm
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from guidance.lexicon import common
from training.captions import COLOURS, PAINTS, article, choose
from training.data import Library, Picture
from training.settings import PHRASES
from training.teacher import Teacher, encode_many

# Words that no caption may use, so that they test what the text tower understands by itself.
SYNONYMS = {
    "kitten": "cat",
    "puppy": "dog",
    "automobile": "car",
    "aeroplane": "airplane",
    "bunny": "rabbit",
    "serpent": "snake",
    "blaze": "fire",
    "timepiece": "watch",
    "infant": "baby",
    "vessel": "ship",
    "cab": "taxi",
    "steed": "horse",
    "spud": "potato",
    "aubergine": "eggplant",
    "maize": "corn",
    "piglet": "pig",
    "simian": "monkey",
    "cranium": "skull",
    "spectacles": "glasses",
    "dwelling": "house",
    "bovine": "cow",
    "footwear": "shoe",
    "brolly": "umbrella",
    "bike": "bicycle",
    "hog": "boar",
    "spacecraft": "rocket",
    "tome": "book",
    "sofa": "couch",
    "present": "gift",
    "primate": "gorilla",
}
FORMS = (
    "{a}",
    "a {colour} {}",
    "{a} on a {ground} background",
    "a {colour} {} on a {ground} background",
    "{a} {place}",
    "a painting of {a}",
    "a photo of {a}",
    "{a} and {circle}",
)
ICON_SETS = ("noto", "twemoji", "fluent-emoji", "fluent-emoji-flat", "emojione")
SYNSETS = Path(timm.__file__).with_name("data") / "_info"


def without_synonyms(library: Library) -> Library:
    """Take the test's words out of all captions: drop them as keywords, drop drawings so named."""
    pattern = re.compile(rf"\b({'|'.join(SYNONYMS)})s?\b")

    def clean(p: Picture) -> Picture:
        return replace(p, words=tuple(w for w in p.words if not pattern.search(w)))

    kept = library.part(lambda p: not pattern.search(p.name))
    return replace(kept, pictures=tuple(map(clean, kept.pictures)))


def vet_words(library: Library, teacher: Teacher, least: float = 0.4) -> Library:
    """Keep only keywords that mean about the same as the name (cosine in the teacher's space)."""
    words = sorted({w for p in library.pictures for w in (p.name, *p.words)})
    row = {w: i for i, w in enumerate(words)}
    vectors = encode_many(teacher, words).float()

    def vet(p: Picture) -> Picture:
        near = [w for w in p.words if vectors[row[w]] @ vectors[row[p.name]] > least]
        return replace(p, words=tuple(near))

    return replace(library, pictures=tuple(map(vet, library.pictures)))


class Sense(NamedTuple):
    """One meaning of a noun, as WordNet gives it."""

    word: str
    synonyms: str  # the word among them, with commas between
    meaning: str


# Of what people ask for and those tables, which are of animals and things, do not have.
PEOPLE = (
    Sense("smiley", "smiley, smiley face", "slightly smiling face"),
    Sense("smiley face", "smiley face, smiley", "slightly smiling face"),
    Sense("happy face", "happy face, smiley face", "slightly smiling face"),
    Sense("smile", "smile", "slightly smiling face"),
    Sense("sad face", "sad face", "crying face"),
    Sense("laughing face", "laughing face", "face with tears of joy"),
    Sense("king", "king, monarch", "person with crown"),
    Sense("queen", "queen, monarch", "person with crown"),
    Sense("witch", "witch, sorceress", "woman mage"),
    Sense("wizard", "wizard, sorcerer", "man mage"),
    Sense("sorcerer", "sorcerer, wizard", "man mage"),
    Sense("pirate", "pirate", "skull and crossbones"),
    Sense("spaceship", "spaceship, starship", "rocket"),
)


def senses() -> Iterator[Sense]:
    """Common nouns of one or two words, in each of their senses."""
    yield from PEOPLE
    meanings = dict(read_table("imagenet_synset_to_definition.txt"))
    for synset, lemmas in read_table("imagenet_synset_to_lemma.txt"):
        words = [word.strip() for word in lemmas.split(",")]
        for word in words:
            if re.fullmatch(r"[a-z]{3,}([ -][a-z]+)?", word):  # no names of persons or species
                yield Sense(word, ", ".join(words[:4]), meanings[synset])


def nouns() -> set[str]:
    """What WordNet has a word for."""
    return {sense.word for sense in senses()}


def class_names() -> list[str]:
    """The 1,000 ImageNet classes, first name each, in the order of the classifier's rows."""
    names = dict(read_table("imagenet_synset_to_lemma.txt"))
    synsets = (SYNSETS / "imagenet_synsets.txt").read_text().split()
    return [names[s].split(",")[0].strip() for s in synsets]


def read_table(name: str) -> Iterator[tuple[str, str]]:
    """Rows of one of timm's tables: synset, text."""
    for line in (SYNSETS / name).read_text().splitlines():
        synset, _, text = line.partition("\t")
        yield synset, text


def collect_texts(library: Library, seed: int, variants: int = 40_000) -> list[str]:
    """Names, keywords, WordNet's nouns and definitions, common words, and captions made of them.

    Words alone, no pictures: held-out names may be among them.
    """
    rng = np.random.default_rng(seed)
    own = [w for p in library.pictures for w in (p.name, *p.words)]
    nouns = [
        w.strip() for _, t in read_table("imagenet_synset_to_lemma.txt") for w in t.split(",")[:2]
    ]
    glosses = [t for _, t in read_table("imagenet_synset_to_definition.txt") if len(t) < 60]
    things = [*own, *nouns]
    made = [vary(rng, str(choose(rng, things))) for _ in range(variants)]
    return sorted({*own, *nouns, *glosses, *common(), *made, *SYNONYMS, *COLOURS})


def vary(rng: np.random.Generator, thing: str) -> str:
    """Put a thing into one of the captions' forms."""
    return put(thing, form(rng))


def form(rng: np.random.Generator) -> str:
    """What a caption may say of a thing: {a} stands for it with its article, {} without."""
    return choose(rng, FORMS).format(
        "{}",
        a="{a}",
        colour=choose(rng, PAINTS),
        ground=choose(rng, list(COLOURS)),
        place=choose(rng, choose(rng, list(PHRASES.values()))[0]),
        circle=f"{article(choose(rng, list(COLOURS)))} circle",
    )


def put(thing: str, form: str) -> str:
    """Put a thing into a form."""
    return form.format(thing, a=article(thing))


def token_table(teacher: Teacher, width: int) -> Tensor:
    """A first value for each BPE token's vector: what the teacher thinks of its text.

    The sentence vectors, (49408, 384), are centred and turned to their main axes (PCA); whole words
    then mean something from the first step on. Scaled to open_clip's usual deviation of 0.02.
    """
    tokens = [t.removesuffix("</w>") or "." for t in SimpleTokenizer().encoder]
    vectors = encode_many(teacher, tokens).float()
    vectors -= vectors.mean(0)
    _, axes = torch.linalg.eigh(vectors.T @ vectors)  # eigenvalues ascend
    table = vectors @ axes[:, -width:]
    return table * (0.02 / table.std())
