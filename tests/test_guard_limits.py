"""The guard: how often somebody may come, and with how much."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app import guard, rates
from app.guard import BODIES, COOKIE, RATES, WEIGHTS, Guard, most_bytes
from tests.guarded import TOKEN, Answer, Clock, Inner, ask, run, scope

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
