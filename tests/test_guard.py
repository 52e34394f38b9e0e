"""The guard: who comes in and as whom, what is said to a browser, and how it ends."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Callable
from typing import Any

import pytest

from app.guard import COOKIE, Door, Guard, new_token, owner_of
from tests.guarded import TOKEN, Answer, Clock, Inner, ask, run, scope

PAGE = (
    b"<html><script>window.a = 1;</script><script src='x.js'></script><script>b()</script></html>"
)


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
