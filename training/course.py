"""What all trainings share: how long, how fast, what is written down, how to go on later."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from guidance.precision import halves_are_fast


@dataclass(frozen=True)
class Course:
    """How long to train, and how often to write. The end: after ``steps``, or ``minutes`` if 0."""

    minutes: float = 60.0
    steps: int = 0
    seed: int = 0
    warm_up: int = 60  # steps
    checkpoint_minutes: float = 4.0
    report_minutes: float = 10.0
    workers: int = 1  # processes that compose pictures
    device: str = "cpu"  # or cuda


class State:
    """Everything that changes while training, and that a resumed training needs.

    A net where it is to be trained, the running mean of its weights (which is what is kept in the
    end), an optimiser.
    """

    kept: tuple[str, ...] = ("net", "mean", "optimiser")  # what a checkpoint holds of it

    def __init__(self, net: Any, optimiser: torch.optim.Optimizer) -> None:
        """Begin: the running mean is a copy."""
        self.net, self.mean = net, copy.deepcopy(net).eval().requires_grad_(False)
        self.optimiser = optimiser
        self.step, self.seconds = 0, 0.0

    def move(self, loss: Tensor, most: float, ema: float) -> None:
        """One step down a gradient of length ``most`` at most; a small one of the mean after it."""
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.net.parameters(), most)
        self.optimiser.step()
        average(self.mean, self.net, min(ema, (self.step + 1) / (10 + self.step)))

    def result(self) -> Any:
        """A copy of the mean, on the CPU, which measures it and writes it down."""
        return copy.deepcopy(self.mean).cpu()

    def parts(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        states = {name: getattr(self, name).state_dict() for name in self.kept}
        return {**states, "step": self.step, "seconds": self.seconds}

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint; the next step is the one that would have come."""
        parts = torch.load(path, map_location="cpu", weights_only=True)
        for name in self.kept:
            getattr(self, name).load_state_dict(parts[name])
        self.step, self.seconds = parts["step"], parts["seconds"]


def adamw(
    net: nn.Module,
    rate: float,
    decay: float,
    *,
    gently: Mapping[nn.Module, float] | None = None,
    still: Iterable[nn.Parameter] = (),
) -> torch.optim.Optimizer:
    """AdamW whose matrices decay, but for the ``still`` ones.

    Parts of the net may learn ``gently``, at rates of their own. Each group remembers its peak.
    """
    rates = {p: own for part, own in (gently or {}).items() for p in part.parameters()}
    firm, groups = set(still), defaultdict(list)
    for p in net.parameters():
        groups[rates.get(p, rate), decay if p.ndim > 1 and p not in firm else 0.0].append(p)
    return torch.optim.AdamW(
        [{"params": ps, "peak": r, "weight_decay": d} for (r, d), ps in groups.items()],
        lr=rate,
        betas=(0.9, 0.98),
        fused=True,
    )


def in_half(like: Tensor) -> torch.autocast:
    """Multiply in bfloat16 if a tensor is where that is fast: emulated, it takes ten times."""
    device = like.device.type
    return torch.autocast(device, torch.bfloat16, enabled=halves_are_fast(device))


def set_rates(optimiser: torch.optim.Optimizer, part: float) -> None:
    """Let each group learn at that part of its peak rate."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * part


Batch = Any
Report = Callable[[], dict[str, float]]


def train(
    course: Course,
    state: State,
    batches: torch.utils.data.Dataset[Batch],
    take_step: Callable[[float, Batch], dict[str, float]],
    folder: Path,
    report: Report = dict,
) -> None:
    """Take steps until the course is done; write log.jsonl and checkpoint.pt into the folder.

    ``take_step`` gets the progress (0..1) and a batch, and returns numbers for the log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log(folder, {"step": state.step, "course": asdict(course)})
    before = saved = told = state.seconds
    started = time.monotonic()
    for batch in stream(batches, state.step, course.workers):
        progress = (
            state.step / course.steps if course.steps else state.seconds / 60 / course.minutes
        )
        if progress >= 1:
            break
        numbers = take_step(progress, carried(batch, course.device))
        state.step += 1
        state.seconds = before + time.monotonic() - started
        if state.step % 20 == 1:
            log(folder, {"step": state.step, "minutes": state.seconds / 60, **numbers})
        if state.seconds - saved > 60 * course.checkpoint_minutes:
            save(state.parts(), folder / "checkpoint.pt")
            saved = state.seconds
        if state.seconds - told > 60 * course.report_minutes:
            log(folder, {"step": state.step, "minutes": state.seconds / 60, **report()})
            told = state.seconds
    save(state.parts(), folder / "checkpoint.pt")
    log(folder, {"step": state.step, "done": True, **report()})


def stream(batches: torch.utils.data.Dataset[Batch], start: int, workers: int) -> Iterator[Batch]:
    """Batches from number ``start`` on, made in a process beside the training."""
    loader = torch.utils.data.DataLoader(
        batches,
        batch_size=None,
        sampler=count(start),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    return iter(loader)


def carried(batch: Batch, device: str) -> Batch:
    """The tensors of a batch on a device; its words stay as they are."""
    if isinstance(batch, (tuple, list)):  # a loader makes lists of tuples
        return type(batch)(carried(part, device) for part in batch)
    return batch.to(device) if isinstance(batch, Tensor) else batch


def pace(progress: float, step: int, warm_up: int, least: float = 0.02) -> float:
    """What part of the full rate to learn at: rises evenly, then falls along a cosine."""
    return min(1, (step + 1) / warm_up) * max(least, (1 + math.cos(math.pi * progress)) / 2)


@torch.no_grad()
def average(mean: nn.Module, net: nn.Module, keep: float) -> None:
    """Move the running mean a little towards the net, batch statistics too."""
    for old, new in zip(mean.state_dict().values(), net.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - keep)
        else:
            old.copy_(new)


def log(folder: Path, row: dict[str, Any]) -> None:
    """Add a line to log.jsonl."""
    short = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
    with (folder / "log.jsonl").open("a") as file:
        file.write(json.dumps(short) + "\n")


def save(parts: dict[str, Any], path: Path) -> None:
    """Write a checkpoint as one whole file or not at all."""
    torch.save(parts, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def write_weights(weights: dict[str, Tensor], path: Path) -> None:
    """Write numbers in half precision as one whole safetensors file or not at all."""
    short = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in weights.items()}
    temporary = path.with_suffix(".tmp")
    save_file(short, temporary)
    temporary.chmod(0o644)
    os.replace(temporary, path)
