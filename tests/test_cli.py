"""The command line as a person meets it: what it prints, what it writes, how it ends."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as Picture
from safetensors.torch import save_file
from typer.main import get_command

from app import generate, keeper, options, planner, recipe, results
from app.__main__ import EXAMPLES, app
from app.catalog import CLIPS, GENERATORS
from app.images import read_recipe, save_png
from app.options import weighted
from app.request import CHOICES, QUALITIES, Regularisers, make_request
from guidance.objectives import Match
from guidance.optimise import Diverged

ROOT = Path(__file__).parent.parent
SMALL = "--size 32 --views 1 --seed 7 --threads 1 --precision float32".split()
APPLE = ["a red apple", *SMALL, "--steps", "3"]

MEASURE = planner.measure  # the real one: most tests do without its probes
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


# --- pictures --------------------------------------------------------------------------------


def test_a_prompt_becomes_a_picture_in_the_stated_folder(cli: Command) -> None:
    result = cli("generate", *APPLE)
    assert result.exit_code == 0, result.stderr
    path = Path(result.stdout.strip())
    assert path == Path("results/a-red-apple-seed7.png").absolute()
    assert pixels(path).shape == (32, 32, 3)
    assert read_recipe(path)["request"]["prompt"] == "a red apple"


def test_it_says_what_it_understood_before_it_starts(
    cli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "measure", MEASURE)
    told = cli("generate", "a fox::2 | blurry::-0.5", *SMALL, "--steps", "1").stderr
    assert "'a fox' (+2), 'blurry' (-0.5)" in told
    assert re.search(r"about \d+ s, \d+\.\d GB", told)
    assert str(results.folder()) in told


def test_it_says_what_is_not_to_the_letter(cli: Command) -> None:
    told = cli("generate", "very " * 300, *SMALL, "--steps", "1", "--size", "50x35").stderr
    assert "48x32" in told
    assert "does not read" in told


def test_words_that_are_read_are_not_complained_about(cli: Command) -> None:
    assert "does not read" not in cli("generate", *APPLE).stderr


def test_progress_is_told_with_step_loss_and_speed(cli: Command) -> None:
    told = cli("generate", *APPLE).stderr
    assert re.search(r"step 3/3  loss -?\d\.\d+  \d+\.\d (steps/s|s a step)", told)


def test_nothing_is_ever_overwritten(cli: Command) -> None:
    first, second = (Path(cli("generate", *APPLE).stdout.strip()) for _ in range(2))
    assert first.name == "a-red-apple-seed7.png"
    assert second.name == "a-red-apple-seed7-2.png"
    assert (pixels(first) == pixels(second)).all()


def test_a_drawn_seed_is_told_and_makes_the_same_picture_again(cli: Command) -> None:
    small = [word for word in APPLE if word not in ("--seed", "7")]
    drawn = [
        json.loads(cli("generate", *small, *more, "--json").stdout) for more in ((), ("--seed", -1))
    ]
    assert drawn[0]["seed"] != drawn[1]["seed"]
    again = cli("generate", *small, "--seed", drawn[0]["seed"]).stdout.strip()
    assert (pixels(again) == pixels(drawn[0]["path"])).all()


def test_seed_0_is_seed_0(cli: Command) -> None:
    assert json.loads(cli("generate", *APPLE, "--seed", 0, "--json").stdout)["seed"] == 0


def test_json_prints_one_line_for_each_picture_and_nothing_else(cli: Command) -> None:
    result = cli("generate", *APPLE, "--count", 2, "--json")
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert (first["seed"], second["seed"]) == (7, 8)
    assert {"path", "seed", "seconds", "losses", "recipe"} <= set(first)
    assert first["losses"]["a red apple"] > 0
    assert first["recipe"] == read_recipe(first["path"])
    assert (pixels(first["path"]) != pixels(second["path"])).any()
    names = "|".join(re.escape(Path(one["path"]).name) for one in (first, second))
    assert re.search(f"Of these 2 the judge likes ({names}) best", result.stderr)


def test_quiet_prints_where_the_picture_is_and_nothing_else(cli: Command) -> None:
    result = cli("generate", *APPLE, "--quiet")
    assert result.stderr == ""
    assert Path(result.stdout.strip()).exists()


def test_a_file_of_prompts_makes_a_picture_of_each(cli: Command) -> None:
    Path("prompts.txt").write_text("a red apple\n\n# no fruit\n  a blue boat\n", encoding="utf-8")
    result = cli("generate", "--prompts-file", "prompts.txt", *SMALL, "--steps", 1, "--count", 2)
    names = [Path(line).name for line in result.stdout.splitlines()]
    assert names == [
        f"{what}-seed{seed}.png" for what in ("a-red-apple", "a-blue-boat") for seed in (7, 8)
    ]
    assert "the judge" not in result.stderr  # they are to show different things


def test_pictures_on_the_way_are_kept(cli: Command) -> None:
    result = cli("generate", *SMALL, "a red apple", "--steps", 5, "--save-every", 2, "--out", ".")
    assert files() == {f"a-red-apple-seed7{step}.png" for step in ("", "-step2", "-step4")}
    assert read_recipe("a-red-apple-seed7-step2.png")["run"]["steps"] == 2
    assert result.stdout.strip() == "a-red-apple-seed7.png"


def test_a_timelapse_lies_beside_the_picture(cli: Command) -> None:
    result = cli("generate", *APPLE, "--timelapse", "--coarse-to-fine", "--size", 64, "--json")
    about = json.loads(result.stdout)
    assert Path(about["timelapse"]) == Path(about["path"]).with_suffix(".mp4")
    with av.open(about["timelapse"]) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) > 4
    assert frames[0].shape == (64, 64, 3)
    assert np.abs(frames[-1].astype(float) - pixels(about["path"])).mean() < 10


def test_it_says_so_when_little_memory_changes_how_it_works(
    cli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = planner.plan

    def tight(*given: Any) -> Any:
        request, expected = real(*given)
        return request.model_copy(update={"chunk": 1}), expected

    monkeypatch.setattr(planner, "plan", tight)
    told = cli("generate", *APPLE, "--views", "4", "--chunk", "4").stderr
    assert "Little memory is free: 1 views at a time instead of 4" in told


@pytest.mark.parametrize(
    ("prompt", "told"),
    [("红色的苹果", "will not understand '红色的苹果'"), ("a cell of 5 µm, naïve", None)],
)
def test_letters_that_no_model_reads_are_told(cli: Command, prompt: str, told: str | None) -> None:
    said = cli("generate", prompt, *SMALL, "--steps", "1").stderr
    assert (told in said) if told else ("will not understand" not in said)


def test_the_average_is_what_is_saved(cli: Command) -> None:
    """With almost no weight on what is new, the average stays near the start."""
    paper = (*APPLE, "--generator", "pixels", "--start", "flat")
    plain = pixels(cli("generate", *paper).stdout.strip()).astype(float)
    calm = pixels(cli("generate", *paper, "--ema", 0.99).stdout.strip())
    assert np.abs(calm - 235.0).mean() < np.abs(plain - 235.0).mean()


def test_names_are_safe_and_telling() -> None:
    def name(prompt: str) -> str:
        return results.name(make_request({"prompt": prompt, "seed": 2**63 - 1}))

    tail = "-seed9223372036854775807.png"
    assert name("A  red/apple: on*a?") == f"a-red-apple-on-a{tail}"
    assert name("a fox::2 | blurry::-1") == f"a-fox{tail}"
    assert name("!!!") == f"picture{tail}"
    assert name("../../etc/passwd") == f"etc-passwd{tail}"
    assert name("Äpfel und Bäume") == f"äpfel-und-bäume{tail}"
    for prompt in ("word " * 300, "x" * 2000, "\U0001f34e 苹果" * 300, "苹" * 500):
        assert len(name(prompt)) <= 80
        assert len(name(prompt).encode()) <= 200
    assert name("very " * 300) == f"{'-'.join(['very'] * 8)}{tail}"


# --- again, and on ---------------------------------------------------------------------------


def test_from_repeats_a_picture_bit_for_bit(cli: Command) -> None:
    first = cli("generate", *APPLE, "--chunk", 1).stdout.strip()
    again = cli("generate", "--from", first)
    assert (pixels(first) == pixels(again.stdout.strip())).all()
    assert read_recipe(first) == read_recipe(again.stdout.strip())
    assert "differences" not in again.stderr


def test_what_is_given_with_from_changes_it(cli: Command) -> None:
    first = cli("generate", *APPLE).stdout.strip()
    other = cli(
        "generate", "--from", first, "a blue boat", "--quality", "draft", "--size", 40, "--steps", 1
    )
    request = read_recipe(other.stdout.strip())["request"]
    assert (request["prompt"], request["width"], request["steps"]) == ("a blue boat", 40, 1)
    assert (request["views"], request["seed"]) == (QUALITIES["draft"]["views"], 7)


def test_a_recipe_asks_for_the_pictures_that_it_names(cli: Command) -> None:
    apple = Path(cli("generate", *APPLE).stdout.strip())
    first = cli("generate", *APPLE, "--init", apple, "--image-prompt", f"{apple}::3").stdout.strip()
    refused = cli("generate", "--from", first)
    assert refused.exit_code == 2
    assert "--init FILE" in refused.stderr
    assert refused.stderr.count("\n") == 1
    again = cli("generate", "--from", first, "--init", apple, "--image-prompt", apple)
    assert (pixels(first) == pixels(again.stdout.strip())).all()
    assert read_recipe(first)["request"]["pictures"][0]["weight"] == 3


def test_a_repeat_with_other_weights_is_told(cli: Command) -> None:
    first = cli("generate", *APPLE).stdout.strip()
    changed = read_recipe(first)
    changed["models"] = dict.fromkeys(changed["models"], "0" * 64)
    save_png("other.png", pixels(first), changed)
    assert "changed since" in cli("generate", "--from", "other.png").stderr


class Interruption:
    """Sends a signal to this very process when a step is reached, as a person would."""

    def __init__(self, at: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        take = keeper.Keeper.take

        def stopped(self: keeper.Keeper, made: Any) -> None:
            take(self, made)
            if made.step.index == at:
                os.kill(os.getpid(), number)

        monkeypatch.setattr(keeper.Keeper, "take", stopped)


def go_on(told: str) -> list[str]:
    """The words of the command that a stopped run gives, without `python -m app`."""
    return shlex.split(told.split("Go on with: ")[1])[3:]


@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM"])
def test_a_stopped_run_keeps_its_picture_and_says_how_to_go_on(
    signal_name: str, cli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        Interruption(2, signal.Signals[signal_name], patch)
        stopped = cli("generate", *SMALL, "a red apple", "--steps", 500, "--out", ".")
    assert stopped.exit_code == 130
    assert stopped.stdout == ""
    assert files() == {"a-red-apple-seed7-step2.png", "a-red-apple-seed7-step2.safetensors"}
    assert read_recipe("a-red-apple-seed7-step2.png")["run"]["steps"] == 2
    assert go_on(stopped.stderr)[:3] == [
        "generate",
        "--resume",
        "a-red-apple-seed7-step2.safetensors",
    ]


HOW = [
    *({"--generator": name} for name in ("pocket", "fourier", "pyramid", "pixels")),
    *({"--optimiser": name} for name in ("adamax", "rmsprop")),
    {"--ema": "0.7", "--schedule": "cosine", "--regularise": "pull=5"},
    {"--coarse-to-fine": None, "--patience": "50"},
]


@pytest.mark.parametrize(
    "how", HOW, ids=lambda how: " ".join(how | {}) + " " + str(next(iter(how.values())))
)
def test_stopped_and_resumed_equals_never_stopped(
    how: dict[str, str | None], cli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*SMALL, "a red apple", "--steps", "6", "--generator", "fourier"]
    words += [word for pair in how.items() for word in pair if word]
    whole = cli("generate", *words, "--out", "whole.png")
    assert whole.exit_code == 0, whole.stderr
    with monkeypatch.context() as patch:
        Interruption(4, signal.SIGINT, patch)
        stopped = cli("generate", *words, "--out", "part.png")
    assert stopped.exit_code == 130
    resumed = cli(*go_on(stopped.stderr))
    assert resumed.exit_code == 0, resumed.stderr
    assert resumed.stdout.strip() == "part.png"
    assert (pixels("whole.png") == pixels("part.png")).all()


def test_a_resumed_run_wants_the_pictures_it_began_with(
    cli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    coloured("one.png", 1)
    coloured("two.png", 2)
    begun = ["generate", *APPLE, "--image-prompt", "one.png::2", "--out", "apple.png"]
    with monkeypatch.context() as patch:
        Interruption(1, signal.SIGINT, patch)
        stopped = cli(*begun)
    command = go_on(stopped.stderr)
    assert "one.png::2" in command
    other = cli(*[word.replace("one.png", "two.png") for word in command])
    assert other.exit_code == 2
    assert "other pictures" in other.stderr
    assert cli(*command).exit_code == 0
    Path("apple.png").unlink()
    assert cli(*[word.replace("::2", "") for word in command]).exit_code == 0


def test_a_real_process_stops_at_ctrl_c_long_before_its_end(tmp_path: Path) -> None:
    """A signal in the middle of anything: between steps, inside one, in a backward pass."""
    words = ["a red apple", *SMALL, "--steps", "2000", "--out", str(tmp_path), "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "generate", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    told = ""
    while "step 0/2000" not in told and process.poll() is None:
        told += process.stderr.readline()
    process.send_signal(signal.SIGINT)
    printed, rest = process.communicate(timeout=120)
    assert process.returncode == 130, told + rest
    assert printed == ""
    assert "Traceback" not in rest
    (picture,) = tmp_path.glob("*.png")
    assert read_recipe(picture)["run"]["steps"] < 2000
    assert str(next(tmp_path.glob("*.safetensors"))) in go_on(rest)


# --- failing while working -------------------------------------------------------------------


def broken_at(look: int, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let the guide fail when it looks for the so-manieth time."""
    looks, match = iter(range(1000)), Match.__call__

    def fail(self: Match, image: torch.Tensor) -> Any:
        if next(looks) == look:
            raise error
        return match(self, image)

    monkeypatch.setattr(Match, "__call__", fail)


