"""The promises of the loop: it goes down, repeats, resumes, stops, and survives a bad step."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from generators import vqgan
from generators.base import Generator, Image
from generators.fourier import Fourier
from generators.pixels import Pixels
from generators.pyramid import Pyramid
from guidance import clip
from guidance.augment import Views
from guidance.objectives import Loss, Match, Objective, Target, named, smoothness
from guidance.optimise import (
    OPTIMISERS,
    SCHEDULES,
    Descent,
    Diverged,
    Plateau,
    Snapshot,
    Step,
    mix,
    optimise,
)

GENERATORS: dict[str, Callable[[Path], Generator]] = {
    "pixels": lambda folder: Pixels(),
    "fourier": lambda folder: Fourier(),
    "pyramid": lambda folder: Pyramid(),
    "vqgan": vqgan.load,
}


@pytest.fixture(scope="module")
def guide(tiny_clip: Path) -> Objective:
    seer = clip.load(tiny_clip)
    return Match(seer, [Target("a fox", seer.embed_text(["a fox"]))], Views(3, seer.side))


def _run(
    objectives: Sequence[Objective],
    descent: Descent,
    generator: Generator | None = None,
    seed: int = 7,
    resume: Snapshot | None = None,
) -> Iterator[Step]:
    generator = generator or Pixels()
    latent = generator.start((16, 16), seed=1)
    return optimise(generator, objectives, latent, descent, seed=seed, resume=resume)


def _dark(image: Image) -> torch.Tensor:
    return image.mean()


def test_the_first_picture_is_the_start_and_the_last_is_marked(guide: Objective) -> None:
    steps = list(_run([guide], Descent(4)))
    assert [step.index for step in steps] == [0, 1, 2, 3, 4]
    assert [step.last for step in steps] == [False] * 4 + [True]
    assert torch.equal(steps[0].image, Pixels().decode(Pixels().start((16, 16), seed=1)))


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_optimiser_and_schedule_goes_down(optimiser: str, schedule: str) -> None:
    descent = Descent(20, optimiser=optimiser, schedule=schedule)
    losses = [sum(step.losses.values()) for step in _run([named("dark", 1.0, _dark)], descent)]
    assert losses[-1] < losses[0] - 0.005


def test_a_longer_schedule_takes_smaller_steps_at_its_end() -> None:
    for name, rate in SCHEDULES.items():
        assert rate(0.0) == 1
        assert name == "constant" or rate(0.9) < 0.2


def test_the_same_seed_gives_the_same_picture_also_when_two_runs_take_turns(
    guide: Objective,
) -> None:
    alone = [step.image for step in _run([guide], Descent(3))]
    pairs = zip(_run([guide], Descent(3)), _run([guide], Descent(3), seed=8), strict=True)
    for expected, (one, other) in zip(alone, pairs, strict=True):
        assert torch.equal(one.image, expected)
        assert one.index == 0 or not torch.equal(one.image, other.image)


def test_the_state_of_torchs_random_numbers_is_left_alone(guide: Objective) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(_run([guide], Descent(2)))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("optimiser", ["adam", "rmsprop", "nadam"])
@pytest.mark.parametrize("name", GENERATORS)
def test_stopped_and_resumed_equals_never_stopped(
    name: str, optimiser: str, tiny_vqgan: Path, guide: Objective
) -> None:
    generator = GENERATORS[name](tiny_vqgan)
    descent = Descent(6, optimiser=optimiser, ema=0.8, pull=0.3, patience=50)
    whole = list(_run([guide], descent, generator))
    snapshot = next(itertools.islice(_run([guide], descent, generator), 3, None)).snapshot()
    rest = list(_run([guide], descent, generator, resume=snapshot))
    assert [step.index for step in rest] == [3, 4, 5, 6]
    for one, other in zip(whole[3:], rest, strict=True):
        assert torch.equal(one.image, other.image)
        assert one.losses == other.losses
    assert torch.equal(whole[-1].snapshot().average, rest[-1].snapshot().average)
    assert whole[-1].snapshot().plateau == rest[-1].snapshot().plateau


def test_resuming_is_exact_in_half_precision_in_chunks_and_across_a_growth(
    tiny_vqgan: Path, tiny_clip: Path
) -> None:
    generator = vqgan.load(tiny_vqgan, precision=torch.bfloat16)
    seer = clip.load(tiny_clip, precision=torch.bfloat16)
    targets = [Target("a fox", seer.embed_text(["a fox"]))]
    guide = Match(seer, targets, Views(5, seer.side), chunk=2)
    descent = Descent(6, ema=0.8, grow=((2, (24, 24)), (4, (32, 32))))
    whole = list(_run([guide], descent, generator))
    for stop in range(1, 6):
        stopped = next(itertools.islice(_run([guide], descent, generator), stop, None))
        *_, last = _run([guide], descent, generator, resume=stopped.snapshot())
        assert torch.equal(whole[-1].image, last.image)


@settings(max_examples=15, deadline=None)
@given(steps=st.integers(1, 6), data=st.data(), grows=st.booleans(), seed=st.integers(0, 2**63 - 1))
def test_any_stop_of_any_run_can_be_resumed(
    steps: int, data: st.DataObject, grows: bool, seed: int
) -> None:
    stop = data.draw(st.integers(0, steps))
    grow = ((steps // 3 + 1, (16, 16)), (steps // 2 + 1, (24, 24))) if grows else ()
    objectives = [named("smooth", 1.0, smoothness), named("dark", 0.3, _dark)]

    def run(resume: Snapshot | None = None) -> Iterator[Step]:
        latent = Pixels().start((8, 8), seed=0)
        descent = Descent(steps, ema=0.5, pull=0.1, grow=grow)
        return optimise(Pixels(), objectives, latent, descent, seed=seed, resume=resume)

    snapshot = next(itertools.islice(run(), stop, None)).snapshot()
    *_, whole = run()
    *_, resumed = run(snapshot)
    assert torch.equal(whole.image, resumed.image)
    assert torch.equal(whole.settled(), resumed.settled())


def test_work_stops_when_nobody_is_looking() -> None:
    decoded: list[int] = []

    class Counting(Pixels):
        def decode(self, latent: torch.Tensor) -> Image:
            decoded.append(1)
            return super().decode(latent)

    steps = _run([named("dark", 1.0, _dark)], Descent(50), Counting())
    next(steps)
    steps.close()
    assert len(decoded) == 1
    decoded.clear()
    list(_run([named("dark", 1.0, _dark)], Descent(5), Counting()))
    assert len(decoded) == 6  # n steps decode n + 1 times


def test_check_can_end_the_run() -> None:
    calls = iter([None, None, KeyError("enough")])

    def check() -> None:
        if error := next(calls):
            raise error

    latent = Pixels().start((16, 16), seed=1)
    steps = optimise(
        Pixels(), [named("dark", 1.0, _dark)], latent, Descent(50), seed=0, check=check
    )
    assert len(list(itertools.islice(steps, 2))) == 2
    with pytest.raises(KeyError, match="enough"):
        next(steps)


def test_with_only_the_pull_a_disturbed_latent_returns_to_its_start() -> None:
    start = Pixels().start((16, 16), seed=1)
    disturbed = Snapshot(0, start + 0.2, anchor=start, average=start)
    nothing = named("nothing", 0.0, smoothness)
    descent = Descent(200, pull=1.0, schedule="constant", step_size=0.01)
    *_, last = optimise(Pixels(), [nothing], start, descent, seed=0, resume=disturbed)
    assert (last.image - Pixels().decode(start)).abs().max() < 0.02


def test_the_average_follows_slowly() -> None:
    *_, last = _run([named("dark", 1.0, _dark)], Descent(10, ema=0.9))
    assert last.image.mean() < last.settled().mean()
    *_, last = _run([named("dark", 1.0, _dark)], Descent(10))
    assert torch.equal(last.image, last.settled())


def test_sizes_grow_on_the_way() -> None:
    descent = Descent(6, grow=((2, (16, 16)), (4, (32, 24))))
    latent = Pixels().start((8, 8), seed=0)
    steps = optimise(Pixels(), [named("dark", 1.0, _dark)], latent, descent, seed=0)
    sides = [tuple(step.image.shape[-2:]) for step in steps]
    assert sides == [(8, 8)] * 2 + [(16, 16)] * 2 + [(32, 24)] * 3


def test_a_run_ends_early_when_steps_bring_nothing() -> None:
    *_, last = _run([named("nothing", 0.0, smoothness)], Descent(100, patience=5))
    assert last.last
    assert last.index < 20


def test_a_run_that_grows_ends_early_at_its_last_size_only() -> None:
    nothing = [named("nothing", 0.0, smoothness)]
    grow = ((20, (16, 16)), (40, (32, 32)))
    latent = Pixels().start((8, 8), seed=0)
    *_, last = optimise(Pixels(), nothing, latent, Descent(99, patience=5, grow=grow), seed=0)
    assert last.image.shape[-2:] == (32, 32)
    assert 40 < last.index < 60


def test_a_plateau_waits_only_while_nothing_falls() -> None:
    plateau = Plateau()
    for loss in (1.0, 0.9, 0.5, 0.2):
        plateau = plateau.after(loss)
        assert plateau.waited == 0
    for _ in range(100):
        plateau = plateau.after(0.2)
    assert plateau.waited > 10


class _Cracks:
    """An objective that is no number at its third look, or always."""

    def __init__(self, always: bool) -> None:
        self.looks, self.always = 0, always

    def __call__(self, image: Image) -> Loss:
        self.looks += 1
        broken = self.looks == 3 or self.always
        total = image.mean() * (float("nan") if broken else 1.0)
        return Loss(total, {"cracks": total.detach()})


def test_a_step_that_is_no_number_goes_back_and_halves_the_step_size() -> None:
    steps = list(_run([_Cracks(always=False)], Descent(4)))
    assert [step.index for step in steps] == [0, 1, 2, 3, 4]
    assert torch.equal(steps[1].image, steps[2].image)  # back at the last good latent
    assert steps[-1].snapshot().halvings == 1
    assert all(step.image.isfinite().all() for step in steps)


def test_a_resumed_run_keeps_its_halved_step_size() -> None:
    whole = list(_run([_Cracks(always=False)], Descent(6)))
    stopped = next(itertools.islice(_run([_Cracks(always=False)], Descent(6)), 4, None))
    later = _Cracks(always=False)
    later.looks = 10  # the crack lies behind
    rest = list(_run([later], Descent(6), resume=stopped.snapshot()))
    assert torch.equal(whole[-1].image, rest[-1].image)


class _Tears(_Cracks):
    """An objective whose gradient, not whose value, is no number at its third look."""

    def __call__(self, image: Image) -> Loss:
        self.looks += 1
        broken = self.looks == 3 or self.always
        # the slope of a root is infinite at zero, and infinity times nothing is no number
        torn = (image * 0).sum().sqrt() * 0 if broken else 0.0
        total = image.mean() + torn
        return Loss(total, {"tears": total.detach()})


@pytest.mark.parametrize("name", GENERATORS)
def test_a_gradient_that_is_no_number_never_reaches_the_latent(name: str, tiny_vqgan: Path) -> None:
    generator = GENERATORS[name](tiny_vqgan)
    steps = list(_run([_Tears(always=False)], Descent(5, ema=0.9), generator))
    end = steps[-1].snapshot()
    assert end.halvings == 1
    assert end.latent.isfinite().all()
    assert end.average.isfinite().all()
    assert not torch.equal(end.latent, generator.start((16, 16), seed=1))  # it still moved


def test_a_gradient_that_stays_broken_says_what_to_do() -> None:
    with pytest.raises(Diverged, match="Try a smaller step size"):
        list(_run([_Tears(always=True)], Descent(4)))


def test_a_run_that_stays_broken_says_what_to_do() -> None:
    with pytest.raises(Diverged, match="Try a smaller step size"):
        list(_run([_Cracks(always=True)], Descent(4)))


def test_chance_differs_for_every_pair_of_seed_and_step() -> None:
    numbers = {mix(seed, step) for seed in range(40) for step in range(40)}
    assert len(numbers) == 1600
    assert all(0 <= number < 2**63 for number in numbers)


def test_seed_zero_is_a_seed_like_any_other(guide: Objective) -> None:
    *_, zero = _run([guide], Descent(2), seed=0)
    *_, again = _run([guide], Descent(2), seed=0)
    *_, one = _run([guide], Descent(2), seed=1)
    assert torch.equal(zero.image, again.image)
    assert not torch.equal(zero.image, one.image)


def test_losses_have_a_name_each(guide: Objective) -> None:
    first = next(_run([guide, guide, named("smooth", 1.0, smoothness)], Descent(1, pull=1.0)))
    assert set(first.losses) == {"a fox", "smooth", "pull to the start"}
