"""A guard before an application that notes what gets through, ways to ask it, and a clock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from app.guard import Guard

TOKEN = "t" * 43


class Inner:
    """An application that reads all there is, notes it, and answers."""

    def __init__(self, kind: str = "application/json", body: bytes = b"{}") -> None:
        self.kind, self.body = kind, body
        self.read = 0
        self.owners: list[str] = []
        self.headers: list[tuple[bytes, bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.owners.append(scope["state"]["owner"])
        self.headers = scope["headers"]
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError("the visitor has gone")  # as Starlette does
            self.read += len(message["body"])
            more = message["more_body"]
        headers = [(b"content-type", self.kind.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self.body[:5], "more_body": True})
        await send({"type": "http.response.body", "body": self.body[5:]})


class Answer:
    """What came back."""

    def __init__(self, sent: list[dict[str, Any]]) -> None:
        self.status = sent[0]["status"]
        self.rows = [(name.decode(), value.decode()) for name, value in sent[0]["headers"]]
        self.headers = dict(self.rows)
        self.body = b"".join(message.get("body", b"") for message in sent[1:])

    @property
    def told(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    @property
    def cookie(self) -> str:
        return self.headers.get("set-cookie", "")


def run(work: Any) -> Any:
    """In a thread of its own: the browser tests leave a loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def ask(
    guarded: Guard,
    path: str = "/",
    method: str = "GET",
    *,
    pieces: Iterable[bytes] = (b"",),
    scheme: str = "http",
    address: str = "127.0.0.1",
    **headers: str,
) -> Answer:
    """One request; headers like `content_length="7"`."""
    given = {"host": "127.0.0.1:7860", **headers}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "scheme": scheme,
        "client": (address, 1234),
        "headers": [
            (name.replace("_", "-").encode(), value.encode()) for name, value in given.items()
        ],
    }
    bodies = list(pieces)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not bodies:
            return {"type": "http.disconnect"}
        body = bodies.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(bodies)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    run(guarded(scope, receive, send))
    return Answer(sent)


class Clock:
    """Time stands still unless somebody moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def scope(path: str = "/", method: str = "GET") -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "scheme": "http",
        "client": ("127.0.0.1", 1),
        "headers": [(b"host", b"localhost")],
    }
