"""`python -m app listen`: a sound becomes a picture; every option counts; what is refused, and how.

The Whisper is the one that comes with us; CLIP, draft network and ear are small ones.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from PIL import Image as Picture
from typer.main import get_command
from typer.testing import CliRunner, Result

from app import __main__ as program
from app import keeper, planner
from app.images import read_recipe
from app.models import Models
from guidance import clip
from guidance.audio_net import Ear
from guidance.clip import Clip
from guidance.draft import Draft

SHIP = Path(__file__).parent / "sounds" / "ship.flac"  # "a ship in a storm"
SMALL = "--generator pixels --size 32 --steps 3 --views 2 --seed 7 --chunk 2 --threads 1"
SMALL += " --precision float32"
MUTE = "--no-speech --no-mood"  # quick: neither the Whisper nor librosa is asked
LISTEN = get_command(program.app).commands["listen"]  # type: ignore[attr-defined]
RATE = 16_000

Run = Callable[[str], Result]


class Small(Models):
    """Our models, but a CLIP of two layers, a draft at random and an ear that learned nothing."""

    def __init__(self, folder: Path, drafter: Draft, ear: Ear) -> None:
        super().__init__()
        self.drafter, self.ear = drafter, ear
        self._load = functools.lru_cache(
            lambda precision: clip.load(folder, "cpu", getattr(torch, precision), space="pocket")
        )

    def clip(self, name: str, precision: str = "float32") -> Clip:
        return self._load(precision)

    def draft(self, name: str) -> Draft:
        return self.drafter

    def sound(self, name: str) -> Any:
        return self.ear if name == "pocket" else super().sound(name)


@pytest.fixture(scope="module")
def small(tiny_clip: Path, tiny_drafter: Draft, tiny_ear: Ear) -> Small:
    return Small(tiny_clip, tiny_drafter, tiny_ear)


def wave(kind: str, seconds: float = 1.5) -> NDArray[np.floating[Any]]:
    time = np.arange(round(seconds * RATE)) / RATE
    return {
        "low": 0.3 * np.sin(2 * np.pi * 200 * time),
        "high": 0.3 * np.sin(2 * np.pi * 3000 * time),
        "noise": np.random.default_rng(0).normal(0, 0.1, len(time)),
        "silence": np.zeros(len(time)),
    }[kind]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: Small) -> Iterator[None]:
    """An empty folder with sounds: one of two halves, one that is silent, one of speech."""
    threads = torch.get_num_threads()
    for place in ("app.listen.Models", "app.generate.Models"):
        monkeypatch.setattr(place, lambda device: small)
    monkeypatch.setattr(planner, "measure", lambda request, models: planner.Cost(1e-6, 1, 1e-3, 1))
    monkeypatch.setenv("SYNESTHETE_RESULTS", str(tmp_path / "results"))
    monkeypatch.chdir(tmp_path)
    halves = np.concatenate([wave("low"), wave("high")])
    soundfile.write("halves.wav", halves, RATE)
    soundfile.write("quiet.flac", wave("silence"), RATE)
    Path("ship.flac").write_bytes(SHIP.read_bytes())
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def kept() -> dict[str, tuple[Any, Any]]:
    """Requests and pictures that were made already: many changes begin with the same."""
    return {}


@pytest.fixture
def run() -> Run:
    def listen(line: str) -> Result:
        return CliRunner().invoke(program.app, shlex.split(line))

    return listen


def made(result: Result) -> Path:
    assert result.exit_code == 0, result.stderr
    return Path(result.stdout.strip().splitlines()[-1])


def request(path: Path) -> dict[str, Any]:
    return read_recipe(path)["request"]


def pixels(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Picture.open(path))


def files() -> set[str]:
    return {path.as_posix() for path in Path().glob("**/*")}


# --- what it does -----------------------------------------------------------------------------


def test_a_sound_becomes_a_picture_that_says_what_it_was_made_of(run: Run) -> None:
    result = run(f"listen halves.wav {MUTE} {SMALL}")
    path = made(result)
    assert pixels(path).shape == (32, 32, 3)
    (given,) = request(path)["sounds"]
    assert (given["name"], given["encoder"], given["weight"]) == ("halves.wav", "pocket", 1.0)
    assert (given["start"], given["seconds"]) == (0.0, 3.0)
    assert request(path)["prompt"] == ""
    assert result.stderr.startswith("Sounds like ")
    assert "Steered by 'halves.wav' (+1)." in result.stderr
    assert str(Path.cwd()) not in json.dumps(read_recipe(path))


def test_the_recipe_names_the_weights_of_the_ear(run: Run) -> None:
    hashes = read_recipe(made(run(f"listen halves.wav {MUTE} {SMALL}")))["models"]
    assert "sound/pocket/model.safetensors" in hashes


def test_what_is_said_becomes_the_prompt(run: Run) -> None:
    result = run(f"listen ship.flac --no-mood {SMALL}")
    path = made(result)
    assert request(path)["prompt"].lower() == "a ship in a storm"
    assert request(path)["sounds"] == []
    assert "Somebody says “" in result.stderr


def test_the_same_sound_under_another_name_gives_the_same_picture(run: Run) -> None:
    soundfile.write("copy.flac", soundfile.read("halves.wav", dtype="int16")[0], RATE)
    one, other = (
        made(run(f"listen {name} {MUTE} {SMALL}")) for name in ("halves.wav", "copy.flac")
    )
    assert request(one)["sounds"][0]["sha256"] == request(other)["sounds"][0]["sha256"]
    assert np.array_equal(pixels(one), pixels(other))


def test_a_plan_says_what_is_heard_and_makes_nothing(run: Run) -> None:
    before = files()
    result = run("listen halves.wav --no-speech --plan --quiet")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert re.match(r"Sounds like .*\nThis does not sound like music", result.stderr)
    assert files() == before


def test_silence_is_refused_and_told(run: Run) -> None:
    before = files()
    result = run(f"listen quiet.flac {SMALL}")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "1.5 s of silence: nothing in it can steer.",
        "'quiet.flac' is silent. Add words for what to draw, or give another sound.",
    ]
    assert files() == before


def test_beside_silence_the_text_steers_alone(run: Run) -> None:
    path = made(run(f"listen quiet.flac --text 'a fox' {SMALL}"))
    assert request(path)["sounds"] == []
    plain = made(run(f"generate 'a fox' {SMALL}"))
    assert np.array_equal(pixels(path), pixels(plain))


# --- every option -----------------------------------------------------------------------------

# option -> what it adds to a command that has it not
CHANGES = {
    "text": "--text 'a fox'",
    "weight_text": "--text 'a fox | snow::.5' --weight-text 3",
    "seed": "--seed 8",
    "begin": "--begin 1",
    "seconds": "--seconds 1",
    "weight_sound": "--text 'a fox' --weight-sound 3",
    "words": "--words 'a bus'",
    "no_sound": "--text 'a fox' --no-sound",
    "quality": "--quality best",
    "size": "--size 40x32",
    "steps": "--steps 2",
    "views": "--views 3",
    "generator": "--generator fourier",
    "clip": "--clip pocket --clip pocket=2",
    "precision": "--precision bfloat16",
}
# and where these begin, and which need more than the picture to be seen (tests of their own)
BESIDE = {
    "weight_text": "--text 'a fox | snow::.5'",
    **dict.fromkeys(("no_sound", "weight_sound"), "--text 'a fox'"),
}
ELSEWHERE = {
    "sound", "no_speech", "no_mood", "plan", "encoder", "speech", "out", "timelapse", "json",
    "quiet", "device", "chunk", "threads",
}  # fmt: skip


def test_every_option_is_tried() -> None:
    offered = {parameter.name for parameter in LISTEN.params}
    assert offered == set(CHANGES) | ELSEWHERE


@pytest.mark.parametrize("option", CHANGES)
def test_changed_alone_an_option_has_an_effect(
    option: str, run: Run, kept: dict[str, tuple[Any, Any]]
) -> None:
    begun = f"listen halves.wav {MUTE} {SMALL}"
    for more in (BESIDE.get(option, ""), CHANGES[option]):
        if more not in kept:
            path = made(run(f"{begun} {more}"))
            kept[more] = request(path), pixels(path)
    (asked, one), (differently, other) = kept[BESIDE.get(option, "")], kept[CHANGES[option]]
    assert asked != differently
    assert one.shape != other.shape or (one != other).any()


def test_what_was_misheard_is_corrected(run: Run) -> None:
    path = made(run(f"listen ship.flac --no-mood --no-sound --words 'a sheep' {SMALL}"))
    assert request(path)["prompt"] == "a sheep"


def test_a_voice_may_steer_as_a_sound_instead(run: Run) -> None:
    path = made(run(f"listen ship.flac {MUTE} {SMALL}"))
    assert request(path)["prompt"] == ""
    assert len(request(path)["sounds"]) == 1


def test_a_weight_of_0_leaves_the_sound_out_but_what_is_heard_is_told(run: Run) -> None:
    result = run(f"listen halves.wav --text 'a fox' --weight-sound 0 {MUTE} {SMALL}")
    assert request(made(result))["sounds"] == []
    assert "Sounds like" in result.stderr


def test_how_it_runs_is_as_with_generate(run: Run) -> None:
    result = run(f"listen halves.wav {MUTE} {SMALL} --json --quiet --timelapse --out a.png")
    report = json.loads(result.stdout)
    assert result.stderr == ""
    assert (report["path"], Path(report["timelapse"]).name) == ("a.png", "a.mp4")
    assert report["recipe"]["request"]["sounds"][0]["name"] == "halves.wav"
    assert {"a.png", "a.mp4"} <= files()


@pytest.mark.parametrize("seed", ["-1", None])
def test_a_drawn_seed_is_told(run: Run, seed: str | None) -> None:
    small = SMALL.replace("--seed 7", f"--seed {seed}" if seed else "")
    one, other = (made(run(f"listen halves.wav {MUTE} {small}")) for _ in range(2))
    assert request(one)["seed"] != request(other)["seed"]


# --- again, and on ----------------------------------------------------------------------------


def test_a_picture_made_of_a_sound_asks_for_the_sound_again_with_its_section(run: Run) -> None:
    first = made(run(f"listen halves.wav --begin 1 --seconds 1.5 --weight-sound 2 {MUTE} {SMALL}"))
    again = f"generate --from {shlex.quote(str(first))}"
    refused = run(again)
    assert refused.exit_code == 2
    assert "'halves.wav'" in refused.stderr
    assert "--sound FILE" in refused.stderr
    second = made(run(f"{again} --sound halves.wav"))
    assert request(second)["sounds"] == request(first)["sounds"]
    assert request(second)["sounds"][0]["start"] == 1.0
    assert np.array_equal(pixels(first), pixels(second))


def test_the_sound_that_is_asked_for_may_have_got_another_name(run: Run) -> None:
    first = made(run(f"listen halves.wav --weight-sound 2 {MUTE} {SMALL}"))
    Path("halves.wav").rename("renamed.wav")
    second = made(run(f"generate --from {shlex.quote(str(first))} --sound renamed.wav"))
    assert request(second)["sounds"] == request(first)["sounds"]


def test_another_sound_of_the_same_name_is_not_taken_for_it(run: Run) -> None:
    first = made(run(f"listen halves.wav {MUTE} {SMALL}"))
    soundfile.write("halves.wav", wave("noise", 3), RATE)
    second = made(run(f"generate --from {shlex.quote(str(first))} --sound halves.wav"))
    assert request(second)["sounds"][0]["sha256"] != request(first)["sounds"][0]["sha256"]
    assert not np.array_equal(pixels(first), pixels(second))


def _stopped(run: Run, line: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Stop a run after its second step; return the command that goes on."""
    take = keeper.Keeper.take

    def stopping(self: keeper.Keeper, step: Any) -> None:
        take(self, step)
        if step.step.index == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(keeper.Keeper, "take", stopping)
        stopped = run(line)
    assert stopped.exit_code == 130, stopped.stderr
    return stopped.stderr.split("Go on with: python -m app ")[1]


