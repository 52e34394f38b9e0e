"""Every field of a request and every option: changed alone, each changes what comes out."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from PIL import Image as Picture
from pydantic import BaseModel
from safetensors.torch import save_file
from typer.main import get_command

from app import generate, options, planner
from app.__main__ import app
from app.catalog import TABLES
from app.models import Models
from app.request import CHOICES, QUALITIES, Request
from guidance.audio_net import Ear
from guidance.clip import Clip, load
from guidance.draft import Draft

# Small enough to be quick; the spectrum shows the slightest change of any gradient.
SMALL = "--generator fourier --size 32 --steps 3 --views 4 --seed 3 --chunk 4 --threads 1"
BASE = [*SMALL.split(), "--precision", "float32"]
PROMPT = "a red apple"
COMMANDS: Any = get_command(app)


@dataclass(frozen=True)
class Made:
    """What one command left behind."""

    status: int
    said: str
    report: dict[str, Any]
    pixels: NDArray[np.uint8]

    @property
    def request(self) -> dict[str, Any]:
        return self.report["recipe"]["request"]


Make = Callable[..., Made]


@pytest.fixture(scope="session")
def kept() -> dict[tuple[str, ...], Made]:
    """What was made already: many changes begin with the same picture."""
    return {}


class Small(Models):
    """Our own models, but a CLIP of two layers, its draft and its ear at random.

    Any gradient will do.
    """

    def __init__(self, clip: Path, drafter: Draft, ear: Ear) -> None:
        super().__init__()
        self.drafter, self.ear = drafter, ear
        self._load = functools.lru_cache(
            lambda precision: load(clip, "cpu", getattr(torch, precision))
        )

    def clip(self, name: str, precision: str = "float32") -> Clip:
        if name != "pocket":
            return super().clip(name, precision)
        clip = self._load(precision)
        clip.space = name
        return clip

    def draft(self, name: str) -> Draft:
        return self.drafter

    def sound(self, name: str) -> Any:
        return self.ear if name == "pocket" else super().sound(name)


@pytest.fixture(scope="session")
def small(tiny_clip: Path, tiny_drafter: Draft, tiny_ear: Ear) -> Small:
    return Small(tiny_clip, tiny_drafter, tiny_ear)


@pytest.fixture
def make(
    small: Small,
    kept: dict[tuple[str, ...], Made],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Make]:
    """Run `generate` on models that are loaded once, and read the picture."""
    threads, measured = torch.get_num_threads(), planner.Cost(1e-9, 1.0, 1e-6, 1.0)
    monkeypatch.setattr(generate, "Models", lambda device: small)
    monkeypatch.setattr(planner, "measure", lambda request, models: measured)
    monkeypatch.chdir(tmp_path)
    Picture.fromarray(_pattern(0)).save("one.png")
    Picture.fromarray(_pattern(1)).save("two.png")
    for name, pitch in (("low", 200), ("high", 3_000)):
        wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(16_000) / 16_000)
        soundfile.write(f"{name}.wav", wave, 16_000)
    width = small.clip("pocket").embed_text(["x"]).shape[-1]
    for name, space in (("vector", "pocket"), ("foreign", "another")):
        vector = torch.randn(width, generator=torch.Generator().manual_seed(0))
        save_file({"embedding": vector}, f"{name}.safetensors", metadata={"space": space})

    def run(*words: str) -> Made:
        if words not in kept:
            kept[words] = anew(*words)
        return kept[words]

    def anew(*words: str) -> Made:
        out, error = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(error):
            typed = ["generate", *words, "--json", "--out", "."]
            status = COMMANDS.main(typed, prog_name="python -m app", standalone_mode=False)
        if status:
            return Made(status, error.getvalue(), {}, np.zeros((0, 0, 3), np.uint8))
        report = json.loads(out.getvalue())
        return Made(0, error.getvalue(), report, np.asarray(Picture.open(report["path"])))

    yield run
    torch.set_num_threads(threads)


def _pattern(seed: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


def is_another(before: Made, after: Made) -> bool:
    """The picture changed."""
    return before.pixels.shape != after.pixels.shape or bool((before.pixels != after.pixels).any())


def is_near(before: Made, after: Made) -> bool:
    """How the work is cut into pieces is written down, but changes the picture by rounding only."""
    apart = np.abs(before.pixels.astype(int) - after.pixels.astype(int)).max()
    return before.request != after.request and apart <= 2


def is_told(before: Made, after: Made) -> bool:
    """What something is called steers nothing, but it is what people are told."""
    return before.request != after.request and not is_another(before, after)


def is_shorter(before: Made, after: Made) -> bool:
    """It ended sooner."""
    return before.report["recipe"]["run"]["steps"] > after.report["recipe"]["run"]["steps"]


def is_refused(before: Made, after: Made) -> bool:
    """One sentence."""
    return after.status == 2 and after.said.count("\n") == 1


@dataclass(frozen=True)
class Change:
    """With and without: two commands that differ in one field, and what must come of it."""

    without: str
    extra: str
    effect: Callable[[Made, Made], bool] = is_another


# field of a request -> how to change it alone. `_` stands for a blank within a value.
CHANGES = {
    "prompt": Change("", "a_blue_boat"),
    "negative": Change("", "--negative an_apple"),
    "pictures.sha256": Change("--image-prompt one.png", "--image-prompt two.png"),
    "pictures.name": Change("--image-prompt one.png", "--image-prompt copy.png", is_told),
    "pictures.weight": Change("--image-prompt one.png", "--image-prompt one.png::3"),
    "pictures.stop": Change("--image-prompt one.png::1", "--image-prompt one.png::1::3"),
    "embeddings.sha256": Change("", "--embedding vector.safetensors"),
    "embeddings.space": Change("", "--embedding foreign.safetensors", is_refused),
    "embeddings.name": Change(
        "--embedding vector.safetensors", "--embedding copy.safetensors", is_told
    ),
    "embeddings.weight": Change(
        "--embedding vector.safetensors", "--embedding vector.safetensors::3"
    ),
    "embeddings.stop": Change(
        "--embedding vector.safetensors::1", "--embedding vector.safetensors::1::3"
    ),
    "sounds.sha256": Change("", "--sound low.wav"),
    "sounds.name": Change("--sound low.wav", "--sound copy.wav", is_told),
    "sounds.weight": Change("--sound low.wav", "--sound low.wav::3"),
    "sounds.stop": Change("--sound low.wav::1", "--sound low.wav::1::3"),
    "init.sha256": Change("--init one.png", "--init two.png"),
    "init.name": Change("--init one.png", "--init copy.png", is_told),
    "init_noise": Change("--init one.png", "--init one.png --init-noise 0.5"),
    "start": Change("", "--start uniform"),
    "width": Change("", "--size 40x32"),
    "height": Change("", "--size 32x40"),
    "seed": Change("", "--seed 4"),
    "generator": Change("", "--generator pixels"),
    "clips.name": Change("", "--clip pocket --clip pocket"),
    "clips.weight": Change("--clip pocket --clip pocket", "--clip pocket --clip pocket=0.2"),
    "steps": Change("", "--steps 4"),
    "step_size": Change("", "--step-size 0.5"),
    "optimiser": Change("", "--optimiser rmsprop"),
    "schedule": Change("", "--schedule cosine"),
    "ema": Change("", "--ema 0.5"),
    "patience": Change(
        "--steps 9 --step-size 1e-4", "--steps 9 --step-size 1e-4 --patience 1", is_shorter
    ),
    "coarse_to_fine": Change("--steps 8", "--steps 8 --coarse-to-fine"),
    "views": Change("", "--views 5"),
    "method": Change("", "--method latest"),
    "augment": Change("", "--augment Ro"),
    "noise": Change("", "--noise 0.5"),
    "distance": Change("", "--distance cosine"),
    "before": Change(
        "--init one.png --distance directional",
        "--init one.png --distance directional --before sea",
    ),
    "regularise.smoothness": Change("", "--regularise smoothness=5"),
    "regularise.symmetry": Change("", "--regularise symmetry=50"),
    "regularise.palette": Change(
        "--palette #ff0000 --regularise palette=1", "--palette #ff0000 --regularise palette=9"
    ),
    "regularise.pull": Change("", "--regularise pull=90"),
    "regularise.text_off": Change("", "--regularise text-off=3"),
    "palette": Change(
        "--palette #ff0000 --regularise palette=9", "--palette #00ff00 --regularise palette=9"
    ),
    "precision": Change("", "--precision bfloat16"),
    "chunk": Change("", "--chunk 2", is_near),
    "threads": Change("--steps 1", "--steps 1 --threads 2", is_near),
}

# Fields that `generate` has no option for: those of a sound that `listen` decides.
OF_LISTEN = {"sounds.encoder", "sounds.start", "sounds.seconds"}  # tests/test_listen_cli.py

# Options that do nothing by themselves, so that they are refused by themselves.
LONELY = ("--init-noise 0.5", "--before sea", "--palette #ff0000", "--distance directional")
TOGETHER = (
    "--init one.png --start uniform",
    *(
        f"--init one.png --distance directional {other}"
        for other in (
            "--negative apple",
            "--image-prompt two.png",
            "--embedding vector.safetensors",
            "--sound low.wav",
            "--regularise text-off=1",
        )
    ),
)


def words(typed: str) -> list[str]:
    return [word.replace("_", " ") for word in typed.split()]


def command(typed: str) -> list[str]:
    """Later options win, and the prompt is the first word unless the change is another prompt."""
    given = words(typed)
    prompt = [] if given and not given[0].startswith("-") else [PROMPT]
    return [*prompt, *BASE, *given]


def fields(model: type[BaseModel]) -> Iterator[str]:
    """Every field of a model by its dotted name, those of the models inside included."""
    for name, info in model.model_fields.items():
        inner = _model_inside(info.annotation)
        yield from (f"{name}.{deeper}" for deeper in fields(inner)) if inner else [name]


def _model_inside(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [_model_inside(part) for part in get_args(annotation)]
    return next((model for model in found if model), None)


def test_the_walk_covers_every_field_of_a_request() -> None:
    every = {name for name in fields(Request) if name.split(".")[0] != "edit"}
    assert set(CHANGES) == every - OF_LISTEN
    assert every > OF_LISTEN


@pytest.mark.parametrize("field", CHANGES)
def test_changed_alone_it_has_an_effect(field: str, make: Make) -> None:
    Path("copy.png").write_bytes(Path("one.png").read_bytes())
    Path("copy.wav").write_bytes(Path("low.wav").read_bytes())
    Path("copy.safetensors").write_bytes(Path("vector.safetensors").read_bytes())
    change = CHANGES[field]
    before, after = make(*command(change.without)), make(*command(change.extra))
    assert before.status == 0, before.said
    assert change.effect(before, after), after.said


@pytest.mark.parametrize("typed", [*LONELY, *TOGETHER])
def test_what_would_do_nothing_is_refused(typed: str, make: Make) -> None:
    refused = make(*command(typed))
    assert refused.status == 2
    assert refused.said.count("\n") == 1


def test_every_option_fills_a_field_or_says_how_to_run() -> None:
    offered = {parameter.name.rstrip("_") for parameter in COMMANDS.commands["generate"].params}
    same_name = set(Request.model_fields) & offered
    assert offered == same_name | set(options.READERS) | options.RUN_ONLY


def test_every_field_has_an_option() -> None:
    """Those with an option of another name are the ones whose option was read."""
    read = {"size": ("width", "height"), "image_prompt": ("pictures",), "clip": ("clips",)}
    read |= {"embedding": ("embeddings",), "sound": ("sounds",)}
    named = {field for option in options.READERS for field in read.get(option, (option,))}
    plain = {parameter.name for parameter in COMMANDS.commands["generate"].params}
    assert set(Request.model_fields) - {"edit"} <= named | plain  # edits: tests/test_edit_cli.py


# --- every choice of every menu --------------------------------------------------------------

WITHOUT_FILES = {
    kind: [e.name for e in table.values() if not e.files] for kind, table in TABLES.items()
}
TO_FETCH = [(k, e.name) for k in ("generator", "clip") for e in TABLES[k].values() if e.files]
MENUS = {
    **{menu: items for menu, items in CHOICES.items() if menu != "encoder"},  # that is for listen
    "generator": WITHOUT_FILES["generator"],
    "clip": WITHOUT_FILES["clip"],
    "precision": ("auto", "float32", "bfloat16"),
}
ITEMS = [(menu, item) for menu, items in MENUS.items() for item in items]


@pytest.mark.parametrize(("menu", "item"), ITEMS)
def test_every_choice_of_every_menu_runs(menu: str, item: str, make: Make) -> None:
    more = ["--init", "one.png"] if item == "directional" else []
    made = make(PROMPT, *BASE, *more, "--steps", "1", f"--{menu}", item)
    assert made.status == 0, made.said
    assert np.isfinite(list(made.report["losses"].values())).all()


@pytest.mark.parametrize(("kind", "name"), TO_FETCH)
def test_a_model_that_is_not_here_is_refused(
    kind: str, name: str, tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNESTHETE_MODELS", str(tmp_path / "none"))
    refused = make(PROMPT, *BASE, f"--{kind}", name)
    assert refused.status == 2
    assert name in refused.said
    assert refused.said.count("\n") == 1
    assert not list(tmp_path.glob("**/*.part"))


@pytest.mark.parametrize("code", CHOICES["augment"])
def test_every_augmentation_changes_the_picture(code: str, make: Make) -> None:
    assert is_another(make(*command("--augment none")), make(*command(f"--augment {code}")))


@pytest.mark.parametrize("quality", QUALITIES)
def test_a_quality_asks_for_what_it_says(quality: str) -> None:
    request = options.read({"prompt": PROMPT, "quality": quality}).requests[0]
    assert {name: getattr(request, name) for name in QUALITIES[quality]} == QUALITIES[quality]
