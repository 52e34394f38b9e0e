"""More words for a trained CLIP: what no caption said leads to the drawings that come nearest.

Only the text tower learns. WordNet (in timm's tables of ImageNet's classes) says what a word means,
by synonyms and a definition; the teacher finds the names of drawings that are nearest to that. Then
the tower learns, by distillation (Hinton et al. 2015), to say of "a red steed" what it used to say
of "a red horse", and to go on saying what it said of all else. So pictures stay where they were,
and whatever was trained in the space of this CLIP stays true.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from guidance.instruct import COLOURS
from guidance.lexicon import common
from guidance.styles import WORDS
from training.captions import FRAMES
from training.course import Course, Report, State, adamw, pace, set_rates
from training.course import train as train_course
from training.data import Library
from training.pupil import Pupil, tokenizer
from training.scenes import Batches
from training.settings import PHRASES
from training.teacher import Teacher, encode_many
from training.words import FORMS, ICON_SETS, Sense, collect_texts, form, put, senses


@dataclass(frozen=True)
class Plan(Course):
    """How long and how hard to train, and how near a word must come to a drawing's name."""

    minutes: float = 25.0
    batch: int = 160  # of words, and as many texts that stay as they are
    captions: int = 64  # of scenes, which stay, too
    oftener: int = 4  # a common word is read than a rare one
    read: int = 3  # so many times as many words as a batch has; those read worst are practised
    likeness: float = 0.45  # in the teacher's space; what comes less near leads nowhere
    rate: float = 6e-4
    decay: float = 0.01
    ema: float = 0.998


# --- What a word leads to ------------------------------------------------------------------------


@dataclass(frozen=True)
class Thesaurus:
    """Words, and for each the names that it may lead to."""

    words: list[str]
    names: list[str]
    near: Tensor  # (words, k), rows of names, the nearest first
    chance: Tensor  # (words, k), how likely each is meant; rows sum to 1

    def __getitem__(self, word: str) -> str:
        """The name that a word leads to first."""
        return self.names[int(self.near[self.words.index(word), 0])]


def look_up(
    library: Library, teacher: Teacher, least: float, table: Sequence[Sense] = ()
) -> Thesaurus:
    """Find what the words of WordNet, or of another table, and of the pictures come nearest to.

    Names of pictures are left as they are, those of held-out pictures too, and so are words of
    which captions are made. Of several senses of a word that one counts which comes nearest.
    """
    shown = library.part(lambda p: not p.held_out)
    taken, said = {p.name for p in library.pictures}, language()
    taken |= {w for p in library.pictures for w in p.words} - {
        w for p in shown.pictures for w in p.words
    }
    table = [
        sense
        for sense in (*(table or senses()), *keywords(shown))
        if sense.word not in taken and not said.issuperset(sense.word.split())
    ]
    names = sorted({p.name for p in shown.pictures if p.source in ICON_SETS})
    goals = encode_many(teacher, names).float()

    def likeness(texts: list[str]) -> Tensor:
        return encode_many(teacher, texts).float() @ goals.T

    # Bare words lead astray by their letters (a goblet to goggles), so the meaning weighs more.
    near = 0.3 * likeness([sense.word for sense in table])
    near += 0.7 * likeness([f"{sense.synonyms}: {sense.meaning}" for sense in table])
    best, order = near.max(dim=1).values, dict[str, int]()
    for row in best.argsort(descending=True).tolist():
        if best[row] >= least:
            order.setdefault(table[row].word, row)
    found = near[list(order.values())]
    most, which = found.topk(min(3, len(names)), dim=1)
    return Thesaurus(list(order), names, which, ((most - most[:, :1]) / 0.03).softmax(dim=1))


def keywords(library: Library) -> list[Sense]:
    """What icons are called beside their names, and means all the things that are so called."""
    called = defaultdict(set)
    for picture in library.pictures:
        if picture.source in ICON_SETS:
            for word in picture.words:
                called[word].add(picture.name)
    return [Sense(word, word, ", ".join(sorted(names))) for word, names in called.items()]


def language() -> set[str]:
    """Words that say how a thing is shown, what colour it has, and where it is."""
    places = itertools.chain.from_iterable(itertools.chain.from_iterable(PHRASES.values()))
    manners = itertools.chain.from_iterable(WORDS.values())
    said = (*FRAMES, *FORMS, *places, *manners, *COLOURS)
    return {word for text in said for word in re.findall(r"[a-z]{3,}", text)}


