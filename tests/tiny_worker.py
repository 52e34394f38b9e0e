"""A worker with tiny models, for the tests of what the Generate tab offers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.models import Models
from app.worker import Worker

OWNER = "a" * 32


# A test file imports these fixtures under their own names, so that pytest finds them there.
@pytest.fixture(scope="module")
def models(tiny_pocket: None) -> Models:
    """Loaded once."""
    return Models("cpu")


@pytest.fixture
def worker(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker whose results go to a folder of the test."""
    monkeypatch.setenv("SYNESTHETE_RESULTS", str(tmp_path))
    worker = Worker(models)
    yield worker
    worker.close()
