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
from pathlib import Path
from typing import Any

import httpx
import pytest

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
