"""Ctrl-C and SIGTERM ask the work to stop where nothing is half done; a second time ends it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(Exception):
    """Someone asked to stop. The message says what was kept and how to go on."""


@contextmanager
def stoppable() -> Iterator[Callable[[], None]]:
    """Inside, a signal leaves a mark; call what is given at safe points: it raises `Stopped`."""
    asked: list[int] = []

    def mark(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    def check() -> None:
        if asked:
            raise Stopped

    with _handling(mark):
        yield check


@contextmanager
def terminable() -> Iterator[None]:
    """Inside, SIGTERM is what Ctrl-C is: a KeyboardInterrupt, wherever the program stands."""
    with _handling(signal.default_int_handler):
        yield


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
