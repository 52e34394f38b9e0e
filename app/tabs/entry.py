"""One entry of the history as people see it: a thumbnail, a caption, what is known of it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradio import utils
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from app.errors import Refused
from app.tabs.common import short

if TYPE_CHECKING:
    from app.jobs import Artifact, Job

THUMB = 256  # pixels
_MOST_CAPTION = 60  # characters

# What people read for each kind and each state.
KINDS = {"picture": "Picture", "edit": "Edit"}
STATES = {"done": "Done", "failed": "Failed", "cancelled": "Stopped"}

_NO_FILE = (
    "Its file is not where it was saved: it was moved or deleted. The prompt and all settings can "
    "be opened again."
)


def item(job: Job, *, twin: bool = False) -> tuple[str, str]:
    """A thumbnail and its caption; that of a `twin`, which is called as another is, has a seed."""
    star = "★ " if job.favourite else ""
    seed = f" (seed {_asked(job)['seed']})" if twin else ""
    state = "" if job.state == "done" else f" ({STATES.get(job.state, job.state).lower()})"
    return thumbnail(job), f"{star}{caption(job)}{seed}{state}"


def thumbnail(job: Job) -> str:
    """A small copy of a job's picture, made once; or a plain one that says there is none."""
    path = picture(job)
    digest = next((file.sha256 for file in pictures(job) if Path(file.path) == path), "")
    name = digest if path and path.exists() else f"none-{job.state}-{'gone' if path else ''}"
    small = Path(utils.get_upload_folder()) / "thumbnails" / f"{name}.jpg"
    try:
        os.utime(small)  # files are cleared away in time, but not while they are in use
    except OSError:
        small.parent.mkdir(parents=True, exist_ok=True)
        aside = small.with_name(f"{small.name}.{os.getpid()}-{time.monotonic_ns()}.part")
        _small(path, job).save(aside, "JPEG", quality=85)
        os.replace(aside, small)
    return str(small)


def _small(path: Path | None, job: Job) -> Picture.Image:
    if path and path.exists():
        try:
            with Picture.open(path, formats=["PNG"]) as picture:
                small = picture.convert("RGB")
                small.thumbnail((THUMB, THUMB))
                return small
        except (OSError, ValueError, SyntaxError):  # changed by somebody: it says so in its place
            pass
    words = "file is gone" if path else STATES.get(job.state, job.state).lower()
    blank = Picture.new("RGB", (THUMB, THUMB), (120, 118, 114))
    font = ImageFont.load_default(size=28)
    middle = (THUMB / 2, THUMB / 2)
    ImageDraw.Draw(blank).text(middle, words, (255, 255, 255), font, anchor="mm")
    return blank


def about(job: Job, path: Path | None) -> dict[str, str]:
    """What is known of it, by name; `path`: where its picture was saved."""
    gone = path is not None and not path.exists()
    return {
        "Title": job.title,
        "Kind": f"{KINDS.get(job.kind, job.kind)}{', a favourite' if job.favourite else ''}",
        "When": _when(job.created),
        "State": f"{STATES.get(job.state, job.state)}. {job.error_text}".strip(),
        "Saved as": short(path) if path else "",
        "Note": _NO_FILE if gone else "",
    }


def recipe(job: Job, path: Path | None) -> str:
    """What is in the picture, or else what was asked for, as text."""
    from app.images import read_recipe

    try:
        told = read_recipe(path) if path else {"request": _asked(job)}
    except Refused:
        told = {"request": _asked(job)}
    return json.dumps(told, indent=1, ensure_ascii=False)


def _asked(job: Job) -> dict[str, Any]:
    """The request, in the form in which it was written down; an old one may be refused today."""
    request: dict[str, Any] = json.loads(job.request)["request"]
    return request


def pictures(job: Job) -> list[Artifact]:
    """All pictures that were saved of it."""
    return [file for file in job.artifacts if file.kind == "picture"]


def picture(job: Job) -> Path | None:
    """Where the newest picture of it was saved, if there is one."""
    from app.worker import saved

    return saved(job)


def caption(job: Job) -> str:
    """Its title in one line, not too long."""
    title = " ".join(job.title.split())
    return title if len(title) <= _MOST_CAPTION else f"{title[:_MOST_CAPTION]} ..."


def quoted(job: Job) -> str:
    """Its caption, for a sentence."""
    return f"“{caption(job)}”"


def _when(seconds: float) -> str:
    return time.strftime("%d %b %Y, %H:%M", time.localtime(seconds))
