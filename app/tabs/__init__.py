"""The tabs of the studio, one module each, and the worker that stands behind all of them."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.worker import Worker

_MOST_SESSIONS = 10_000  # that are remembered


def _open_worker() -> Worker:
    # Not at the top of the file: torch takes seconds to import, and the page is there first.
    from app.worker import Worker

    return Worker()


class Studio:
    """Opens the worker in the background, once, when somebody first wants it."""

    def __init__(self, open_worker: Callable[[], Worker] = _open_worker) -> None:
        """Tests bring a worker with models of their own."""
        self._open_worker = open_worker
        self._pool = ThreadPoolExecutor(1, "studio")
        self._lock = threading.Lock()
        self._worker: Future[Worker] | None = None
        self._owners: dict[str, str] = {}  # by session

    def worker(self) -> Future[Worker]:
        """The worker, now or soon: the same for all."""
        with self._lock:
            if self._worker is None:
                self._worker = self._pool.submit(self._open_worker)
        return self._worker

    def recognise(self, session: str, token: object) -> str:
        """Whom a session belongs to: the token that its browser kept, or else a new one.

        Who knows a token is its owner, so that a reload, or another tab, finds the same things.
        """
        known = isinstance(token, str) and re.fullmatch("[0-9a-f]{32}", token)
        owner = str(token) if known else secrets.token_hex(16)
        with self._lock:
            self._owners[session] = owner
            while len(self._owners) > _MOST_SESSIONS:
                del self._owners[next(iter(self._owners))]
        return owner

    def owner(self, session: str) -> str:
        """Whose things a session may see, and for whom it orders: as yet unknown, its own alone."""
        with self._lock:
            return self._owners.get(session, session)

    def close(self) -> None:
        """Stop what is being made; what is there of it is kept."""
        if self._worker and not self._worker.exception():
            self._worker.result().close()
        self._pool.shutdown()
