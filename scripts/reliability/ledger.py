"""What a client was promised, and whether the promises were kept."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Entry:
    """One acknowledged wish: for whom, by which key, for what, and the job that was promised."""

    who: int
    key: str
    what: str
    job: str


@dataclass
class Ledger:
    """All that was acknowledged; several threads write to it."""

    entries: list[Entry] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, entry: Entry) -> None:
        """An answer came."""
        with self._lock:
            self.entries.append(entry)

    @property
    def jobs(self) -> dict[str, Entry]:
        """The acknowledged jobs by id; one that was acknowledged twice counts once."""
        return {entry.job: entry for entry in self.entries}

    def lost(self, states: Mapping[str, str]) -> list[str]:
        """Acknowledged jobs that did not come to an end, by the state that each was found in.

        "done" is an end, and nothing else: none of these was cancelled.
        """
        return sorted(job for job in self.jobs if states.get(job) != "done")

    def twice(self) -> list[str]:
        """Keys for which more than one job was promised."""
        promised = Counter((who, key) for who, key, _ in self._promises())
        return sorted(key for (_, key), count in promised.items() if count > 1)

    def never_asked(self, known: Iterable[str]) -> list[str]:
        """Jobs that are there and that no answer ever named."""
        return sorted(set(known) - self.jobs.keys())

    def _promises(self) -> set[tuple[int, str, str]]:
        return {(entry.who, entry.key, entry.job) for entry in self.entries}
