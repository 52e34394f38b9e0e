"""A studio with tiny models behind a real server, for the tests of edge and API."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as Picture

from app import catalog, ui
from app.edge import Server, Settings, _listen, application
from app.guard import Door
from app.models import Models
from app.tabs import Studio
from app.worker import Worker

PATIENCE = 60  # seconds

# An order for a picture that is there at once.
SMALL: dict[str, Any] = {
    "prompt": "a red apple",
    "size": "32x32",
    "steps": 2,
    "views": 2,
    "seed": 7,
    "generator": "pixels",
    "start": "flat",
}
LONG = {**SMALL, "steps": 2000}


class Tiny(Models):
    """Small networks of chance, and the Whisper that comes with us."""

    def __init__(self, ear: Any, drafter: Any) -> None:
        super().__init__("cpu")
        self.ear, self.drafter = ear, drafter

    def sound(self, name: str) -> Any:
        return self.ear

    def draft(self, name: str) -> Any:
        return self.drafter


@contextmanager
def tiny(clip: Path, vqgan: Path, ear: Any, drafter: Any) -> Iterator[Tiny]:
    """Models in whose catalog the pocket ones are tiny."""
    with pytest.MonkeyPatch.context() as patch:
        for table, folder in ((catalog.CLIPS, clip), (catalog.GENERATORS, vqgan)):
            patch.setitem(table, "pocket", replace(table["pocket"], folder=str(folder)))
        yield Tiny(ear, drafter)


@contextmanager
def opened(models: Models, results: Path) -> Iterator[Studio]:
    """A studio that is warm, and writes to a folder of the test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNESTHETE_RESULTS", str(results))
        studio = Studio(lambda: Worker(models))
        studio.worker().result().warm.result(PATIENCE)
        yield studio
        studio.close()


@contextmanager
def served(studio: Studio, door: Door | None = None) -> Iterator[str]:
    """Its address, while a real server serves it."""
    listener, servers = _listen(Settings()), list[Server]()
    os.environ.update(GRADIO_ANALYTICS_MAX_EVENTS="1", GRADIO_ANALYTICS_CACHE_FREQUENCY="1000000")

    async def serve() -> None:  # in here, for Gradio would open a loop of its own elsewhere
        guard = application(ui.build(studio), studio, door)
        servers.append(Server(guard, studio, Settings()))
        await servers[0].serve([listener])

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    until = time.monotonic() + PATIENCE
    while not (servers and servers[0].started):
        assert thread.is_alive()
        assert time.monotonic() < until
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        servers[0].should_exit = True
        thread.join()


def bearer(token: str = "") -> dict[str, str]:
    """The header of somebody; nobody was here before with a new token."""
    return {"Authorization": f"Bearer {token or secrets.token_urlsafe(32)}"}


def send(client: httpx.Client, order: Any, **headers: str) -> httpx.Response:
    """Post an order, numbers that JSON does not know included."""
    headers = {"Content-Type": "application/json", **headers}
    return client.post("/api/jobs", content=json.dumps(order), headers=headers)


def upload(client: httpx.Client, content: bytes, name: str = "file", **headers: str) -> Any:
    """The id of a file that was sent."""
    sent = client.post("/api/files", params={"name": name}, content=content, headers=headers)
    assert sent.status_code == 201, sent.text
    return sent.json()["id"]


def finish(client: httpx.Client, job: dict[str, Any], **headers: str) -> dict[str, Any]:
    """The job when it is over."""
    until = time.monotonic() + PATIENCE
    while job["state"] not in ("done", "failed", "cancelled"):
        assert time.monotonic() < until, job
        time.sleep(0.02)
        job = client.get(f"/api/jobs/{job['id']}", headers=headers).json()
    return job


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


# A test file imports these fixtures under their own names, so that pytest finds them there.
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
