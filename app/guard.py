"""The guard before the page and the API: who may come in, how often, and with how much.

Plain ASGI: a body flows through piece by piece, and none is ever held here. Whoever is turned away
hears why in one sentence: `{"code": ..., "message": ..., "field": null}`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import json
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from app.rates import Buckets, Rate

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

COOKIE = "synesthete"
HERE = frozenset({"localhost", "127.0.0.1", "::1"})
MOST_FILE = 25_000_000  # bytes

# Where a body goes, by the beginning of its path -> the most bytes of it, and in words. The first
# row counts.
BODIES: tuple[tuple[str, int, str], ...] = (
    ("/api/files", MOST_FILE, "25 MB"),
    ("/api/", 256_000, "256 kB"),
    ("/gradio_api/upload", 25 * 2**20 + 100_000, "25 MB"),  # Gradio's MB, and the form around it
    ("/gradio_api/component_server", 12_000_000, "12 MB"),  # what is painted
    ("/", 2_000_000, "2 MB"),
)


# What may not be done for ever, by its path. Looking is free: the page does it all the time.
RATES: dict[str, Rate] = {
    "/api/jobs": Rate(30, 0.5),
    "/api/files": Rate(60, 1),
    "/gradio_api/upload": Rate(1200, 20),  # a canvas sends its picture again while one paints
    "/gradio_api/queue/join": Rate(600, 30),
}
# And how many bytes. What the page was given lies on the disk for an hour, the same thing once.
WEIGHTS: dict[str, Rate] = {
    "/api/files": Rate(300e6, 100e3),
    "/gradio_api/upload": Rate(3e9, 3e6),
}
_LOGINS = Rate(10, 0.1)  # wrong passwords
_LEAST_ROOM = 256 * 2**20  # bytes of the disk that stay free whatever is sent
_NEIGHBOURS = 10  # an address may be that of a whole house
_PATIENCE = 30.0  # seconds between two pieces of a body
_YEAR = 400 * 86_400  # seconds; browsers keep nothing longer

_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,128}")
_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.S)
_SAFE = ("GET", "HEAD", "OPTIONS")
_OURS = ("/api/", "/jobs/")
_OPEN = ("/healthz", "/readyz")  # for whoever watches over us: no name, no password
_LENT = (*_OPEN, "/manifest.json")  # browsers ask for it without a password


@dataclass(frozen=True)
class Door:
    """How the studio may be reached. `names`: what browsers may call it."""

    names: frozenset[str] = HERE
    addresses: bool = False  # it goes by any of its IP addresses, too
    login: str = field(default="", repr=False)  # "user:password"
    on_space: bool = False  # framed by huggingface.co, behind its proxy

    @property
    def account(self) -> str:
        """The owner of all that is made behind a password."""
        return _digest("account", self.login.partition(":")[0])


class Turned(Exception):
    """Somebody is turned away."""

    def __init__(self, status: int, code: str, sentence: str, **headers: str) -> None:
        """`headers` like `retry_after="5"`."""
        super().__init__(sentence)
        self.status, self.code, self.sentence = status, code, sentence
        names = (name.replace("_", "-").encode() for name in headers)
        self.headers = list(zip(names, (text.encode() for text in headers.values()), strict=True))


def new_token() -> str:
    """What makes somebody an owner: 256 random bits."""
    return secrets.token_urlsafe(32)


def owner_of(token: str) -> str:
    """Whose things a token opens; what is written to the disk does not tell the token."""
    return _digest("owner", token)


def _digest(kind: str, secret: str) -> str:
    return hashlib.sha256(f"synesthete {kind} {secret}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class _Visit:
    """What there is to know of a request."""

    method: str
    path: str
    headers: dict[str, str]
    address: str
    is_https: bool

    @property
    def host(self) -> str:
        return self.headers.get("host", "")

    @property
    def login(self) -> tuple[str, str]:
        """The kind of an Authorization, and what follows."""
        kind, _, rest = self.headers.get("authorization", "").partition(" ")
        return kind.lower(), rest.strip()

    @property
    def token(self) -> str:
        """What says whose things this is about: a header, or else the cookie; may be empty."""
        kind, rest = self.login
        if kind == "bearer":
            if not _TOKEN.fullmatch(rest):
                raise Turned(
                    401,
                    "login.token",
                    "A token has 32 to 128 letters, digits, - and _. Draw a long one at random: "
                    "whoever knows it sees your pictures.",
                    www_authenticate="Bearer",
                )
            return rest
        for piece in self.headers.get("cookie", "").split(";"):
            name, _, value = piece.strip().partition("=")
            if name == COOKIE and _TOKEN.fullmatch(value):
                return value
        return ""


def _visit(scope: Scope) -> _Visit:
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    address = (scope.get("client") or ("",))[0]
    return _Visit(scope["method"], scope["path"], headers, address, scope["scheme"] == "https")


class Guard:
    """Lets requests through to `app`, which finds the owner in `scope["state"]["owner"]`.

    An owner is 32 letters, or "" for a visitor who keeps no cookie.
    """

    def __init__(
        self,
        app: App,
        door: Door | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        room: Callable[[], int] = lambda: shutil.disk_usage(tempfile.gettempdir()).free,
    ) -> None:
        """By default only browsers of this machine come in. `room`: bytes free for files."""
        self._room = room
        self.app, self.door = app, door or Door()
        self.names = set(self.door.names)  # a shared address is known late
        self.is_closing = False
        self._buckets = Buckets(clock)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ended = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})  # nothing of ours speaks it
            return
        visit = _visit(scope)
        answer = _Answer(send, visit, self.door)
        try:
            self._admit(visit)
            token, owner = self._owner(visit)
            self._count(visit, owner)
            answer.cookie(token)
            scope.setdefault("state", {})["owner"] = owner
            if visit.path == "/":  # see `_Answer`
                scope["headers"] = [row for row in scope["headers"] if row[0] != b"accept-encoding"]
            body = _Body(receive, visit, answer)
            await self._pass(scope, body, answer)
        except Turned as turned:
            await answer.turn(turned)

    def close(self) -> None:
        """Take no more orders."""
        self.is_closing = True

    def end(self) -> None:
        """End what is still open: pages listen as long as they are shown."""
        self._ended = True
        for task in self._tasks:
            task.cancel()

    async def _pass(self, scope: Scope, body: _Body, answer: _Answer) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.app(scope, body.receive, answer.send)
        except asyncio.CancelledError:
            if not self._ended:
                raise
            with suppress(Exception):  # nobody may be there any more
                await answer.finish()
        except Exception:  # of a body that did not come to its end, there is nothing to report
            if body.turned is None and not body.is_left:
                raise
        finally:
            self._tasks.discard(task)
        if body.turned:
            raise body.turned

    # --- who comes in ------------------------------------------------------------------------

    def _admit(self, visit: _Visit) -> None:
        if visit.path not in _OPEN:
            self._check_name(visit)
        if self.door.login and visit.path not in _LENT:
            self._check_password(visit)
        if visit.method not in _SAFE:
            self._check_origin(visit)
        if self.is_closing and (visit.method not in _SAFE or visit.path.startswith(_OURS)):
            raise _closing()
        self._check_length(visit)

    def _check_name(self, visit: _Visit) -> None:
        """Another site's name may be made to point here, to read what only this machine may."""
        name = _name(visit.host)
        if name in self.names or (self.door.addresses and _is_address(name)):
            return
        raise Turned(
            421,
            "host.unknown",
            f"The studio does not go by the name {name[:100]!r}. Use the address that it printed, "
            "or start it with --name.",
        )

    def _check_password(self, visit: _Visit) -> None:
        kind, rest = visit.login
        wait = self._buckets.wait("login", visit.address, _LOGINS)
        if kind == "basic" and wait:
            raise _too_often(wait, "That were many wrong passwords.")
        given = b""
        with suppress(ValueError):
            given = base64.b64decode(rest, validate=True)
        if kind == "basic" and secrets.compare_digest(given, self.door.login.encode()):
            return
        if kind == "basic":
            self._buckets.take("login", visit.address, _LOGINS)
        raise Turned(
            401,
            "login.needed",
            "Log in with the name and the password that the studio was started with.",
            www_authenticate='Basic realm="Synesthete", charset="UTF-8"',
        )

    def _check_origin(self, visit: _Visit) -> None:
        """Other sites may not act for their visitors. Programs that are no browsers say nothing."""
        origin, site = visit.headers.get("origin"), visit.headers.get("sec-fetch-site", "none")
        if origin is None and site in ("none", "same-origin"):
            return
        if origin and urlsplit(origin).netloc.lower() == visit.host.lower():
            return
        raise Turned(403, "origin.foreign", "Another site may not do this. Open the studio itself.")

    def _check_length(self, visit: _Visit) -> None:
        length = visit.headers.get("content-length", "")
        if length.isdecimal() and int(length) > most_bytes(visit.path):
            raise _too_big(visit.path)
        if visit.path in WEIGHTS and self._room() < _LEAST_ROOM:
            said = "The disk of the studio is full. Try again later."
            raise Turned(503, "disk.full", said, retry_after="60")

    def _owner(self, visit: _Visit) -> tuple[str, str]:
        """The token to keep, if any, and whose things this is about."""
        if self.door.login:
            return "", self.door.account
        token, is_page = visit.token, visit.path == "/"
        if not token and (is_page or visit.path.startswith("/api/")):
            token = fresh = new_token()
        else:
            fresh = token if is_page and visit.login[0] != "bearer" else ""  # it shall last
        return fresh, owner_of(token) if token else ""

    def _count(self, visit: _Visit, owner: str) -> None:
        """Raise where somebody does too much, or an address as a whole."""
        if visit.method in _SAFE:
            return
        length = visit.headers.get("content-length", "")
        weight = float(length) if length.isdecimal() else most_bytes(visit.path)
        drops = [
            (f"{kind} {visit.path}", who, Rate(rate.burst * times, rate.second * times), amount)
            for kind, table, amount in (("calls", RATES, 1.0), ("bytes", WEIGHTS, weight))
            if (rate := table.get(visit.path))
            for who, times in ((visit.address, _NEIGHBOURS), (owner, 1))
            if who
        ]
        wait = max((self._buckets.wait(*drop) for drop in drops), default=0)
        if wait:
            raise _too_often(wait, "That was a lot in a short time.")
        for drop in drops:
            self._buckets.take(*drop)


