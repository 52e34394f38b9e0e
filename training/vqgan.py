"""Training of the pocket VQGAN: pictures become codes of a codebook and pictures again.

Esser, Rombach and Ommer (arXiv 2012.09841): the picture that comes back should have the right
colours (L1), the right features (perceptual loss, Johnson et al. 2016), and details that a critic
of patches takes for real (its weight balanced against the rest at the last layer).
The codebook begins with k-means over the cells of a network that has learned without one; a code
that nobody uses begins anew at some cell of the batch. Half of what is decoded was shaken before it
was snapped, for a loop will ask for cells that no encoder writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from torch import Tensor, nn

from generators.vqgan import Pocket
from training.course import Course, Report, State, in_half, pace, set_rates, write_weights
from training.course import train as train_course
from training.data import Library
from training.imagenet import Features, efficientnet_lite
from training.scenes import Studio, compose, single

CONFIG = {"embed_dim": 32, "n_embed": 4096, "groups": 2, "widths": [64, 128, 256]}


@dataclass(frozen=True)
class Plan(Course):
    """How long and how hard to train."""

    warm_up: int = 100
    batch: int = 24
    side: int = 64  # px, of a crop
    free_share: float = 0.1  # of the training before there is a codebook
    first_batches: int = 40  # whose cells the codebook begins with
    critic_from: float = 0.45  # of the training; from here on it learns,
    heard_from: float = 0.5  # and from here on the net hears it: a beginner is fooled at once
    critic_weight: float = 0.05  # of its gradient at the last layer, against that of the rest
    perceptual_weight: float = 0.2
    rate: float = 1e-3
    critic_rate: float = 1e-3
    ema: float = 0.998
    noise: float = 0.7  # at most, on the cells that are decoded; 1 is as much as they differ
    noisy_share: float = 0.5  # of the pieces


# --- Networks ---------------------------------------------------------------------------------


class Critic(nn.Sequential):
    """Says for each patch whether it looks real: (b, 3, h, w) in 0..1 -> (b, 1, h / 8, w / 8)."""

    def __init__(self, width: int = 48) -> None:
        """``width`` channels at half the resolution, doubled twice."""
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(4 * width, 1, 3, padding=1))


# --- Codebook ---------------------------------------------------------------------------------


def cells_of(net: Pocket, pictures: Tensor) -> Tensor:
    """(b, 3, h, w) in 0..1 -> (b, d, h / 8, w / 8), not yet snapped."""
    cells: Tensor = net.encoder(pictures * 2 - 1).float()
    return cells


def picture_of(net: Pocket, cells: Tensor) -> Tensor:
    """(b, d, h, w) -> (b, 3, 8 h, 8 w), about 0..1."""
    picture: Tensor = net.decoder(cells).float() / 2 + 0.5
    return picture


def rows_of(cells: Tensor, width: int) -> Tensor:
    """What is snapped, each a row: (b, d, h, w) -> (b h w d / width, width)."""
    return cells.permute(0, 2, 3, 1).reshape(-1, width).float()


def snap(codebook: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest code of each cell, (b, d, h, w), and its numbers, (b h w groups,)."""
    b, d, h, w = cells.shape
    table = codebook.detach()
    with torch.autocast(cells.device.type, enabled=False):  # or near codes would swap
        rows = rows_of(cells.detach(), table.shape[1])
        picks = torch.addmm(table.square().sum(1), rows, table.T, alpha=-2).argmin(1)
    return codebook[picks].view(b, h, w, d).permute(0, 3, 1, 2), picks


@torch.no_grad()
def k_means(rows: Tensor, codes: int, chance: torch.Generator, rounds: int = 8) -> Tensor:
    """(codes, d): centres of the rows (n, d); an empty one begins anew at some row."""
    rows = rows[torch.randperm(len(rows), generator=chance)]
    centres = rows[:codes].clone()
    for _ in range(rounds):
        nearest = torch.cat([torch.cdist(part, centres).argmin(1) for part in rows.split(8192)])
        count = nearest.bincount(minlength=codes)
        total = torch.zeros_like(centres).index_add_(0, nearest, rows)
        lone = rows[torch.randint(len(rows), (codes,), generator=chance)]
        centres = torch.where(count[:, None] > 0, total / count[:, None].clamp(min=1), lone)
    return centres


# --- State ------------------------------------------------------------------------------------


class Coding(State):
    """Beside the net its critic, and how the codes are used."""

    kept = (*State.kept, "critic", "critics", "tally")

    def __init__(self, plan: Plan, config: dict[str, Any] = CONFIG) -> None:
        """Begin from random weights."""
        adam: dict[str, Any] = {"betas": (0.5, 0.95), "fused": True}
        net = Pocket(config).to(plan.device, memory_format=torch.channels_last)
        rated = [{"params": list(net.parameters()), "peak": plan.rate}]
        super().__init__(net, torch.optim.AdamW(rated, lr=plan.rate, weight_decay=1e-4, **adam))
        self.critic = Critic().to(plan.device)
        self.tally = Tally(len(net.codebook)).to(plan.device)
        self.critics = torch.optim.Adam(self.critic.parameters(), lr=plan.critic_rate, **adam)


