"""Contrastive training of the pocket CLIP: pictures and captions that belong together meet.

Each step, as in CLIP (Radford et al. 2021, figure 3): embed a batch of pictures and their captions,
compare all with all, and ask for the right caption of each picture and the right picture of each
caption. Three additions:

* a frozen sentence encoder teaches the text tower words that no caption has;
* after a plain first phase the pictures are attacked first (CLIPAG, Ganz and Elad 2023), so that
  the gradient that later draws pictures shows whole objects instead of noise;
* the weights kept are a running mean of the weights trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from training.course import Course, Report, State, adamw, pace, set_rates
from training.course import train as train_course
from training.pupil import Pupil, tokenizer, trim
from training.teacher import Teacher


@dataclass(frozen=True)
class Plan(Course):
    """How long and how hard to train."""

    minutes: float = 85.0
    batch: int = 96
    extra_texts: int = 128
    plain_share: float = 0.2  # of the training without attacks
    # Up to which share of the training pictures have which side, in pixels: small ones first, since
    # they teach the same names in half the time.
    sizes: tuple[tuple[float, int], ...] = ((0.2, 64), (0.8, 80), (1.0, 96))
    radius: float = 1.5 / 96  # of an attack, L2 over the side: 1.5 on 96 px in 0..1
    attack_steps: int = 2  # with one, the net soon withstands that one step and nothing else
    attacked_share: float = 0.75  # of each batch
    tower_rate: float = 4e-4
    text_rate: float = 1e-3
    decay: float = 0.05
    ema: float = 0.998


@dataclass(frozen=True)
class Lessons:
    """Texts to learn from the teacher alone, and ImageNet's classes as rows of its classifier."""

    tokens: Tensor  # (n, t)
    vectors: Tensor  # (n, 384), the teacher's
    class_rows: Tensor = field(default_factory=lambda: torch.empty(0, 0))  # (1000, 1280)
    class_vectors: Tensor = field(default_factory=lambda: torch.empty(0, 0))  # (1000, 384)

    def to(self, device: str) -> Lessons:
        """The same on a device."""
        return Lessons(*(part.to(device) for part in vars(self).values()))


class Scenes(Protocol):
    """Numbered batches of pictures (n, 3, s, s), bytes, with captions."""

    def __getitem__(self, step: int) -> tuple[Tensor, list[str]]:
        """Batch number ``step``."""
        ...


# --- Losses -----------------------------------------------------------------------------------


