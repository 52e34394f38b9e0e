"""What is here: the tables of models, downloads, and the doctor's report."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

from app import models, results, saving
from app.catalog import TABLES, Entry, ModelError
from app.errors import Failed, Refused
from app.generate import choose_device
from app.recipe import VERSION
from app.terminal import table, tell

MB, GB = 1e6, 2**30


def models_table() -> str:
    """Every row of the catalog: is it here, how large, whose licence, have we ever fetched it."""
    here = models.installed()
    rows = [("KIND", "NAME", "HERE", "SIZE", "LICENCE", "CHECKED BY US", "WHAT IT IS")]
    for kind, entries in TABLES.items():
        for entry in entries.values():
            checked = "yes" if entry.verified else "no"
            there = "yes" if entry in here else "no"
            size = _size(entry)
            rows.append((kind, entry.name, there, size, entry.licence, checked, entry.note))
    return (
        f"{table(rows)}\n\nFetch one with: python -m app download NAME. What we have not checked "
        f"needs --trust-file.\nFetched models lie in {models.folder()}."
    )


def _size(entry: Entry) -> str:
    """On the disk if it is here, else what has to be fetched."""
    found = sum(path.stat().st_size for path in models.weights(entry))
    known = [file.bytes for file in entry.files]
    if not (found or known):
        return "none"
    if found:
        return f"{found / MB:,.0f} MB"
    return "unknown" if None in known else f"{sum(filter(None, known)) / MB:,.0f} MB"


def fetch(name: str, *, trust: bool) -> None:
    """Fetch every model of a name. Raises `ModelError` when it cannot be had, or is unknown."""
    entries = [entries[name] for entries in TABLES.values() if name in entries]
    if not entries:
        names = ", ".join(dict.fromkeys(name for entries in TABLES.values() for name in entries))
        raise ModelError(f"No model called {name!r}. We have: {names}.")
    for entry in entries:
        there = entry in models.installed()
        place = models.install(entry, trust=trust, progress=_progress())
        tell(f"The {entry.kind} {name} {'was' if there else 'is'} here{_where(entry, place)}.")


def _where(entry: Entry, place: Path) -> str:
    return f", in {place}" if models.weights(entry) else ": it needs no files"


def _progress() -> Callable[[int, int | None], None]:
    """Draw how much has come, once for each per cent, where someone watches."""
    shown = -1

    def show(done: int, total: int | None) -> None:
        nonlocal shown
        part = done * 100 // total if total else done // int(10 * MB)
        if part != shown and sys.stderr.isatty():
            shown = part
            whole = f" of {total / MB:,.0f}" if total else ""
            sys.stderr.write(f"\r{done / MB:,.0f}{whole} MB ")
            sys.stderr.flush()

    return show


def examine() -> tuple[str, bool]:
    """Look at everything a run needs. Return a report and whether all is well."""
    problems: list[str] = []
    rows = [("WHAT", "HERE"), *_machine(), *_places(problems), *_models(problems)]
    verdict = "\n".join(problems) or "All is well."
    return f"{table(rows)}\n\n{verdict}", not problems


def _machine() -> list[tuple[str, str]]:
    memory = psutil.virtual_memory()
    return [
        ("Synesthete", VERSION),
        ("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("torch", f"{torch.__version__}, {torch.get_num_threads()} threads"),
        ("device", _device()),
        ("memory", f"{memory.available / GB:.1f} of {memory.total / GB:.1f} GB free"),
    ]


def _device() -> str:
    device = choose_device(None)
    if device != "cuda":
        return device
    free, total = torch.cuda.mem_get_info()
    return f"cuda, {torch.cuda.get_device_name()}, {free / GB:.1f} of {total / GB:.1f} GB free"


def _places(problems: list[str]) -> list[tuple[str, str]]:
    places = {"results": results.folder(), "fetched models": models.folder()}
    rows = []
    for what, path in places.items():
        try:
            saving.check_folder(path, may_make=None)
        except (Refused, Failed) as error:
            problems.append(str(error))
        rows.append((what, f"{path} ({_free(path)} free)"))
    if name := models.offline():
        rows.append(("network", f"switched off by {name}"))
    return rows


def _free(path: Path) -> str:
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    return f"{shutil.disk_usage(there).free / GB:.1f} GB"


def _models(problems: list[str]) -> list[tuple[str, str]]:
    """Each model that is here with the hashes of its weights; those that come with us must load."""
    loader, here, rows = models.Models(), models.installed(), []
    for kind, entries in TABLES.items():
        for entry in entries.values():
            if entry in here:
                hashes = loader.hashes(entry.name, kind).values()
                told = ", ".join(f"sha256 {sha256[:16]}" for sha256 in hashes) or "needs no files"
                rows.append((f"{kind} {entry.name}", told))
            if entry.folder or entry.package:
                problems += _ours(entry, loader)
    return rows


def _ours(entry: Entry, loader: models.Models) -> list[str]:
    """What is wrong with a model that comes with the program."""
    try:
        getattr(loader, entry.kind)(entry.name)
    except ModelError as error:
        return [str(error)]
    return []
