"""Orders, files and pictures by plain HTTP: what is taken, what is refused, and whose it is."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import secrets
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image as Picture
from typer.testing import CliRunner

from app import orders, uploads
from app.__main__ import app as command_line
from app.__main__ import edit, generate, listen
from app.errors import Failed, Refused
from app.images import read_recipe
from app.options import RUN_ONLY
from app.tabs import Studio
from app.uploads import Limits, Uploads, safe_name
from tests.test_images_refused import REFUSED as BAD_PICTURES
from tests.test_sounds import REFUSED as BAD_SOUNDS
from tests.tiny_studio import LONG, SMALL, Tiny, bearer, finish, opened, send, served, tiny, upload

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "docs/api.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = [
    (language, code)
    for document in (DOCS, README)
    for language, code in re.findall(r"```(\w+)\n(.*?)```", document, re.S)
    if "127.0.0.1:7860" in code
]


@pytest.fixture(scope="module")
def models(tiny_clip: Path, tiny_vqgan: Path, tiny_ear: Any, tiny_drafter: Any) -> Iterator[Tiny]:
    """Loaded once."""
    with tiny(tiny_clip, tiny_vqgan, tiny_ear, tiny_drafter) as models:
        yield models


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures go."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def studio(models: Tiny, results: Path) -> Iterator[Studio]:
    """One for all tests: each comes as somebody else."""
    with opened(models, results) as studio:
        yield studio


@pytest.fixture(scope="module")
def address(studio: Studio) -> Iterator[str]:
    """Where it is."""
    with served(studio) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    """Somebody who was never here before."""
    with httpx.Client(base_url=address, headers=bearer(), timeout=60, verify=False) as client:
        yield client


@pytest.fixture
def other(address: str) -> Iterator[httpx.Client]:
    """Somebody else."""
    with httpx.Client(base_url=address, headers=bearer(), timeout=60, verify=False) as client:
        yield client


def made(client: httpx.Client, **order: Any) -> dict[str, Any]:
    """The job when its picture is there."""
    sent = send(client, {**SMALL, **order})
    assert sent.status_code == 202, sent.text
    job = finish(client, sent.json())
    assert job["state"] == "done", job
    return job


def photo(side: int = 48) -> bytes:
    """A PNG."""
    file = BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    Picture.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def tone() -> bytes:
    """Two seconds of a WAV."""
    file = BytesIO()
    time = np.arange(32_000) / 16_000
    soundfile.write(file, 0.3 * np.sin(2 * np.pi * 440 * time), 16_000, format="WAV")
    return file.getvalue()


# --- what is made ----------------------------------------------------------------------------


def test_an_order_becomes_a_picture_that_carries_its_recipe(
    client: httpx.Client, results: Path
) -> None:
    job = made(client, prompt="a blue boat")
    assert (job["kind"], job["title"], job["seed"]) == ("picture", "a blue boat", 7)
    assert (job["step"], job["steps"], job["error"], job["wait"]) == (2, 2, None, None)
    picture = client.get(job["picture"])
    assert picture.headers["content-type"] == "image/png"
    assert picture.content == (results / "a-blue-boat-seed7.png").read_bytes()
    recipe = client.get(job["recipe"]).json()
    assert recipe == read_recipe(results / "a-blue-boat-seed7.png")
    assert recipe["request"]["prompt"] == "a blue boat"
    preview = client.get(job["preview"])
    assert preview.headers["content-type"] == "image/jpeg"
    assert Picture.open(BytesIO(preview.content)).size == (32, 32)


def test_files_steer_a_picture(client: httpx.Client) -> None:
    begin, style = upload(client, photo(), "beach.png"), upload(client, photo(64), "style.png")
    order = {key: value for key, value in SMALL.items() if key != "start"}
    sent = send(client, {**order, "init": begin, "image_prompt": [f"{style}::0.5"]})
    job = finish(client, sent.json())
    request = client.get(job["recipe"]).json()["request"]
    assert request["init"]["name"] == "beach.png"
    assert [(one["name"], one["weight"]) for one in request["pictures"]] == [("style.png", 0.5)]


def test_a_picture_is_repeated_from_its_png(client: httpx.Client) -> None:
    first = made(client, prompt="a green hat")
    png = client.get(first["picture"]).content
    again = finish(client, send(client, {"from": upload(client, png, "hat.png")}).json())
    theirs = client.get(again["picture"]).content
    assert np.array_equal(*(np.asarray(Picture.open(BytesIO(file))) for file in (png, theirs)))


def test_an_edit_becomes_a_picture_of_the_same_size(client: httpx.Client) -> None:
    mask = np.zeros((48, 48), np.uint8)
    mask[8:40, 8:40] = 255
    file = BytesIO()
    Picture.fromarray(mask).save(file, "PNG")
    order = {
        "kind": "edit",
        "picture": upload(client, photo(), "cup.png"),
        "mask": upload(client, file.getvalue(), "mask.png"),
        "instruction": "blue",
        "strength": 0.7,
        "generator": "pixels",
        "steps": 1,
        "views": 2,
        "quality": "draft",
    }
    job = finish(client, send(client, order).json())
    assert (job["kind"], job["state"], job["title"]) == ("edit", "done", "blue (cup.png)")
    after = np.asarray(Picture.open(BytesIO(client.get(job["picture"]).content)).convert("RGB"))
    before = np.asarray(Picture.open(BytesIO(photo())))
    assert np.array_equal(after[mask == 0], before[mask == 0])
    assert client.get(job["recipe"]).json()["request"]["edit"]["strength"] == 0.7


def test_a_sound_becomes_a_picture(client: httpx.Client) -> None:
    order = {
        "kind": "listen",
        "sound": upload(client, tone(), "tone.wav"),
        "text": "a house",
        "weight_sound": 0.5,
        "no_speech": True,
        "no_mood": True,
        **{name: SMALL[name] for name in ("size", "steps", "views", "seed", "generator")},
    }
    job = finish(client, send(client, order).json())
    assert job["state"] == "done"
    request = client.get(job["recipe"]).json()["request"]
    assert request["prompt"] == "a house"
    assert [(one["name"], one["weight"]) for one in request["sounds"]] == [("tone.wav", 0.5)]


def test_who_asks_twice_with_one_key_gets_one_job(client: httpx.Client) -> None:
    order = {**SMALL, "client_key": "wish-1"}
    with ThreadPoolExecutor(4) as pool:
        sent = list(pool.map(lambda _: send(client, order), range(4)))
    assert len({one.json()["id"] for one in sent}) == 1
    again = send(client, {**order, "prompt": "something else"})
    assert (again.status_code, again.json()["title"]) == (200, "a red apple")
    assert send(client, {**order, "client_key": "wish-2"}).json()["id"] != again.json()["id"]


def test_a_key_is_only_ones_own(client: httpx.Client, other: httpx.Client) -> None:
    order = {**SMALL, "client_key": "wish"}
    assert send(client, order).json()["id"] != send(other, order).json()["id"]


def test_a_job_can_be_stopped_any_number_of_times(client: httpx.Client) -> None:
    job = send(client, LONG).json()
    while client.get(f"/api/jobs/{job['id']}").json()["step"] < 2:
        pass
    for _ in range(3):
        assert client.post(f"/api/jobs/{job['id']}/cancel").status_code == 200
    job = finish(client, job)
    assert job["state"] == "cancelled"
    assert client.get(job["picture"]).status_code == 200
    assert client.post(f"/api/jobs/{job['id']}/cancel").json()["state"] == "cancelled"


def test_one_that_waits_says_behind_whom(client: httpx.Client) -> None:
    first = send(client, LONG).json()
    while not client.get(f"/api/jobs/{first['id']}").json()["step"]:
        pass  # what others ordered before is over then
    second = send(client, SMALL).json()
    assert client.get(f"/api/jobs/{second['id']}").json()["wait"]["jobs"] == 1
    client.post(f"/api/jobs/{first['id']}/cancel")
    assert finish(client, second)["state"] == "done"


def test_what_would_have_to_be_fetched_first_is_refused(client: httpx.Client) -> None:
    for wanted in ({"generator": "imagenet_1024"}, {"clip": ["ViT-B-32-openai"]}):
        refused = send(client, {**SMALL, **wanted})
        assert (refused.status_code, refused.json()["code"]) == (422, "model.missing")
        assert "is not on this machine" in refused.json()["message"]


def test_who_orders_too_much_is_told_when_to_come_back(client: httpx.Client) -> None:
    sent = [send(client, LONG) for _ in range(11)]
    refused = sent[-1]
    assert refused.status_code == 429
    assert refused.json()["code"] == "queue.quota"
    assert int(refused.headers["retry-after"]) >= 1
    for one in sent:
        if one.status_code == 202:
            client.post(f"/api/jobs/{one.json()['id']}/cancel")


# --- whose it is -----------------------------------------------------------------------------


def test_what_belongs_to_another_is_as_if_it_did_not_exist(
    client: httpx.Client, other: httpx.Client
) -> None:
    job = made(client)["id"]
    nobodys = "0" * 26
    paths = ("/api/jobs/{}", "/jobs/{}/picture.png", "/jobs/{}/preview.jpg", "/jobs/{}/recipe.json")
    answers = {other.get(path.format(one)).text for path in paths for one in (job, nobodys)}
    answers |= {other.post(f"/api/jobs/{one}/cancel").text for one in (job, nobodys)}
    assert len(answers) == 1
    assert json.loads(answers.pop())["code"] == "job.missing"
    assert {client.get(path.format(job)).status_code for path in paths} == {200}
    assert {other.get(path.format(job)).status_code for path in paths} == {404}


def test_a_file_of_another_is_as_if_it_did_not_exist(
    client: httpx.Client, other: httpx.Client
) -> None:
    theirs = upload(client, photo())
    order = {key: value for key, value in SMALL.items() if key != "start"}
    answers = [send(other, {**order, "init": one}) for one in (theirs, "0" * 32)]
    told = [answer.json() for answer in answers]
    assert [(one["code"], one["field"]) for one in told] == [("input.missing", "init")] * 2
    said = {one["message"].replace(theirs, "X").replace("0" * 32, "X") for one in told}
    assert len(said) == 1


def test_a_deleted_picture_is_gone_here_too(client: httpx.Client, studio: Studio) -> None:
    job = made(client)
    store = studio.worker().result().store
    (owner,) = _owners(studio, job["id"])
    store.delete(owner, job["id"])
    assert client.get(f"/api/jobs/{job['id']}").status_code == 404
    assert client.get(job["picture"]).status_code == 404


def _owners(studio: Studio, job_id: str) -> list[str]:
    """Whose a job is, by what lies on the disk."""
    with closing(sqlite3.connect(studio.worker().result().store.path)) as db:
        found = db.execute("SELECT owner FROM jobs WHERE id = ?", (job_id,)).fetchall()
    return [row[0] for row in found]


def test_the_disk_does_not_tell_a_token(address: str, studio: Studio) -> None:
    token = secrets.token_urlsafe(32)
    with httpx.Client(base_url=address, headers=bearer(token), verify=False) as client:
        job = made(client)
    (owner,) = _owners(studio, job["id"])
    assert re.fullmatch("[0-9a-f]{32}", owner)
    assert token not in owner


def test_a_visitor_without_a_token_is_given_one_to_keep(address: str) -> None:
    with httpx.Client(base_url=address, timeout=60, verify=False) as client:
        job = made(client)
        assert client.get(job["picture"]).status_code == 200
        client.cookies.clear()
        assert client.get(job["picture"]).status_code == 404


@pytest.mark.parametrize("token", ["short", "x" * 129, "with spaces and so on, but rather long"])
def test_a_token_that_could_be_guessed_is_refused(address: str, token: str) -> None:
    told = httpx.get(f"{address}/api/jobs/x", headers={"Authorization": f"Bearer {token}"})
    assert (told.status_code, told.json()["code"]) == (401, "login.token")


# --- pictures --------------------------------------------------------------------------------


def test_who_has_a_picture_is_not_sent_it_again(client: httpx.Client) -> None:
    job = made(client)
    first = client.get(job["picture"])
    assert first.headers["cache-control"] == "private, no-cache"
    assert first.headers["vary"].startswith("Cookie, Authorization")
    again = client.get(job["picture"], headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(job["picture"], headers={"If-None-Match": '"other"'}).status_code == 200
    part = client.get(job["picture"], headers={"Range": "bytes=0-7"})
    assert (part.status_code, part.content) == (206, b"\x89PNG\r\n\x1a\n")
    assert client.head(job["picture"]).headers["content-length"] == str(len(first.content))


def test_a_picture_whose_file_is_gone_is_missing(client: httpx.Client, results: Path) -> None:
    job = made(client, prompt="a lost glove")
    (results / "a-lost-glove-seed7.png").unlink()
    assert client.get(job["picture"]).status_code == 404
    assert client.get(f"/api/jobs/{job['id']}").json()["picture"] is None


SECRET = "root:"
TRAVERSALS = [
    "/jobs/../../../../etc/passwd",
    "/jobs/..%2f..%2f..%2fetc%2fpasswd/picture.png",
    "/jobs/%2e%2e/%2e%2e/etc/passwd",
    "/jobs/" + "0" * 26 + "/..%2f..%2fpicture.png",
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/file=../../../../../../etc/passwd",
    "/gradio_api/file=%2fetc%2fpasswd",
    "/gradio_api/file=..%5c..%5c..%5cetc%5cpasswd",
    "/gradio_api/file=file:///etc/passwd",
    "/gradio_api/file=http://127.0.0.1:1/",
    "/gradio_api/file=app.py",
    "/gradio_api/file/etc/passwd",
    "/gradio_api/proxy=http://127.0.0.1:1/",
    "/static/../../../../../../etc/passwd",
    "/static/..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/assets/..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/svelte/..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
]


@pytest.mark.parametrize("path", TRAVERSALS)
def test_no_path_leads_to_the_files_of_this_machine(client: httpx.Client, path: str) -> None:
    url = httpx.URL(str(client.base_url)).copy_with(raw_path=path.encode())
    found = client.get(url)
    assert found.status_code in (400, 403, 404), found.text[:100]
    assert SECRET not in found.text
    assert "import os" not in found.text


def test_pictures_and_data_do_not_lie_where_the_page_may_serve_files(
    client: httpx.Client, results: Path, studio: Studio
) -> None:
    made(client, prompt="a secret door")
    home = studio.worker().result().home
    for path in (results / "a-secret-door-seed7.png", home.jobs):
        assert path.exists()
        assert client.get(f"/gradio_api/file={path}").status_code in (403, 404)


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


# --- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row", ["I1 nothing", "I3 text", "I4 half a PNG", "I6 a flipped bit", "I7 50,000 x 50,000"]
)
def test_a_bad_picture_has_its_code(client: httpx.Client, row: str) -> None:
    content, code = BAD_PICTURES[row]
    if not content:  # it does not even come in
        told = client.post("/api/files", content=content)
        assert (told.status_code, told.json()["code"]) == (422, "upload.empty")
        return
    order = {key: value for key, value in SMALL.items() if key != "start"}
    told = send(client, {**order, "init": upload(client, content, "given.png")})
    assert (told.status_code, told.json()["code"]) == (422, code)
    assert "'given.png'" in told.json()["message"]


@pytest.mark.parametrize("row", ["A2 a header alone", "A5 NaN", "A14 a playlist"])
def test_a_bad_sound_has_its_code(client: httpx.Client, row: str) -> None:
    content, code = BAD_SOUNDS[row]
    sound = upload(client, content, "given.wav")
    told = send(client, {"kind": "listen", "sound": sound, "no_speech": True})
    assert (told.status_code, told.json()["code"]) == (422, code)


def test_after_bad_files_all_is_well(client: httpx.Client) -> None:
    assert made(client)["state"] == "done"


def test_a_form_is_not_taken_for_a_file(client: httpx.Client) -> None:
    told = client.post("/api/files", files={"file": photo()})
    assert (told.status_code, told.json()["code"]) == (422, "upload.form")


def test_a_file_that_breaks_off_leaves_nothing(client: httpx.Client, studio: Studio) -> None:
    def some() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise OSError("the cable is cut")

    folder = studio.worker().result().home.root / "uploads"
    before = sorted(folder.rglob("*"))
    with pytest.raises(OSError, match="the cable is cut"):
        client.post("/api/files", content=some())
    assert client.get("/healthz").status_code == 200
    for _ in range(100):
        if not [path for path in folder.rglob("*") if path.is_file() and path not in before]:
            break
    left = [path for path in folder.rglob("*") if path.is_file() and path not in before]
    assert left == []


NAMES = {
    "beach.jpg": "beach.jpg",
    "../../../evil.png": "evil.png",
    "..\\..\\evil.png": "evil.png",
    "/etc/passwd": "passwd",
    ".hidden": "hidden",
    "a\x00b\u202egpj.png": "abgpj.png",
    "": "file",
    "..": "file",
    "CON": "file-CON",
    "nul.txt": "file-nul.txt",
    "n" * 500 + ".jpeg": "n" * 75 + ".jpeg",
    "été à la plage.png": "été à la plage.png",
    "a::0.5.png": "a0.5.png",
    "🎨" * 200: "file",
    "林" * 200 + ".png": "林" * 76 + ".png",
}


@pytest.mark.parametrize(("given", "kept"), NAMES.items())
def test_a_file_gets_a_name_that_leads_nowhere_else(given: str, kept: str) -> None:
    assert safe_name(given) == kept
    assert len(kept.encode()) <= 255


OWNER, OTHER = "a" * 32, "b" * 32


def keep(folder: Uploads, size: int, owner: str = OWNER) -> uploads.Kept:
    """A file of so many bytes."""
    incoming = folder.begin(owner, "x.png")
    try:
        incoming.write(b"x" * size)
        return incoming.keep()
    except Refused:
        incoming.drop()
        raise


def test_one_owner_has_so_many_bytes_and_files(tmp_path: Path) -> None:
    folder = Uploads(tmp_path, Limits(file=50, owner=100, files=3))
    keep(folder, 50)
    keep(folder, 30)
    with pytest.raises(Refused) as told:
        keep(folder, 21)
    assert told.value.code == "upload.quota"
    keep(folder, 20)
    with pytest.raises(Refused, match="3 files here already"):
        keep(folder, 1)
    keep(folder, 50, OTHER)
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 4


def test_one_file_has_so_many_bytes(tmp_path: Path) -> None:
    with pytest.raises(Refused) as told:
        keep(Uploads(tmp_path, Limits(file=1_000_000)), 1_000_001)
    assert told.value.code == "upload.too_big"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_all_together_have_so_many_bytes_and_leave_the_disk_its_own(tmp_path: Path) -> None:
    folder = Uploads(tmp_path, Limits(file=50, whole=100))
    for owner in (OWNER, OTHER):
        keep(folder, 50, owner)
    with pytest.raises(Failed, match="no room"):
        folder.begin("c" * 32, "x.png")
    with pytest.raises(Failed, match="no room"):
        Uploads(tmp_path, Limits(free=shutil.disk_usage(tmp_path).total)).begin(OWNER, "x.png")


def test_what_nobody_used_for_a_day_goes(tmp_path: Path) -> None:
    clock = [os.stat(tmp_path).st_mtime]
    folder = Uploads(tmp_path, clock=lambda: clock[0])
    old = keep(folder, 5)
    clock[0] += 86_000
    used = keep(folder, 5)
    path = folder.find(OWNER, used.id)
    os.utime(path.parent, (clock[0], clock[0]))
    clock[0] += 1_000
    keep(folder, 5, OTHER)
    assert folder.find(OWNER, used.id) == path
    with pytest.raises(Refused, match="no file"):
        folder.find(OWNER, old.id)


@pytest.mark.parametrize("file_id", ["", "..", "../" + OWNER, "0" * 31, "0" * 32, "A" * 32, "a\0b"])
def test_no_id_leads_elsewhere(tmp_path: Path, file_id: str) -> None:
    folder = Uploads(tmp_path)
    keep(folder, 5)
    with pytest.raises(Refused) as told:
        folder.find(OWNER, file_id, "init")
    assert (told.value.code, told.value.field) == ("input.missing", "init")


# --- the router ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/nothing", 404),
        ("GET", "/jobs/x/secret", 404),
        ("POST", "/api/", 404),
        ("GET", "/api/jobs", 405),
        ("DELETE", "/api/jobs/x", 405),
        ("GET", "/api/jobs/x/cancel", 405),
        ("PUT", "/api/files", 405),
    ],
)
def test_a_wrong_path_is_told_in_the_same_form(
    client: httpx.Client, method: str, path: str, status: int
) -> None:
    told = client.request(method, path)
    assert told.status_code == status
    assert told.json().keys() == {"code", "message", "field"}


# --- Gradio's own client ---------------------------------------------------------------------


@pytest.fixture
def gradio(address: str) -> Iterator[Client]:
    """Somebody who comes by Gradio's client."""
    client = Client(address, headers=bearer(), verbose=False, analytics_enabled=False)
    yield client
    client.close()