def constant_texts(library: Library, thesaurus: Thesaurus) -> list[str]:
    """Texts that are to mean what they meant: all that were ever taught, without those words."""
    moved = set(thesaurus.words)

    def holds(text: str) -> bool:
        words = text.split()
        pairs = (" ".join(pair) for pair in itertools.pairwise(words))
        return not moved.isdisjoint((*words, *pairs))

    return [text for text in collect_texts(library, seed=0) if not holds(text)]


def taught(library: Library, thesaurus: Thesaurus) -> set[str]:
    """All texts that a CLIP ever learns, before and now; of captions, what they are made of."""
    return {*collect_texts(library, seed=0), *thesaurus.words, *language()}


# --- Training ------------------------------------------------------------------------------------


Texts = tuple[list[str], list[str]]  # what to read, and what the CLIP as it was reads instead


class Lessons(torch.utils.data.Dataset[tuple[Texts, list[str]]]):
    """Batch number t depends on the seed and on t alone: texts, and what they are to mean."""

    def __init__(
        self, thesaurus: Thesaurus, constant: Sequence[str], scenes: Batches, plan: Plan
    ) -> None:
        """Join words, what stays, and scenes whose captions stay."""
        self.thesaurus, self.constant, self.scenes, self.plan = thesaurus, constant, scenes, plan
        known = common()
        shares = [plan.oftener if known.issuperset(w.split()) else 1 for w in thesaurus.words]
        self.shares = np.array(shares) / sum(shares)

    def __getitem__(self, step: int) -> tuple[Texts, list[str]]:
        """Words that are led elsewhere, and texts that stay."""
        rng = np.random.default_rng((self.plan.seed, step))
        texts, goals, book = [], [], self.thesaurus
        for row in rng.choice(
            len(book.words), size=self.plan.read * self.plan.batch, p=self.shares
        ):
            name = rng.choice(book.near[row].numpy(), p=as_chances(book.chance[row]))
            said = form(rng) if rng.random() < 0.7 else "{}"
            texts.append(put(book.words[row], said))
            goals.append(put(book.names[name], said))
        rows = rng.integers(len(self.constant), size=self.plan.batch)
        same = [*self.scenes[step][1], *(self.constant[row] for row in rows)]
        return (texts, goals), same


def as_chances(chance: Tensor) -> np.ndarray:
    """Doubles whose sum is 1 as exactly as numpy asks."""
    doubles = chance.double().numpy()
    return np.asarray(doubles / doubles.sum())


def train_step(
    plan: Plan,
    state: State,
    progress: float,
    before: Pupil,
    tokenize: Callable[[list[str]], Tensor],
    batch: tuple[Texts, list[str]],
) -> dict[str, float]:
    """Read, compare with what the CLIP as it was says, move; returns numbers for the log.

    Of the words only those that are read worst are practised (Shrivastava et al. 2016).
    """
    set_rates(state.optimiser, pace(progress, state.step, plan.warm_up))
    (texts, goals), same = batch
    with torch.no_grad():
        wanted, stays = (before.embed_tokens(tokenize(some)) for some in (goals, same))
        read = (state.net.embed_tokens(tokenize(texts)) * wanted).sum(dim=1)
    worst = read.topk(plan.batch, largest=False).indices
    again = tokenize([texts[row] for row in worst.tolist()])
    led = (state.net.embed_tokens(again) * wanted[worst]).sum(dim=1)
    kept = (state.net.embed_tokens(tokenize(same)) * stays).sum(dim=1)
    state.move(1 - torch.cat((led, kept)).mean(), 1.0, plan.ema)
    return {"led": read.mean().item(), "worst": led.mean().item(), "kept": kept.mean().item()}


def train(
    plan: Plan,
    state: State,
    before: Pupil,
    lessons: Lessons,
    folder: Path,
    report: Report = dict,
) -> None:
    """Train until the plan is done; write log.jsonl and checkpoint.pt into the folder."""
    before, encode = before.to(plan.device), tokenizer(before)

    def tokenize(texts: list[str]) -> Tensor:
        return encode(texts).to(plan.device)

    def take_step(progress: float, batch: tuple[Texts, list[str]]) -> dict[str, float]:
        return train_step(plan, state, progress, before, tokenize, batch)

    train_course(plan, state, lessons, take_step, folder, report)


def new_state(before: Pupil, plan: Plan) -> State:
    """Begin with a CLIP as it is; its image tower and its temperature do not learn."""
    net = copy.deepcopy(before).to(plan.device)
    net.requires_grad_(False)
    for part in (net.clip.transformer, net.clip.token_embedding, net.clip.ln_final):
        part.requires_grad_(True)
    for one in (net.clip.positional_embedding, net.clip.text_projection):
        one.requires_grad_(True)
    return State(net, adamw(net, plan.rate, plan.decay, still=[net.clip.token_embedding.weight]))
