"""What is here: the tables of models, downloads, and the doctor's report."""

from __future__ import annotations

import logging
import platform
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from app import models, results, saving, stock
from app.catalog import TABLES, Entry, Kind, ModelError
from app.errors import Failed, Refused
from app.fetching import PATIENCE, Patience, offline, refuse_offline
from app.generate import choose_device
from app.recipe import VERSION
from app.terminal import table, tell

MB, GB = 1e6, 2**30
_MOST = 2  # downloads at a time
_RECENT = 10.0  # seconds over which the speed of a download is taken

log = logging.getLogger(__name__)


def models_table() -> str:
    """Every row of the catalog: is it here, how large, whose licence, have we ever fetched it."""
    here = stock.installed()
    rows = [("KIND", "NAME", "HERE", "SIZE", "LICENCE", "CHECKED BY US", "WHAT IT IS")]
    for kind, entries in TABLES.items():
        for entry in entries.values():
            checked = "yes" if entry.verified else "no"
            there = "yes" if entry in here else "no"
            size = _size(entry)
            rows.append((kind, entry.name, there, size, entry.licence, checked, entry.note))
    return (
        f"{table(rows)}\n\nFetch one with: python -m app download NAME. What we have not checked "
        f"needs --trust-file.\nFetched models lie in {stock.folder()}."
    )


def _size(entry: Entry) -> str:
    """On the disk if it is here, else what has to be fetched."""
    found = sum(path.stat().st_size for path in stock.weights(entry))
    known = [file.bytes for file in entry.files]
    if not (found or known):
        return "none"
    if found:
        return f"{found / MB:,.0f} MB"
    return "unknown" if None in known else f"{sum(filter(None, known)) / MB:,.0f} MB"


class Row(NamedTuple):
    """A row of the catalog, and what there is of it on this machine."""

    entry: Entry
    here: bool  # it can be used now
    size: int | None  # bytes to be fetched; None: nobody has told us
    arrived: int  # bytes that an unfinished download brought
    occupied: int  # bytes on the disk


def rows(kind: Kind) -> list[Row]:
    """All models of a kind, in menu order. Raises `ModelError` when the list of pins is damaged."""
    here = stock.installed()
    return [_row(entry, entry in here) for entry in TABLES[kind].values()]


def _row(entry: Entry, here: bool) -> Row:
    known = [file.bytes for file in entry.files]
    size = None if None in known else sum(filter(None, known))
    return Row(entry, here, size, stock.arrived(entry), stock.occupied(entry))


class Disk(NamedTuple):
    """The place where fetched models lie: bytes they take, bytes that are free."""

    folder: Path
    used: int
    free: int


def disk() -> Disk:
    """How full it is where fetched models lie."""
    place = stock.folder()
    fetched = [entry for table in TABLES.values() for entry in table.values() if entry.files]
    used = sum(stock.occupied(entry) for entry in fetched)
    return Disk(place, used, shutil.disk_usage(_there(place)).free)


# --- downloads -------------------------------------------------------------------------------


class _Left(Exception):
    """Somebody stopped this download; what has arrived is kept."""


class Download:
    """One model on its way here. Its own thread writes it, anybody may look."""

    def __init__(self, entry: Entry, *, trust: bool = False) -> None:
        """Nothing has arrived yet. `trust`: somebody vouched for the source."""
        self.entry, self.trust = entry, trust
        self.done = 0  # bytes
        self.total: int | None = None  # as far as the server has told
        self.error = ""  # one sentence, if it failed
        self.stop, self.over = threading.Event(), threading.Event()
        self._marks: tuple[tuple[float, int], ...] = ()  # (when, bytes then), newest last

    def tell(self, done: int, total: int | None) -> None:
        """Take note of how much there is. Raises to end the download when somebody stopped it."""
        if self.stop.is_set():
            raise _Left
        now = time.monotonic()
        if not self._marks or (done > self.done and now - self._marks[-1][0] >= 0.5):
            recent = [mark for mark in self._marks if now - mark[0] < _RECENT]
            self._marks = (*recent, (now, done))
        self.done, self.total = done, total or self.total

    @property
    def is_underway(self) -> bool:
        """Nobody stopped it, and it has not come to an end."""
        return not (self.stop.is_set() or self.over.is_set())

    @property
    def is_whole(self) -> bool:
        """Everything has arrived, and is being checked, converted and tried out."""
        return bool(self.total) and self.done >= (self.total or 0)

    @property
    def speed(self) -> float:
        """Bytes a second lately; 0 as long as that cannot be said, and where nothing arrives."""
        marks, now = self._marks, time.monotonic()
        if len(marks) < 2 or now - marks[-1][0] > _RECENT:
            return 0.0
        return (self.done - marks[0][1]) / max(now - marks[0][0], 1e-6)

    @property
    def seconds_left(self) -> float | None:
        """None where it cannot be said."""
        if not (self.total and self.speed):
            return None
        return max(0, self.total - self.done) / self.speed