class Tally(nn.Module):
    """How often each code was used of late; ``begun`` is 1 once there is a codebook."""

    use: Tensor
    begun: Tensor

    def __init__(self, codes: int) -> None:
        """Nothing was used yet."""
        super().__init__()
        self.register_buffer("use", torch.zeros(codes))
        self.register_buffer("begun", torch.zeros(()))


# --- One step ---------------------------------------------------------------------------------


def train_step(
    plan: Plan, state: Coding, progress: float, pictures: Tensor, features: Features
) -> dict[str, float]:
    """Encode, snap, decode, compare, move; returns numbers for the log.

    ``pictures``: (b, 3, s, s), bytes.
    """
    set_rates(state.optimiser, pace(progress, state.step, plan.warm_up))
    chance = torch.Generator().manual_seed(plan.seed * 1_000_003 + state.step)
    net, real = state.net, pictures.float() / 255
    real = real.contiguous(memory_format=torch.channels_last)
    with in_half(real):
        cells = cells_of(net, real)
        if state.tally.begun and state.step % 50 == 0 and progress < 0.8:
            revive(state, cells, chance)
        codes, commitment = shake(plan, cells, chance), torch.zeros(())
        if state.tally.begun:
            snapped, picks = snap(net.codebook, cells)
            commitment = F.mse_loss(snapped, cells.detach())
            commitment = commitment + 0.25 * F.mse_loss(cells, snapped.detach())
            codes = codes + (snap(net.codebook, codes)[0] - codes).detach()  # straight through
            state.tally.use.mul_(0.99).add_(picks.bincount(minlength=len(net.codebook)))
        ours = picture_of(net, codes)
        likeness = features.distance(ours, real)
    absolute = F.l1_loss(ours, real)
    loss = absolute + plan.perceptual_weight * likeness
    numbers = {"l1": absolute.item(), "perceptual": likeness.item()}
    if progress >= plan.critic_from:
        numbers |= teach_critic(state, real, ours.detach())
    if progress >= plan.heard_from:
        loss = loss + persuade(plan, state, loss, real, ours)
    state.move(loss + commitment, 1.0, plan.ema)
    return numbers | {"codes": float((state.tally.use > 0.3).sum())}


def shake(plan: Plan, cells: Tensor, chance: torch.Generator) -> Tensor:
    """Noise on the cells of some pieces, more or less of it: (b, d, h, w) -> the same.

    So the decoder learns to draw something clean from cells that are slightly wrong (Yang et al.,
    "Latent Denoising Makes Good Tokenizers", arXiv 2507.15856).
    """
    sizes = 1 - torch.rand(len(cells), 1, 1, 1, generator=chance) / plan.noisy_share
    noise = sizes.clamp(min=0) * torch.randn(cells.shape, generator=chance)
    return cells + plan.noise * cells.detach().std() * noise.to(cells)


@torch.no_grad()
def begin_codebook(plan: Plan, state: Coding, crops: Crops) -> None:
    """End the free phase: k-means over the cells of a few batches."""
    chance = torch.Generator().manual_seed(plan.seed)
    batches = (crops[t].to(plan.device).float() / 255 for t in range(plan.first_batches))
    width = state.net.codebook.shape[1]
    rows = torch.cat([rows_of(cells_of(state.net, pictures), width) for pictures in batches])
    centres = k_means(rows, len(state.net.codebook), chance)
    for net in (state.net, state.mean):
        net.codebook.copy_(centres)
    for count in (state.tally.begun, state.tally.use):
        count.fill_(1.0)


@torch.no_grad()
def revive(state: Coding, cells: Tensor, chance: torch.Generator) -> None:
    """Give codes that nobody uses a new place, at some cell of this batch."""
    dead = (state.tally.use < 0.3).nonzero()[:, 0]
    rows = rows_of(cells, state.net.codebook.shape[1])
    picks = rows[torch.randint(len(rows), (len(dead),), generator=chance)]
    for net in (state.net, state.mean):
        net.codebook[dead] = picks
    state.tally.use[dead] = 1.0


def preference(critic: Critic, real: Tensor, ours: Tensor) -> Tensor:
    """By how much the critic finds each real patch more real than our copy of it, (b, 1, h, w).

    Copy and original show the same, so that what is in the picture cancels out and only how it is
    drawn remains (relativistic pairing, Jolicoeur-Martineau, arXiv 1807.00734).
    """
    with in_half(real):
        of_real, of_ours = critic(torch.cat([real, ours])).float().chunk(2)
    return of_real - of_ours


def teach_critic(state: Coding, real: Tensor, ours: Tensor) -> dict[str, float]:
    """One step of the critic: it should prefer the real patches. A loss of .69 is no opinion."""
    loss = F.softplus(-preference(state.critic, real, ours)).mean()
    state.critics.zero_grad()
    loss.backward()
    state.critics.step()
    return {"critic": loss.item()}


