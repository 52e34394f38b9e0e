"""Many at once: a storm of cancels, twenty visitors, a flood of files, clients that are slow."""

from __future__ import annotations

import io
import json
import os
import random
import secrets
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from PIL import Image as Picture

from app.uploads import Limits
from scripts.reliability.faults import Plan, Say, started
from scripts.reliability.report import Found, quantile
from scripts.reliability.studio import (
    ENDED,
    SMALL,
    Place,
    TooLong,
    Visitor,
    Watch,
    answer_time,
    wait_for,
)

SLOTS = 1  # of a studio as it is started
PHASES = ("queued", "starting", "running", "finishing", "twice", "not mine")

_LONG = {**SMALL, "steps": 400}
_SHORT = {**SMALL, "steps": 8}
_AT_ONCE = 6  # who cancel at the same time
_CANCEL_P95, _CANCEL_MOST = 0.5, 2.0  # seconds
_MEGABYTE = 1_000_000
_FLOODED = "flood.bin"
_POUR = 60_000_000  # bytes over a limit that somebody tries to send
_FLOOD = 60.0  # seconds
_SLOW = "slow.bin"
_DRIP = 20.0  # seconds that a slow client goes on for
_HEADERS = 15.0  # seconds after which the studio must have hung up on one that says nothing


# --- a storm of cancels --------------------------------------------------------------------------


def cancels(place: Place, plan: Plan, say: Say) -> Found:
    """Cancel jobs at random phases, six visitors at once; how long until each is over?"""
    until, dealt = plan.until(), random.Random(plan.seed)
    phases = [PHASES[number % len(PHASES)] for number in range(plan.count)]
    dealt.shuffle(phases)
    waits: dict[str, list[float]] = {phase: [] for phase in PHASES}
    wrong, strangers = list[str](), list[int]()

    def storm(number: int) -> None:
        if time.monotonic() > until:
            return
        phase, chance = phases[number], random.Random(f"{plan.seed} {number}")
        visitor = Visitor(place.address)
        try:
            waits[phase].append(_cancelled(visitor, phase, chance, wrong, strangers, place.address))
        except Exception as error:  # whatever it is, it should not have been
            wrong.append(f"{phase}: {error!r}")
        if (count := sum(map(len, waits.values()))) % 10 == 0:
            say(f"{count} of {plan.count} cancels")

    looks = {"workers": lambda: len(place.workers()), "running": place.running}
    with Watch(looks) as watch, ThreadPoolExecutor(_AT_ONCE) as pool:  # type: ignore[arg-type]
        list(pool.map(storm, range(plan.count)))
    every = [wait for kind in waits.values() for wait in kind]
    told = ", ".join(f"{len(kind)} {phase}" for phase, kind in waits.items())
    found = Found(f"{len(every)} cancels ({told}), {_AT_ONCE} visitors at a time")
    found.most("seconds to a final state, 95 of 100", quantile(every, 0.95), _CANCEL_P95)
    found.most("seconds to a final state, longest", max(every, default=0.0), _CANCEL_MOST)
    for phase, kind in waits.items():
        said = f"{quantile(kind, 0.5):.2f}, {max(kind, default=0):.2f}"
        found.tell(f"the same, {phase} (median, longest)", said)
    found.most("processes that make pictures, most at once", watch.most("workers"), SLOTS)
    found.most("jobs running, most at once", watch.most("running"), SLOTS)
    found.none("strangers' cancels that were not answered by 404", _other(strangers, 404))
    found.none("what should not have been", wrong)
    return found


