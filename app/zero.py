"""Pictures on a GPU that is lent for one job at a time: ZeroGPU, as Spaces have it.

    this process, without a GPU                   a process with one, forked for the job
    takes the job, plans it, writes the rows  ─►  `frames`: makes the steps
    shows, saves, may stop it                 ◄─  a `Frame` for each: numbers and arrays, no tensors

The library `spaces` does the forking. Elsewhere its decorator returns the function as it is, and
`frames` runs here. Tried were forked processes without a GPU, also with that library (0.51.3) and
a stand-in for the service that it asks. What was never tried is a real ZeroGPU.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from numpy.typing import NDArray

from app import planner
from app.catalog import ModelError
from app.desk import Home
from app.errors import Failed, Refused
from app.executors import InlineExecutor
from app.generate import choose_device
from app.images import Pixels
from app.models import Models
from app.pipeline import Inputs
from app.planner import Made
from app.request import Request
from app.slot import Slot
from app.space import here, passes
from app.stage import Mask
from generators.base import Image
from guidance.optimise import Diverged, Snapshot, Step

Array = NDArray[Any]
Maker = Callable[..., Generator["Frame | Exception", None, None]]  # like `frames`

_TOLD = (Refused, Failed, ModelError, Diverged)  # errors with a sentence for people
_LATENTS = ("latent", "anchor", "average")
_UNKNOWN = 60.0  # seconds that are asked for before anything was measured: ZeroGPU's own default
_START = 10.0  # seconds to load the models
_MARGIN = 1.5
_LEAST, _MOST = 15.0, 120.0  # seconds


@dataclass(frozen=True, eq=False)
class Frame:
    """One step, in a form that goes from one process to another."""

    request: Request  # as it is carried out now
    device: str
    index: int
    last: bool
    losses: dict[str, float]
    image: Array  # (1, 3, h, w), float32, 0..1
    settled: Array  # the same of the averaged latent
    pixels: Pixels  # as people see it
    alpha: Mask | None
    snapshot: Snapshot  # with arrays in place of tensors
    told: tuple[str, ...] = ()  # what is not exactly as it was asked for


# --- where the GPU is ------------------------------------------------------------------------

_there: list[Models] = []  # in the process with the GPU, which may be used again


def frames(
    request: Request, inputs: Inputs, snapshot: Snapshot | None, seconds: float
) -> Generator[Frame | Exception, None, None]:
    """Make the steps of a planned request; `inputs` and `snapshot` with arrays (`to_arrays`).

    An error with a sentence is yielded: of what is raised only the name would arrive. `seconds` is
    for `duration`.
    """
    if not _there:
        _there.append(Models(choose_device(None), may_fetch=False))
    models, told = _there[0], list[str]()
    # OpenMP's threads did not survive the fork, and waiting for them would never end.
    request = request.model_copy(update={"threads": 1})
    resume = snapshot and _restored(snapshot).to(models.device)
    try:
        for made in planner.make(
            request, models, _inputs(inputs, _tensor), resume=resume, tell=told.append
        ):
            yield _frame(made, models.device, tuple(told))
    except _TOLD as error:
        yield error


def duration(
    request: Request, inputs: Inputs, snapshot: Snapshot | None, seconds: float
) -> int:  # the same arguments as `frames`
    """For how many seconds a GPU is to be lent; who asks for less waits less."""
    return round(seconds)


def _frame(made: Made, device: str, told: tuple[str, ...]) -> Frame:
    step = made.step
    return Frame(
        made.request,
        device,
        step.index,
        step.last,
        dict(step.losses),
        _array(step.image),
        _array(step.settled()),
        made.pixels(),
        made.alpha,
        _stored(step.snapshot()),
        told,
    )


# --- arrays for tensors ----------------------------------------------------------------------


def to_arrays(inputs: Inputs) -> Inputs:
    """The same, without tensors: those would go to another process by shared memory."""
    return _inputs(inputs, _array)


def _inputs(inputs: Inputs, change: Callable[[Any], Any]) -> Inputs:
    def changed(table: Mapping[str, Any]) -> dict[str, Any]:
        return {name: change(value) for name, value in table.items()}

    pictures, embeddings = changed(inputs.pictures), changed(inputs.embeddings)
    return replace(inputs, pictures=pictures, embeddings=embeddings)


def _stored(snapshot: Snapshot) -> Snapshot:
    return _snapshot(snapshot, _array)


def _restored(snapshot: Snapshot) -> Snapshot:
    return _snapshot(snapshot, _tensor)


def _snapshot(snapshot: Snapshot, change: Callable[[Any], Any]) -> Snapshot:
    latents = {name: change(getattr(snapshot, name)) for name in _LATENTS}
    optimiser = {name: change(value) for name, value in snapshot.optimiser.items()}
    return replace(snapshot, **latents, optimiser=optimiser)


def _array(tensor: Image) -> Array:
    return tensor.detach().cpu().numpy().copy()


def _tensor(array: Array) -> Image:
    return torch.from_numpy(array.copy())


# --- where the list of jobs is ---------------------------------------------------------------


@dataclass(frozen=True)
class _Lent(Made):
    """A step that was made elsewhere."""

    frame: Frame | None = None

    def pixels(self) -> Pixels:
        assert self.frame
        return self.frame.pixels

    @property
    def alpha(self) -> Mask | None:
        return self.frame.alpha if self.frame else None


def _made(frame: Frame) -> Made:
    step = Step(
        frame.index,
        frame.last,
        _tensor(frame.image),
        frame.losses,
        lambda: _restored(frame.snapshot),
        lambda: _tensor(frame.settled),
    )
    return _Lent(frame.request, step, frame=frame)


class Speed:
    """How long a GPU was needed so far, to ask for no more than that."""

    def __init__(self) -> None:
        """Nothing was measured yet."""
        self._rate = 0.0  # seconds for a unit of work; the slowest counts

    def seconds(self, request: Request) -> float:
        """How long to ask for."""
        wanted = _START + _MARGIN * self._rate * _work(request) if self._rate else _UNKNOWN
        return min(max(wanted, _LEAST), _MOST)

    def learn(self, request: Request, seconds: float, part: float) -> None:
        """A part (0..1) of a request took so many seconds."""
        if part > 0:
            self._rate = max(self._rate, seconds / (part * _work(request)))


def _work(request: Request) -> float:
    """Steps, each as large as what it looks at and what it draws."""
    return request.steps * (request.views + request.width * request.height / 256**2)


class ZeroSlot(Slot):
    """Makes the steps of a picture where a GPU is lent, and all the rest here."""

    make: Maker = staticmethod(frames)

    def __init__(self, *given: Any, **named: Any) -> None:
        """As a `Slot`, with models on the CPU: they plan, and measure nothing of the GPU."""
        super().__init__(*given, **named)
        self.speed = Speed()

    def steps(
        self,
        owner: str,
        request: Request,
        inputs: Inputs,
        *,
        resume: Snapshot | None,
        check: Callable[[], None],
        tell: Callable[[str], None],
    ) -> Iterator[Made]:
        """The steps of a request, one by one; `check` is asked between two of them."""
        _show_pass(owner)
        seconds, known, began, first = self.speed.seconds(request), 0, 0.0, 0
        lent = self.make(request, to_arrays(inputs), resume and _stored(resume), seconds)
        with closing(lent):  # then the GPU's process ends its work, too
            for frame in _explained(lent):
                began, first = (began, first) if began else (time.monotonic(), frame.index)
                self.device = frame.device
                for sentence in frame.told[known:]:
                    tell(sentence)
                known = len(frame.told)
                check()
                yield _made(frame)
                part = (frame.index - first) / request.steps
                if frame.last:
                    self.speed.learn(request, time.monotonic() - began, part)


def _explained(lent: Iterator[Frame | Exception]) -> Iterator[Frame]:
    """Raise what is yielded as an error, and say in a sentence why no GPU was lent."""
    try:
        for found in lent:
            if isinstance(found, Exception):
                raise found
            yield found
    except Exception as error:
        if isinstance(error, _TOLD) or not hasattr(error, "print_exception"):
            raise
        said = str(getattr(error, "message", error)).strip().rstrip(".")
        raise Failed(
            "gpu.none", f"Hugging Face lent no GPU: {said}. Try again later, or log in there."
        ) from error


def _show_pass(owner: str) -> None:
    """Let the library find whose request this is, as if it were answered at this moment."""
    if not here().zero_gpu:
        return
    from spaces.utils import gradio_request_var  # type: ignore[import-not-found]

    headers = _Headers(passes.headers(owner))
    gradio_request_var().set(SimpleNamespace(headers=headers))


class _Headers(dict[str, str]):
    """The library asks them for `get`, and wants them to be more than a dictionary."""


class ZeroExecutor(InlineExecutor):
    """Works in a thread of this process, and borrows a GPU for each picture."""

    slot = ZeroSlot

    def close(self, deadline: float = 15.0) -> None:
        """Put the work away; a process that waits with its GPU for more would outlive us."""
        super().close(deadline)
        for process in multiprocessing.active_children():
            process.kill()


def executor() -> ZeroExecutor:
    """What a Space with ZeroGPU works with; its library knows of `frames` from now on."""
    return ZeroExecutor(Home(), Models("cpu", may_fetch=False))


if here().zero_gpu:
    import spaces  # type: ignore[import-not-found]  # `app.space.prepare` was the first to do so

    ZeroSlot.make = staticmethod(spaces.GPU(duration=duration)(frames))
