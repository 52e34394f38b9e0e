"""What tests of the command line share: running it in this process, and small pictures."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as Picture
from typer.main import get_command

from app import generate, planner
from app.__main__ import app

ROOT = Path(__file__).parent.parent
SMALL = "--size 32 --views 1 --seed 7 --threads 1 --precision float32".split()
APPLE = ["a red apple", *SMALL, "--steps", "3"]

COMMANDS: Any = get_command(app)  # once: it takes a while to put together


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    exit_code: int
    stdout: str
    stderr: str


Command = Callable[..., Ended]


def in_process(*words: object) -> Ended:
    """Run the command line in this process: what a person types, what a person sees."""
    out, error = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(error):
        typed = [str(word) for word in words]
        status = COMMANDS.main(typed, prog_name="python -m app", standalone_mode=False)
    return Ended(status or 0, out.getvalue(), error.getvalue())


# A test file imports this fixture under its own name, so that pytest finds it there.
@pytest.fixture
def cli(pocket_models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Run a command in an empty folder, on models that are loaded once."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(generate, "Models", lambda device: pocket_models)
    monkeypatch.setattr(planner, "measure", lambda request, models: planner.Cost(1e-6, 1, 1e-3, 1))
    monkeypatch.setenv("SYNESTHETE_RESULTS", str(tmp_path / "results"))
    monkeypatch.chdir(tmp_path)
    yield in_process
    torch.set_num_threads(threads)


def pixels(path: Path | str) -> NDArray[np.uint8]:
    return np.asarray(Picture.open(path))


def files() -> set[str]:
    return {path.as_posix() for path in Path().glob("**/*")}


def coloured(path: str, seed: int) -> None:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    Picture.fromarray(coarse.repeat(8, axis=0).repeat(8, axis=1)).save(path)
