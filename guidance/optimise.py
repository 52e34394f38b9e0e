"""The loop at the heart of the project: look at the picture, ask which way is better, move."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from generators.base import Generator, Image, Latent, Size
from guidance.objectives import Objective

# All see gradients of mean square one, so an epsilon of one calms the numbers that hardly matter:
# with the usual 1e-8 every cell of a quiet ground moves by a whole step, wherever noise points.
_EPSILON = 1.0
OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    name: functools.partial(kind, eps=_EPSILON)
    for name, kind in {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "adamax": torch.optim.Adamax,
        "nadam": torch.optim.NAdam,
        "radam": torch.optim.RAdam,
        "adagrad": torch.optim.Adagrad,
        "rmsprop": torch.optim.RMSprop,
    }.items()
}

# What part of the step size is left at a point (0..1) of the way.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "drop": lambda done: 1.0 if done < 0.75 else 0.1,
    "cosine": lambda done: 0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2,
    "constant": lambda done: 1.0,
}

_MOST_HALVINGS = 3  # of the step size, after a picture that was no number
_PLATEAU_GAIN = 0.002  # of the smoothed loss; less than this in `patience` steps is no progress
_PLATEAU_MEMORY = 0.9


class Diverged(RuntimeError):
    """The picture stayed not-a-number although the step size was halved three times."""


@dataclass(frozen=True)
class Descent:
    """How to go down: all settings of the loop but what it looks at.

    `steps` updates of length `step_size` (None: the generator's own). `ema` is the memory of the
    averaged latent, 0 for none. `pull` weighs the squared distance to the latent each size starts
    from, falling to nothing at the end. `patience`: stop when so many steps brought nothing; 0
    never. `grow`: at this step, go on at that size.
    """

    steps: int
    step_size: float | None = None
    optimiser: str = "adam"
    schedule: str = "drop"
    ema: float = 0.0
    pull: float = 0.0
    patience: int = 0
    grow: tuple[tuple[int, Size], ...] = ()


@dataclass(frozen=True)
class Plateau:
    """Whether the loss still falls: its smoothed value, the best of it, and steps since then."""

    level: float = math.inf
    best: float = math.inf
    waited: int = 0

    def after(self, loss: float) -> Plateau:
        """Take one more loss into account."""
        first = math.isinf(self.level)
        level = loss if first else _PLATEAU_MEMORY * self.level + (1 - _PLATEAU_MEMORY) * loss
        if level < self.best - _PLATEAU_GAIN:
            return Plateau(level, level, 0)
        return Plateau(level, self.best, self.waited + 1)


@dataclass(frozen=True)
class Snapshot:
    """Enough to go on exactly: taken at a picture, before the update that follows it.

    Chance depends on (seed, step) alone, so no state of any random generator is kept.
    """

    index: int
    latent: Latent
    anchor: Latent
    average: Latent
    optimiser: dict[str, Tensor] = field(default_factory=dict)
    plateau: Plateau = field(default_factory=Plateau)
    halvings: int = 0

    def to(self, device: str) -> Snapshot:
        """The same, as it was read from a file, on the device that goes on with it."""
        names = ("latent", "anchor", "average")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


@dataclass(frozen=True)
class Step:
    """One look: the picture after `index` updates, and the losses of this very picture.

    `snapshot()` and `settled()` (the picture of the averaged latent; one more decode) belong to
    the moment of the yield: call them before asking for the next step.
    """

    index: int
    last: bool
    image: Image
    losses: dict[str, float]
    snapshot: Callable[[], Snapshot]
    settled: Callable[[], Image]


def optimise(
    generator: Generator,
    objectives: Sequence[Objective],
    latent: Latent,
    descent: Descent,
    *,
    seed: int,
    resume: Snapshot | None = None,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Step]:
    """Yield the starting picture, then one picture per update. Stop iterating to stop the work.

    `check` is called before each look and may raise to end the run. Raises `Diverged` when losses
    stay not-a-number. Runs with equal arguments give equal pictures, resumed or not, bit for bit
    on one CPU with one number of threads.
    """
    run = _Run(generator, descent, resume or _first(latent), seed)
    while True:
        check()
        run.grow()
        image, total, losses = _look(generator, objectives, run.latent, mix(seed, run.index))
        plateau = run.plateau.after(sum(losses.values()))
        last = run.is_last(plateau)
        if not last:
            pull = run.pull()
            losses |= {"pull to the start": pull.item()} if descent.pull else {}
            (total + pull).backward()  # now, so that no graph waits while people look
        if not run.is_sound(losses):
            run.go_back()
            continue
        run.trust(plateau)
        yield Step(run.index, last, image.detach(), losses, run.snapshot, run.settled(image))
        if last:
            return
        run.move()


def mix(seed: int, index: int) -> int:
    """One number from two, so that seed 7 step 1 and seed 8 step 0 have nothing in common.

    The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    """
    mask = 2**64 - 1
    z = (seed + 0x9E3779B97F4A7C15 * (index + 1)) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) >> 1  # torch and SQLite take 63 bits


def _first(latent: Latent) -> Snapshot:
    return Snapshot(0, latent, anchor=latent, average=latent)


def _look(
    generator: Generator, objectives: Sequence[Objective], latent: Latent, seed: int
) -> tuple[Image, Tensor, dict[str, float]]:
    """Decode, and ask every objective; the chance in their views comes from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        image = generator.decode(latent)
        found = [objective(image) for objective in objectives]
    losses: dict[str, float] = {}
    for loss in found:
        for name, term in loss.terms.items():  # a prompt has one term in each CLIP of an ensemble
            losses[name] = losses.get(name, 0.0) + term.item()
    return image, torch.stack([loss.total for loss in found]).sum(), losses


class _Run:
    """The moving parts of one descent."""

    def __init__(self, generator: Generator, descent: Descent, state: Snapshot, seed: int) -> None:
        self.generator, self.descent, self.seed = generator, descent, seed
        self.index, self.started = state.index, state.index
        self.anchor, self.average, self.good = state.anchor, state.average, state
        self.plateau = state.plateau
        self.halvings = state.halvings
        self.sizes = dict(descent.grow)
        self._begin(state.latent, state.optimiser)

    def is_last(self, plateau: Plateau) -> bool:
        """All steps are done, or at the last size too many of them brought nothing."""
        grows = any(step > self.index for step in self.sizes)
        stuck = 0 < self.descent.patience <= plateau.waited and not grows
        return self.index >= self.descent.steps or stuck

    def is_sound(self, losses: dict[str, float]) -> bool:
        """Losses, latent and gradient are numbers: a codebook would hide that a latent is none."""
        tensors = [self.latent, *([] if self.latent.grad is None else [self.latent.grad])]
        return math.isfinite(sum(losses.values())) and all(
            bool(tensor.isfinite().all()) for tensor in tensors
        )

    def grow(self) -> None:
        """Go on at another size when it is due: encode the enlarged picture, begin anew from it."""
        size = self.sizes.get(self.index)
        if size is None or self.index == self.started:
            return
        with torch.no_grad():
            small = self.generator.decode(self.latent)
            picture = F.interpolate(small, size, mode="bicubic").clamp(0, 1)
            latent = self.generator.start(size, seed=self.seed, init=picture)
        latent = self.generator.project(latent)
        self.anchor = self.average = latent
        self.started, self.plateau = self.index, Plateau()
        self.good = Snapshot(self.index, latent, latent, latent, halvings=self.halvings)
        self._begin(latent, {})

    def pull(self) -> Tensor:
        """Squared distance to where this size started, fading as the steps go by."""
        left = 1 - self.index / self.descent.steps
        return self.descent.pull * left * (self.latent - self.anchor).square().mean()

    def trust(self, plateau: Plateau) -> None:
        """All is well here: remember it, as the place to go back to and to go on from later."""
        state = self.optimiser.state_dict()["state"].get(0, {})
        memory = {key: value.clone() for key, value in state.items() if torch.is_tensor(value)}
        # whoever resumes from here looks here once more, so a snapshot holds the plateau before
        self.good = Snapshot(
            self.index,
            self.latent.detach().clone(),
            self.anchor,
            self.average,
            memory,
            self.plateau,
            self.halvings,
        )
        self.plateau = plateau

    def go_back(self) -> None:
        """Return to the last good latent with half the step size and no memory of the way."""
        if self.halvings == _MOST_HALVINGS:
            raise Diverged(
                f"The picture diverged at step {self.index}, even with an eighth of the step size. "
                "Try a smaller step size."
            )
        self.halvings += 1
        self.average = self.good.average
        self._begin(self.good.latent, {})

    def move(self) -> None:
        """One update, kept where the generator knows its way."""
        descent = self.descent
        rate = SCHEDULES[descent.schedule](self.index / descent.steps) * 0.5**self.halvings
        self.optimiser.param_groups[0]["lr"] = self.step_size * rate
        if self.latent.grad is not None:
            self.latent.grad /= self.latent.grad.square().mean().sqrt().clamp(min=1e-12)
        self.optimiser.step()
        self.optimiser.zero_grad()
        with torch.no_grad():
            self.latent.copy_(self.generator.project(self.latent))
            self.average = descent.ema * self.average + (1 - descent.ema) * self.latent.detach()
        self.index += 1

    def snapshot(self) -> Snapshot:
        """A copy of everything that moves."""
        return self.good

    def settled(self, image: Image) -> Callable[[], Image]:
        """How to get the picture of the averaged latent."""

        @torch.no_grad()
        def decode() -> Image:
            return self.generator.decode(self.average) if self.descent.ema else image.detach()

        return decode

    @property
    def step_size(self) -> float:
        """In units of the latent."""
        return self.descent.step_size or self.generator.step_size

    def _begin(self, latent: Latent, memory: dict[str, Tensor]) -> None:
        """Put the latent on its way, the optimiser with the memory it had."""
        self.latent = latent.detach().clone().requires_grad_()
        self.optimiser = OPTIMISERS[self.descent.optimiser]([self.latent], lr=self.step_size)
        if memory:
            state = self.optimiser.state_dict()
            copies = {key: value.clone() for key, value in memory.items()}
            self.optimiser.load_state_dict({**state, "state": {0: copies}})