def _cancelled(
    visitor: Visitor,
    phase: str,
    chance: random.Random,
    wrong: list[str],
    strangers: list[int],
    address: str,
) -> float:
    """Order, wait for the phase, cancel; seconds until it is over."""
    order = _SHORT if phase == "finishing" else _LONG
    here = visitor.order({**order, "seed": chance.getrandbits(31)})["id"]
    if phase != "queued":
        wait_for(lambda: visitor.job(here)["state"] != "queued", tick=0.02)
    if phase in ("running", "twice", "not mine"):
        wait_for(lambda: visitor.job(here)["preview"], tick=0.02)  # its first picture
        time.sleep(chance.uniform(0, 0.5))
    if phase == "finishing":
        wait_for(lambda: visitor.job(here)["preview"], tick=0.02)
        time.sleep(chance.uniform(0, 1))
    if phase == "not mine":
        stranger = Visitor(address)
        strangers.append(stranger.send("POST", f"/api/jobs/{here}/cancel").status_code)
        if visitor.job(here)["state"] in ENDED:
            wrong.append(f"a stranger ended {here}")
    began = time.monotonic()
    if phase == "twice":
        threading.Thread(target=visitor.send, args=("POST", f"/api/jobs/{here}/cancel")).start()
    answer = visitor.send("POST", f"/api/jobs/{here}/cancel")
    if answer.status_code != 200:
        wrong.append(f"{phase}: {answer.status_code} {answer.text}")
    ended = wait_for(lambda: _over(visitor, here), tick=0.02)
    seconds = time.monotonic() - began
    again = visitor.insist("POST", f"/api/jobs/{here}/cancel")
    if again["state"] != ended["state"] or again["finished"] != ended["finished"]:
        wrong.append(f"{phase}: {ended['state']} became {again['state']}")
    if ended["state"] != "cancelled" and phase != "finishing":
        wrong.append(f"{phase}: it was {ended['state']}")
    if phase == "running" and not ended["picture"]:
        wrong.append(f"{phase}: the picture so far was not kept")
    return seconds


def _over(visitor: Visitor, job_id: str) -> dict[str, Any] | None:
    job = visitor.job(job_id)
    return job if job["state"] in ENDED else None


def _other(statuses: list[int], than: int) -> list[int]:
    return [status for status in statuses if status != than]


# --- visitors ------------------------------------------------------------------------------------


def visitors(place: Place, plan: Plan, say: Say) -> Found:
    """All order in the same moment; each must get its own, or be told clearly when to come."""
    everybody = [Visitor(place.address) for _ in range(plan.count)]
    together = threading.Barrier(plan.count)
    jobs: dict[int, str] = {}
    own, wrong, spied, spies = list[int](), list[str](), list[str](), list[int]()

    def visit(number: int) -> None:
        visitor = everybody[number]
        colour = Picture.new("RGB", (32, 32), (number * 12 % 256, 99, 30))
        buffer = io.BytesIO()
        colour.save(buffer, "PNG")
        together.wait()
        try:
            given = visitor.upload(buffer.getvalue(), "mine.png")
            wish = started({**SMALL, "steps": 10, "seed": 1000 + number}, given)
            jobs[number] = visitor.order(wish)["id"]
            job = visitor.ended(jobs[number], plan.seconds)
            if job.get("state") != "done":
                wrong.append(f"{number}: {job}")
            elif _seed(visitor.picture(jobs[number])) == 1000 + number:
                own.append(number)
            else:
                wrong.append(f"{number}: somebody else's picture")
        except Exception as error:
            wrong.append(f"{number}: {error!r}")

    looks = {"answer": lambda: answer_time(place.address)}
    with Watch(looks) as watch, ThreadPoolExecutor(plan.count) as pool:
        list(pool.map(visit, range(plan.count)))
    say(f"{len(own)} of {plan.count} have their own; now each looks for the others'")
    paths = ("/api/jobs/{}", "/jobs/{}/picture.png", "/jobs/{}/preview.jpg", "/jobs/{}/recipe.json")
    for number, job in jobs.items():
        stranger = everybody[(number + 1) % plan.count]
        for path in paths:
            answer = stranger.send("GET", path.format(job))
            spies.append(answer.status_code)
            if answer.status_code != 404:
                spied.append(f"{path}: {answer.status_code}")
        spies.append(stranger.send("POST", f"/api/jobs/{job}/cancel").status_code)
    turned = [row for visitor in everybody for row in visitor.turned_away]
    found = Found(f"{plan.count} visitors at once, each with a file and an order")
    found.all("have their own picture", len(own), plan.count)
    kinds = Counter(status for status, _ in turned)
    found.tell("were told to come again first", dict(kinds) or "nobody")
    found.none("of these, without Retry-After", [row for row in turned if not row[1]])
    found.none(f"strangers' requests not answered by 404 (of {len(spies)})", _other(spies, 404))
    found.none("what somebody saw of another", spied)
    found.none("answers that no visitor should get", wrong)
    said = f"{quantile(watch.seen['answer'], 0.95):.2f}, {watch.most('answer'):.2f}"
    found.tell("seconds of /healthz meanwhile (95 of 100, longest)", said)
    return found


