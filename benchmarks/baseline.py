"""The recipe that the pocket CLIP has to beat: the first that was tried, on the same pictures.

    python -m benchmarks.baseline OUT [--threads 1]  # about an hour on a core; OUT/baseline.json

Radford et al. 2021 and no more: scenes and captions that belong together meet. The words are the
vectors of a frozen sentence encoder through a small head, the tower begins with ImageNet weights
and keeps its classes near their names. First plainly, then with every picture attacked by one step
(Madry et al. 2018). It is asked what `python -m training measure` asks.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training import data
from training.clip import Lessons, Scenes, attack, contrast, name_classes
from training.course import Course, State, adamw, pace, set_rates, train
from training.measure import Exam
from training.pupil import POCKET, Pupil, start_from_imagenet
from training.scenes import Batches, Studio
from training.teacher import Teacher, load_teacher
from training.words import class_names, vet_words, without_synonyms


@dataclass(frozen=True)
class Plan(Course):
    """How long and how hard to train."""

    warm_up: int = 100  # steps
    batch: int = 96
    side: int = 96  # px
    radius: float = 0.0  # of an attack, L2 on the side in 0..1
    noise: float = 0.08  # the most on a picture of 0..1, in three batches of ten
    tower_rate: float = 4e-4
    rate: float = 1e-3
    decay: float = 0.05


PLANS = {"plain": Plan(steps=600), "attacked": Plan(steps=800, radius=3.0, seed=1)}


Answers = dict[str, float]


class Plainly(Pupil):
    """A pupil whose words are what the teacher says, through the head."""

    def __init__(self, teacher: Teacher, config: dict[str, Any] = POCKET) -> None:
        """The teacher does not learn."""
        super().__init__(config)
        self.teacher = teacher

    def embed_texts(self, texts: list[str]) -> Tensor:
        """Texts to unit vectors (n, d)."""
        return self.lift(self.teacher(texts))


class Taught(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Batches of pictures (n, 3, s, s), bytes, with what the teacher says of their captions."""

    def __init__(self, scenes: Scenes, teacher: Teacher) -> None:
        """Join what composes and what teaches."""
        self.scenes, self.teacher = scenes, teacher

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Batch number ``step``."""
        pictures, captions = self.scenes[step]
        return pictures, self.teacher(captions)


def train_step(
    plan: Plan, state: State, progress: float, batch: tuple[Tensor, Tensor], lessons: Lessons
) -> dict[str, float]:
    """Embed, compare, move; returns numbers for the log."""
    set_rates(state.optimiser, pace(progress, state.step, plan.warm_up))
    chance = torch.Generator().manual_seed(plan.seed * 1_000_003 + state.step)
    net, (pictures, sentences) = state.net.train(), batch
    pictures, texts, own = pictures.float() / 255, net.lift(sentences), torch.arange(len(sentences))
    noisy, strength = torch.rand(2, generator=chance).tolist()
    if noisy < 0.3:
        grain = torch.randn(pictures.shape, generator=chance)
        pictures = (pictures + plan.noise * strength * grain).clamp(0, 1)
    if plan.radius:
        pictures = attack(net, pictures, texts.detach(), own, plan.radius, 1, chance)
    seen = net.train().embed_pictures(pictures)
    loss = contrast(seen, texts, net.scale()) + 0.3 * name_classes(net, lessons, chance)
    state.move(loss, 1.0, ema=0.0)
    right = (seen @ texts.T).argmax(1) == own
    return {"loss": loss.item(), "right": right.float().mean().item()}


def new_state(net: Plainly, plan: Plan) -> State:
    """Begin with a net, and with a temperature of .07; the mean of its weights is the last."""
    torch.nn.init.constant_(net.clip.logit_scale, torch.tensor(1 / 0.07).log().item())
    gently = {net.clip.visual.trunk: plan.tower_rate}
    return State(net, adamw(net, plan.rate, plan.decay, gently=gently))


def train_all(
    out: Path,
    plans: Mapping[str, Plan],
    net: Plainly,
    scenes: Callable[[Plan], Scenes],
    lessons: Lessons,
    ask: Callable[[Pupil], Answers],
) -> dict[str, Answers]:
    """Each phase in turn goes on with what the one before has left; what is answered after each."""
    found = {}
    for name, plan in plans.items():
        state = new_state(net, plan)
        if (out / name / "checkpoint.pt").exists():
            state.resume(out / name / "checkpoint.pt")

        def take_step(
            progress: float, batch: tuple[Tensor, Tensor], plan: Plan = plan, state: State = state
        ) -> dict[str, float]:
            return train_step(plan, state, progress, batch, lessons)

        train(plan, state, Taught(scenes(plan), net.teacher), take_step, out / name)
        net, found[name] = state.net, ask(state.net)
    return found


def main() -> None:
    """Train and ask."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.baseline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads; 1 on a busy machine")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    teacher, library = load_teacher(), data.load()
    shown = without_synonyms(vet_words(library.part(lambda p: not p.held_out), teacher))
    net = Plainly(teacher)
    names = teacher([f"a photo of a {name}" for name in class_names()])
    nothing = torch.empty(0, 0)
    lessons = Lessons(nothing, nothing, start_from_imagenet(net), names)
    studio = Studio(shown, Plan.side)

    def scenes(plan: Plan) -> Scenes:
        return Batches(studio, plan.batch, plan.seed)

    found = train_all(asked.out, PLANS, net, scenes, lessons, Exam(library).ask)
    (asked.out / "baseline.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
