"""Training of the draft network: captions become small pictures in one pass.

A caption has many pictures, and their mean is a grey blur. So the network is told in whose manner
to draw (each icon set is one), and the scenes stand still: a single thing is whole, in the middle
and unturned, on white (on grey if it is light) unless the caption names a colour. What remains is
nearly one picture for each caption, which L1 and a perceptual loss can ask for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from guidance import draft
from training.course import Course, Report, State, adamw, pace, set_rates, write_weights
from training.course import train as train_course
from training.imagenet import Features
from training.scenes import STILL, Studio, compose

MANNERS = ("noto", "twemoji", "fluent-emoji", "fluent-emoji-flat", "emojione", "openclipart-png")
SIDE = 64  # px

SHOWN = (
    "a red apple on a blue background",
    "a sunflower",
    "a blue car",
    "a cat",
    "a yellow smiley face",
    "a house in the snow",
    "a teapot",
    "a green umbrella",
    "a kitten",  # a word that no caption has
    "a pizza",  # a thing that no training shows
)
Embed = Callable[[Sequence[str]], Tensor]  # captions to (n, d), unit length


@dataclass(frozen=True)
class Plan(Course):
    """How long and how hard to train."""

    warm_up: int = 200
    batch: int = 64
    perceptual_weight: float = 0.15
    first_batches: int = 40  # whose captions tell how embeddings are spread
    blur: float = 0.1  # length of the noise on a caption's embedding: neighbours mean the same
    rate: float = 1.5e-3
    decay: float = 0.01
    ema: float = 0.998


class Sketches(torch.utils.data.Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Batch number t depends on the seed and on t alone: still scenes, manners and captions."""

    def __init__(self, studio: Studio, plan: Plan, embed: Embed) -> None:
        """``studio`` must be still and of 64 px; ``embed`` reads the captions."""
        self.studio, self.plan, self.embed = studio, plan, embed

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures (n, 3, 64, 64) as bytes, manners (n,), embeddings (n, d)."""
        rng = np.random.default_rng((self.plan.seed, step))
        scenes, manners = [], []
        while len(scenes) < self.plan.batch:
            manner = int(rng.integers(len(MANNERS)))
            new = compose(rng, self.studio.by(MANNERS[manner]), STILL, worn=False)
            scenes += new
            manners += [manner] * len(new)
        scenes, manners = scenes[: self.plan.batch], manners[: self.plan.batch]
        pixels = np.stack([(s.picture * 255).round().astype(np.uint8) for s in scenes])
        pictures = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        return pictures, torch.tensor(manners), self.embed([s.caption for s in scenes])


def new_state(plan: Plan, embed: Embed, studio: Studio) -> State:
    """Begin from random weights; a few batches of captions tell how embeddings are spread."""
    sketches = Sketches(studio, plan, embed)
    embeddings = torch.cat([sketches[step][2] for step in range(plan.first_batches)])
    net = draft.Network(embeddings.shape[1], len(MANNERS)).to(memory_format=torch.channels_last)
    whiten(net, embeddings, plan.blur / embeddings.shape[1] ** 0.5)
    return State(net, adamw(net, plan.rate, plan.decay))


def whiten(net: draft.Network, embeddings: Tensor, least: float) -> None:
    """Centre the net on embeddings (n, d) and give all directions one variance (ZCA).

    ``least`` is added to each direction's deviation, so that mere noise is not blown up.
    """
    centre = embeddings.mean(0)
    values, directions = torch.linalg.eigh(torch.cov((embeddings - centre).T))
    scale = (values.clamp(min=0) + least**2).rsqrt()
    net.centre.copy_(centre)
    net.whiten.copy_(directions * scale @ directions.T)


def train_step(
    plan: Plan,
    state: State,
    progress: float,
    batch: tuple[Tensor, Tensor, Tensor],
    features: Features,
) -> dict[str, float]:
    """Draw, compare, move; returns numbers for the log."""
    set_rates(state.optimiser, pace(progress, state.step, plan.warm_up))
    chance = torch.Generator().manual_seed(plan.seed * 1_000_003 + state.step)
    pictures, manners, embeddings = batch
    goal = (pictures.float() / 255).contiguous(memory_format=torch.channels_last)
    noise = torch.randn(embeddings.shape, generator=chance) / embeddings.shape[1] ** 0.5
    embeddings = F.normalize(embeddings + plan.blur * noise, dim=-1)
    with torch.autocast("cpu", torch.bfloat16):
        drawn = state.net(embeddings, manners)
    drawn = drawn.float()
    likeness = features.distance(drawn[::2], goal[::2])  # half of them: it is the dearest part
    absolute = F.l1_loss(drawn, goal)
    coarse = F.l1_loss(F.avg_pool2d(drawn, 8), F.avg_pool2d(goal, 8))
    loss = absolute + coarse + plan.perceptual_weight * likeness
    state.move(loss, 1.0, plan.ema)
    return {"l1": absolute.item(), "coarse": coarse.item(), "perceptual": likeness.item()}


def train(
    plan: Plan,
    state: State,
    sketches: Sketches,
    folder: Path,
    features: Features,
    report: Report = dict,
) -> None:
    """Train until the plan is done; write log.jsonl and checkpoint.pt into the folder."""

    def take_step(progress: float, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, float]:
        return train_step(plan, state, progress, batch, features)

    train_course(plan, state, sketches, take_step, folder, report)


def export(net: draft.Network, folder: Path, space: str) -> None:
    """Write config and half-precision weights, as `guidance.draft.load` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"words": net.read.in_features, "manners": net.manner.num_embeddings, "space": space}
    (folder / draft.CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    write_weights(net.state_dict(), folder / draft.WEIGHTS)


def sheet(net: draft.Network, embed: Embed, captions: Sequence[str]) -> Image.Image:
    """A row for each caption, drawn in every manner."""
    rows = [draft.Draft(net, space="").draw(embed([caption])) for caption in captions]
    pixels = torch.cat([torch.cat(list(row), -1) for row in rows], 1).permute(1, 2, 0)
    return Image.fromarray((pixels * 255).round().byte().numpy())
