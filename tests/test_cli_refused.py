"""Bad input to `generate`: one line, exit status 2, nothing written; a weight told from a path."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image as Picture
from safetensors.torch import save_file

from app import planner, recipe
from app.catalog import CLIPS, GENERATORS
from app.images import save_png
from app.options import weighted
from tests.commands import Command, coloured, files, pixels
from tests.commands import cli as cli


def bomb() -> bytes:
    """A PNG that says it is 50,000 pixels wide and high."""
    header = b"IHDR" + (50_000).to_bytes(4, "big") * 2 + b"\x01\0\0\0\0"
    return b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + header + zlib.crc32(header).to_bytes(4, "big")


@pytest.fixture
def material(cli: Command) -> None:
    """Files of every kind that cannot be used, and a few that can."""
    coloured("good.png", 0)
    good = Path("good.png").read_bytes()
    Path("empty.png").touch()
    Path("text.png").write_text("no picture")
    Path("half.png").write_bytes(good[: len(good) // 2])
    Path("bomb.png").write_bytes(bomb())
    Path("drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    Path("tiny.png").write_bytes(good)
    Picture.new("RGB", (8, 8)).save("tiny.png")
    Path("folder").mkdir()
    newer = {"synesthete": "99.0.0", "request": {"prompt": "x"}}
    save_png("newer.png", pixels("good.png"), newer)
    save_png("odd.png", pixels("good.png"), {**newer, "synesthete": recipe.VERSION, "request": {}})
    vectors = {
        "unnamed": ({"embedding": torch.ones(4)}, None),
        "other": ({"vector": torch.ones(4)}, {"space": "pocket"}),
        "nan": ({"embedding": torch.full((4,), torch.nan)}, {"space": "pocket"}),
        "zero": ({"embedding": torch.zeros(4)}, {"space": "pocket"}),
        "short": ({"embedding": torch.ones(4)}, {"space": "pocket"}),
        "foreign": ({"embedding": torch.ones(4)}, {"space": "ViT-B-32-openai"}),
    }
    for name, (tensors, metadata) in vectors.items():
        save_file(tensors, f"{name}.safetensors", metadata=metadata)
    Path("none.txt").write_text("# nothing\n\n")
    Path("binary.txt").write_bytes(b"\xff\xfe\0x")
    Path("third.txt").write_text("a\n\nb::99\n")


NUMBERS = {
    "--steps": "0 -5 1000000000 3.7 many 2001",
    "--size": "0 -1 16 8192 250x31 64x 64x64x64 large 1e2 99999999999",
    "--seed": "-2 9223372036854775808 18446744073709551616 1.5 seven",
    "--views": "0 129 10000 2.5",
    "--chunk": "0 129 x",
    "--threads": "0 257 x",
    "--step-size": "0 -1 1.1 1e6 nan inf 1e999 small",
    "--ema": "1 -0.1 nan x",
    "--noise": "1.1 -1 nan inf",
    "--patience": "-1 2001 0.5",
    "--count": "0 -1 x 1001",
    "--save-every": "0 x 2001",
}
NAMES = "generator clip start optimiser schedule method augment distance quality precision device"
PICTURES = "missing.png empty.png text.png half.png bomb.png drawing.svg tiny.png folder"
VECTORS = "missing good.png unnamed other nan zero short foreign"
BAD = [
    [],
    [""],
    ["   "],
    ["\u202e\u2066"],
    ["x" * 2001],
    ["|".join("abcdefghijklmnopqr")],
    ["a::20.1"],
    ["a::1e9"],
    ["a::1e999"],
    ["a::0"],
    ["a::0 | b::0"],
    ["::2"],
    ["a::1::-1"],
    ["x", "--negative", "a::1e9"],
    *(["x", option, value] for option, values in NUMBERS.items() for value in values.split()),
    *(
        ["x", f"--{name}", value]
        for name in NAMES.split()
        for value in ("nope", "POCKET", "../../x")
    ),
    *(["x", option, name] for option in ("--init", "--image-prompt") for name in PICTURES.split()),
    ["x", "--image-prompt", "good.png::21"],
    ["x", "--image-prompt", "good.png::1e999"],
    ["x", "--image-prompt", "good.png::nan"],
    ["x", "--image-prompt", "good.png::1::-1"],
    ["--image-prompt", "good.png::0"],
    ["x", *["--image-prompt", "good.png"] * 17],
    *(["x", "--embedding", f"{name}.safetensors"] for name in VECTORS.split()),
    ["x", "--clip", "pocket=0"],
    ["x", "--clip", "pocket=much"],
    ["x", "--clip", "pocket=nan"],
    ["x", *["--clip", "pocket"] * 5],
    *(
        ["x", "--regularise", value]
        for value in ("fog=1", "smoothness", "smoothness=x", "smoothness=-1", "symmetry=1000")
    ),
    ["x", "--regularise", "palette=1"],
    ["x", "--palette", "#ff0000"],
    ["x", "--palette", "#ff00", "--regularise", "palette=1"],
    ["x", "--palette", "red", "--regularise", "palette=1"],
    ["x", "--palette", "#ff0000 " * 33, "--regularise", "palette=1"],
    ["x", "--init-noise", "0.5"],
    ["x", "--init", "good.png", "--init-noise", "1.5"],
    ["x", "--distance", "directional"],
    ["x", "--out", "missing/folder"],
    ["x", "--out", "missing/apple.png"],
    ["x", "--out", "/sys"],
    ["x", "--out", "/sys/apple.png"],
    ["x", "--init", "good.png", "--init-noise", "nan"],
    ["x", "--init", "good.png", "--distance", "directional", "--before", "x" * 2001],
    ["x", "--init", "good.png", "--distance", "directional", "--negative", "y"],
    ["--image-prompt", "good.png", "--start", "draft"],
    ["x::-1", "--image-prompt", "good.png", "--start", "draft"],
    ["x::1::0.2", "--init", "good.png", "--distance", "directional"],
    ["x", "--out", "good.png"],
    ["x", "--out", "good.png/apple.png"],
    ["x", "--out", "apple.jpg"],
    ["x", "--out", "apple.png", "--count", "2"],
    ["--prompts-file", "missing.txt"],
    ["--prompts-file", "none.txt"],
    ["--prompts-file", "binary.txt"],
    ["--prompts-file", "third.txt"],
    ["--prompts-file", "folder"],
    ["x", "--prompts-file", "third.txt"],
    *(["--from", name] for name in ("missing.png", "good.png", "text.png", "newer.png", "odd.png")),
    *(["--resume", name] for name in ("missing", "good.png", "short.safetensors", "folder")),
    ["--resume", "short.safetensors", "--steps", "3"],
    ["--resume", "short.safetensors", "--from", "good.png"],
    ["x", "--nonsense"],
    ["x", "y"],
    ["x", "--steps"],
]


@pytest.mark.usefixtures("material")
@pytest.mark.parametrize("words", BAD, ids=lambda words: " ".join(words)[:60] or "nothing")
def test_bad_input_is_one_line_and_status_2_and_nothing_is_written(
    words: list[str], cli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "make", None)  # it must not come to that
    before = files()
    refused = cli("generate", *words)
    assert refused.exit_code == 2, refused.stderr
    assert refused.stdout == ""
    assert refused.stderr.count("\n") == 1, refused.stderr
    assert "Traceback" not in refused.stderr
    assert len(refused.stderr) > 20
    assert files() == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["x", "--generator", "nope"], list(GENERATORS)),
        (["x", "--clip", "nope"], list(CLIPS)),
        (["x", "--optimiser", "nope"], ["adam", "radam"]),
        (["x", "--augment", "Af Xx"], ["Xx", "Hf"]),
        (["x", "--size", "8192"], ["8192", "2048"]),
        (["x", "--steps", "0"], ["0", "1"]),
        (["a::99"], ["99", "-20 to 20"]),
        (["--prompts-file", "third.txt"], ["third.txt, line 3", "99"]),
        (["--from", "newer.png"], ["99.0.0", recipe.VERSION]),
        (["x", "--regularise", "fog=1"], ["fog", "text-off"]),
        (["--resume", "short.safetensors", "--steps", "3"], ["--steps"]),
        (["x", "--clip", "ViT-B-32-openai"], ["--trust-file", "pocket"]),
    ],
)
@pytest.mark.usefixtures("material")
def test_a_refusal_says_what_was_given_and_what_there_is(
    words: list[str], told: list[str], cli: Command
) -> None:
    sentence = cli("generate", *words).stderr
    assert [part for part in told if part not in sentence] == []


def test_control_characters_never_reach_the_terminal(cli: Command) -> None:
    refused = cli("generate", "x", "--optimiser", "a\x1b[2Jb\r\nc\u202ed")
    assert refused.stderr.count("\n") == 1
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", refused.stderr)


@pytest.mark.parametrize(
    ("typed", "path", "steering"),
    [
        ("a.png", "a.png", {}),
        ("a.png::0.5", "a.png", {"weight": 0.5}),
        ("a.png::-2::0.25", "a.png", {"weight": -2.0, "stop": 0.25}),
        (r"C:\pictures\a.png", r"C:\pictures\a.png", {}),
        (r"C:\pictures\a.png::.5", r"C:\pictures\a.png", {"weight": 0.5}),
        ("a::b.png", "a::b.png", {}),
        ("a::b.png::1", "a::b.png", {"weight": 1.0}),
        ("a.png::", "a.png::", {}),
        ("a.png::nan", "a.png::nan", {}),
    ],
)
def test_a_weight_is_told_from_a_path(typed: str, path: str, steering: dict[str, float]) -> None:
    assert weighted(typed) == (Path(path), steering)


def test_a_file_that_is_really_called_so_is_that_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.png::2").touch()
    assert weighted("a.png::2") == (Path("a.png::2"), {})