def persuade(plan: Plan, state: Coding, loss: Tensor, real: Tensor, ours: Tensor) -> Tensor:
    """That it prefers our patches; its pull on the last layer is a fixed share of the loss's."""
    opinion = F.softplus(preference(state.critic, real, ours)).mean()
    last = state.net.decoder[-2].weight
    theirs, its = (
        torch.autograd.grad(part, last, retain_graph=True)[0].norm() for part in (loss, opinion)
    )
    return plan.critic_weight * (theirs / its.clamp(min=1e-6)).clamp(max=10).detach() * opinion


# --- Many steps -------------------------------------------------------------------------------


class Crops(torch.utils.data.Dataset[Tensor]):
    """Batch number t depends on the seed and on t alone: pieces of scenes and of photographs."""

    def __init__(self, studio: Studio, plan: Plan) -> None:
        """Remember what to draw from."""
        self.studio, self.plan = studio, plan

    def __getitem__(self, step: int) -> Tensor:
        """(b, 3, s, s), bytes."""
        rng = np.random.default_rng((self.plan.seed, step))
        crops: list[Tensor] = []
        while len(crops) < self.plan.batch:
            crops += self._photographs(rng) if rng.random() < 0.25 else self._scenes(rng)
        return torch.stack(crops[: self.plan.batch])

    def _scenes(self, rng: np.random.Generator) -> list[Tensor]:
        picture = compose(rng, self.studio, worn=False)[0].picture
        return self._cut(rng, (picture.clip(0, 1) * 255).round().astype(np.uint8), 2)

    def _photographs(self, rng: np.random.Generator) -> list[Tensor]:
        backdrops = self.studio.library.backdrops
        return self._cut(rng, backdrops[rng.integers(len(backdrops))], 2)

    def _cut(self, rng: np.random.Generator, pixels: np.ndarray, n: int) -> list[Tensor]:
        side, crops = self.plan.side, []
        for _ in range(n):
            y, x = (int(rng.integers(0, m - side + 1)) for m in pixels.shape[:2])
            crop = torch.from_numpy(pixels[y : y + side, x : x + side].copy()).permute(2, 0, 1)
            crops.append(crop.flip(-1) if rng.random() < 0.5 else crop)
        return crops


def train(
    plan: Plan,
    state: Coding,
    crops: Crops,
    folder: Path,
    features: Features,
    report: Report = dict,
) -> None:
    """Train until the plan is done; write log.jsonl and checkpoint.pt into the folder."""
    features = features.to(plan.device)

    def take_step(progress: float, pictures: Tensor) -> dict[str, float]:
        if not state.tally.begun and progress >= plan.free_share:
            begin_codebook(plan, state, crops)
        return train_step(plan, state, progress, pictures, features)

    train_course(plan, state, crops, take_step, folder, report)


def export(net: Pocket, folder: Path, config: dict[str, Any] = CONFIG) -> None:
    """Write config.yaml and half-precision weights, as `generators.vqgan.load` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    model = {"target": "Pocket", "params": config}
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": model}, sort_keys=False))
    write_weights(net.state_dict(), folder / "model.safetensors")


class Exam:
    """Held-out pictures, encoded and decoded: how far from themselves do they come back?"""

    def __init__(self, library: Library, n: int = 64) -> None:
        """Draw the pictures: 128 px scenes of held-out things, and pieces of photographs."""
        unseen = library.part(lambda p: p.held_out)
        rng = np.random.default_rng(1)
        studio = Studio(unseen, 128, variants=2)
        scenes = np.stack([single(rng, studio)[0].picture for _ in range(n)]).clip(0, 1)
        pieces = [b[:192, x : x + 192] for b in unseen.backdrops for x in (0, 96)]
        self.pictures = {
            "scenes": torch.from_numpy(scenes).permute(0, 3, 1, 2).float(),
            "photographs": torch.from_numpy(np.stack(pieces)).permute(0, 3, 1, 2) / 255,
        }
        self.features = Features(
            efficientnet_lite("lite1")
        )  # a network that no training here looks through

    @torch.no_grad()
    def ask(self, net: Pocket) -> dict[str, float]:
        """Mean absolute error (0..1) and perceptual distance, of each kind of picture."""
        found: dict[str, float] = {}
        for kind, pictures in self.pictures.items():
            ours = torch.cat([there_and_back(net, part) for part in pictures.split(16)])
            found[f"{kind}_l1"] = (ours - pictures).abs().mean().item()
            found[f"{kind}_perceptual"] = self.features.distance(ours, pictures).item()
        return found

    def sheet(self, net: Pocket, n: int = 8) -> Image.Image:
        """Pictures above what comes back: scenes, then photographs."""
        rows = []
        for pictures in self.pictures.values():
            some = F.interpolate(pictures[:n], (128, 128), mode="area")
            rows += [torch.cat(list(some), -1), torch.cat(list(there_and_back(net, some)), -1)]
        pixels = (torch.cat(rows, 1).permute(1, 2, 0) * 255).round().byte().numpy()
        return Image.fromarray(pixels)


@torch.no_grad()
def there_and_back(net: Pocket, pictures: Tensor) -> Tensor:
    """(b, 3, h, w) in 0..1, encoded, snapped and decoded."""
    codes, _ = snap(net.codebook, cells_of(net, pictures))
    return picture_of(net, codes).clamp(0, 1)
