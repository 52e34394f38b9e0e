"""`python -m app edit`: every option changes the result or is refused; and what is said of it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as Picture
from typer.main import get_command
from typer.testing import CliRunner, Result

from app import __main__ as program
from app.images import read_recipe

EDIT = get_command(program.app).commands["edit"]  # type: ignore[attr-defined]
QUICK = "--seed 7 --quality draft --steps 3 --threads 1"
Run = Callable[[str], Result]


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pocket_models: Any) -> None:
    """A red disc on white paper, masks for it, a folder for results; models are loaded once."""
    monkeypatch.setattr("app.edit.Models", lambda device: pocket_models)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNESTHETE_RESULTS", str(tmp_path / "results"))
    pixels = np.full((96, 96, 3), 250, np.uint8)
    cv2.circle(pixels, (48, 48), 24, (215, 40, 40), -1)
    Picture.fromarray(pixels).save("disc.png")
    mask = np.zeros((96, 96), np.uint8)
    mask[:, :48] = 255
    Picture.fromarray(mask).save("left.png")
    Picture.fromarray(np.zeros((96, 96), np.uint8)).save("nothing.png")
    Path("broken.png").write_bytes(b"no picture")


@pytest.fixture
def run() -> Run:
    def edit(line: str) -> Result:
        return CliRunner().invoke(program.app, ["edit", *shlex.split(line)])

    return edit


def made(result: Result) -> Path:
    assert result.exit_code == 0, result.stderr
    return Path(result.stdout.strip().splitlines()[-1])


def pixels(path: Path | str) -> np.ndarray:
    return np.asarray(Picture.open(path))


def test_a_picture_and_an_instruction_become_a_changed_picture(run: Run) -> None:
    result = run(f"disc.png green {QUICK}")
    path = made(result)
    assert path.name == "disc-green-seed7.png"
    assert "green" in result.stderr.splitlines()[0]
    red, green, _ = pixels(path)[48, 48].astype(int)
    assert green > red
    assert np.array_equal(pixels(path)[:10], pixels("disc.png")[:10])


def test_the_recipe_holds_the_hashes_and_no_path(run: Run) -> None:
    recipe = read_recipe(made(run(f"disc.png green --mask left.png {QUICK}")))
    edit = recipe["request"]["edit"]
    assert edit["instruction"] == "green"
    assert len(edit["mask"]["sha256"]) == 64
    assert len(recipe["request"]["init"]["sha256"]) == 64
    assert str(Path.cwd()) not in json.dumps(recipe)


def test_the_same_command_gives_the_same_picture(run: Run) -> None:
    first, again = (made(run(f"disc.png 'a blue star' {QUICK}")) for _ in range(2))
    assert first != again
    assert np.array_equal(pixels(first), pixels(again))


def test_a_plan_changes_nothing_and_shows_where(run: Run) -> None:
    result = run(f"disc.png green --plan {QUICK}")
    path = made(result)
    assert path.name == "disc-plan.png"
    assert "Recolour" in result.stderr
    assert not np.array_equal(pixels(path)[48, 48], pixels("disc.png")[48, 48])
    assert np.array_equal(pixels(path)[2, 2], pixels("disc.png")[2, 2])


def test_transparent_parts_stay_transparent(run: Run) -> None:
    alpha = np.full((96, 96), 255, np.uint8)
    alpha[:20] = 0
    Picture.fromarray(np.dstack((pixels("disc.png"), alpha))).save("clear.png")
    after = pixels(made(run(f"clear.png green {QUICK}")))
    assert np.array_equal(after[..., 3], alpha)
    assert after[48, 48, 1] > after[48, 48, 0]


# option -> what is added to the command so that it shows
CHANGES = {
    "mask": "--mask left.png",
    "region": "--region circle --grow 0.1",
    "everywhere": "--everywhere",
    "invert": "--invert",
    "grow": "--grow 0.1",
    "strength": "--strength 0.2",
    "quality": "--quality normal",
    "steps": "--steps 9",
    "views": "--views 2",
    "seed": "--seed 8",
    "generator": "--generator pixels",
    "precision": "--precision bfloat16",
}
BESIDE = {"precision": "--precision float32"}  # where it matters what is chosen otherwise
TALKS = {"out", "json", "quiet", "plan", "device", "chunk", "threads", "clip"}  # tried below


def test_every_option_is_tried() -> None:
    options = {p.name for p in EDIT.params if p.name not in ("picture", "instruction", "help")}
    assert options == set(CHANGES) | TALKS


@pytest.mark.parametrize("option", CHANGES)
def test_every_option_changes_the_result(option: str, run: Run) -> None:
    words = "'a blue star'" if option != "region" else "green"
    plain = pixels(made(run(f"disc.png {words} {QUICK} {BESIDE.get(option, '')}")))
    changed = pixels(made(run(f"disc.png {words} {QUICK} {CHANGES[option]}")))
    assert not np.array_equal(plain, changed)


def test_the_result_goes_where_it_is_wanted(run: Run) -> None:
    assert made(run(f"disc.png green --out here.png {QUICK}")) == Path("here.png")
    about = json.loads(run(f"disc.png green --json {QUICK} --chunk 2 --device cpu").stdout)
    assert about["recipe"]["request"]["chunk"] == 2
    assert run(f"disc.png green --quiet {QUICK}").stderr == ""


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("disc.png ''", "Nothing was typed"),
        ("disc.png зелёный", "Only English"),
        ("disc.png 'make the bus green'", "No bus found"),
        ("disc.png green --mask nothing.png", "all black"),
        ("disc.png green --mask broken.png", "no picture that we can read"),
        ("disc.png green --region bus", "No bus found"),
        ("missing.png green", "does not exist"),
        ("broken.png green", "no picture that we can read"),
        ("disc.png green --strength 2", "strength"),
        ("disc.png green --grow nan", "Growing the place by nan"),
        ("disc.png green --grow 2", "use -1 to 1"),
        ("disc.png green --strength much", "no number"),
        ("disc.png green --generator oil", "No generator called"),
        ("disc.png green --clip none", "No CLIP called"),
        ("disc.png green --quality great", "No quality called"),
        ("disc.png green --steps 0", "steps"),
        ("disc.png green --out picture.jpg", "only format we write"),
        ("disc.png green --device tpu", "no device"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(line: str, told: str, run: Run) -> None:
    result = run(f"{line} --quiet")
    assert result.exit_code == 2
    assert told in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not Path("results").exists()


def test_an_edit_is_not_repeated_by_generate(run: Run) -> None:
    path = made(run(f"disc.png green {QUICK}"))
    result = CliRunner().invoke(program.app, ["generate", "--from", str(path)])
    assert result.exit_code == 2
    assert "python -m app edit disc.png green" in result.stderr
