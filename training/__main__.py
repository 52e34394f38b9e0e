"""Command line of the trainings: ``python -m training all``, or one of them at a time."""

import argparse
import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from guidance import lexicon
from guidance.draft import load as load_draft
from guidance.judge import SIDE, Network
from training import clip, data, draft, examiner, judge, recordings, sound, vocabulary, vqgan
from training.course import Course
from training.imagenet import Features, efficientnet_lite, fill_tower
from training.measure import Exam
from training.pupil import (
    Pupil,
    export,
    load_exported,
    quicken,
    start_from_imagenet,
    start_projection,
    tokenizer,
    with_tower,
)
from training.scenes import Batches, Studio
from training.teacher import Teacher, encode_many, load_teacher
from training.unrelated import draw_sheet
from training.words import class_names, collect_texts, token_table, vet_words, without_synonyms

ORDER = ("clip", "vqgan", "vocabulary", "draft", "sound", "judge")  # what ships, as it is trained
READERS = {  # of a trained CLIP: by which training
    "vocabulary": "clip", "draft": "vocabulary", "sound": "vocabulary", "judge": "vocabulary",
}  # fmt: skip
P = TypeVar("P", bound=Course)


def begin_course(kind: type[P], args: argparse.Namespace) -> P:
    """Set threads and chance, and say how long, how and where to train."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    return kind(
        minutes=args.minutes,
        steps=args.steps,
        seed=args.seed,
        report_minutes=args.report,
        workers=args.workers,
        device=args.device,
    )


def prepare_lessons(
    net: Pupil, library: data.Library, teacher: Teacher, cache: Path
) -> dict[str, torch.Tensor]:
    """Texts as tokens and as the teacher's vectors; computed once and kept in the cache."""
    file = cache / "lessons.pt"
    if not file.exists():
        texts = collect_texts(library, seed=0)
        tokens = tokenizer(net)(texts)
        short = tokens.argmax(1) < 16
        texts = [t for t, keep in zip(texts, short.tolist(), strict=True) if keep]
        names = [f"a photo of a {n}" for n in class_names()]
        parts = {
            "tokens": tokens[short][:, :16].int(),
            "vectors": encode_many(teacher, texts),
            "class_vectors": encode_many(teacher, names).float(),
            "table": token_table(teacher, net.clip.token_embedding.weight.shape[1]),
        }
        torch.save(parts, file)
    return torch.load(file, weights_only=True)


def begin(net: Pupil, parts: dict[str, torch.Tensor]) -> clip.Lessons:
    """Give the net its first weights, and hand over what there is to learn from texts alone."""
    with torch.no_grad():
        net.clip.token_embedding.weight.copy_(parts["table"])
    rows = start_from_imagenet(net)
    start_projection(net, rows, parts["class_vectors"])
    return clip.Lessons(parts["tokens"], parts["vectors"], rows, parts["class_vectors"])


def train_clip(args: argparse.Namespace) -> None:
    """Train, measure now and then, and leave the model in OUT/clip."""
    plan = replace(begin_course(clip.Plan, args), radius=args.radius / 96)
    teacher, library = load_teacher(), data.load(args.cache)
    net = Pupil(with_tower(args.tower))
    shown = without_synonyms(vet_words(library.part(lambda p: not p.held_out), teacher))
    parts = prepare_lessons(net, library, teacher, args.cache)
    if args.start:
        net = load_exported(args.start)
        lessons = clip.Lessons(parts["tokens"], parts["vectors"])
        clip.fit_lift(net, lessons, args.seed)
        # it knows the names already: no plain phase, and large pictures for longer
        plan = replace(plan, plain_share=0.0, sizes=((0.5, 80), (1.0, 96)))
    else:
        lessons = begin(net, parts)
    state = clip.new_state(net, plan)
    if args.resume:
        state.resume(args.out / "checkpoint.pt")
    exam = Exam(library)

    def report() -> dict[str, float]:
        kept = state.result()
        export(kept, args.out / "clip")
        return exam.ask(kept)

    scenes = Batches(Studio(shown, 96), plan.batch, args.seed)
    clip.train(plan, state, scenes, teacher, lessons, args.out, report)
    draw_sheet(library, args.out / "clip")


