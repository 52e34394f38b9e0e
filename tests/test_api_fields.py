"""What may stand in an order: one validator, the same fields at the command line, the documents."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image as Picture
from typer.testing import CliRunner

from app import orders
from app.__main__ import app as command_line
from app.__main__ import edit, generate, listen
from app.errors import Refused
from app.options import RUN_ONLY
from tests.tiny_studio import SMALL, made, photo, send
from tests.tiny_studio import address as address
from tests.tiny_studio import client as client
from tests.tiny_studio import models as models
from tests.tiny_studio import results as results
from tests.tiny_studio import studio as studio

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "docs/api.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = [
    (language, code)
    for document in (DOCS, README)
    for language, code in re.findall(r"```(\w+)\n(.*?)```", document, re.S)
    if "127.0.0.1:7860" in code
]


# --- one validator ---------------------------------------------------------------------------

BROKEN: list[tuple[str, dict[str, Any], str, str | None]] = [
    ("X1 nothing", {"prompt": ""}, "prompt.empty", "prompt"),
    ("X1 blanks", {"prompt": " \n\t "}, "prompt.empty", "prompt"),
    ("X2 10k characters", {"prompt": "a" * 10_000}, "prompt.long", "prompt"),
    ("X5 control characters alone", {"prompt": "\x00\x01"}, "prompt.empty", "prompt"),
    ("X7 a number that overflows", {"prompt": "a::1e400"}, "prompt.weight", "prompt"),
    ("X8 a huge weight", {"prompt": "a::1e9"}, "prompt.weight", "prompt"),
    ("X11 all weights are 0", {"prompt": "a::0 | b::0"}, "prompt.weight", "prompt"),
    ("X13 200 prompts", {"prompt": "|".join("a" * 200)}, "prompt.many", "prompt"),
    ("X8 negative", {"negative": "a::-21"}, "prompt.weight", "negative"),
    ("P1 no steps", {"steps": 0}, "request.steps", "steps"),
    ("P1 steps below 0", {"steps": -5}, "request.steps", "steps"),
    ("P1 1e9 steps", {"steps": 10**9}, "request.steps", "steps"),
    ("P2 NaN", {"noise": float("nan")}, "request.noise", "noise"),
    ("P2 infinite", {"noise": float("inf")}, "request.noise", "noise"),
    ("P2 below all", {"step_size": float("-inf")}, "request.step_size", "step_size"),
    ("P4 no size", {"size": "0"}, "request.width", "size"),
    ("P4 a size below 0", {"size": "-64"}, "request.size", "size"),
    ("P4 16 pixels", {"size": "16"}, "request.width", "size"),
    ("P4 8192 pixels", {"size": "64x8192"}, "request.height", "size"),
    ("P4 words", {"size": "huge"}, "request.size", "size"),
    ("P6 a seed of 2**64", {"seed": 2**64}, "request.seed", "seed"),
    ("P6 a seed of -2**63-1", {"seed": -(2**63) - 1}, "request.seed", "seed"),
    ("P7 no step size", {"step_size": 0}, "request.step_size", "step_size"),
    ("P7 a step size below 0", {"step_size": -0.1}, "request.step_size", "step_size"),
    ("P7 1e6 step size", {"step_size": 1e6}, "request.step_size", "step_size"),
    ("P8 no views", {"views": 0}, "request.views", "views"),
    ("P8 10,000 views", {"views": 10_000}, "request.views", "views"),
    ("P11 no such generator", {"generator": "nobody"}, "request.generator", "generator"),
    ("P11 a path", {"generator": "../../etc/passwd"}, "request.generator", "generator"),
    ("P11 another case", {"generator": "Pixels"}, "request.generator", "generator"),
    ("P11 no such CLIP", {"clip": ["nobody"]}, "request.clips", "clip"),
    ("P11 a share that is no number", {"clip": ["pocket=x"]}, "request.weight", None),
    ("P11 no such optimiser", {"optimiser": "sgd"}, "request.optimiser", "optimiser"),
    ("P11 no such view", {"augment": "Xx"}, "request.augment", "augment"),
    ("P11 no such wish", {"regularise": "beauty=1"}, "request.regularise", "regularise"),
    ("P11 no such quality", {"quality": "superb"}, "request.quality", "quality"),
    ("an option that does nothing", {"before": "x"}, "option.before", "before"),
    ("a palette without a weight", {"palette": "#ff0000"}, "request.whole", None),
]


@pytest.mark.parametrize(
    ("fields", "code", "field"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN]
)
def test_what_cannot_be_used_has_the_same_code_here_and_at_the_command_line(
    client: httpx.Client, fields: dict[str, Any], code: str, field: str | None
) -> None:
    order = {**SMALL, **fields}
    told = send(client, order)
    assert (told.status_code, told.json()["code"], told.json()["field"]) == (422, code, field)
    assert "Traceback" not in told.text
    words = ["generate", order["prompt"]]
    for name, value in order.items():
        for one in value if isinstance(value, list) else [value]:
            words += [] if name == "prompt" else [f"--{name.replace('_', '-')}={one}"]
    said = CliRunner().invoke(command_line, words, env={"SYNESTHETE_DEBUG": "1"})
    assert isinstance(said.exception, Refused), said.output
    assert said.exception.code == code


WRONG_TYPES: list[tuple[str, Any]] = [
    (name, value)
    for name, values in {
        "prompt": (None, 7, ["a"], {}, True),
        "steps": (None, "10", 3.7, 3.0, True, [3], float("nan")),
        "seed": ("7", 7.5, None, False),
        "noise": ("0.1", None, True, [0.1]),
        "size": (256, None, [64, 64]),
        "clip": ("pocket", [], [7], None, {"pocket": 1}),
        "coarse_to_fine": (1, "yes", None),
        "init": (7, None, ["a"]),
        "image_prompt": ("a", [], [None]),
        "quality": (["draft"], None, 1),
        "augment": (["Af"], None),
        "palette": (["#ff0000"], 7),
        "kind": (None, 7, "dance", []),
        "client_key": (None, 7, "", "a b", "x" * 65, "ü"),
    }.items()
    for value in values
]


@pytest.mark.parametrize(("field", "value"), WRONG_TYPES, ids=lambda value: f"{value!r:.20}")
def test_a_field_of_the_wrong_type_is_named(client: httpx.Client, field: str, value: Any) -> None:
    order = {**SMALL, field: value}
    if field in ("init", "image_prompt"):
        del order["start"]
    told = send(client, order)
    assert (told.status_code, told.json()["field"]) == (422, field), told.text
    assert told.json()["code"] == f"request.{field}"
    assert told.json()["message"].startswith(f"{field}: ")


UNKNOWN = "out device threads count json resume prompts_file width edit pictures __class__".split()
UNKNOWN += ["a\ud800b", "x" * 5_000]


@pytest.mark.parametrize("field", UNKNOWN, ids=ascii)
def test_a_field_that_is_not_known_is_named(client: httpx.Client, field: str) -> None:
    told = send(client, {**SMALL, field: "1"})
    assert (told.status_code, told.json()["code"]) == (422, "request.unknown")
    assert told.json()["field"] == field[:40]
    assert len(told.text) < 1500


@pytest.mark.parametrize(
    ("order", "field"),
    [
        ({"kind": "edit", "instruction": "blue"}, "picture"),
        ({"kind": "edit", "picture": "0" * 32}, "instruction"),
        ({"kind": "listen", "text": "a house"}, "sound"),
    ],
)
def test_a_field_that_is_missing_is_named(
    client: httpx.Client, order: dict[str, Any], field: str
) -> None:
    told = send(client, order)
    assert (told.status_code, told.json()["field"]) == (422, field)
    assert "it is needed" in told.json()["message"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"1" * 5_000, "application/json"),
        (b"[]", "application/json"),
        (b"null", "application/json"),
        (b'"prompt"', "application/json"),
        (b'{"prompt": "a red apple"}', "text/plain"),
        (b"prompt=a", "application/x-www-form-urlencoded"),
    ],
)
def test_what_is_no_json_object_is_refused(client: httpx.Client, content: bytes, kind: str) -> None:
    told = client.post("/api/jobs", content=content, headers={"Content-Type": kind})
    assert (told.status_code, told.json()["code"]) == (422, "request.json")


LITERAL: list[tuple[str, str, str]] = [
    ("X3 other scripts", "ein Apfel 林檎", "ein Apfel 林檎"),
    ("X3 composed", "cafe\u0301", "café"),
    ("X4 hidden direction marks", "a \u202egnp\u2066 b", "a gnp b"),
    ("X5 control characters", "a\x00b\x07c", "abc"),
    ("X5 a lone surrogate", "a \ud800b", "a b"),
    ("X6 punctuation", "!!!", "!!!"),
    ("X7 one colon", "a:nan", "a:nan"),
    ("X7 no number", "a::nan", "a::nan"),
    ("X9 colons", "a::", "a::"),
    ("X10 a time", "at 12:30", "at 12:30"),
    ("X10 an address", "http://x", "http://x"),
    ("X11 a sum of 0", "a::1 | b::-1", "a::1 | b::-1"),
    ("X12 only below 0", "fog::-1", "fog::-1"),
    ("X14 markup", "<script>alert(1)</script> &lt;b&gt;", "<script>alert(1)</script> &lt;b&gt;"),
    ("X14 a terminal's codes", "a\x1b[31mb\nc", "a[31mb c"),
    ("X15 paths and formats", "../../etc/passwd {0.__class__} %s $(id)", ""),
    ("X16 quotes of SQL", "it's 100% _ \" ; DROP TABLE jobs --", ""),
]


@pytest.mark.parametrize(
    ("given", "kept"), [row[1:] for row in LITERAL], ids=[row[0] for row in LITERAL]
)
def test_words_mean_what_they_say(client: httpx.Client, given: str, kept: str) -> None:
    job = made(client, prompt=given, steps=1)
    assert client.get(job["recipe"]).json()["request"]["prompt"] == (kept or given)


def test_a_size_that_cannot_be_made_is_the_nearest_and_says_so(client: httpx.Client) -> None:
    job = made(client, size="45x50", generator="pocket", steps=1)  # P3
    assert "The picture will be" in " ".join(job["notes"])


def test_a_seed_of_minus_1_is_drawn_and_told(client: httpx.Client) -> None:
    job = made(client, seed=-1)  # P5
    assert job["seed"] >= 0
    assert client.get(job["recipe"]).json()["request"]["seed"] == job["seed"]


def test_the_fields_are_the_options_of_the_command_line() -> None:
    """Nothing is forgotten, and nothing is called something else."""
    here_only = {"out", "timelapse", "save_every", "json", "quiet", "device", "count", "resume"}
    here_only |= {"prompts_file", "plan", "precision", "chunk", "threads", "encoder", "speech"}
    for command, kind in ((generate, "picture"), (edit, "edit"), (listen, "listen")):
        options = {name.rstrip("_") for name in inspect.signature(command).parameters}
        assert options - {"context"} - here_only == set(orders.KINDS[kind].fields)
    assert here_only >= RUN_ONLY - {"quality", "from"}


def test_the_document_names_every_field_and_every_path() -> None:
    for kind in orders.KINDS.values():
        assert all(f"`{name}`" in DOCS for name in kind.fields)
    for path in ("/api/files", "/api/jobs", "/cancel", "/picture.png", "/preview.jpg", "/healthz"):
        assert path in DOCS


# --- the documents ---------------------------------------------------------------------------


def _smaller(code: str, address: str) -> str:
    """The same for the studio of the test, and quick."""
    quick = ", ".join(f'"{name}": {json.dumps(SMALL[name])}' for name in ("size", "steps", "views"))
    code = code.replace("http://127.0.0.1:7860", address)
    return code.replace('"quality": "draft"', f'"quality": "draft", "generator": "pixels", {quick}')


@pytest.mark.parametrize(("language", "code"), EXAMPLES, ids=[row[0] for row in EXAMPLES])
def test_an_example_works_as_it_stands(
    language: str, code: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Picture.open(BytesIO(photo())).save("beach.jpg")
    code = _smaller(code, address)
    if language == "python":
        exec(compile(ast.parse(code), "an example", "exec"), {})
        return
    if not shutil.which("curl"):
        missing = "curl is missing. Install it: sudo apt-get install curl"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    found = subprocess.run(
        ["sh", "-e", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    assert ("/readyz" in code) == ('{"ready": true}' in found.stdout)
    assert '"state": "queued"' in found.stdout or '"state": "running"' in found.stdout


def test_there_are_examples_in_all_languages() -> None:
    assert [language for language, _ in EXAMPLES] == ["sh", "python", "python", "sh"]
