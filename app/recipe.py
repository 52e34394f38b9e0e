"""The recipe inside a picture: all it takes to make it again, and nothing about who made it.

    {"synesthete": "0.1.0", "request": {...}, "models": {"clip/pocket/...": sha256, ...},
     "run": {"device": "cpu", "steps": 120, "torch": ..., "python": ..., "platform": ...}}

Pictures and embeddings that steered it are in the request by the hash of what they show, with the
name of the file but not where it lay.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from typing import Any, Protocol

import torch

from app import pipeline
from app.catalog import Kind
from app.errors import Refused
from app.request import Request, read_request
from guidance.optimise import Step

VERSION = "0.1.0"


class Loaded(Protocol):
    """What a recipe wants to know of the models (see `app.models`)."""

    device: str

    def hashes(self, name: str, kind: Kind | None = None) -> dict[str, str]:
        """SHA-256 of the weight files of a row."""
        ...


def make_recipe(request: Request, models: Loaded, step: Step) -> dict[str, Any]:
    """Write down how a picture came about. The request must be settled (see `app.planner`)."""
    return {
        "synesthete": VERSION,
        "request": request.model_dump(mode="json"),
        "models": hashes(request, models),
        "run": {**_here(models.device), "steps": step.index},
    }


def hashes(request: Request, models: Loaded) -> dict[str, str]:
    """SHA-256 of every weight file that a request uses."""
    tables = [models.hashes(name, kind) for kind, name in pipeline.networks(request)]
    return {file: sha256 for table in tables for file, sha256 in table.items()}


def _here(device: str) -> dict[str, str]:
    return {
        "device": device,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def read(recipe: Mapping[str, Any]) -> Request:
    """Return the request of a recipe, also of an older version if it fits. Raises `Refused`."""
    made_by = _version(recipe.get("synesthete"))
    ours = _version(VERSION)
    if made_by > ours:
        raise Refused(
            "recipe.newer",
            f"The recipe was written by Synesthete {_dotted(made_by)}, and this is "
            f"{_dotted(ours)}. Update Synesthete to repeat it.",
        )
    try:
        return read_request(recipe)
    except Refused as error:
        raise Refused(
            "recipe.unfit",
            f"The recipe, written by Synesthete {_dotted(made_by)}, cannot be used by "
            f"{_dotted(ours)}: {error}",
            error.field,
        ) from error


def _version(written: object) -> tuple[int, ...]:
    if not (isinstance(written, str) and re.fullmatch(r"\d{1,4}\.\d{1,4}\.\d{1,4}", written)):
        raise Refused(
            "recipe.version", "The recipe does not say which version of Synesthete wrote it."
        )
    return tuple(int(part) for part in written.split("."))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def differences(recipe: Mapping[str, Any], request: Request, models: Loaded) -> list[str]:
    """Say, for people, why a repeat here may differ from the picture that carries this recipe."""
    run, before = _table(recipe, "run"), _table(recipe, "models")
    now = hashes(request, models)
    changed = [
        f"{what} {run.get(what)} then, {here} now"
        for what, here in _here(models.device).items()
        if run.get(what) != here
    ]
    others = [file for file, sha256 in before.items() if now.get(file, sha256) != sha256]
    ours, theirs = VERSION, recipe.get("synesthete", VERSION)
    told = {
        f"It was made by Synesthete {theirs}, this is {ours}: what was left open may differ.": (
            theirs != ours
        ),
        f"Small differences are possible: {'; '.join(changed)}.": changed,
        f"It will be another picture, for these changed since: {', '.join(others)}.": others,
    }
    return [sentence for sentence, reasons in told.items() if reasons]


def _table(recipe: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = recipe.get(key)
    return found if isinstance(found, dict) else {}
