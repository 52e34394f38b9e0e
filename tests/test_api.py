"""Orders and pictures by plain HTTP and by Gradio's client: what is made, and whose it is."""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image as Picture

from app.images import read_recipe
from app.tabs import Studio
from tests.tiny_studio import LONG, SMALL, bearer, finish, made, photo, send, upload
from tests.tiny_studio import address as address
from tests.tiny_studio import client as client
from tests.tiny_studio import models as models
from tests.tiny_studio import other as other
from tests.tiny_studio import results as results
from tests.tiny_studio import studio as studio


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
