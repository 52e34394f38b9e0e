"""The tabs of the studio, one module each, and the worker that stands behind all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.worker import Worker


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

    def worker(self) -> Future[Worker]:
        """The worker, now or soon: the same for all."""
        with self._lock:
            if self._worker is None:
                self._worker = self._pool.submit(self._open_worker)
        return self._worker

    def close(self) -> None:
        """Stop what is being made; what is there of it is kept."""
        if self._worker and not self._worker.exception():
            self._worker.result().close()
        self._pool.shutdown()
