"""How often something may be done: buckets that fill by themselves, one for each who and what."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_MOST = 20_000  # buckets; who did nothing for longest has a full one anyway


@dataclass(frozen=True)
class Rate:
    """So many at once, and so many a second after that."""

    burst: float
    second: float


class Buckets:
    """Who did how much lately."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """All are full."""
        self._clock = clock
        self._levels: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def wait(self, what: str, who: str, rate: Rate, amount: float = 1) -> float:
        """How many seconds until so much more may be done; 0: now."""
        return max(0.0, (amount - self._level(what, who, rate)) / rate.second)

    def take(self, what: str, who: str, rate: Rate, amount: float = 1) -> None:
        """It is done."""
        level = self._level(what, who, rate) - amount
        self._levels[what, who] = level, self._clock()
        self._levels.move_to_end((what, who))
        while len(self._levels) > _MOST:
            self._levels.popitem(last=False)

    def _level(self, what: str, who: str, rate: Rate) -> float:
        level, at = self._levels.get((what, who), (rate.burst, self._clock()))
        return min(rate.burst, level + (self._clock() - at) * rate.second)