def train_vocabulary(args: argparse.Namespace) -> None:
    """Teach a trained CLIP more words, and leave the model in OUT/vocabulary."""
    plan = begin_course(vocabulary.Plan, args)
    teacher, library, before = load_teacher(), data.load(args.cache), load_exported(args.clip)
    shown = without_synonyms(vet_words(library, teacher))
    thesaurus = vocabulary.look_up(shown, teacher, plan.likeness)
    shown = shown.part(lambda p: not p.held_out)
    constant = vocabulary.constant_texts(shown, thesaurus)
    lexicon.write(args.out / "vocabulary", vocabulary.taught(library, thesaurus))
    state = vocabulary.new_state(before, plan)
    if args.resume:
        state.resume(args.out / "checkpoint.pt")
    exam = Exam(library)

    def report() -> dict[str, float]:
        kept = state.result()
        export(kept, args.out / "vocabulary")
        return exam.ask(kept)

    scenes = Batches(Studio(shown, 32, variants=1), plan.captions, args.seed)  # for their captions
    lessons = vocabulary.Lessons(thesaurus, constant, scenes, plan)
    vocabulary.train(plan, state, before, lessons, args.out, report)
    draw_sheet(library, args.out / "vocabulary")


def train_vqgan(args: argparse.Namespace) -> None:
    """Train, measure now and then, and leave the model in OUT/vqgan."""
    plan = begin_course(vqgan.Plan, args)
    library, state = data.load(args.cache), vqgan.Coding(plan)
    if args.resume:
        state.resume(args.out / "checkpoint.pt")
    exam = vqgan.Exam(library)

    def report() -> dict[str, float]:
        kept = state.result()
        vqgan.export(kept, args.out / "vqgan")
        exam.sheet(kept).save(args.out / "sheet.png")
        return exam.ask(kept)

    shown = Studio(library.part(lambda p: not p.held_out), 128)
    vqgan.train(
        plan,
        state,
        vqgan.Crops(shown, plan),
        args.out,
        Features(efficientnet_lite("lite0")),
        report,
    )


def reading(reader: Pupil) -> Callable[[Sequence[str]], torch.Tensor]:
    """How a trained CLIP reads captions: (n, d), unit length; nothing of it learns."""
    tokenize = tokenizer(reader)

    @torch.no_grad()
    def embed(captions: Sequence[str]) -> torch.Tensor:
        return reader.embed_tokens(tokenize(list(captions))).clone()

    return embed


def train_draft(args: argparse.Namespace) -> None:
    """Train for the words of a trained CLIP, and leave the model in OUT/draft."""
    plan = begin_course(draft.Plan, args)
    embed, library = reading(load_exported(args.clip)), data.load(args.cache)
    library = without_synonyms(library.part(lambda p: not p.held_out))
    album = draft.Album(library)
    net = draft.remember(plan, album, embed, Studio(library, draft.SIDE, variants=1))
    if args.start:
        net.clean.load_state_dict(load_draft(args.start).network.clean.state_dict())
        plan = replace(plan, rate=plan.rate / 4)
    state = draft.new_state(net, plan)
    if args.resume:
        state.resume(args.out / "checkpoint.pt")
    asked = album.captions(2, args.seed + 1)
    asked_as = draft.embed_all(asked, embed)

    def report() -> dict[str, float]:
        kept = copy.deepcopy(net).cpu()
        kept.clean.load_state_dict(state.mean.state_dict())
        draft.export(kept, args.out / "draft", "pocket")
        draft.sheet(kept, embed, draft.SHOWN).save(args.out / "sheet.png")
        return draft.read_back(kept, asked, asked_as)

    features = Features(efficientnet_lite("lite0"))
    draft.train(plan, state, net, draft.Recollections(album, plan), args.out, features, report)


def train_judge(args: argparse.Namespace) -> None:
    """Train by the words of a trained CLIP, and leave the model in OUT/judge."""
    plan = begin_course(judge.Plan, args)
    reader, library = load_exported(args.clip), data.load(args.cache)
    embed = reading(reader)
    pupil = judge.Pupil(Network(reader.clip.text_projection.shape[1]))
    fill_tower(pupil.network.tower, "lite0")
    quicken(pupil.network.tower)
    state = judge.new_state(pupil, plan)
    if args.resume:
        state.resume(args.out / "checkpoint.pt")
    sheets = Exam(library).scenes

    def report() -> dict[str, float]:
        kept = state.result()
        judge.export(kept, args.out / "judge", "pocket")
        return judge.ask(kept, sheets, embed)

    shown = Studio(library.part(lambda p: not p.held_out), SIDE)
    judge.train(plan, state, Batches(shown, plan.batch, args.seed), embed, args.out, report)


