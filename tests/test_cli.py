"""The manual of the command line, and its other commands: models, download, doctor and recipe."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from app import generate, options
from app.__main__ import EXAMPLES
from app.catalog import CLIPS, GENERATORS
from app.images import read_recipe
from app.request import CHOICES, QUALITIES, Regularisers, make_request
from tests.commands import APPLE, ROOT, Command, coloured, in_process
from tests.commands import cli as cli


def help_of(command: str) -> str:
    """The manual as one line, so that no line break splits what is looked for."""
    told = in_process(command, "--help").stdout
    return " ".join(re.sub("[│╭╰─╮╯]", " ", told).split())


# --- the manual ------------------------------------------------------------------------------


def test_help_comes_without_loading_torch() -> None:
    code = (
        "import sys; from typer.main import get_command; from app.__main__ import app; "
        "assert get_command(app).main(['generate', '--help'], standalone_mode=False) == 0; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'gradio', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("menu", CHOICES)
def test_the_manual_names_every_choice(menu: str) -> None:
    told = help_of("listen" if menu == "encoder" else "generate")
    assert [name for name in CHOICES[menu] if name not in told] == []


def test_the_manual_names_every_regulariser() -> None:
    told = help_of("generate")
    assert all(name.replace("_", "-") in told for name in Regularisers.model_fields)


def test_the_manual_states_the_real_defaults() -> None:
    told, plain = help_of("generate"), make_request({"prompt": "x"})
    for name in ("start", "optimiser", "schedule", "method", "distance", "noise", "before"):
        assert re.search(rf"--{name} .*?\[default: \({getattr(plain, name)}\)\]", told), name
    for name in ("steps", "views"):
        draft, normal, best = (settings[name] for settings in QUALITIES.values())
        assert f"[default: ({draft}, {normal} or {best})]" in told


def test_every_example_of_the_manual_can_be_parsed(
    cli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They reach the point where files are looked for; nothing in them is mistyped."""
    typed: list[options.Typed] = []
    monkeypatch.setattr(generate, "generate", typed.append)
    examples = re.findall(r"python -m app (.*)", EXAMPLES)
    for example in examples:
        assert cli(*shlex.split(example)).exit_code == 0, example
    assert len(typed) == len(examples) > 4


def test_only_what_works_is_offered() -> None:
    told = in_process("--help").stdout
    offered = {"generate", "edit", "listen", "models", "download", "doctor", "recipe"}
    assert offered <= set(told.split())
    assert not {"story", "explore"} & set(told.split())


# --- the other commands ----------------------------------------------------------------------


def test_models_lists_every_row_and_what_is_here(cli: Command) -> None:
    told = cli("models").stdout
    lines = {tuple(line.split()[:2]): line for line in told.splitlines()}
    assert {("generator", name) for name in GENERATORS} | {("clip", name) for name in CLIPS} < set(
        lines
    )
    assert " yes " in lines["generator", "pocket"]
    assert " no " in lines["generator", "imagenet_16384"]
    assert "980 MB" in lines["generator", "imagenet_16384"]


def test_download_of_what_is_here_says_so(cli: Command) -> None:
    result = cli("download", "pocket")
    assert result.exit_code == 0
    # a generator, a CLIP, a draft network, a judge and an ear
    assert result.stderr.count("was here") == 5


def test_download_of_what_nobody_knows_lists_what_there_is(cli: Command) -> None:
    refused = cli("download", "nope")
    assert refused.exit_code == 2
    assert "imagenet_16384" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_download_without_trust_or_network_says_what_to_do(
    cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNESTHETE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("SYNESTHETE_OFFLINE", "1")
    careful, offline = cli("download", "coco"), cli("download", "coco", "--trust-file")
    assert (careful.exit_code, offline.exit_code) == (2, 2)
    assert "--trust-file" in careful.stderr
    assert "SYNESTHETE_OFFLINE" in offline.stderr
    assert "pocket" in offline.stderr
    assert offline.stderr.count("\n") == 1


def test_the_doctor_finds_a_healthy_machine_healthy(cli: Command, tmp_path: Path) -> None:
    result = cli("doctor")
    assert result.exit_code == 0, result.stdout
    for word in ("device", "torch", "memory", "results", "sha256", str(tmp_path), "All is well"):
        assert word in result.stdout


def test_the_doctor_finds_what_is_wrong(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").touch()
    monkeypatch.setenv("SYNESTHETE_RESULTS", "file/below")
    result = cli("doctor")
    assert result.exit_code == 1
    assert "All is well" not in result.stdout
    assert "file" in result.stdout.splitlines()[-1]


def test_recipe_prints_what_can_be_read_back(cli: Command) -> None:
    path = cli("generate", *APPLE).stdout.strip()
    assert json.loads(cli("recipe", path).stdout) == read_recipe(path)


def test_recipe_of_a_strange_picture_is_refused(cli: Command) -> None:
    coloured("strange.png", 0)
    refused = cli("recipe", "strange.png")
    assert refused.exit_code == 2
    assert refused.stderr.count("\n") == 1
