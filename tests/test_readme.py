"""Every command and every line of Python in the README works as it stands, only smaller."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image as Picture
from typer.testing import CliRunner

from app.__main__ import app
from app.images import to_pixels
from app.pipeline import Inputs, draft
from app.request import make_request

ROOT = Path(__file__).parent.parent
SOUNDS = {
    "duck.wav": "app/examples/duck.flac",
    "song.mp3": "app/examples/music.flac",
    "memo.flac": "tests/sounds/ship.flac",
}
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.S)
COMMANDS = [
    shlex.split(line, comments=True)[3:]
    for language, block in BLOCKS
    for line in block.splitlines()
    if language == "sh" and line.startswith("python -m app ")
]
SMALLER = ["--size", "32", "--steps", "1", "--views", "2", "--quiet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, pocket_models: Any) -> Path:
    """The files that the README speaks of."""
    folder = tmp_path_factory.mktemp("readme")
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    for name in ("beach.jpg", "style.png", "room.jpg"):
        Picture.fromarray(noise).save(folder / name)
    mask = np.zeros((48, 64), np.uint8)
    mask[20:40, 20:40] = 255
    Picture.fromarray(mask).save(folder / "cup.png")
    for name, prompt in (("frog.png", "a frog"), ("street.jpg", "a car on the street")):
        request = make_request({"prompt": prompt, "seed": 0, "width": 128, "height": 128})
        drawn = draft(request, pocket_models, 16, Inputs())
        Picture.fromarray(to_pixels(drawn.picture)).save(folder / name)
    _run(["generate", "a red apple", *SMALLER, "--out", str(folder / "apple.png")])
    for name, source in SOUNDS.items():
        wave, rate = soundfile.read(ROOT / source)
        soundfile.write(folder / name, wave, rate)
    return folder


def _run(words: list[str]) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output


def test_the_readme_shows_commands() -> None:
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_of_the_readme_works(
    words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SYNESTHETE_RESULTS", str(folder / "results"))
    quick = {
        "generate": SMALLER,
        "listen": SMALLER,
        "edit": ["--quality", "draft", "--steps", "1", "--quiet"],
    }
    _run([*words, *quick.get(words[0], [])])


@pytest.mark.parametrize("code", [block for language, block in BLOCKS if language == "python"])
def test_the_python_of_the_readme_works(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(code.replace('"steps": 20', '"steps": 1'), {})
    assert "torch.Size([1, 3, 192, 192])" in capsys.readouterr().out


def test_every_file_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    missing = [link for link in links if not (ROOT / link).exists()]
    assert links
    assert not missing