def train_examiner(args: argparse.Namespace) -> None:
    """Train on everything, the held-out things too, and leave the model in OUT/examiner."""
    plan = begin_course(examiner.Plan, args)
    net = examiner.Examiner()
    fill_tower(net.tower, "lite2")
    quicken(net.tower)
    state = examiner.new_state(net, plan)
    if args.resume:
        state.resume(args.out / "checkpoint.pt")
    studio = Studio(data.load(args.cache), examiner.SIDE)
    questions = Batches(studio, 100, seed=args.seed + 1)

    def report() -> dict[str, float]:
        kept = state.result()
        examiner.export(kept, args.out / "examiner")
        return {"caption_of_100": examiner.ask(kept, [questions[i] for i in range(3)])}

    scenes = Batches(studio, plan.batch, args.seed)
    examiner.train(plan, state, scenes, args.out, report)


def train_sound(args: argparse.Namespace) -> None:
    """Train for the space of a trained CLIP, and leave the model in OUT/sound."""
    plan = begin_course(sound.Plan, args)
    reader, library = load_exported(args.clip), data.load(args.cache)
    album = sound.collect(recordings.trained_on(args.cache), plan.made, plan.seed)
    album = sound.without(album, args.without)
    goals = sound.find_goals(sorted(album.trained), reader, library.part(lambda p: not p.held_out))
    net = sound.new_network(goals)
    state = sound.new_state(net, plan)
    if args.resume:
        state.resume(args.out / "checkpoint.pt")
    asked = sound.questions(album, recordings.tested_on(args.cache), plan.seed)

    def report() -> dict[str, float]:
        kept = state.result()
        sound.export(kept, args.out / "sound", "pocket", goals.labels, args.without)
        return sound.answers(kept, goals, asked)

    lessons = sound.Lessons(album, goals.labels, plan)
    sound.train(plan, state, lessons, goals, args.out, report)


def train_all(args: argparse.Namespace) -> None:
    """Fetch the data, train every model, and put the results where the program looks.

    A training that was stopped goes on where it was, and one that is done is not done again.
    """
    fetch_data(args)
    underway: dict[str, Future[None]] = {}
    with ThreadPoolExecutor(args.together) as pool:
        for name in ORDER:
            before = underway.get(READERS.get(name, ""))
            underway[name] = pool.submit(train_in_turn, args, name, before)
    for training in underway.values():
        training.result()


def train_in_turn(args: argparse.Namespace, name: str, before: Future[None] | None) -> None:
    """One of all trainings, as soon as the CLIP that it reads by is there."""
    if before:
        before.result()
    place = args.out / name
    if not (place / "done").exists():
        words = ["--cache", str(args.cache), name, "--out", str(place)]
        words += ["--minutes", str(args.share * MINUTES[name]), "--threads", str(args.threads)]
        words += ["--device", args.device, "--workers", str(args.workers)]
        words += ["--resume"] if (place / "checkpoint.pt").exists() else []
        if name in READERS:
            words += ["--clip", str(args.out / READERS[name] / READERS[name])]
        train_apart(words)
        (place / "done").touch()
    result = "clip" if name == "vocabulary" else name  # it is a CLIP, too, and takes its place
    shutil.copytree(place / name, args.weights / result, dirs_exist_ok=True)


def train_apart(words: Sequence[str]) -> None:
    """Carry a command of this program out in a process of its own."""
    done = subprocess.run([sys.executable, "-m", "training", *words], check=False)
    if done.returncode:
        said = " ".join(words)
        raise ChildProcessError(f"This failed: python -m training {said}. Try again to go on.")


def fetch_data(args: argparse.Namespace) -> None:
    """Fetch and render all pictures."""
    data.prepare(args.cache)


