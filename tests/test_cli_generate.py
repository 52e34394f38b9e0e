"""`python -m app generate`: pictures, the same again, stopped and gone on, failing at work."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from app import generate, keeper, options, planner, results
from app.images import read_recipe, save_png
from app.request import QUALITIES, make_request
from guidance.objectives import Match
from guidance.optimise import Diverged
from tests.commands import APPLE, ROOT, SMALL, Command, coloured, files, pixels
from tests.commands import cli as cli

MEASURE = planner.measure  # the real one: most tests do without its probes


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
    [
        ("红色的苹果", "will not understand '红色的苹果'"),
        ("красное яблоко near a house", "will not understand 'красное яблоко'"),
        ("a cell of 5 µm, naïve", None),
    ],
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
