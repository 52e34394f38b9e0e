"""Training of the judge, who says which of several pictures shows best what was asked for.

It never guides, so that what only pleases the guide does not please it: its tower starts anew from
ImageNet and is never attacked. It reads by the CLIP's text tower, which stays as it is, and so
knows every word that the CLIP knows. Contrastive training as in CLIP (Radford et al. 2021, figure
3), but each caption chooses among the batch's pictures *and spoiled copies of them*: halves of two
things, melted, blurred and stained ones, as a loop that went astray draws them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidance import judge
from guidance.judge import TOWER, Network
from training.course import Course, Report, State, adamw, in_half, pace, set_rates, write_weights
from training.course import train as train_course
from training.scenes import Batches

Embed = Callable[[Sequence[str]], Tensor]  # captions -> (n, d), unit length


@dataclass(frozen=True)
class Plan(Course):
    """How long and how hard to train."""

    batch: int = 64
    tower_rate: float = 4e-4
    rate: float = 1e-3
    decay: float = 0.05
    ema: float = 0.998


class Pupil(nn.Module):
    """The judge, and the temperature of its choices, which is not kept."""

    def __init__(self, network: Network) -> None:
        """Begin with a network."""
        super().__init__()
        self.network = network
        self.temperature = nn.Parameter(torch.tensor(2.7))  # log of the inverse

    def look(self, pictures: Tensor) -> Tensor:
        """(n, 3, s, s) in 0..1 -> (n, d), unit length."""
        with in_half(pictures):
            return self.network(pictures.contiguous(memory_format=torch.channels_last)).float()

    def scale(self) -> Tensor:
        """The learned inverse temperature."""
        return self.temperature.exp().clamp(max=100.0)


def new_state(pupil: Pupil, plan: Plan) -> State:
    """Begin with a pupil; its tower learns more gently."""
    pupil = pupil.to(plan.device)
    gently = {pupil.network.tower: plan.tower_rate}
    return State(pupil, adamw(pupil, plan.rate, plan.decay, gently=gently))


# --- Spoiled pictures ---------------------------------------------------------------------------


def spoil(pictures: Tensor, chance: torch.Generator) -> Tensor:
    """(n, 3, s, s) in 0..1 -> the same, each spoiled in one of four ways, in turn."""
    ways = (_mix, _melt, _blur, _stain)
    other = pictures.roll(1, dims=0)
    spoiled = pictures.clone()
    for turn, way in enumerate(ways):
        mine = slice(turn, None, len(ways))
        if len(pictures[mine]):
            spoiled[mine] = way(pictures[mine], other[mine], chance)
    return spoiled.clamp(0, 1)


def _smooth(like: Tensor, channels: int, cells: int, chance: torch.Generator) -> Tensor:
    """(n, channels, s, s): noise of unit size that changes over about a side / `cells`."""
    noise = torch.randn((len(like), channels, cells, cells), generator=chance).to(like)
    return F.interpolate(noise, like.shape[-2:], mode="bicubic", align_corners=True)


def _some(like: Tensor, least: float, most: float, chance: torch.Generator) -> Tensor:
    """(n, 1, 1, 1): between least and most, another for each picture."""
    share = torch.rand((len(like), 1, 1, 1), generator=chance).to(like)
    return least + (most - least) * share


def _mix(pictures: Tensor, other: Tensor, chance: torch.Generator) -> Tensor:
    """About half of it is another picture."""
    share = (4 * _smooth(pictures, 1, 4, chance)).sigmoid()
    return share * pictures + (1 - share) * other


def _melt(pictures: Tensor, other: Tensor, chance: torch.Generator) -> Tensor:
    """Its parts are pushed about, by some twentieths of its side."""
    move = _smooth(pictures, 2, 5, chance) * _some(pictures, 0.08, 0.2, chance)
    same = torch.eye(2, 3).to(pictures).expand(len(pictures), 2, 3)
    grid = F.affine_grid(same, list(pictures.shape), align_corners=False)
    grid = grid + move.permute(0, 2, 3, 1)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def _blur(pictures: Tensor, other: Tensor, chance: torch.Generator) -> Tensor:
    """Only what is larger than a twelfth to a thirtieth of its side is left."""
    cells = int(torch.randint(12, 31, (), generator=chance))
    small = F.interpolate(pictures, (cells, cells), mode="area")
    return F.interpolate(small, pictures.shape[-2:], mode="bicubic")


def _stain(pictures: Tensor, other: Tensor, chance: torch.Generator) -> Tensor:
    """Clouds of colour lie on it."""
    return pictures + _smooth(pictures, 3, 10, chance) * _some(pictures, 0.05, 0.2, chance)


# --- Training -----------------------------------------------------------------------------------


def train_step(
    plan: Plan, state: State, progress: float, batch: tuple[Tensor, list[str]], embed: Embed
) -> dict[str, float]:
    """Look at whole and spoiled pictures, compare all with all captions, move."""
    set_rates(state.optimiser, pace(progress, state.step, plan.warm_up))
    pupil, shown = state.net.train(), batch[0].float() / 255
    texts, own = embed(batch[1]).to(shown), torch.arange(len(shown), device=shown.device)
    chance = torch.Generator().manual_seed(plan.seed * 1_000_003 + state.step)
    seen = pupil.look(torch.cat([shown, spoil(shown, chance)]))
    nearness = pupil.scale() * seen @ texts.T
    loss = F.cross_entropy(nearness[: len(texts)], own) + F.cross_entropy(nearness.T, own)
    state.move(loss / 2, 2.0, plan.ema)
    right = (nearness[: len(texts)].argmax(1) == own).float().mean()
    whole = (nearness.T.argmax(1) == own).float().mean()
    return {"loss": loss.item() / 2, "right": right.item(), "whole": whole.item()}


def train(
    plan: Plan, state: State, scenes: Batches, embed: Embed, folder: Path, report: Report = dict
) -> None:
    """Train until the plan is done; write log.jsonl and checkpoint.pt into the folder."""

    def take_step(progress: float, batch: tuple[Tensor, list[str]]) -> dict[str, float]:
        return train_step(plan, state, progress, batch, embed)

    train_course(plan, state, scenes, take_step, folder, report)


@torch.no_grad()
def ask(
    pupil: Pupil, sheets: Sequence[tuple[Tensor, list[str]]], embed: Embed, seed: int = 5
) -> dict[str, float]:
    """How often the own caption is nearest on a sheet, and whole pictures nearer than spoiled."""
    found, whole = [], []
    for pictures, captions in sheets:
        shown, texts = pictures.float() / 255, embed(captions)
        spoiled = spoil(shown, torch.Generator().manual_seed(seed))
        near, worse = pupil.look(shown) @ texts.T, (pupil.look(spoiled) * texts).sum(dim=1)
        found.append((near.argmax(1) == torch.arange(len(captions))).float().mean())
        whole.append((near.diagonal() > worse).float().mean())
    return {
        "caption": torch.stack(found).mean().item(),
        "whole_before_spoiled": torch.stack(whole).mean().item(),
    }


def export(pupil: Pupil, folder: Path, space: str, tower: str = TOWER) -> None:
    """Write config and half-precision weights, as `guidance.judge.load` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    judge.save_config(pupil.network, folder, space, tower)
    write_weights(pupil.network.state_dict(), folder / judge.WEIGHTS)