def measure_clip(args: argparse.Namespace) -> None:
    """Print the held-out measures of an exported model as JSON."""
    torch.set_num_threads(args.threads)
    answers = Exam(data.load(args.cache)).ask(load_exported(args.weights))
    sys.stdout.write(json.dumps(answers, indent=1) + "\n")


TRAININGS = (
    ("clip", 85.0, "CLIP"),
    ("vocabulary", 25.0, "CLIP's text tower on more words"),
    ("vqgan", 85.0, "VQGAN"),
    ("draft", 55.0, "draft network"),
    ("sound", 40.0, "sound encoder"),
    ("judge", 60.0, "judge"),
    ("examiner", 60.0, "examiner of the benchmarks"),
)
MINUTES = {name: minutes for name, minutes, _ in TRAININGS}
TASKS: dict[str, Callable[[argparse.Namespace], None]] = {
    "all": train_all,
    "data": fetch_data,
    "clip": train_clip,
    "vocabulary": train_vocabulary,
    "vqgan": train_vqgan,
    "draft": train_draft,
    "sound": train_sound,
    "judge": train_judge,
    "examiner": train_examiner,
    "measure": measure_clip,
}


def read_command(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--cache", type=Path, default=data.CACHE, help="where fetched data is kept")
    tasks = parser.add_subparsers(dest="task", required=True)
    task = tasks.add_parser("all", help="everything in turn, from nothing to weights/")
    task.add_argument("--out", type=Path, default=Path("runs"), help="a folder for each training")
    task.add_argument("--weights", type=Path, default=Path("weights"), help="where results go")
    task.add_argument("--share", type=float, default=1.0, help="of each training's time")
    task.add_argument("--threads", type=int, default=2, help="CPU threads of each training")
    add_places(task)
    task.add_argument("--together", type=int, default=1, help="so many trainings at a time")
    tasks.add_parser("data", help="fetch and render all pictures")
    for name, minutes, what in TRAININGS:
        task = tasks.add_parser(name, help=f"train the pocket {what}")
        task.add_argument("--out", type=Path, default=Path("runs") / name, help="all it writes")
        task.add_argument("--minutes", type=float, default=minutes, help="length of the training")
        task.add_argument("--steps", type=int, default=0, help="length in steps, not minutes")
        task.add_argument("--report", type=float, default=10.0, help="minutes between measurements")
        task.add_argument("--threads", type=int, default=2, help="CPU threads; 1 on a busy machine")
        add_places(task)
        task.add_argument("--seed", type=int, default=0)
        task.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
        if name == "clip":
            task.add_argument("--start", type=Path, help="begin with an exported CLIP")
            towers = ("lite0", "lite1")  # the next is the examiner's, which is to share nothing
            task.add_argument("--tower", choices=towers, default="lite0", help="EfficientNet")
            radius = 96 * clip.Plan.radius
            task.add_argument(
                "--radius", type=float, default=radius, help="of the attacks, L2 on 96 px in 0..1"
            )
        if name == "draft":
            task.add_argument("--start", type=Path, help="a draft network that can clean already")
        if name in READERS:
            task.add_argument("--clip", type=Path, default=Path("weights/clip"), help="its reader")
        if name == "sound":
            task.add_argument(
                "--without", nargs="+", default=[], metavar="LABEL", help="never to be heard"
            )
    task = tasks.add_parser("measure", help="measure an exported CLIP on held-out pictures")
    task.add_argument("--weights", type=Path, default=Path("weights/clip"), help="its folder")
    task.add_argument("--threads", type=int, default=2, help="CPU threads; 1 on a busy machine")
    return parser.parse_args(arguments)


def add_places(task: argparse.ArgumentParser) -> None:
    """Where to train, and how much help the training has."""
    task.add_argument("--device", type=device, default="cpu", help="where to train: cpu or cuda")
    task.add_argument(
        "--workers", type=int, default=1, help="processes that compose; 8 or more beside a GPU"
    )


def device(name: str) -> str:
    """One that is here. Raises ArgumentTypeError."""
    if name not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"no training runs on {name!r}; there are cpu and cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError(
            "PyTorch finds no GPU here; without --device the CPU trains"
        )
    return name


def main(arguments: list[str] | None = None) -> int:
    """Run a task; a missing tool or file is one sentence, not a traceback."""
    args = read_command(arguments)
    try:
        TASKS[args.task](args)
    except (OSError, ImportError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