@pytest.mark.parametrize(
    "line",
    [
        f"listen halves.wav --begin 1 --seconds 1.5 --text fog {MUTE}",
        "listen ship.flac --no-mood --no-speech --words 'a ship' --no-sound",
        "listen quiet.flac --text 'a fox'",
        "generate 'a fox' --sound halves.wav::2::0.1",
    ],
)
def test_stopped_and_resumed_equals_never_stopped(
    line: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(run(f"{line} {SMALL} --steps 4 --out whole.png"))
    go_on = _stopped(run, f"{line} {SMALL} --steps 4 --out part.png", monkeypatch)
    resumed = made(run(go_on))
    assert np.array_equal(pixels(whole), pixels(resumed))


def test_a_resumed_run_wants_the_sound_it_began_with(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = _stopped(run, f"listen halves.wav {MUTE} {SMALL}", monkeypatch)
    assert "--sound halves.wav" in go_on
    without = run(go_on.replace("--sound halves.wav", ""))
    assert without.exit_code == 2
    assert "--sound FILE" in without.stderr
    soundfile.write("other.wav", wave("noise"), RATE)
    other = run(go_on.replace("halves.wav", "other.wav"))
    assert other.exit_code == 2
    assert other.stderr.count("\n") == 1


# --- what is refused --------------------------------------------------------------------------


def _bad(name: str) -> None:
    """Write a file that cannot be a sound (or not the one that it claims to be)."""
    tone = wave("low", 1.0)
    makers: dict[str, Callable[[Path], object]] = {
        "empty.wav": lambda path: path.touch(),
        "header.wav": lambda path: soundfile.write(path, tone[:0], RATE),
        "click.wav": lambda path: soundfile.write(path, tone[:100], RATE),
        "nan.wav": lambda path: soundfile.write(path, tone * np.nan, RATE, "FLOAT"),
        "slow.wav": lambda path: soundfile.write(path, tone, 1_000),
        "many.wav": lambda path: soundfile.write(path, np.zeros((9_000, 33)), RATE),
        "cut.flac": lambda path: path.write_bytes(SHIP.read_bytes()[:200]),
        "text.mp3": lambda path: path.write_text("A red apple.\n" * 50),
        "picture.ogg": lambda path: Picture.new("RGB", (32, 32)).save(path, "PNG"),
        "old.aiff": lambda path: soundfile.write(path, tone, RATE),
        "folder.wav": lambda path: path.mkdir(),
    }
    if name in makers:
        makers[name](Path(name))


BAD_FILES = (
    "missing.wav empty.wav header.wav click.wav nan.wav slow.wav many.wav cut.flac text.mp3 "
    "picture.ogg old.aiff folder.wav"
).split()
BAD = [
    "halves.wav --begin -1",
    "halves.wav --begin nan",
    "halves.wav --begin 3",
    "halves.wav --begin 2.9",
    "halves.wav --begin x",
    "halves.wav --seconds 0.1",
    "halves.wav --seconds 121",
    "halves.wav --seconds inf",
    "halves.wav --weight-sound 21",
    "halves.wav --weight-sound nan",
    "halves.wav --weight-sound 0",
    "halves.wav --text 'a fox::99'",
    "halves.wav --text 'a fox' --weight-text 21",
    "halves.wav --text 'a fox' --weight-text nan",
    "halves.wav --words '::2'",
    "halves.wav --no-sound",
    "halves.wav --encoder nope",
    "halves.wav --encoder wav2clip",
    "halves.wav --generator nope",
    "halves.wav --size 8192",
    "halves.wav --steps 0",
    "halves.wav --out missing/folder",
    "halves.wav --nonsense",
    "halves.wav halves.wav",
    "",
]


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_sentence_and_status_2(name: str, run: Run) -> None:
    _bad(name)
    before = files()
    _is_refused(run(f"listen {name} {MUTE} {SMALL} --quiet"))
    assert files() == before


@pytest.mark.parametrize("name", ["missing.wav", "text.mp3"])
def test_generate_refuses_the_same(name: str, run: Run) -> None:
    _bad(name)
    _is_refused(run(f"generate x --sound {name} {SMALL} --quiet"))


def _is_refused(result: Result) -> None:
    assert result.exit_code == 2, result.stderr
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert len(result.stderr) > 20
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("line", BAD, ids=lambda line: line or "nothing")
def test_bad_options_are_one_sentence_and_status_2(line: str, run: Run) -> None:
    before = files()
    _is_refused(run(f"listen {SMALL} {MUTE} --quiet {line}"))
    assert files() == before


@pytest.mark.parametrize(
    "line",
    [
        "generate x --sound halves.wav::21",
        "generate x --sound halves.wav::nan",
        "generate x --sound halves.wav::1::-1",
        "generate --sound halves.wav::0",
        "generate --sound halves.wav::-1 --start draft",
        "listen halves.wav --no-mood --speech nope",
    ],
)
def test_bad_weights_and_names_are_one_sentence(line: str, run: Run) -> None:
    _is_refused(run(f"{line} {SMALL} --quiet"))


def test_an_unknown_ear_lists_those_we_have(run: Run) -> None:
    told = run(f"listen halves.wav --encoder nope {MUTE}").stderr
    assert all(name in told for name in ("nope", "pocket", "wav2clip"))
