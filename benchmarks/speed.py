"""Measures one update: the classic loop, the same with two modern habits, and ours.

Every contender lives in a fresh process of its own, so that its peak memory is its own, and they
take turns, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F

from app.catalog import GENERATORS
from benchmarks import classic
from generators import vqgan
from guidance import clip
from guidance.augment import Views
from guidance.objectives import Match, Target
from guidance.optimise import Descent, optimise

PROMPT = "a red apple on a blue background"
WARM_UP = 2  # steps that are not counted
PAGE = resource.getpagesize()

# The layer sizes of the f16 network with 16,384 codes that the classics use.
IMAGENET_16384 = GENERATORS["imagenet_16384"].network


@dataclass(frozen=True)
class Work:
    """What every contender does: one picture of `size` pixels, seen in `cutouts` views.

    `chunk` views at a time go through CLIP in ours; the classic takes all of them at once.
    """

    size: int = 256
    cutouts: int = 32
    chunk: int = 16
    device: str = "cpu"
    network: Mapping[str, Any] = field(default_factory=lambda: IMAGENET_16384)
    guide: Mapping[str, Any] = field(
        default_factory=lambda: open_clip.get_model_config("ViT-B-32-quickgelu")
    )

    @property
    def side(self) -> int:
        """Pixels of a view."""
        return self.guide["vision_cfg"]["image_size"]


@dataclass(frozen=True)
class Figures:
    """What was measured of one contender: seconds a step, and gigabytes (10^9 bytes).

    `peak` is the largest resident memory of the whole process, weights and libraries included;
    `above` is how much of it came on top of what was resident once everything was loaded. On a
    GPU both count torch's allocations on the device.
    """

    seconds: float  # median
    spread: float  # between the quartiles
    peak: float
    above: float
    each: list[float]


Step = Callable[[], None]


def run_classic(work: Work) -> Step:
    """Full precision, as written."""
    return _loop(work, torch.float32).step


def run_naive(work: Work) -> Step:
    """The classic loop with its networks cast to bfloat16 and torch's fused attention."""
    loop = _loop(work, torch.bfloat16)
    classic.fuse_attention(loop.network.decoder)
    return loop.step


def run_ours(work: Work, precision: torch.dtype = torch.bfloat16) -> Step:
    """The engine itself, by the way every picture takes."""
    generator, match = engine(work, precision)
    latent = generator.start((work.size, work.size), seed=0)
    endless = Descent(steps=10**9, schedule="constant")
    stream = optimise(generator, [match], latent, endless, seed=0)
    return lambda: next(stream, None) and None


CONTENDERS: dict[str, Callable[[Work], Step]] = {
    "classic": run_classic,
    "naive": run_naive,
    "ours": run_ours,
}


def _loop(work: Work, precision: torch.dtype) -> classic.Loop:
    network, guide = vqgan.build(work.network), clip.build(work.guide)
    with torch.no_grad():
        goal = guide.encode_text(_tokenizer()([PROMPT]))
    return classic.Loop(
        network.to(work.device),
        guide.to(work.device),
        goal.to(work.device),
        size=work.size,
        cutouts=work.cutouts,
        side=work.side,
        precision=precision,
    )


def engine(work: Work, precision: torch.dtype) -> tuple[vqgan.VQGAN, Match]:
    """Our generator and our objective at the sizes of the work, with random weights."""
    network, guide = vqgan.build(work.network), clip.build(work.guide)
    generator = vqgan.VQGAN(network.to(work.device), precision)
    seer = clip.Clip(
        guide.to(work.device),
        _tokenizer(),
        space="random",
        mean=classic.MEAN,
        std=classic.STD,
        precision=precision,
    )
    targets = [Target(PROMPT, seer.embed_text([PROMPT]))]
    views = Views(work.cutouts, work.side)
    return generator, Match(seer, targets, views, chunk=work.chunk)


def _tokenizer() -> open_clip.SimpleTokenizer:
    return open_clip.get_tokenizer("ViT-B-32-quickgelu")


def agreement(work: Work) -> float:
    """Cosine of the latent's gradient in bfloat16 with that in full precision, both of ours."""
    whole, half = (_gradient(work, kind) for kind in (torch.float32, torch.bfloat16))
    return F.cosine_similarity(half.flatten(), whole.flatten(), dim=0).item()


def _gradient(work: Work, precision: torch.dtype) -> torch.Tensor:
    torch.manual_seed(0)  # the same weights
    generator, match = engine(work, precision)
    latent = generator.start((work.size, work.size), seed=0).requires_grad_()
    torch.manual_seed(1)  # the same views
    match(generator.decode(latent)).total.backward()
    return latent.grad.cpu()


def race(names: list[str], work: Work, steps: int, warm_up: int = WARM_UP) -> dict[str, Figures]:
    """Let the contenders take turns, `steps` times after warming up."""
    runners = {name: _Runner(name, work) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(warm_up + steps):
        for name, runner in runners.items():
            times[name].append(runner.step())
    return {name: runner.finish(times[name][warm_up:]) for name, runner in runners.items()}


class _Runner:
    """One contender in its own process; it sleeps while the others have their turn."""

    def __init__(self, name: str, work: Work) -> None:
        processes = multiprocessing.get_context("spawn")
        self.pipe, theirs = processes.Pipe()
        self.process = processes.Process(target=_serve, args=(theirs, name, work), daemon=True)
        self.process.start()
        theirs.close()  # so that a contender that died is noticed here
        self.base: float = self.pipe.recv()

    def step(self) -> float:
        """Seconds of one step."""
        self.pipe.send("step")
        return self.pipe.recv()

    def finish(self, times: list[float]) -> Figures:
        """End the process and sum up."""
        self.pipe.send("peak")
        peak = self.pipe.recv()
        self.process.join()
        low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
        return Figures(middle, high - low, peak, peak - self.base, times)


def _serve(pipe: Any, name: str, work: Work) -> None:
    torch.manual_seed(0)
    step = CONTENDERS[name](work)
    pipe.send(_memory(work.device))
    while pipe.recv() == "step":
        before = time.perf_counter()
        step()
        if work.device == "cuda":
            torch.cuda.synchronize()
        pipe.send(time.perf_counter() - before)
    pipe.send(_peak(work.device))


def _memory(device: str) -> float:
    """Gigabytes in use now."""
    if device == "cuda":
        return torch.cuda.memory_allocated() / 1e9
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e9


def _peak(device: str) -> float:
    """The most gigabytes this process ever used."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def agree_apart(work: Work) -> float:
    """`agreement` in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(agreement, (work,))


def scale(
    work: Work, sizes: list[int], counts: list[int], steps: int
) -> Iterator[tuple[int, int, dict[str, Figures]]]:
    """Classic and ours at every size and number of views."""
    for size in sizes:
        for count in counts:
            smaller = replace(work, size=size, cutouts=count)
            yield size, count, race(["classic", "ours"], smaller, steps, 1)