def contrast(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross entropy of all pairs: row i of a belongs to row i of b."""
    logits = scale * a @ b.T
    target = torch.arange(len(a), device=a.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def distil(texts: Tensor, taught: Tensor, scale: Tensor) -> Tensor:
    """Bring each text near the teacher's vector, and nearer than to any other text's."""
    taught = taught.detach()
    distance = 1 - (texts * taught).sum(-1).mean()
    return distance + 0.25 * contrast(texts, taught, scale.detach())


def name_classes(net: Pupil, lessons: Lessons, chance: torch.Generator, n: int = 200) -> Tensor:
    """Keep ImageNet's class rows, seen as pictures, with the names of their classes."""
    if not len(lessons.class_rows):
        return torch.zeros(())
    some = torch.randperm(len(lessons.class_rows), generator=chance)[:n]
    seen = F.normalize(net.clip.visual.head(lessons.class_rows[some]), dim=-1)
    return contrast(seen, net.lift(lessons.class_vectors[some]), net.scale())


def fit_lift(net: Pupil, lessons: Lessons, seed: int, steps: int = 200, batch: int = 192) -> None:
    """Fit the head for the teacher's vectors to a text tower that has learned already."""
    chance = torch.Generator().manual_seed(seed)
    head = [*net.skip.parameters(), *net.bend.parameters()]
    optimiser = torch.optim.AdamW(head, lr=1e-3, weight_decay=0.01)
    for _ in range(steps):
        some = torch.randint(len(lessons.tokens), (batch,), generator=chance)
        with torch.no_grad():
            texts = net.embed_tokens(trim(lessons.tokens[some].long()))
        optimiser.zero_grad()
        distil(net.lift(lessons.vectors[some].float()), texts, net.scale()).backward()
        optimiser.step()


# --- Attacks ----------------------------------------------------------------------------------


def attack(
    net: Pupil,
    pictures: Tensor,
    texts: Tensor,
    own: Tensor,
    radius: float,
    steps: int,
    chance: torch.Generator,
) -> Tensor:
    """Move pictures away from their own rows of texts, each within an L2 ball.

    Projected gradient ascent on the contrastive loss (Madry et al. 2018), from a random start.
    """
    scale = net.scale().detach()
    net.eval()  # batch statistics stay out of it
    noise = torch.randn(pictures.shape, generator=chance).to(pictures)
    shift = to_length(noise, radius / 4)
    for _ in range(steps):
        shift.requires_grad_()
        loss = F.cross_entropy(scale * net.embed_pictures(pictures + shift) @ texts.T, own)
        (slope,) = torch.autograd.grad(loss, shift)
        with torch.no_grad():
            shift = shift + to_length(slope, 2 * radius / steps)
            shift = shift * (radius / length(shift).clamp(min=radius))
    return (pictures + shift.detach()).clamp(0, 1)


def length(x: Tensor) -> Tensor:
    """L2 norm of each picture, (n, 1, 1, 1)."""
    return x.flatten(1).norm(dim=1)[:, None, None, None]


def to_length(x: Tensor, wanted: float) -> Tensor:
    """Scale each picture to an L2 norm."""
    return x / length(x).clamp(min=1e-12) * wanted


# --- One step ---------------------------------------------------------------------------------


def train_step(
    plan: Plan,
    state: State,
    progress: float,
    batch: tuple[Tensor, Tensor, Tensor],
    lessons: Lessons,
) -> dict[str, float]:
    """Embed, compare, move, average; returns numbers for the log.

    The batch holds pictures (n, 3, s, s) as bytes, tokens (n, t) and the teacher's vectors.
    """
    set_rates(state.optimiser, pace(progress, state.step, plan.warm_up))
    net, (pictures, tokens, sentences) = state.net.train(), batch
    chance = torch.Generator().manual_seed(plan.seed * 1_000_003 + state.step)
    told = torch.randint(len(lessons.tokens), (plan.extra_texts,), generator=chance)

    texts, captions = net.embed_tokens(tokens), net.lift(sentences)
    extra = net.embed_tokens(trim(lessons.tokens[told].long()))
    extra_captions = net.lift(lessons.vectors[told].float())
    pictures = make_harder(plan, net, progress, pictures, texts.detach(), chance)
    seen, scale = net.train().embed_pictures(pictures), net.scale()

    loss = contrast(seen, texts, scale) + contrast(seen, captions, scale)
    loss = loss + distil(texts, captions, scale) + distil(extra, extra_captions, scale)
    loss = loss + 0.3 * name_classes(net, lessons, chance)
    state.move(loss, 2.0, plan.ema)

    right = (seen @ texts.T).argmax(1) == torch.arange(len(seen), device=seen.device)
    return {
        "loss": loss.item(),
        "right": right.float().mean().item(),
        "scale": scale.item(),
        "text_cosine": (texts * captions).sum(-1).mean().item(),
        "extra_cosine": (extra * extra_captions).sum(-1).mean().item(),
    }


def make_harder(
    plan: Plan,
    net: Pupil,
    progress: float,
    pictures: Tensor,
    texts: Tensor,
    chance: torch.Generator,
) -> Tensor:
    """Pictures of 0..1 in the size of the hour; after the plain phase most of them attacked."""
    size = next((px for until, px in plan.sizes if progress < until), plan.sizes[-1][1])
    pictures = pictures.float() / 255
    if size != pictures.shape[-1]:
        pictures = F.interpolate(pictures, size=(size, size), mode="bilinear", antialias=True)
    if progress < plan.plain_share:
        return pictures
    order = torch.randperm(len(pictures), generator=chance)
    hit = order[: round(plan.attacked_share * len(pictures))].to(pictures.device)
    moved = attack(net, pictures[hit], texts, hit, plan.radius * size, plan.attack_steps, chance)
    return pictures.index_copy(0, hit, moved)


# --- Many steps -------------------------------------------------------------------------------


def train(
    plan: Plan,
    state: State,
    scenes: Scenes,
    teacher: Teacher,
    lessons: Lessons,
    folder: Path,
    report: Report = dict,
) -> None:
    """Train until the plan is done; write log.jsonl and checkpoint.pt into the folder."""
    taught, lessons = Taught(scenes, tokenizer(state.net), teacher), lessons.to(plan.device)

    def take_step(progress: float, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, float]:
        return train_step(plan, state, progress, batch, lessons)

    train_course(plan, state, taught, take_step, folder, report)


class Taught(torch.utils.data.Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Batches with their captions as tokens and as the teacher's vectors."""

    def __init__(
        self, scenes: Scenes, tokenize: Callable[[list[str]], Tensor], teacher: Teacher
    ) -> None:
        """Join what composes, what tokenizes and what teaches."""
        self.scenes, self.tokenize, self.teacher = scenes, tokenize, teacher

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures (n, 3, s, s) as bytes, tokens (n, t), vectors (n, 384)."""
        pictures, captions = self.scenes[step]
        return pictures, self.tokenize(captions), self.teacher(captions)


def new_state(net: Pupil, plan: Plan) -> State:
    """Begin with a net: its tower learns more gently, and rare words must not fade away."""
    net = net.to(plan.device)
    gently, still = {net.clip.visual.trunk: plan.tower_rate}, [net.clip.token_embedding.weight]
    return State(net, adamw(net, plan.text_rate, plan.decay, gently=gently, still=still))