def most_bytes(path: str) -> int:
    """How many bytes a body may have that goes to a path."""
    return _limit(path)[0]


def _limit(path: str) -> tuple[int, str]:
    return next((most, words) for beginning, most, words in BODIES if path.startswith(beginning))


def _too_big(path: str) -> Turned:
    said = f"That is more than {_limit(path)[1]}. Send something smaller."
    return Turned(413, "body.too_big", said)


def _too_often(wait: float, sentence: str) -> Turned:
    seconds = int(wait) + 1
    said = f"{sentence} Try again in {seconds} s."
    return Turned(429, "rate.exceeded", said, retry_after=str(seconds))


def _closing() -> Turned:
    said = "The studio is closing. What waits goes on when it is open again: try then."
    return Turned(503, "studio.closing", said, retry_after="30")


def _name(host: str) -> str:
    """`localhost:7860` -> `localhost`, `[::1]:7860` -> `::1`."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class _Body:
    """The body of a request, counted and timed as it comes."""

    def __init__(self, receive: Receive, visit: _Visit, answer: _Answer) -> None:
        self._receive, self._answer, self._path = receive, answer, visit.path
        self._left = most_bytes(visit.path)
        self._more = True
        self.is_left = False  # the visitor went in the middle of it
        self.turned: Turned | None = None

    async def receive(self) -> Message:
        """The next piece. After too much, or too long, it is as if the visitor had gone."""
        if self.turned:
            return {"type": "http.disconnect"}
        try:
            message = await asyncio.wait_for(self._receive(), _PATIENCE if self._more else None)
        except asyncio.TimeoutError:
            said = f"Nothing came for {_PATIENCE:.0f} s. Send it again."
            return self._turn(Turned(408, "body.slow", said))
        self.is_left |= self._more and message["type"] == "http.disconnect"
        self._more = self._more and bool(message.get("more_body"))
        self._left -= len(message.get("body", b""))
        return message if self._left >= 0 else self._turn(_too_big(self._path))

    def _turn(self, turned: Turned) -> Message:
        self.turned = turned
        self._answer.hush()
        return {"type": "http.disconnect"}


class _Answer:
    """The answer to a request, with the headers that keep a browser out of harm."""

    def __init__(self, send: Send, visit: _Visit, door: Door) -> None:
        self._send, self._visit, self._door = send, visit, door
        self._extra: Headers = []
        self._page: list[bytes] = []
        self._start: Message | None = None  # of a page that is not yet whole
        self._begun = self._done = self._hushed = False

    def cookie(self, token: str) -> None:
        """Have the browser keep a token, if there is one."""
        if not token:
            return
        flags = f"Max-Age={_YEAR}; Path=/; HttpOnly; "
        if self._door.on_space:
            flags += "SameSite=None; Secure; Partitioned"  # it is shown inside another site
        else:
            flags += "SameSite=Lax" + ("; Secure" if self._visit.is_https else "")
        self._extra.append((b"set-cookie", f"{COOKIE}={token}; {flags}".encode()))

    def hush(self) -> None:
        """What is said from now on is not passed on: another answer comes."""
        self._hushed = True

    async def send(self, message: Message) -> None:
        """Pass a piece of the answer on; of a page all at once, for its scripts are named."""
        if self._hushed and not self._begun:
            return
        if message["type"] == "http.response.start":
            if self._visit.path == "/" and _type(message) == "text/html":
                self._start = message
                return
            await self._begin(message, ())
        elif self._start:
            self._page.append(message.get("body", b""))
            if message.get("more_body"):
                return
            page, start, self._start = b"".join(self._page), self._start, None
            await self._begin(start, _SCRIPT.findall(page))
            message = {**message, "body": page}
        if message["type"] == "http.response.body":
            self._done = not message.get("more_body")
            await self._send(message)

    async def turn(self, turned: Turned) -> None:
        """Say why not."""
        if self._begun:
            return  # too late
        told = {"code": turned.code, "message": turned.sentence, "field": None}
        kind, body = "application/json", json.dumps({**told, "detail": turned.sentence})
        if self._visit.path.startswith("/gradio_api/upload"):  # the page shows it as it is
            kind, body = "text/plain; charset=utf-8", turned.sentence
        content = body.encode()
        headers = [
            (b"content-type", kind.encode()),
            (b"content-length", str(len(content)).encode()),
            *turned.headers,
        ]
        self._extra = []  # who is turned away gets nothing to keep
        await self._begin({"type": "http.response.start", "status": turned.status}, (), headers)
        self._done = True
        await self._send({"type": "http.response.body", "body": content})

    async def finish(self) -> None:
        """The studio closes: end what was begun."""
        if not self._begun:
            await self.turn(_closing())
        elif not self._done:
            await self._send({"type": "http.response.body", "body": b""})

    async def _begin(
        self, start: Message, scripts: Iterable[bytes], headers: Headers | None = None
    ) -> None:
        self._begun = True
        headers = list(start.get("headers", ()) if headers is None else headers)
        there = {name.lower() for name, _ in headers}
        ours = [*_FIXED, (b"content-security-policy", self._policy(start, scripts).encode())]
        headers += [row for row in ours if row[0] not in there]
        await self._send({**start, "headers": [*headers, *self._extra]})

    def _policy(self, start: Message, scripts: Iterable[bytes]) -> str:
        """What a browser may do with the answer."""
        frames = "'self'" + (" https://huggingface.co" if self._door.on_space else "")
        if _type(start) not in ("text/html", "text/javascript", "application/javascript"):
            return f"default-src 'none'; sandbox; frame-ancestors {frames}"
        named = " ".join(f"'sha256-{_base64(script)}'" for script in scripts)
        return f"{_POLICY.format(scripts=named)}; frame-ancestors {frames}"


# Pages run scripts of ours alone: those in files, and those that stand in the page, by their hash.
# Gradio needs eval for the script in `app.looks`, and styles in its elements.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval' blob: {scripts}; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'"
)
_FIXED: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(self)"),
]


def _type(message: Message) -> str:
    found = {bytes(name).lower(): bytes(value) for name, value in message.get("headers", ())}
    return found.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")


def _base64(script: bytes) -> str:
    return base64.b64encode(hashlib.sha256(script).digest()).decode()
