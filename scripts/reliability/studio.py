"""A studio of our own to break: started as people start it, in a folder of its own.

It is `python app.py` with the models that ship with the project, and nothing else: no switch of the
program knows that this is a trial. Small orders (`SMALL`) make it quick.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[2]
ENDED = ("done", "failed", "cancelled")
PATIENCE = 300.0  # seconds: a busy machine is slow, not wrong
SMALL: dict[str, Any] = {
    "prompt": "a red apple",
    "size": "32x32",
    "steps": 20,
    "views": 2,
    "seed": 7,
    "generator": "pixels",
    "start": "flat",
}

_CHILD = "from app.slot import main"  # in the command of each process that makes pictures
_WORTH_A_RETRY = (408, 429, 503)
_TICK = 0.05  # seconds

T = TypeVar("T")


class TooLong(Exception):
    """Something did not happen in time."""


def wait_for(found: Callable[[], T], seconds: float = PATIENCE, tick: float = _TICK) -> T:
    """What `found` gives, as soon as it gives something. Raises `TooLong`."""
    until = time.monotonic() + seconds
    while not (value := found()):
        if time.monotonic() > until:
            raise TooLong(f"That did not happen within {seconds:.0f} s.")
        time.sleep(tick)
    return value


class Place:
    """Where a studio answers and where its files lie, whoever started it."""

    def __init__(self, address: str, data: Path, results: Path) -> None:
        """Nothing is looked at yet."""
        self.address, self.data, self.results = address, data, results

    @property
    def folders(self) -> tuple[Path, Path]:
        """All that it writes."""
        return self.data, self.results

    def running(self) -> int:
        """How many jobs are being made now, by the list itself."""
        return self._count("state = 'running'")

    def count(self) -> int:
        """How many jobs there are."""
        return self._count("1")

    def _count(self, where: str) -> int:
        with suppress(sqlite3.Error), self.books() as db:
            return int(db.execute(f"SELECT count(*) FROM jobs WHERE {where}").fetchone()[0])
        return 0

    @contextmanager
    def books(self) -> Iterator[sqlite3.Connection]:
        """The list of jobs, to be read."""
        db = sqlite3.connect(f"{(self.data / 'jobs.sqlite').as_uri()}?mode=ro", 5, uri=True)
        try:
            yield db
        finally:
            db.close()

    def workers(self) -> list[int]:
        """The processes that make pictures for it, be they orphans."""
        return [child.pid for child in psutil.process_iter() if self._is_worker(child)]

    def _is_worker(self, process: psutil.Process) -> bool:
        try:
            command = " ".join(process.cmdline())
            mine = _CHILD in command and f'"{self.data}"' in command
            return mine and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


class Studio(Place):
    """One that we start, kill and start again."""

    def __init__(self, root: Path) -> None:
        """In a folder of its own; nothing is started yet."""
        self.port = _free_port()
        super().__init__(f"http://127.0.0.1:{self.port}", root / "data", root / "results")
        self.log = root / "log.txt"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that serves the page."""
        assert self._process
        return self._process.pid

    def start(self) -> float:
        """Start it, unless it runs; the seconds until it answers."""
        if self._process and self._process.poll() is None:
            return 0.0
        self.data.parent.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "app.py", "--port", str(self.port)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env=self._environment(),
                start_new_session=True,
            )
        wait_for(self._answers)
        return time.monotonic() - began

    def _environment(self) -> dict[str, str]:
        return {
            # the same sums in the same order, whatever else the machine does
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "passive",
            "HF_HUB_OFFLINE": "1",
            "PYTHONFAULTHANDLER": "1",  # see `confess`
            **os.environ,
            "SYNESTHETE_DATA": str(self.data),
            "SYNESTHETE_RESULTS": str(self.results),
        }

    def _answers(self) -> bool:
        assert self._process
        if self._process.poll() is not None:
            raise TooLong(f"The studio does not start. See {self.log}.")
        with suppress(httpx.HTTPError):
            return _healthy(self.address, 5)
        return False

    def ready(self) -> None:
        """Wait until an order would begin at once."""
        visitor = Visitor(self.address)
        visitor.send("GET", "/api/jobs/" + "0" * 26)  # the first visitor has the models loaded
        wait_for(lambda: visitor.send("GET", "/readyz").status_code == 200)

    def somebody_works(self) -> bool:
        """Whether there is a process that makes pictures. Raises `TooLong` if there cannot be."""
        assert self._process
        if (status := self._process.poll()) is not None:
            raise TooLong(f"The page's process ended by itself, with {status}. See {self.log}.")
        return bool(self.workers())

    def confess(self) -> None:
        """Have it write to the log what each of its threads is doing, and die."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGABRT)
            self._process.wait()

    def kill(self, whom: str) -> None:
        """`kill -9` of "worker", "web" or "both"; the web process is waited for."""
        assert self._process
        pids = self.workers() if whom in ("worker", "both") else []
        if whom in ("web", "both"):
            pids = [self.pid, *pids]  # first, or it would replace the other
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if whom != "worker":
            self._process.wait()

    def terminate(self, patience: float = 60.0) -> tuple[float, int]:
        """SIGTERM, as a system does that shuts down: seconds until all is gone, and exit status."""
        assert self._process
        began = time.monotonic()
        self._process.terminate()
        status = self._process.wait(patience)
        wait_for(lambda: not self.workers(), patience)
        return time.monotonic() - began, status

    def close(self) -> None:
        """Leave no process behind."""
        if self._process and self._process.poll() is None:
            with suppress(subprocess.TimeoutExpired, TooLong):
                self.terminate()
        if self._process:
            self.kill("both")
            self._process.wait()


class Visitor:
    """Somebody with a token of their own."""

    def __init__(self, address: str) -> None:
        """Nobody was here before with this token."""
        self.headers = {"Authorization": f"Bearer {secrets.token_urlsafe(32)}"}
        self._client = httpx.Client(
            base_url=address, headers=self.headers, timeout=120, verify=False, trust_env=False
        )
        weakref.finalize(self, self._client.close)
        self.turned_away: list[tuple[int, bool]] = []  # status, and whether it says when to return

    def send(self, verb: str, path: str, **more: Any) -> httpx.Response:
        """One request, again and again while nobody is there."""

        def sent() -> httpx.Response | None:
            try:
                return self._client.request(verb, path, **more)
            except httpx.TransportError:
                return None

        return wait_for(sent)  # type: ignore[return-value]

    def insist(self, verb: str, path: str, seconds: float = PATIENCE, **more: Any) -> Any:
        """The answer to a request, when the studio has time for it. Raises `TooLong`."""
        until = time.monotonic() + seconds
        while (answer := self.send(verb, path, **more)).status_code in _WORTH_A_RETRY:
            wait = answer.headers.get("Retry-After")
            self.turned_away.append((answer.status_code, wait is not None))
            if time.monotonic() > until:
                raise TooLong(f"{verb} {path}: {answer.text}")
            time.sleep(min(float(wait or 1), 5.0))
        if answer.is_error:
            raise AssertionError(f"{verb} {path}: {answer.status_code} {answer.text}")
        return answer.json()

    def order(self, order: dict[str, Any], key: str = "", *, hasty: bool = False) -> dict[str, Any]:
        """The job of an order; `hasty`: first send it once without waiting for the answer."""
        order = {**order, "client_key": key or secrets.token_hex(8)}
        if hasty:
            with suppress(httpx.TransportError):
                self._client.post("/api/jobs", json=order, timeout=0.03)
        return self.insist("POST", "/api/jobs", json=order)

    def upload(self, content: bytes, name: str = "file") -> str:
        """The id of a file that was sent."""
        return str(self.insist("POST", f"/api/files?name={name}", content=content)["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        """How a job stands; of one that is not there, the error."""
        return dict(self.send("GET", f"/api/jobs/{job_id}").json())

    def ended(self, job_id: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """A job when it is over. Raises `TooLong`."""

        def found() -> dict[str, Any] | None:
            job = self.job(job_id)
            return job if job.get("state") in ENDED or "state" not in job else None

        return wait_for(found, seconds)  # type: ignore[return-value]

    def picture(self, job_id: str) -> bytes:
        """The picture of a job, as it is on the disk."""
        return self.send("GET", f"/jobs/{job_id}/picture.png").raise_for_status().content


class Watch(threading.Thread):
    """Looks at a studio again and again, and remembers the most it saw of each figure."""

    def __init__(self, looks: dict[str, Callable[[], float]], pause: float = 0.2) -> None:
        """In the background, as long as the `with` block lasts."""
        super().__init__(daemon=True)
        self.seen: dict[str, list[float]] = {name: [] for name in looks}
        self._looks, self._pause, self._over = looks, pause, threading.Event()

    def run(self) -> None:
        """Until the block ends."""
        while not self._over.wait(self._pause):
            for name, look in self._looks.items():
                self.seen[name].append(look())

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def most(self, name: str) -> float:
        """The largest figure; 0 when there was none."""
        return max(self.seen[name], default=0.0)


def answer_time(address: str) -> float:
    """Seconds until the page's process says that it lives; infinite when it does not."""
    began = time.monotonic()
    try:
        alive = _healthy(address, 30)
    except httpx.HTTPError:
        return float("inf")
    return time.monotonic() - began if alive else float("inf")


def _healthy(address: str, patience: float) -> bool:
    # without `verify` the client would read all certificates each time: a part of a second
    answer = httpx.get(f"{address}/healthz", timeout=patience, verify=False, trust_env=False)
    return answer.status_code == 200


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