def _seed(png: bytes) -> int:
    """What the recipe inside a picture says."""
    with Picture.open(io.BytesIO(png)) as picture:
        return int(json.loads(picture.info["synesthete"])["request"]["seed"])


# --- a flood of files ----------------------------------------------------------------------------


def uploads(place: Place, plan: Plan, say: Say) -> Found:
    """One owner sends files until a quota is full, then forty send all at once."""
    limits, content = Limits(), secrets.token_bytes(_MEGABYTE)
    root, statuses = place.data / "uploads", Counter[int]()
    silent, seconds = list[int](), min(_FLOOD, plan.seconds / 3)

    def send(visitor: Visitor) -> tuple[int, str]:
        answer = visitor.send("POST", f"/api/files?name={_FLOODED}", content=content)
        statuses[answer.status_code] += 1
        if answer.status_code in (429, 503) and "Retry-After" not in answer.headers:
            silent.append(answer.status_code)
        return answer.status_code, answer.json().get("code", "")

    greedy, until = Visitor(place.address), time.monotonic() + seconds
    code = ""
    while code != "upload.quota" and time.monotonic() < until:
        _, code = send(greedy)
        if code == "rate.exceeded":
            time.sleep(0.5)
    first = sum(statuses.values())
    say(f"one owner sent {first} files, and was told {code!r} last")

    many = [Visitor(place.address) for _ in range(40)]
    tried = iter(range(max(0, plan.count - first)))
    until, lock = time.monotonic() + seconds, threading.Lock()

    def flood(number: int) -> None:
        while time.monotonic() < until:
            with lock:
                if (turn := next(tried, None)) is None:
                    return
            send(many[turn % len(many)])

    looks = {
        "bytes": lambda: float(_size(root)),
        "answer": lambda: answer_time(place.address),
    }
    with Watch(looks, pause=0.5) as watch, ThreadPoolExecutor(8) as pool:
        list(pool.map(flood, range(8)))
    owners = [folder for folder in root.iterdir() if folder.is_dir()] if root.exists() else []
    kept = [list(owner.rglob(_FLOODED)) for owner in owners]
    total = sum(statuses.values())
    sizes = [sum(file.stat().st_size for file in files) for files in kept]
    found = Found(
        f"{total} files of 1 MB of {plan.count} were tried: {first} by one owner, then by 40 for "
        f"{seconds:.0f} s"
    )
    found.tell("answers", dict(sorted(statuses.items())))
    found.most("files of one owner, most", max(map(len, kept), default=0), limits.files)
    found.most("bytes of one owner, most", max(sizes, default=0), limits.owner)
    found.most("bytes of all, most at any moment", watch.most("bytes"), limits.whole)
    found.none("answers other than 201, 429, 503", _strange(statuses, 201, 429, 503))
    found.none("429 or 503 without Retry-After", silent)
    cut = [file for files in kept for file in files if file.stat().st_size != _MEGABYTE]
    found.none("files that are not whole", cut)
    said = f"{quantile(watch.seen['answer'], 0.95):.2f}, {watch.most('answer'):.2f}"
    found.tell("seconds of /healthz meanwhile (95 of 100, longest)", said)
    _too_big(found, place)
    return found


def _strange(statuses: Counter[int], *known: int) -> list[int]:
    return [status for status in statuses.elements() if status not in known]


def _size(folder: Path) -> int:
    total = 0
    for inside, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += Path(inside, name).stat().st_size
    return total


def _too_big(found: Found, place: Place) -> None:
    """Bodies over the limit: one that says so, and one that only turns out to be."""
    token = Visitor(place.address).headers["Authorization"]
    for path, limit in (("/api/files?name=a", 25_000_000), ("/api/jobs", 256_000)):
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {token}\r\n"
        head += "Content-Type: application/json\r\n"
        with _connected(place) as here:
            here.sendall(f"{head}Content-Length: 10000000000\r\n\r\n".encode())
            said = here.recv(100)
        name = path.partition("?")[0]
        found.none(f"{name}: 10 GB announced, not refused by 413 at once", _unless_413(said))
        with _connected(place) as here:
            here.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            sent, said = _pour(here, limit + _POUR)
        found.none(f"{name}: too much unannounced, not refused by 413", _unless_413(said))
        most = limit + 8_000_000  # what lies in the system's buffers on both sides
        found.most(f"{name}: bytes taken of {limit + _POUR:,} unannounced", sent, most)