class Downloads:
    """Brings models here, each in a thread of its own, whoever looks or leaves."""

    def __init__(self, patience: Patience = PATIENCE) -> None:
        """`patience` with bad lines."""
        self._patience = patience
        self._lock = threading.Lock()
        self._underway: dict[tuple[Kind, str], Download] = {}
        self._ended: dict[tuple[Kind, str], Download] = {}  # the last of each model

    def underway(self) -> list[Download]:
        """What is on its way, oldest first."""
        with self._lock:
            return list(self._underway.values())

    def last(self, entry: Entry) -> Download | None:
        """The download of a model that is on its way, or else the one that ended last."""
        key = (entry.kind, entry.name)
        with self._lock:
            return self._underway.get(key) or self._ended.get(key)

    def start(self, entry: Entry, *, trust: bool = False) -> Download:
        """Begin to bring a model, or join whoever began before. Return at once.

        Raises `ModelError` when the network is switched off or the disk too full, and `Refused`
        when nobody vouches for the model, or too much is on its way.
        """
        with self._lock:
            key = (entry.kind, entry.name)
            if key in self._underway:
                return self._underway[key]
            self._refuse(entry, trust)
            download = self._underway[key] = Download(entry, trust=trust)
            self._ended.pop(key, None)
        name = f"download of {entry.name}"
        threading.Thread(target=self._bring, args=(download,), name=name, daemon=True).start()
        return download

    def trusts(self, entry: Entry) -> bool:
        """Whether nobody has to be asked: it is trusted anyway, or it was when it was begun."""
        last = self.last(entry)
        return stock.is_trusted(entry) or (last is not None and last.trust)

    def _refuse(self, entry: Entry, trust: bool) -> None:
        refuse_offline(entry.name)
        if not (trust or stock.is_trusted(entry)):
            raise Refused(
                "models.trust",
                f"Nobody here has ever fetched {entry.name}. Say first that you trust its source.",
            )
        if len(self._underway) >= _MOST:
            names = " and ".join(name for _, name in self._underway)
            raise Refused(
                "models.busy", f"{names} are on their way. Wait for one of them, or stop it."
            )
        stock.refuse_full(entry)

    def _bring(self, download: Download) -> None:
        try:
            models.install(
                download.entry,
                trust=download.trust,
                progress=download.tell,
                patience=self._patience,
            )
        except _Left:
            pass
        except ModelError as error:
            download.error = str(error)
        except Exception as error:  # whoever looks must not wait for ever, whatever it is
            log.exception("A download failed.")
            download.error = f"The program itself failed ({type(error).__name__}: {error})."
        self._leave(download)
        download.over.set()

    def stop(self, entry: Entry) -> bool:
        """End a download; what has arrived is kept. Return whether there was one to end.

        It is gone from the list at once. Its thread may need a moment, on a silent line half a
        minute; whoever starts the model again meanwhile waits for that thread.
        """
        with self._lock:
            download = self._underway.get((entry.kind, entry.name))
        if download is None:
            return False
        download.stop.set()
        self._leave(download)
        return True

    def _leave(self, download: Download) -> None:
        key = (download.entry.kind, download.entry.name)
        with self._lock:
            if self._underway.get(key) is download:
                del self._underway[key]
                self._ended[key] = download

    def remove(self, entry: Entry) -> int:
        """Delete a fetched model, or what there is of it. Return how many bytes became free.

        Raises `Refused` while it is on its way, and `ModelError` when it is not here or ours.
        """
        key = (entry.kind, entry.name)
        with self._lock:
            if key in self._underway:
                raise Refused("models.busy", f"{entry.name} is on its way. Stop that first.")
            self._ended.pop(key, None)
        before = stock.occupied(entry)
        stock.remove(entry)
        return before


# --- the command line ------------------------------------------------------------------------


def fetch(name: str, *, trust: bool) -> None:
    """Fetch every model of a name. Raises `ModelError` when it cannot be had, or is unknown."""
    entries = [entries[name] for entries in TABLES.values() if name in entries]
    if not entries:
        names = ", ".join(dict.fromkeys(name for entries in TABLES.values() for name in entries))
        raise ModelError(f"No model called {name!r}. We have: {names}.")
    for entry in entries:
        there = entry in stock.installed()
        place = models.install(entry, trust=trust, progress=_progress())
        tell(f"The {entry.kind} {name} {'was' if there else 'is'} here{_where(entry, place)}.")


def _where(entry: Entry, place: Path) -> str:
    return f", in {place}" if stock.weights(entry) else ": it needs no files"


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
    places = {"results": results.folder(), "fetched models": stock.folder()}
    rows = []
    for what, path in places.items():
        try:
            saving.check_folder(path, may_make=None)
        except (Refused, Failed) as error:
            problems.append(str(error))
        rows.append((what, f"{path} ({_free(path)} free)"))
    if name := offline():
        rows.append(("network", f"switched off by {name}"))
    return rows


def _free(path: Path) -> str:
    return f"{shutil.disk_usage(_there(path)).free / GB:.1f} GB"


def _there(path: Path) -> Path:
    """The path itself, or the folder it would come to lie in."""
    return next(each for each in (path, *path.absolute().parents) if each.exists())


def _models(problems: list[str]) -> list[tuple[str, str]]:
    """Each model that is here with the hashes of its weights; those that come with us must load."""
    loader, here, rows = models.Models(), stock.installed(), []
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
