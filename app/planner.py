"""What a request will cost on this machine, and how to fit it in: chunk, precision, threads.

Memory is counted, not guessed: two short probes add up the bytes that autograd keeps for one
picture and for one view, and both grow in proportion to their number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor

from app import pipeline
from app.errors import Refused
from app.images import Pixels, to_pixels
from app.pipeline import Inputs, Models
from app.request import Request
from app.stage import Mask, Stage
from app.terminal import duration
from generators.base import Generator
from guidance.clip import Clip
from guidance.optimise import Snapshot, Step
from guidance.precision import halves_are_fast

_CHUNK = {"cpu": 16, "cuda": 32, "mps": 16}  # views at a time: more is not faster there
_PROBE_SIDE = 64  # pixels
_PROBE_VIEWS = 2
_USABLE = 0.8  # of the free memory
_VIEW_COPIES = 6  # what the augmentations of one view keep, in views
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass(frozen=True)
class Cost:
    """What one more unit costs: seconds and bytes a pixel decoded, and a view embedded."""

    pixel_seconds: float
    pixel_bytes: float
    view_seconds: float
    view_bytes: float


@dataclass(frozen=True)
class Estimate:
    """A prediction: seconds for the whole run, bytes at its peak beside what is loaded already."""

    seconds: float
    bytes: int

    def __str__(self) -> str:
        """For people."""
        return f"about {duration(max(1.0, self.seconds))}, {self.bytes / 2**30:.1f} GB of memory"


def settle(request: Request, device: str = "cpu") -> Request:
    """Decide what was left open, so that a repeat can use the very same.

    Only the kind of device decides, never how busy it is: two runs on one machine agree, unless
    memory runs short (`plan`).
    """
    chunk = request.chunk or min(request.views, _CHUNK.get(device, 8))
    threads = request.threads or torch.get_num_threads()
    fast = "bfloat16" if halves_are_fast(device) else "float32"
    precision = fast if request.precision == "auto" else request.precision
    update = {"chunk": chunk, "threads": threads, "precision": precision}
    return request.model_copy(update=update)


def measure(request: Request, models: Models) -> Cost:
    """Run two short probes: decode a small picture, embed two views, each with its gradient."""
    generator = models.generator(request.generator, request.precision)
    clips = [models.clip(guide.name, request.precision) for guide in request.clips]
    decode = _decoding(generator)
    embeds = [_embedding(clip) for clip in clips]
    pixel_seconds, pixel_bytes = _probe(decode)
    views = [_probe(embed) for embed in embeds]
    pixels = _PROBE_SIDE**2
    return Cost(
        pixel_seconds / pixels,
        pixel_bytes / pixels,
        sum(seconds for seconds, _ in views) / _PROBE_VIEWS,
        max(size for _, size in views) / _PROBE_VIEWS,
    )


def _decoding(generator: Generator) -> Callable[[], Tensor]:
    latent = generator.start((_PROBE_SIDE, _PROBE_SIDE), seed=0).requires_grad_()
    return lambda: generator.decode(latent).sum()


def _embedding(clip: Clip) -> Callable[[], Tensor]:
    views = torch.full((_PROBE_VIEWS, 3, clip.side, clip.side), 0.5, device=clip.device)
    views.requires_grad_()
    return lambda: clip.embed_image(views).sum()


def _probe(forward: Callable[[], Tensor]) -> tuple[float, int]:
    """Seconds of a forward and backward pass (the second one: the first warms up), bytes kept."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        forward().backward()
    before = time.perf_counter()
    forward().backward()
    return time.perf_counter() - before, sum(kept.values())


def estimate(request: Request, cost: Cost, factor: int, side: int) -> Estimate:
    """What a settled request will take. `side` of a view in pixels."""
    stages = pipeline.sizes(request, factor)
    ends = [start for start, _ in stages[1:]] + [request.steps]
    spans = zip(stages, ends, strict=True)
    work = sum((end - start) * h * w for (start, (h, w)), end in spans)  # pixels, over all steps
    _, (height, width) = stages[-1]
    seconds = work * cost.pixel_seconds + request.steps * request.views * cost.view_seconds
    chunk = request.chunk or request.views
    views = request.views * _VIEW_COPIES * 3 * side**2 * 4
    kept = height * width * cost.pixel_bytes + chunk * cost.view_bytes + views
    return Estimate(seconds, round(kept))


def plan(request: Request, models: Models, device: str = "cpu") -> tuple[Request, Estimate]:
    """Settle a request so that it fits into the free memory, by smaller chunks of views.

    Raises `Refused`, naming the largest size that fits, when no chunk is small enough.
    """
    request = settle(request, device)
    cost = measure(request, models)
    factor = models.generator(request.generator, request.precision).factor
    side = max(models.clip(guide.name, request.precision).side for guide in request.clips)
    free = _USABLE * free_bytes(device)
    while True:
        expected = estimate(request, cost, factor, side)
        if expected.bytes <= free:
            return request, expected
        if request.chunk == 1:
            raise _too_large(request, cost, factor, side, free)
        request = _smaller(request)


def _smaller(request: Request) -> Request:
    """The same with half as many views at a time."""
    return request.model_copy(update={"chunk": max(1, (request.chunk or 2) // 2)})


def free_bytes(device: str) -> int:
    """Memory that can still be had on a device."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    return psutil.virtual_memory().available


def _too_large(request: Request, cost: Cost, factor: int, side: int, free: float) -> Refused:
    needed = estimate(request, cost, factor, side)
    smaller, width, height = request, request.width, request.height
    while estimate(smaller, cost, factor, side).bytes > free and min(width, height) > 32:
        width, height = width * 3 // 4, height * 3 // 4
        smaller = request.model_copy(update={"width": width, "height": height})
    return Refused(
        "cost.memory",
        f"A picture of {request.width}x{request.height} would need {needed.bytes / 2**30:.1f} GB, "
        f"and {free / 2**30:.1f} GB are free. {width}x{height} would fit.",
    )


@dataclass(frozen=True)
class Made:
    """One step of a run, and the request as it is carried out now (see `make`)."""

    request: Request
    step: Step
    stage: Stage | None = None

    def pixels(self) -> Pixels:
        """The picture as people see it, (h, w, 3); an edit put back into what was given.

        Belongs to the moment of the step, like `Step.settled`.
        """
        image = self.step.settled()
        return self.stage.paste(image) if self.stage else to_pixels(image)

    @property
    def alpha(self) -> Mask | None:
        """(h, w), where the picture that was given has parts that are transparent."""
        return self.stage.alpha if self.stage else None


def make(
    request: Request,
    models: Models,
    inputs: Inputs,
    *,
    resume: Snapshot | None = None,
    check: Callable[[], None] = lambda: None,
    tell: Callable[[str], None] = lambda sentence: None,
) -> Iterator[Made]:
    """Run a settled request; when memory runs out, go on with half as many views at a time.

    Going on starts with the last step again. `tell` hears of it; the request that comes with each
    step says what is used now, so that a recipe can hold it.
    """
    stage = pipeline.stage(request, models, inputs)
    while True:
        try:
            for step in pipeline.run(
                request, models, inputs, stage=stage, resume=resume, check=check
            ):
                resume = None if step.last else step.snapshot()
                yield Made(request, step, stage)
            return
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error) or request.chunk == 1:
                raise
        request = _smaller(request)
        tell(f"Memory ran out: going on with {request.chunk} views at a time instead.")


def _is_out_of_memory(error: Exception) -> bool:
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(words in said for words in _OUT_OF_MEMORY)