def test_gradios_client_orders_looks_and_stops(gradio: Client) -> None:
    job = gradio.predict(LONG, api_name="/submit")
    assert gradio.predict(job["id"], api_name="/status")["title"] == "a red apple"
    gradio.predict(job["id"], api_name="/cancel")
    while (job := gradio.predict(job["id"], api_name="/status"))["state"] == "running":
        pass
    assert job["state"] == "cancelled"


def test_gradios_client_hears_the_sentence_and_the_code(gradio: Client) -> None:
    with pytest.raises(AppError, match="steps: give a whole number") as told:
        gradio.predict({**SMALL, "steps": "ten"}, api_name="/submit")
    assert told.value.title == "request.steps"


def test_gradios_client_sees_three_endpoints_and_only_its_own_jobs(
    gradio: Client, client: httpx.Client
) -> None:
    named = gradio.view_api(return_format="dict")["named_endpoints"]
    assert set(named) == {"/submit", "/status", "/cancel"}
    with pytest.raises(AppError) as told:
        gradio.predict(made(client)["id"], api_name="/status")
    assert told.value.title == "job.missing"


def test_a_token_opens_the_same_things_by_both_ways(address: str) -> None:
    token = secrets.token_urlsafe(32)
    gradio = Client(address, headers=bearer(token), verbose=False, analytics_enabled=False)
    job = gradio.predict(SMALL, api_name="/submit")
    gradio.close()
    with httpx.Client(base_url=address, headers=bearer(token), verify=False) as client:
        assert finish(client, job)["state"] == "done"


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
