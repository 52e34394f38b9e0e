"""A list of jobs for tests: what is asked of it, by whom, and a clock that can be moved."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest

from app.errors import Refused
from app.jobs import Artifact, Job, Limits, Store

PICTURE = Artifact("picture", "apple.png", "a" * 64, 1000)
NO_BOUND = Limits(math.inf, math.inf, owner_jobs=10**6)


class Clock:
    """A clock that a test can move."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


keys = map(str, itertools.count())


def ask(store: Store, owner: str = "ann", **given: Any) -> Job:
    wish = {"client_key": next(keys), "title": "a red apple", "seconds": 10.0, **given}
    return store.submit(owner, "generate", wish.pop("request", "{}"), **wish)


def claim(store: Store, worker: str = "one") -> Job:
    job = store.claim(worker, 10)
    assert job
    return job


def state(store: Store, job: Job) -> str:
    return store.job(job.owner, job.id).state


def refusal(action: Callable[[], object]) -> Refused:
    with pytest.raises(Refused) as caught:
        action()
    return caught.value
