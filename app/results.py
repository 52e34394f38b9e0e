"""Where pictures go and what they are called: names that tell, in a folder that was said."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

import platformdirs

from app import saving
from app.errors import Refused
from app.request import Request
from guidance.prompt import parse

_MOST_SLUG = 40  # characters; with seed, step and ending every name stays below 80
_MOST_BYTES = 120  # of a slug: letters of some scripts take four
_OTHER_ENDINGS = (".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".mp4")


def folder() -> Path:
    """Where results go unless someone says otherwise: SYNESTHETE_RESULTS, or among the pictures."""
    chosen = os.environ.get("SYNESTHETE_RESULTS")
    return Path(chosen).expanduser() if chosen else platformdirs.user_pictures_path() / "Synesthete"


def name(request: Request) -> str:
    """The words of a request and its seed, safe on every file system: `a-red-apple-seed7.png`.

    Without words: what the pictures and sounds that steer are called.
    """
    words = [prompt.text for prompt in parse(request.prompt) if prompt.weight > 0]
    files = [Path(given.name).stem for given in (*request.pictures, *request.sounds)]
    if request.edit and request.init:
        words = [Path(request.init.name).stem, request.edit.instruction]
    return f"{_slug(' '.join(words or files))}-seed{request.seed}.png"


def _slug(text: str) -> str:
    """Letters and digits of any script, all else a hyphen; cut between words if there are any."""
    plain = unicodedata.normalize("NFC", text.casefold())
    plain = re.sub(r"[\W_]+", "-", plain).strip("-")
    if len(plain) > _MOST_SLUG:
        cut = plain[: _MOST_SLUG + 1]
        plain = cut.rpartition("-")[0] or cut[:-1]
    whole = plain.encode()[:_MOST_BYTES].decode(errors="ignore")
    return whole or "picture"


def places(requests: list[Request], out: Path | None) -> list[Path]:
    """Return the path of each result: in the folder `out`, in our own, or `out` itself for one.

    Nothing is written yet. Raises `Refused` when a picture could not be written there.
    """
    if out is None or not _is_file(out):
        home = folder() if out is None else out
        saving.check_folder(home, may_make=1 if out else None)
        return [home / name(request) for request in requests]
    if len(requests) > 1:
        raise Refused(
            "out.many",
            f"--out {out} is one picture, and {len(requests)} are asked for. Give a folder.",
        )
    if out.exists():
        raise Refused(
            "out.taken", f"{out} is there already. Give another name, or delete it first."
        )
    saving.check_folder(out.parent, may_make=0)
    return [out]


def _is_file(out: Path) -> bool:
    """Whether a path means a picture rather than a folder. Raises `Refused` for one not PNG."""
    if out.is_dir():
        return False
    if out.suffix.lower() in _OTHER_ENDINGS:
        raise Refused(
            "out.format",
            f"{out} would not be a PNG, the only format we write. Call it {out.stem}.png.",
        )
    return out.suffix.lower() == ".png"


def at_step(picture: Path, index: int, ending: str = ".png") -> Path:
    """Return the name of what was there at one step of a picture: `apple-seed7-step40.png`."""
    return picture.with_name(f"{picture.stem}-step{index}{ending}")
