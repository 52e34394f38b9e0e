"""What a person at the command line sees of a run: sentences, and one line that keeps moving.

All of it goes to standard error; standard output carries results alone.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence

from guidance.prompt import clean

_PAUSE = 0.1  # seconds between two updates of the line
_PLAIN_LINES = 10  # how many to print in a run when nobody watches a terminal


def tell(sentence: str) -> None:
    """Say something on one line, without what would move the cursor: names come from anywhere."""
    sys.stderr.write(f"{clean(sentence)}\n")
    sys.stderr.flush()


def hush(sentence: str) -> None:
    """Say nothing (`--quiet`)."""


class Progress:
    """How far a run is, for a terminal on one line, elsewhere as a few plain lines."""

    def __init__(
        self, first: int, last: int, tell: Callable[[str], None] = tell, *, live: bool = False
    ) -> None:
        """Begin at step `first` of `last`. `live`: standard error is a terminal, so draw there."""
        self._first, self._last, self._tell, self._live = first, last, tell, live
        self._began = time.monotonic()
        self._next = self._began
        self._drawn = False

    def show(self, index: int, loss: float, last: bool) -> None:
        """Tell of a step, if it is time to."""
        line = self._line(index, loss)
        if not self._live:
            every = max(1, (self._last - self._first) // _PLAIN_LINES)
            if last or index % every == 0:
                self._tell(line)
        elif last or time.monotonic() >= self._next:
            self._next = time.monotonic() + _PAUSE
            self._draw(line)

    def interject(self, sentence: str) -> None:
        """Say something in the middle of it all."""
        self.end()
        self._tell(sentence)

    def end(self) -> None:
        """Leave the line as it is and go to the next."""
        if self._drawn:
            sys.stderr.write("\n")
            self._drawn = False

    def _line(self, index: int, loss: float) -> str:
        told = f"step {index}/{self._last}  loss {loss:.4f}"
        done = index - self._first
        if not done:
            return told
        seconds = (time.monotonic() - self._began) / done
        left = (self._last - index) * seconds
        return f"{told}  {speed(seconds)}" + (f"  {duration(left)} left" if left else "")

    def _draw(self, line: str) -> None:
        room = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r{line[:room]:<{room}}")
        sys.stderr.flush()
        self._drawn = True


def speed(seconds: float) -> str:
    """Of steps that take so long each."""
    return f"{seconds:.1f} s a step" if seconds > 1 else f"{1 / max(seconds, 1e-6):.1f} steps/s"


def duration(seconds: float) -> str:
    """`7 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns side by side; the first row is their titles."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def amount(size: int) -> str:
    """`340 kB`, `12.5 MB`."""
    if size < 1_000_000:
        return f"{max(1, round(size / 1000)) if size else 0} kB"
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"
