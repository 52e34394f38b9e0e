"""A running job on disk: enough to go on exactly, in one file that proves itself whole."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
from safetensors import safe_open
from safetensors.torch import save as as_bytes
from torch import Tensor

from app import saving
from app.errors import Refused
from guidance.optimise import Plateau, Snapshot

Meta = dict[str, Any]  # what JSON can hold: the request, versions, whatever belongs to the run

_KEEP = 2
_NAME = "snapshot-{:06}.safetensors"
_FORMAT = 1
_LATENTS = ("latent", "anchor", "average")
_OPTIMISER = "optimiser."

log = logging.getLogger(__name__)


def save(snapshot: Snapshot, path: Path | str, meta: Mapping[str, Any]) -> Path:
    """Write a snapshot over whatever is at `path`, in one step, and return the path.

    `meta` is kept as JSON, so tuples come back as lists. Raises as `saving.write` does.
    """
    tensors = {name: getattr(snapshot, name) for name in _LATENTS}
    tensors |= {_OPTIMISER + name: value for name, value in snapshot.optimiser.items()}
    tensors = {name: _own(value) for name, value in tensors.items()}
    record = json.dumps(
        {
            "format": _FORMAT,
            "index": snapshot.index,
            "halvings": snapshot.halvings,
            "plateau": _plateau_to_json(snapshot.plateau),
            "meta": dict(meta),
        },
        allow_nan=False,
    )
    about = {"synesthete": f"{_digest(record, tensors)} {record}"}  # one entry: two swap places
    return saving.write(Path(path), as_bytes(tensors, about), replace=True)


def load(path: Path | str) -> tuple[Snapshot, Meta]:
    """Return what `save` was given, bit for bit, on the CPU.

    Raises `Refused` for a file that is missing, truncated, changed, or none of ours.
    """
    path = Path(path)
    about, tensors = _read(path)
    if "synesthete" not in about:
        message = f"{path.name!r} is no snapshot of ours, but other weights. Give a snapshot."
        raise Refused("snapshot.foreign", message, "resume")
    digest, _, record = about["synesthete"].partition(" ")
    if digest != _digest(record, tensors):
        raise _damaged(path)
    try:
        return _restored(json.loads(record), tensors, path)
    except Refused:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(path) from error


def save_in(folder: Path | str, snapshot: Snapshot, meta: Mapping[str, Any]) -> Path:
    """Write the next snapshot of a run into its folder; the newest two stay."""
    old = _in_order(Path(folder))
    number = _number(old[-1]) + 1 if old else 1
    path = save(snapshot, Path(folder) / _NAME.format(number), meta)
    for past in old[: 1 - _KEEP]:
        past.unlink(missing_ok=True)
    return path


def load_latest(folder: Path | str) -> tuple[Snapshot, Meta]:
    """Return the newest snapshot of a run, or the one before if that is damaged.

    Raises `Refused` if there is none, or none that is whole.
    """
    paths = _in_order(Path(folder))
    if not paths:
        message = f"There is no snapshot in {str(folder)!r}. Give the folder of a stopped run."
        raise Refused("snapshot.none", message, "resume")
    for older in reversed(paths[1:]):
        try:
            return load(older)
        except Refused as error:
            if error.code != "snapshot.damaged":
                raise
            log.warning("%s Going on from the one before.", error)
    return load(paths[0])


def _in_order(folder: Path) -> list[Path]:
    """The snapshots in a folder, as they were written: a run may go back, so steps do not tell."""
    return sorted(folder.glob(f"snapshot-{'[0-9]' * 6}.safetensors"))


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("snapshot-"))


def _own(tensor: Tensor) -> Tensor:
    """On the CPU, in memory of its own: at the start, latent, anchor and average are one."""
    return tensor.detach().cpu().contiguous().clone()


def _digest(record: str, tensors: Mapping[str, Tensor]) -> str:
    """Of all that matters: the record, and each tensor's name, kind, shape and bits."""
    return hashlib.sha256(record.encode() + as_bytes(dict(tensors))).hexdigest()


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.is_file():
        message = f"There is no snapshot {str(path)!r}. Give the path of one."
        raise Refused("snapshot.missing", message, "resume")
    try:
        with safe_open(path, framework="pt") as file:
            # copies: what is mapped from a file would change, or vanish, with the file
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            return file.metadata() or {}, tensors
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> Refused:
    message = f"{path.name!r} is damaged, or no snapshot. Use an older one, or start anew."
    return Refused("snapshot.damaged", message, "resume")


def _restored(
    record: dict[str, Any], tensors: dict[str, Tensor], path: Path
) -> tuple[Snapshot, Meta]:
    if record["format"] > _FORMAT:
        message = f"{path.name!r} was written by a newer version of the program. Update it."
        raise Refused("snapshot.newer", message, "resume")
    memory = {
        name.removeprefix(_OPTIMISER): value
        for name, value in tensors.items()
        if name.startswith(_OPTIMISER)
    }
    latents = {name: tensors[name] for name in _LATENTS}
    snapshot = Snapshot(
        index=int(record["index"]),
        optimiser=memory,
        plateau=_plateau_from_json(record["plateau"]),
        halvings=int(record["halvings"]),
        **latents,
    )
    return snapshot, dict(record["meta"])


def _plateau_to_json(plateau: Plateau) -> dict[str, Any]:
    """Floats as text: JSON has no infinity, and `repr` gives every bit back."""
    return {
        "level": repr(plateau.level),
        "best": repr(plateau.best),
        "waited": plateau.waited,
    }


def _plateau_from_json(plateau: Mapping[str, Any]) -> Plateau:
    return Plateau(float(plateau["level"]), float(plateau["best"]), int(plateau["waited"]))
