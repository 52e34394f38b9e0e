"""Contrastive training of the pocket CLIP: pictures and captions that belong together meet.

Each step, as in CLIP (Radford et al. 2021, figure 3): embed a batch of pictures and their captions,
compare all with all, and ask for the right caption of each picture and the right picture of each
caption. Three additions:

* a frozen sentence encoder teaches the text tower words that no caption has;
* after a plain first phase the pictures are attacked first (CLIPAG, Ganz and Elad 2023), so that
  the gradient that later draws pictures shows whole objects instead of noise;
* the weights kept are a running mean of the weights trained.
"""

import copy
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.pupil import Pupil, tokenizer, trim
from training.teacher import Teacher


@dataclass(frozen=True)
class Plan:
    """How long and how hard to train. The end comes after ``steps``, or after ``minutes`` if 0."""

    minutes: float = 85.0
    steps: int = 0
    batch: int = 96
    extra_texts: int = 128
    warm_up: int = 60  # steps
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
    seed: int = 0
    checkpoint_minutes: float = 4.0
    report_minutes: float = 10.0
    workers: int = 1  # processes that compose scenes


@dataclass
class State:
    """Everything that changes while training, and that a resumed training needs."""

    net: Pupil
    mean: Pupil
    optimiser: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Lessons:
    """Texts to learn from the teacher alone, and ImageNet's classes as rows of its classifier."""

    tokens: Tensor  # (n, t)
    vectors: Tensor  # (n, 384), the teacher's
    class_rows: Tensor = field(default_factory=lambda: torch.empty(0, 0))  # (1000, 1280)
    class_vectors: Tensor = field(default_factory=lambda: torch.empty(0, 0))  # (1000, 384)


class Scenes(Protocol):
    """Numbered batches of pictures (n, 3, s, s), bytes, with captions."""

    def __getitem__(self, step: int) -> tuple[Tensor, list[str]]:
        """Batch number ``step``."""
        ...


# --- Losses -----------------------------------------------------------------------------------


def contrast(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross entropy of all pairs: row i of a belongs to row i of b."""
    logits = scale * a @ b.T
    target = torch.arange(len(a))
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
    shift = to_length(torch.randn(pictures.shape, generator=chance), radius / 4)
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
    move(plan, state, loss)

    right = (seen @ texts.T).argmax(1) == torch.arange(len(seen))
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
    hit = order[: round(plan.attacked_share * len(pictures))]
    moved = attack(net, pictures[hit], texts, hit, plan.radius * size, plan.attack_steps, chance)
    return pictures.index_copy(0, hit, moved)


def move(plan: Plan, state: State, loss: Tensor) -> None:
    """One step down the gradient, and a small one of the running mean after it."""
    state.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.net.parameters(), 2.0)
    state.optimiser.step()
    state.step += 1
    average(state.mean, state.net, min(plan.ema, state.step / (9 + state.step)))


@torch.no_grad()
def average(mean: nn.Module, net: nn.Module, keep: float) -> None:
    """Move the running mean a little towards the net, batch statistics too."""
    for old, new in zip(mean.state_dict().values(), net.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - keep)
        else:
            old.copy_(new)


# --- Many steps -------------------------------------------------------------------------------


def train(
    plan: Plan,
    state: State,
    scenes: Scenes,
    teacher: Teacher,
    lessons: Lessons,
    folder: Path,
    report: Callable[[State], dict[str, float]] | None = None,
) -> State:
    """Train until the plan is done; write log.jsonl and checkpoint.pt into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    log(folder, {"step": state.step, "plan": asdict(plan)})
    before, saved, told = state.seconds, state.seconds, state.seconds
    started = time.monotonic()
    for batch in stream(Taught(scenes, tokenizer(state.net), teacher), state.step, plan.workers):
        progress = state.step / plan.steps if plan.steps else state.seconds / 60 / plan.minutes
        if progress >= 1:
            break
        set_rates(state.optimiser, plan, progress, state.step)
        numbers = train_step(plan, state, progress, batch, lessons)
        state.seconds = before + time.monotonic() - started
        if state.step % 20 == 1:
            log(folder, {"step": state.step, "minutes": state.seconds / 60, **numbers})
        if state.seconds - saved > 60 * plan.checkpoint_minutes:
            save(state, folder / "checkpoint.pt")
            saved = state.seconds
        if report and state.seconds - told > 60 * plan.report_minutes:
            log(folder, {"step": state.step, "minutes": state.seconds / 60, **report(state)})
            told = state.seconds
    save(state, folder / "checkpoint.pt")
    return state


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


def stream(batches: Taught, start: int, workers: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches from number ``start`` on, made in a process beside the training."""
    loader = torch.utils.data.DataLoader(
        batches,
        batch_size=None,
        sampler=count(start),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    return iter(loader)


def set_rates(optimiser: torch.optim.Optimizer, plan: Plan, progress: float, step: int) -> None:
    """Warm up evenly, then fall along a cosine to a fiftieth."""
    fall = max(0.02, (1 + math.cos(math.pi * progress)) / 2)
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * min(1, (step + 1) / plan.warm_up) * fall


def new_state(net: Pupil, plan: Plan) -> State:
    """Begin: the running mean is a copy, matrices decay, and the tower learns more gently."""
    tower = set(net.clip.visual.trunk.parameters())
    still = {net.clip.token_embedding.weight}  # rare words must not fade away
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for p in net.parameters():
        rate = plan.tower_rate if p in tower else plan.text_rate
        decay = plan.decay if p.ndim > 1 and p not in still else 0.0
        groups.setdefault((rate, decay), []).append(p)
    optimiser = torch.optim.AdamW(
        [{"params": ps, "peak": r, "weight_decay": d} for (r, d), ps in groups.items()],
        lr=plan.text_rate,
        betas=(0.9, 0.98),
        fused=True,
    )
    return State(net, copy.deepcopy(net).eval().requires_grad_(False), optimiser)


# --- Records ----------------------------------------------------------------------------------


def log(folder: Path, row: dict[str, object]) -> None:
    """Add a line to log.jsonl."""
    short = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
    with (folder / "log.jsonl").open("a") as file:
        file.write(json.dumps(short) + "\n")


def save(state: State, path: Path) -> None:
    """Write a checkpoint as one whole file or not at all."""
    parts = {
        "net": state.net.state_dict(),
        "mean": state.mean.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "step": state.step,
        "seconds": state.seconds,
    }
    torch.save(parts, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def resume(state: State, path: Path) -> State:
    """Fill a new state from a checkpoint; the next step is the one that would have come."""
    parts = torch.load(path, weights_only=True)
    state.net.load_state_dict(parts["net"])
    state.mean.load_state_dict(parts["mean"])
    state.optimiser.load_state_dict(parts["optimiser"])
    state.step, state.seconds = parts["step"], parts["seconds"]
    return state
