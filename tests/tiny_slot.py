"""Tiny models for the processes that `test_executors.py` starts, and two ways for them to fail."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from app import catalog
from app.models import Models

_VARIABLE = "SYNESTHETE_TINY"  # a folder with the links "clip" and "vqgan", and a file "draft"


class Tiny(Models):
    """A job that wants a draft does what the file says: "die" or "hang"."""

    def draft(self, name: str) -> Any:
        """Never return."""
        if (_folder() / "draft").read_text() == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        (_folder() / "hanging").touch()
        while True:
            time.sleep(1)


def open_models() -> Models:
    """What a child calls to get its models."""
    for table, name in ((catalog.CLIPS, "clip"), (catalog.GENERATORS, "vqgan")):
        table["pocket"] = replace(table["pocket"], folder=str(_folder() / name))
    return Tiny("cpu")


def _folder() -> Path:
    return Path(os.environ[_VARIABLE])
