"""The guard: who comes in, how often, with how much, and what is said."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app import guard, rates
from app.guard import (
    BODIES,
    COOKIE,
    RATES,
    WEIGHTS,
    Door,
    Guard,
    most_bytes,
    new_token,
    owner_of,
)

TOKEN = "t" * 43
PAGE = (
    b"<html><script>window.a = 1;</script><script src='x.js'></script><script>b()</script></html>"
)


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


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost", "LocalHost:1", "[::1]:7860"])
def test_this_machine_is_known_by_its_names(host: str) -> None:
    assert ask(Guard(Inner()), host=host).status == 200


REBOUND = [
    "evil.example",
    "127.0.0.1.evil.example:7860",
    "",
    "localhost.evil.example",
    "[::1",
    "a@b",
]
REBOUND += ["192.168.1.5:7860", "localhost:7860@evil.example"]


@pytest.mark.parametrize("host", REBOUND)
def test_another_name_that_points_here_opens_nothing(host: str) -> None:
    inner = Inner()
    answer = ask(Guard(inner), "/api/jobs/x", host=host)
    assert (answer.status, answer.told["code"]) == (421, "host.unknown")
    assert inner.owners == []


def test_whoever_watches_over_us_needs_no_name() -> None:
    assert ask(Guard(Inner()), "/healthz", host="10.0.0.7:80").status == 200
    assert ask(Guard(Inner()), "/readyz", host="10.0.0.7:80").status == 200


def test_on_a_network_addresses_are_names_and_other_names_are_not() -> None:
    door = Door(frozenset({"studio.local"}), addresses=True)
    for host, status in (("10.0.0.7:7860", 200), ("studio.local", 200), ("evil.example", 421)):
        assert ask(Guard(Inner(), door), host=host).status == status


# --- other sites -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:7861"},
        {"origin": "http://127.0.0.1:7860.evil.example"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": ""},
    ],
)
def test_another_site_may_change_nothing(headers: dict[str, str]) -> None:
    inner = Inner()
    for path in ("/api/jobs", "/gradio_api/queue/join", "/gradio_api/upload"):
        answer = ask(Guard(inner), path, "POST", **headers)
        assert answer.status == 403
    assert inner.owners == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://127.0.0.1:7860"},
        {"origin": "https://127.0.0.1:7860"},  # a proxy took the TLS away
        {"sec_fetch_site": "same-origin", "origin": "http://127.0.0.1:7860"},
        {"sec_fetch_site": "none"},
    ],
)
def test_the_page_itself_and_programs_may(headers: dict[str, str]) -> None:
    assert ask(Guard(Inner()), "/api/jobs", "POST", **headers).status == 200


# --- passwords -------------------------------------------------------------------------------

LOCKED = Door(login="me:säfe enough")


def basic(login: str) -> str:
    return f"Basic {base64.b64encode(login.encode()).decode()}"


def test_with_a_password_all_but_health_is_closed() -> None:
    for path in ("/", "/api/jobs/x", "/jobs/x/picture.png", "/gradio_api/file=x", "/config"):
        answer = ask(Guard(Inner(), LOCKED), path)
        assert (answer.status, answer.cookie) == (401, "")
        assert answer.headers["www-authenticate"].startswith("Basic realm=")
    for path in ("/healthz", "/readyz", "/manifest.json"):
        assert ask(Guard(Inner(), LOCKED), path).status == 200


@pytest.mark.parametrize(
    "given", ["me:wrong", "me:", "", "you:säfe enough", "me:säfe enough ", "\0", "me"]
)
def test_a_wrong_password_opens_nothing(given: str) -> None:
    assert ask(Guard(Inner(), LOCKED), authorization=basic(given)).status == 401


@pytest.mark.parametrize(
    "header", ["Basic", "Basic !!", "Bearer " + TOKEN, "Digest x", "Basic ===="]
)
def test_what_is_no_password_opens_nothing(header: str) -> None:
    assert ask(Guard(Inner(), LOCKED), authorization=header).status == 401


def test_behind_a_password_all_is_one_account() -> None:
    inner = Inner()
    for cookie in ("", f"{COOKIE}={TOKEN}", f"{COOKIE}={'u' * 43}"):
        right = basic("me:säfe enough")
        answer = ask(Guard(inner, LOCKED), "/", authorization=right, cookie=cookie)
        assert answer.cookie == ""
    assert set(inner.owners) == {LOCKED.account}
    assert LOCKED.account not in (owner_of("me"), Door(login="you:safe enough").account)


def test_passwords_cannot_be_tried_for_ever() -> None:
    clock = Clock()
    guarded = Guard(Inner(), LOCKED, clock=clock)
    tried = [ask(guarded, authorization=basic(f"me:{n}")).status for n in range(11)]
    assert tried == [401] * 10 + [429]
    right = basic("me:säfe enough")
    late = ask(guarded, authorization=right)
    assert (late.status, late.headers["retry-after"]) == (429, "11")
    assert ask(guarded, authorization=right, address="10.0.0.9").status == 200
    clock.now += 11
    assert ask(guarded, authorization=right).status == 200


def test_a_door_does_not_show_its_password() -> None:
    assert "enough" not in repr(LOCKED)


# --- owners ----------------------------------------------------------------------------------


def test_the_page_gives_a_cookie_that_no_script_reads_and_no_other_site_sends() -> None:
    cookie = ask(Guard(Inner())).cookie
    found = re.fullmatch(
        rf"{COOKIE}=([\w-]{{43}}); Max-Age=34560000; Path=/; HttpOnly; SameSite=Lax", cookie
    )
    assert found
    assert ask(Guard(Inner())).cookie != cookie
    assert ask(Guard(Inner()), scheme="https").cookie.endswith("; SameSite=Lax; Secure")
    space = Door(on_space=True)
    assert ask(Guard(Inner(), space)).cookie.endswith("; SameSite=None; Secure; Partitioned")


def test_who_comes_again_is_the_same_and_stays_it() -> None:
    inner = Inner()
    first = ask(Guard(inner)).cookie.partition(";")[0]
    again = ask(Guard(inner), "/gradio_api/queue/join", "POST", cookie=f"other=1; {first}")
    page = ask(Guard(inner), cookie=first)
    header = f"Bearer {first.partition('=')[2]}"
    script = ask(Guard(inner), "/api/jobs/x", authorization=header)
    assert len(set(inner.owners)) == 1
    assert again.cookie == script.cookie == ""
    assert page.cookie.startswith(first)


def test_who_keeps_no_cookie_is_nobody_to_the_page_and_somebody_new_to_the_api() -> None:
    inner = Inner()
    ask(Guard(inner), "/gradio_api/queue/join", "POST")
    ask(Guard(inner), "/jobs/x/picture.png")
    cookies = [ask(Guard(inner), "/api/jobs", "POST").cookie for _ in range(2)]
    assert inner.owners[:2] == ["", ""]
    assert len({*cookies, *inner.owners[2:]}) == 4


@pytest.mark.parametrize("value", ["", "short", "x" * 129, "studio", "a" * 42 + "%"])
def test_a_forged_cookie_counts_for_nothing(value: str) -> None:
    inner = Inner()
    ask(Guard(inner), "/jobs/x/picture.png", cookie=f"{COOKIE}={value}")
    assert inner.owners == [""]


def test_an_owner_does_not_tell_the_token() -> None:
    token = new_token()
    assert re.fullmatch("[0-9a-f]{32}", owner_of(token))
    assert owner_of(token) == owner_of(token) != owner_of(new_token())


# --- rates -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", RATES)
def test_nobody_may_do_too_much(path: str) -> None:
    clock, rate = Clock(), RATES[path]
    guarded = Guard(Inner(), clock=clock)
    cookie = f"{COOKIE}={TOKEN}"
    for _ in range(int(rate.burst)):
        assert ask(guarded, path, "POST", cookie=cookie, content_length="0").status == 200
    late = ask(guarded, path, "POST", cookie=cookie, content_length="0")
    assert late.status == 429
    assert int(late.headers["retry-after"]) >= 1
    other = f"{COOKIE}={'u' * 43}"
    assert ask(guarded, path, "POST", cookie=other, content_length="0").status == 200
    clock.now += int(late.headers["retry-after"])
    assert ask(guarded, path, "POST", cookie=cookie, content_length="0").status == 200


@pytest.mark.parametrize("path", WEIGHTS)
@pytest.mark.parametrize("header", [{"content_length": "25000000"}, {}], ids=["said", "not said"])
def test_nobody_may_send_too_many_bytes(path: str, header: dict[str, str]) -> None:
    clock, rate = Clock(), WEIGHTS[path]
    guarded = Guard(Inner(), clock=clock)
    cookie = f"{COOKIE}={TOKEN}"
    number = int(rate.burst / 25e6)
    status = [ask(guarded, path, "POST", cookie=cookie, **header).status for _ in range(number + 1)]
    assert (set(status[: number - 10]), status[-1]) == ({200}, 429)
    small = ask(guarded, path, "POST", cookie=f"{COOKIE}={'u' * 43}", content_length="100")
    assert small.status == 200
    clock.now += 300
    assert ask(guarded, path, "POST", cookie=cookie, **header).status == 200


@pytest.mark.parametrize("path", WEIGHTS)
def test_a_full_disk_takes_no_files(path: str) -> None:
    answer = ask(Guard(Inner(), room=lambda: 10**6), path, "POST", content_length="5")
    assert (answer.status, answer.headers["retry-after"]) == (503, "60")
    assert ask(Guard(Inner(), room=lambda: 10**6), "/api/jobs", "POST").status == 200


def test_a_whole_address_may_do_ten_times_as_much() -> None:
    guarded = Guard(Inner(), clock=Clock())
    status = [ask(guarded, "/api/jobs", "POST").status for _ in range(301)]  # each somebody new
    assert (set(status[:300]), status[300]) == ({200}, 429)
    assert ask(guarded, "/api/jobs", "POST", address="10.0.0.9").status == 200


@pytest.mark.parametrize("path", ["/api/jobs/x", "/gradio_api/run/predict", "/", "/assets/x.js"])
def test_looking_is_free(path: str) -> None:
    guarded = Guard(Inner(), clock=Clock())
    assert {ask(guarded, path, cookie=f"{COOKIE}={TOKEN}").status for _ in range(700)} == {200}


def test_what_is_remembered_of_visitors_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_MOST", 10)
    buckets = rates.Buckets(Clock())
    for n in range(100):
        buckets.take("x", str(n), RATES["/api/jobs"])
    assert len(buckets._levels) == 10


# --- bodies ----------------------------------------------------------------------------------

POSTS = ["/api/files", "/api/jobs", "/gradio_api/upload", "/gradio_api/queue/join", "/anything"]


@pytest.mark.parametrize("path", POSTS)
def test_a_body_that_says_it_is_too_long_is_not_read(path: str) -> None:
    inner = Inner()
    length = most_bytes(path) + 1
    answer = ask(Guard(inner), path, "POST", content_length=str(length))
    assert (answer.status, inner.owners) == (413, [])
    assert b"Send something smaller." in answer.body
    assert ask(Guard(inner), path, "POST", content_length=str(length - 1)).status == 200


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("header", [{}, {"content_length": "7"}, {"content_length": "x"}])
def test_a_body_that_does_not_say_is_counted_as_it_comes(path: str, header: dict[str, str]) -> None:
    inner = Inner()
    most = most_bytes(path)
    answer = ask(Guard(inner), path, "POST", pieces=[b"x" * most, b"x", b"y" * 99], **header)
    assert answer.status == 413
    assert inner.read == most  # and what came after was never passed on
    assert ask(Guard(Inner()), path, "POST", pieces=[b"x" * most], **header).status == 200


def test_an_upload_hears_it_in_plain_words() -> None:
    answer = ask(Guard(Inner()), "/gradio_api/upload", "POST", content_length=str(10**9))
    assert answer.body == b"That is more than 25 MB. Send something smaller."
    assert answer.headers["content-type"].startswith("text/plain")


def test_files_may_be_larger_than_all_else() -> None:
    assert most_bytes("/api/files") > 10 * most_bytes("/gradio_api/queue/join")
    assert most_bytes("/gradio_api/upload") > 10 * most_bytes("/api/jobs")
    assert BODIES[-1][0] == "/"


def test_a_body_that_stops_coming_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_PATIENCE", 0.05)
    inner = Inner()
    sent: list[dict[str, Any]] = []

    async def dribble() -> dict[str, Any]:
        if inner.read:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    run(Guard(inner)(scope("/api/files", "POST"), dribble, send))
    answer = Answer(sent)
    assert (answer.status, answer.told["code"]) == (408, "body.slow")


def scope(path: str = "/", method: str = "GET") -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "scheme": "http",
        "client": ("127.0.0.1", 1),
        "headers": [(b"host", b"localhost")],
    }


def test_a_listener_may_wait_as_long_as_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_PATIENCE", 0.01)
    said: list[str] = []

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await receive()  # the body, of nothing
        said.append((await receive())["type"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def work() -> None:
        came = iter(({"type": "http.request", "body": b"", "more_body": False}, None))

        async def receive() -> dict[str, Any]:
            if message := next(came):
                return message
            await asyncio.sleep(0.1)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            pass

        await Guard(stream)(scope(), receive, send)

    run(work())
    assert said == ["http.disconnect"]


def test_who_leaves_in_the_middle_of_a_body_is_no_error() -> None:
    async def leave(*came: dict[str, Any]) -> list[dict[str, Any]]:
        messages, sent = iter(came), []

        async def receive() -> dict[str, Any]:
            return next(messages, {"type": "http.disconnect"})

        async def send(message: Any) -> None:
            sent.append(message)

        await Guard(Inner())(scope(), receive, send)
        return sent

    assert run(leave({"type": "http.request", "body": b"ha", "more_body": True})) == []

    async def asking_twice(scope: Any, receive: Any, send: Any) -> None:
        assert [(await receive())["type"] for _ in range(2)] == ["http.disconnect"] * 2
        raise ConnectionError("the visitor has gone")

    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    run(Guard(asking_twice)(scope(), gone, gone))

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise ValueError("a fault of ours")

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        pass

    with pytest.raises(ValueError, match="ours"):
        run(Guard(broken)(scope(), receive, send))


# --- headers ---------------------------------------------------------------------------------


def test_a_page_may_run_its_own_scripts_and_no_others() -> None:
    answer = ask(Guard(Inner("text/html; charset=utf-8", PAGE)))
    assert answer.body == PAGE
    policy = dict(part.strip().split(" ", 1) for part in answer.headers[POLICY].split(";"))
    hashes = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in SCRIPTS]
    assert policy["script-src"].split()[-2:] == [f"'sha256-{one}'" for one in hashes]
    assert "'unsafe-inline'" not in policy["script-src"]
    assert policy["connect-src"] == "'self' data: blob:"
    assert policy["object-src"] == "'none'"
    assert policy["frame-ancestors"] == "'self'"


POLICY = "content-security-policy"
SCRIPTS = [b"window.a = 1;", b"b()"]


def test_only_on_a_space_may_another_site_frame_it() -> None:
    for path, kind in (("/", "text/html"), ("/jobs/x/picture.png", "image/png")):
        framed = ask(Guard(Inner(kind), Door(on_space=True)), path).headers[POLICY]
        assert framed.endswith("frame-ancestors 'self' https://huggingface.co")
        assert ask(Guard(Inner(kind)), path).headers[POLICY].endswith("frame-ancestors 'self'")


@pytest.mark.parametrize("kind", ["image/png", "image/svg+xml", "application/json", "text/plain"])
def test_what_is_no_page_may_do_nothing_at_all(kind: str) -> None:
    answer = ask(Guard(Inner(kind)), "/gradio_api/file=x")
    assert answer.headers[POLICY].startswith("default-src 'none'; sandbox")


@pytest.mark.parametrize(
    "asked",
    [
        lambda: ask(Guard(Inner())),
        lambda: ask(Guard(Inner()), host="evil.example"),
        lambda: ask(Guard(Inner()), "/api/files", "POST", content_length=str(10**12)),
        lambda: ask(Guard(Inner(), LOCKED)),
        lambda: ask(Guard(Inner("text/html", PAGE))),
    ],
    ids=["an answer", "a wrong name", "too much", "no password", "a page"],
)
def test_every_answer_has_the_headers_that_keep_a_browser_out_of_harm(
    asked: Callable[[], Answer],
) -> None:
    answer = asked()
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert "frame-ancestors" in answer.headers[POLICY]
    assert len({name for name, _ in answer.rows}) == len(answer.rows)


# --- the end ---------------------------------------------------------------------------------


def test_a_studio_that_closes_takes_no_orders_and_says_when_to_come_back() -> None:
    guarded = Guard(Inner())
    guarded.close()
    posts = ("/api/jobs", "/gradio_api/queue/join")
    for answer in [*(ask(guarded, path, "POST") for path in posts), ask(guarded, "/api/jobs/x")]:
        assert (answer.status, answer.headers["retry-after"]) == (503, "30")
    assert ask(guarded, "/healthz").status == 200
    assert ask(guarded).status == 200


def test_what_pages_listen_to_ends_with_the_studio() -> None:
    begun: list[str] = []

    async def listen(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/begun":
            await send({"type": "http.response.start", "status": 200, "headers": []})
        begun.append(scope["path"])
        await asyncio.sleep(60)

    guarded = Guard(listen)
    sent: dict[str, list[dict[str, Any]]] = {"/begun": [], "/waiting": []}

    async def work() -> None:
        async def one(path: str) -> None:
            async def send(message: dict[str, Any]) -> None:
                sent[path].append(message)

            async def receive() -> dict[str, Any]:
                return {"type": "http.request", "body": b"", "more_body": False}

            await guarded(scope(path), receive, send)

        tasks = [asyncio.ensure_future(one(path)) for path in sent]
        while len(begun) < 2:
            await asyncio.sleep(0)
        guarded.end()
        await asyncio.gather(*tasks)

    run(work())
    assert [Answer(sent[path]).status for path in sent] == [200, 503]
    assert [messages[-1].get("more_body", False) for messages in sent.values()] == [False, False]


def test_what_goes_wrong_inside_is_not_hidden() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask(Guard(broken))
