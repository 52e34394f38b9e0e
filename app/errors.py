"""What may go wrong for a person: what they gave cannot be used, or the work failed on the way.

    Exception
    ├── ValueError ── Refused      before any work; exit status 2, HTTP 422
    └── RuntimeError ── Failed     while working; exit status 1, HTTP 500

`str(error)` is one sentence for people: what was given, what works, what to do. `code` is stable,
like "image.empty", for programs and tests.
"""

from __future__ import annotations


class Refused(ValueError):
    """A request or a file that cannot be used; `field` names the part of the request, if any."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        """`code` like "image.empty"."""
        super().__init__(code, message, field)  # all of it, to survive pickling between processes
        self.code, self.message, self.field = code, message, field

    def __str__(self) -> str:
        """The sentence for people."""
        return self.message


class Failed(RuntimeError):
    """Good input, but the work could not be finished: a full disk, a picture of no numbers."""

    def __init__(self, code: str, message: str) -> None:
        """`code` like "disk.full"."""
        super().__init__(code, message)
        self.code, self.message = code, message

    def __str__(self) -> str:
        """The sentence for people."""
        return self.message