@pytest.mark.parametrize(
    "error", [Diverged("The picture diverged."), RuntimeError("a kernel\nfailed"), OSError("disk")]
)
def test_a_run_that_fails_keeps_the_picture_so_far(
    error: Exception, cli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        broken_at(2, patch, error)
        failed = cli("generate", *APPLE, "--out", "apple.png", "--quiet")
    assert failed.exit_code == 1
    assert failed.stdout == ""
    assert failed.stderr.count("\n") == 1
    assert " ".join(str(error).split()) in failed.stderr
    assert files() == {"apple-step1.png", "apple-step1.safetensors"}
    assert cli(*go_on(failed.stderr)).exit_code == 0
    assert pixels("apple.png").shape == (32, 32, 3)


def test_a_run_that_fails_at_once_writes_nothing(
    cli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_at(0, monkeypatch, RuntimeError("no"))
    failed = cli("generate", *APPLE, "--quiet", "--timelapse")
    assert failed.exit_code == 1
    assert failed.stderr.count("\n") == 1
    assert files() == set()


def test_memory_that_runs_out_is_told_and_the_recipe_holds_what_was_used(
    cli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_at(1, monkeypatch, MemoryError("out of memory"))
    result = cli("generate", *APPLE, "--views", 2, "--chunk", 2)
    assert result.exit_code == 0
    assert "Memory ran out" in result.stderr
    assert read_recipe(result.stdout.strip())["request"]["chunk"] == 1


def test_a_folder_that_vanishes_while_running_costs_nothing(
    cli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = keeper.Keeper.take

    def vanish(self: keeper.Keeper, made: Any) -> None:
        if made.step.last:
            Path("there").rmdir()
            Path("there").write_text("no folder any more")
        take(self, made)

    Path("there").mkdir()
    monkeypatch.setattr(keeper.Keeper, "take", vanish)
    monkeypatch.setattr(keeper.tempfile, "gettempdir", lambda: str(Path("spare").absolute()))
    failed = cli("generate", *APPLE, "--out", "there", "--quiet")
    assert failed.exit_code == 1
    assert failed.stderr.count("\n") == 1
    assert {"spare/a-red-apple-seed7-step3.png"} < files()


def test_a_bug_is_one_line_and_no_traceback(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(typed: options.Typed) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(generate, "generate", fail)
    failed = cli("generate", "x")
    assert failed.exit_code == 1
    assert failed.stderr.count("\n") == 1
    assert "ZeroDivisionError" in failed.stderr


# --- bad input: one line, exit status 2, nothing written -------------------------------------


def coloured(path: str, seed: int) -> None:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    Picture.fromarray(coarse.repeat(8, axis=0).repeat(8, axis=1)).save(path)


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
