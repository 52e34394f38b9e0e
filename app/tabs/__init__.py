"""The tabs of the studio, one module each, and the worker that stands behind all of them."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.worker import Worker

_MOST_SESSIONS = 10_000  # that are remembered
_AN_HOUR = 3600.0  # seconds of work that may wait where one person has the machine

# Any of these says that the page is not for its owner alone: visitors fetch no models.
SHARED = ("SYNESTHETE_SHARED", "SPACE_ID")


def is_shared() -> bool:
    """Whether the page is not for its owner alone."""
    return any(os.environ.get(name, "") not in ("", "0") for name in SHARED)


def _alone(session: str) -> str:
    """An owner for one session: visitors choose its name, so it must not be that of any other."""
    return hashlib.sha256(f"synesthete session {session}".encode()).hexdigest()[:32]


def _open_worker() -> Worker:
    # Not at the top of the file: torch takes seconds to import, and the page is there first.
    from app.jobs import Limits
    from app.worker import Worker

    worker = Worker()
    if not is_shared():
        worker.store.limits = Limits(queue_seconds=_AN_HOUR, owner_seconds=_AN_HOUR)
    return worker


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

    @property
    def opened(self) -> Future[Worker] | None:
        """The worker if somebody wanted it already; nobody is sent for it."""
        return self._worker

    def recognise(self, session: str, owner: str) -> bool:
        """Note whose a session is that does something; False if it is somebody else's already.

        Who keeps no cookie (the owner is "") has what this one session ordered, and nothing else.
        """
        owner = owner or _alone(session)
        with self._lock:
            known = self._owners.setdefault(session, owner)
            while len(self._owners) > _MOST_SESSIONS:
                del self._owners[next(iter(self._owners))]
        return known == owner

    def owner(self, session: str) -> str:
        """Whose things a session may see, and for whom it orders: as yet unknown, its own alone."""
        with self._lock:
            return self._owners.get(session, _alone(session))

    def close(self) -> None:
        """Stop what is being made; what is there of it is kept."""
        if self._worker and not self._worker.exception():
            self._worker.result().close()
        self._pool.shutdown()
