"""Write the folder of a Space: `make space ARGS="--to DIR"`, then push DIR to Hugging Face.

It holds what running needs and nothing else: files that git tracks, as they are in the working
tree now. Two calls write the same bytes.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from app.errors import Refused

ROOT = Path(__file__).resolve().parent.parent
MOST_BYTES = 130_000_000

# What goes there: folders and files.
PARTS = ("app", "generators", "guidance", "weights", "model_cards", "app.py", "LICENSE")

# Files of which the Hub takes no bytes but by LFS.
LARGE = (".safetensors", ".png", ".webp", ".flac")

# A Space with ZeroGPU runs torch up to 2.13; its torchvision goes with it and with no other.
PINS = {"torch": "2.13.0", "torchvision": "0.28.0"}
PYTHON = "3.12"  # of the two that ZeroGPU has, 3.10.13 and 3.12.12, the newer

_REQUIREMENTS = "requirements.txt"
_PAGE = "gradio"  # the Space installs it, in the version that its README names

_READ_ME = """\
# Synesthete

Words, pictures and sounds steer a picture: type *a red apple on a blue background*, hand it a
picture and say what to change, or let it hear a sound, and watch the picture form. Small models of
its own do the work; nothing is downloaded, and no other service is asked.

**This Space forgets.** What is made here lies on a disk that is emptied whenever the Space starts
again: download what you want to keep. A picture carries its recipe, and dropped into History it
opens again.

The code is MIT (`LICENSE`). The weights are separate works under licences of their own
(`weights/LICENSES.md`); what each model is, learned from and cannot do stands in `model_cards/`.
"""


def main(words: list[str] | None = None) -> None:
    """Do what the command line says, and tell how large it became."""
    parser = argparse.ArgumentParser("make space", description="Write a folder for a Space.")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="new, or empty")
    asked = parser.parse_args(words)
    try:
        files = contents(ROOT)
        write(files, asked.to)
    except Refused as error:
        parser.error(str(error))
    size = sum(map(len, files.values()))
    print(f"{len(files)} files, {size / 1e6:.1f} MB, in {asked.to}.", file=sys.stderr)  # noqa: T201


def contents(root: Path) -> dict[str, bytes]:
    """Every file of the Space, by its path. Raises `Refused` for what could not be pushed."""
    files = {path: _read(root, path) for path in _tracked(root) if _belongs(path)}
    requirements = _read(root, _REQUIREMENTS).decode()
    files[_REQUIREMENTS] = installed_there(requirements).encode()
    files["README.md"] = _read_me(requirements).encode()
    files[".gitattributes"] = _attributes().encode()
    _refuse_large(files)
    _refuse_binary(files)
    return dict(sorted(files.items()))


def write(files: Mapping[str, bytes], folder: Path) -> None:
    """Write them, over older ones of theirs. Raises `Refused` where anything else lies."""
    for path in _there(folder):
        if path not in files:
            raise Refused(
                "space.taken",
                f"{folder} holds something else, {path}. Give a folder that is new or empty, or "
                "the clone of a Space after you have deleted that.",
                "to",
            )
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _there(folder: Path) -> list[str]:
    """The files in a folder, but for those of git itself. Raises `Refused` for what is none."""
    if folder.exists() and not folder.is_dir():
        raise Refused("space.taken", f"{folder} is a file. Give a folder.", "to")
    paths = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if not path.is_dir()]
    return [path.as_posix() for path in paths if path.parts[0] != ".git"]


def _tracked(root: Path) -> list[str]:
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        said = (
            "What belongs to a Space is what git tracks. Run this in a clone, with git installed."
        )
        raise Refused("space.git", said) from error
    return [path for path in listed.stdout.decode().split("\0") if path]


def _belongs(path: str) -> bool:
    return any(path == part or path.startswith(f"{part}/") for part in PARTS)


def _read(root: Path, path: str) -> bytes:
    try:
        return (root / path).read_bytes()
    except OSError as error:
        said = f"{path} is tracked by git, and cannot be read. Bring it back, or git rm it."
        raise Refused("space.missing", said) from error


def _refuse_large(files: Mapping[str, bytes]) -> None:
    size = sum(map(len, files.values()))
    if size > MOST_BYTES:
        largest = max(files, key=lambda path: len(files[path]))
        raise Refused(
            "space.size",
            f"That would be {size / 1e6:.1f} MB, and a Space of ours has at most "
            f"{MOST_BYTES / 1e6:.0f}. The largest file is {largest}.",
        )


def _refuse_binary(files: Mapping[str, bytes]) -> None:
    for path, content in files.items():
        if b"\0" in content and not path.endswith(LARGE):
            raise Refused(
                "space.binary",
                f"{path} is no text, so the Hub would refuse it. Name its ending in LARGE "
                "(scripts/space.py), and it goes there by LFS.",
            )


# --- what is written for the Space alone -----------------------------------------------------


def installed_there(requirements: str) -> str:
    """Our requirements as a Space needs them: another torch, and the page's library left out."""
    lines = (line.partition("#")[0].strip() for line in requirements.splitlines())
    rows = [line for line in lines if line and _library(line) != _PAGE]
    told = f"# Written by scripts/space.py for Python {PYTHON}. The README names Gradio's version."
    return "\n".join([told, *map(_pinned, rows)]) + "\n"


def _pinned(line: str) -> str:
    name = _library(line)
    return f"{name}=={PINS[name]}" if name in PINS else line


def _library(line: str) -> str:
    return re.split(r"[^\w.-]", line, maxsplit=1)[0]


def _version(name: str, requirements: str) -> str:
    found = re.search(rf"^{name}==([\w.]+)", requirements, re.MULTILINE)
    if found is None:
        raise Refused("space.pin", f"{_REQUIREMENTS} does not pin {name}, and a Space needs that.")
    return found[1]


def _read_me(requirements: str) -> str:
    front = {
        "title": "Synesthete",
        "emoji": "🎨",
        "colorFrom": "indigo",
        "colorTo": "pink",
        "sdk": "gradio",
        "sdk_version": _version(_PAGE, requirements),
        "python_version": PYTHON,
        "app_file": "app.py",
        "startup_duration_timeout": "1h",
        "short_description": "Words, pictures and sounds steer a picture",
        "license": "other",
        "license_name": "mit-and-those-of-the-weights",
        "license_link": "weights/LICENSES.md",
        "models": ["Systran/faster-whisper-tiny.en"],
        "tags": ["text-to-image", "image-editing", "audio", "clip", "vqgan"],
    }
    told = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    return f"---\n{told}---\n\n{_READ_ME}"


def _attributes() -> str:
    rows: Iterable[str] = (f"*{ending} filter=lfs diff=lfs merge=lfs -text" for ending in LARGE)
    return "\n".join(["* text=auto eol=lf", *rows]) + "\n"


if __name__ == "__main__":
    main()
