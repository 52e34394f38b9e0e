"""One `generate` at the command line: pictures on disk, and a way to go on when it is stopped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from app import images, options, pipeline, planner, results, saving
from app.catalog import ModelError
from app.errors import Failed, Refused
from app.keeper import Keeper
from app.models import Models
from app.notes import notes
from app.options import Asked, Typed
from app.pipeline import Inputs
from app.planner import Made
from app.recipe import hashes
from app.request import Picture, Request, Sound, Vector
from app.stopping import Stopped, stoppable, terminable
from app.terminal import Progress, duration, hush, tell
from guidance.optimise import Diverged

Tell = Callable[[str], None]

DEVICES = ("cpu", "cuda", "mps")
NOT_BEGUN = "Stopped before it began; nothing was written."


def generate(typed: Typed) -> list[Path]:
    """Make every picture that was asked for, and return where they are.

    Raises `Refused` or `ModelError` before any work, `Stopped` and `Failed` while working, when
    the picture so far is kept and the message says where.
    """
    say: Tell = hush if typed.get("quiet") else tell
    try:
        with terminable():
            asked = options.read(typed)
            jobs = prepare(asked, Models(choose_device(typed.get("device"))), typed, say)
    except KeyboardInterrupt:
        raise Stopped(NOT_BEGUN) from None
    with stoppable() as check:
        paths = [make_picture(job, typed, say, check) for job in jobs]
    if chosen := _choice(jobs, paths):
        say(f"Of these {len(paths)} the judge likes {chosen.name} best.")
    return paths


def _choice(jobs: Sequence[Job], paths: Sequence[Path]) -> Path | None:
    """The best of several pictures of the same words, by the judge."""
    if len({job.request.prompt for job in jobs}) > 1:
        return None
    pictures = [images.to_tensor(images.open_picture(path)) for path in paths]
    index = pipeline.best(jobs[0].request, jobs[0].models, pictures)
    return None if index is None else paths[index]


@dataclass(frozen=True)
class Job:
    """One picture to make: a settled request, where it goes, and what all pictures share."""

    request: Request
    place: Path
    asked: Asked
    models: Models


def prepare(asked: Asked, models: Models, typed: Typed, say: Tell) -> list[Job]:
    """Find places for the results, load the models, say what it will cost. Nothing is written."""
    places = results.places(asked.requests, typed.get("out"))
    # the probes are to run as the run will
    torch.set_num_threads(asked.requests[0].threads or torch.get_num_threads())
    settled, expected = planner.plan(asked.requests[0], models, models.device)
    if pipeline.vectors(settled):  # find out now whether they fit, before anything is said
        _refuse_foreign(settled, asked.inputs, models)
    hashes(settled, models)  # now, for they are remembered: stopping must not have to wait
    _introduce(asked, settled, expected, models, places, say)
    chosen = {name: getattr(settled, name) for name in ("chunk", "threads", "precision")}
    return [
        Job(request.model_copy(update=chosen), place, asked, models)
        for request, place in zip(asked.requests, places, strict=True)
    ]


def choose_device(name: str | None) -> str:
    """The device that was asked for, or the fastest there is. Raises `Refused`."""
    there = [device for device in DEVICES if _is_there(device)]
    if name is None:
        return next(device for device in ("cuda", "mps", "cpu") if device in there)
    if name not in there:
        raise Refused(
            "device", f"There is no device {name!r} here. This machine has: {', '.join(there)}."
        )
    return name


def _is_there(device: str) -> bool:
    mps = device == "mps" and torch.backends.mps.is_available()
    return device == "cpu" or mps or (device == "cuda" and torch.cuda.is_available())


def _refuse_foreign(request: Request, inputs: Inputs, models: Models) -> None:
    """Embeddings and sounds must be of the CLIP they are for, and as long as its own."""
    inputs = pipeline.listen(request, models, inputs)
    for guide in request.clips:
        clip = models.clip(guide.name, request.precision)
        width = clip.embed_text([""]).shape[-1]
        for vector in pipeline.vectors(request):
            numbers = inputs.embeddings[vector.sha256].shape[-1]
            if vector.space == clip.space and numbers != width:
                raise Refused(
                    "embedding.width",
                    f"{vector.name!r} holds {numbers} numbers; those of {clip.space} have {width}.",
                )
        pipeline.targets(request, clip, inputs)  # refuses those of another space


# --- before it starts ------------------------------------------------------------------------


def _introduce(
    asked: Asked,
    request: Request,
    expected: planner.Estimate,
    models: Models,
    places: list[Path],
    say: Tell,
) -> None:
    """Say what was understood, what it will cost, and what of it cannot be done to the letter."""
    many = f"{len(places)} pictures, each " if len(places) > 1 else ""
    for line in (
        f"Steered by {steering(request)}.",
        f"Made by {request.generator} for {', '.join(guide.name for guide in request.clips)} "
        f"on {models.device}: {request.steps} steps, seed {request.seed}.",
        f"It takes {many}{expected}. Ctrl-C stops it and keeps what is there.",
        f"Results go to {places[0].parent.absolute()}.",
        *notes(asked, request, models),
    ):
        say(line)


def steering(request: Request) -> str:
    """All that steers, with its weight, as it was understood."""
    words = [(repr(prompt.text), prompt.weight) for prompt in pipeline.words(request)]
    others: tuple[Picture | Vector | Sound, ...]
    others = (*request.pictures, *request.embeddings, *request.sounds)
    given = [(repr(other.name), other.weight) for other in others]
    return ", ".join(f"{what} ({weight:+g})" for what, weight in (*words, *given))


# --- one picture -----------------------------------------------------------------------------


def make_picture(job: Job, typed: Typed, say: Tell, check: Callable[[], None]) -> Path:
    """Make a picture, save it and print it; when that fails or is stopped, keep what is there."""
    began, resume = time.monotonic(), job.asked.resume
    first, last = resume.index if resume else 0, job.request.steps
    progress = Progress(first, last, say, live=say is tell and sys.stderr.isatty())
    keeper = Keeper(saving.free_name(job.place), job.models, typed, pictures=last - first + 1)
    try:
        with keeper:
            for made in _run(job, check, progress.interject):
                keeper.take(made)
                progress.show(made.step.index, sum(made.step.losses.values()), made.step.last)
    except Stopped:
        progress.end()
        raise Stopped(f"Stopped. {keeper.rescue()}") from None
    except Exception as error:
        progress.end()
        if keeper.made is None and isinstance(error, Refused | ModelError):
            raise  # it never began
        raise Failed("run.failed", f"{_told(error)} {keeper.rescue()}") from error
    progress.end()
    seconds = time.monotonic() - began
    say(f"Seed {job.request.seed}, {duration(seconds)}.")
    return keeper.report(seconds)


def _run(job: Job, check: Callable[[], None], interject: Tell) -> Iterator[Made]:
    resume = job.asked.resume and job.asked.resume.to(job.models.device)
    return planner.make(
        job.request, job.models, job.asked.inputs, resume=resume, check=check, tell=interject
    )


def _told(error: Exception) -> str:
    """Our own errors are sentences; of any other, the kind helps whoever is asked for help."""
    ours = isinstance(error, Refused | Failed | Diverged | ModelError)
    return str(error) if ours else f"The run failed ({type(error).__name__}: {error})."