def _unless_413(said: bytes) -> list[str]:
    return [] if b" 413 " in said[:20] else [repr(said[:60])]


def _pour(here: socket.socket, most: int) -> tuple[int, bytes]:
    """Send pieces until the other side answers or hangs up; how many bytes, and its answer."""
    piece, sent = b"10000\r\n" + bytes(0x10000) + b"\r\n", 0
    here.setblocking(False)
    until, rest = time.monotonic() + 60, b""
    while sent < most and time.monotonic() < until:
        with suppress(BlockingIOError):
            if said := here.recv(1000):
                return sent, said
        rest = rest or piece
        try:
            count = here.send(rest)
            rest, sent = rest[count:], sent + count
        except BlockingIOError:
            time.sleep(0.001)
        except OSError:
            break
    here.settimeout(5)
    with suppress(OSError):
        return sent, here.recv(1000)
    return sent, b""


def _connected(place: Place) -> socket.socket:
    found = urlsplit(place.address)
    return socket.create_connection((found.hostname or "", found.port or 80), timeout=30)


# --- slow clients --------------------------------------------------------------------------------


def slow(place: Place, plan: Plan, say: Say) -> Found:
    """Half of so many sockets send headers a byte at a time, half a body; others come and go."""
    server, drip_for = _server(place), min(_DRIP, plan.seconds)
    before = server.memory_info().rss if server else 0
    with ExitStack() as opened:
        heads = [opened.enter_context(_connected(place)) for _ in range(plan.count // 2)]
        bodies = [opened.enter_context(_connected(place)) for _ in range(plan.count - len(heads))]
        token = Visitor(place.address).headers["Authorization"]
        for here in heads:
            here.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        for here in bodies:
            here.sendall(
                f"POST /api/files?name={_SLOW} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                f"Authorization: {token}\r\nContent-Length: 1000000\r\n\r\n".encode()
            )
        hung_up: dict[int, float] = {}
        drip = threading.Thread(target=_drip, args=([*heads, *bodies], hung_up, drip_for))
        drip.start()
        looks = {"answer": lambda: answer_time(place.address)}
        with Watch(looks) as watch:
            visitor, made = Visitor(place.address), ""
            with suppress(TooLong):
                made = visitor.ended(visitor.order({**SMALL, "steps": 2})["id"], 120)["state"]
            drip.join()
        after = server.memory_info().rss if server else 0
    found = Found(
        f"{plan.count} sockets for {drip_for:.0f} s: {len(heads)} with slow headers, "
        f"{len(bodies)} with slow bodies"
    )
    kept = [number for number in range(len(heads)) if number not in hung_up]
    found.none(f"slow headers that still have their socket after {drip_for:.0f} s", kept)
    found.most("seconds until they lost it (longest)", max(hung_up.values(), default=0), _HEADERS)
    found.none("orders of others that were not done meanwhile", [made] if made != "done" else [])
    answers = watch.seen["answer"]
    found.most("seconds of /healthz meanwhile, 95 of 100", quantile(answers, 0.95), 1.0)
    found.tell("megabytes by which the page's process grew", f"{(after - before) / 1e6:.0f}")
    with suppress(TooLong):
        wait_for(lambda: not _unfinished(place), 40)
    found.none("unfinished files left when they are gone", _unfinished(place))
    return found


def _drip(sockets: list[socket.socket], hung_up: dict[int, float], seconds: float) -> None:
    """A byte a second to each; note after how many seconds the other side has hung up."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        for number, here in enumerate(sockets):
            if number in hung_up:
                continue
            try:
                here.sendall(b"a")
                here.setblocking(False)
                if here.recv(1) is not None:  # an answer, or the end: there will be no more
                    hung_up[number] = time.monotonic() - began
            except BlockingIOError:
                pass
            except OSError:
                hung_up[number] = time.monotonic() - began
            finally:
                here.settimeout(5)
        time.sleep(1)


def _unfinished(place: Place) -> list[str]:
    """Files that slow clients began."""
    walk = os.walk(place.data / "uploads")
    return [folder for folder, _, names in walk if _SLOW in names]


def _server(place: Place) -> psutil.Process | None:
    pid = getattr(place, "pid", None)
    return psutil.Process(pid) if pid else None
