"""The converter: an old checkpoint goes in, safetensors comes out, and nothing in it ever runs.

A `.ckpt` or `.bin` is a pickle: a small program that may name any function of any module. Two
things keep it harmless. Every name it asks for is answered with an inert stub, save the few that
a table of tensors needs; and all reading happens in a child process under limits of memory, time
and file size, so that a file made to exhaust or crash its reader exhausts or crashes only that.

What is enforced: nothing that the file names is looked up or called; the child has an empty
environment; on Linux its memory, on POSIX its processor time and output size are limited by the
system, and everywhere the parent stops it after a while. Sockets, other programs and files opened
for writing are refused by an audit hook, which binds Python code only; there is no system sandbox.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import math
import os
import pickle
import subprocess
import sys
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

import numpy as np
from numpy.lib.stride_tricks import as_strided
from safetensors import TensorSpec, serialize_file

from app.catalog import ModelError
from app.files import GIB, MIB, beside, digest, publish

try:
    import resource
except ImportError:  # Windows has no such limits; the wall clock still holds
    resource = None  # type: ignore[assignment]

VERSION = 1
ROOT = Path(__file__).resolve().parent.parent
MOST_BYTES, MOST_RECORDS, MOST_PICKLE, MOST_DIMENSIONS = 6 * GIB, 20_000, 8 * MIB, 8

# Which of a checkpoint's keys are kept, by what they are kept for. The rest (the losses of the
# training with networks of their own, optimisers, callbacks) is two thirds of such a file.
KEEP = {
    "vqgan": ("encoder.", "decoder.", "quantize.", "quant_conv.", "post_quant_conv."),
    "wav2clip": ("audio_encoder.", "audio_transform."),
}
UNUSED = ".num_batches_tracked"  # whole numbers that a batch norm counts while it is trained
INSIDE = "first_stage_model."  # a transformer's file holds its VQGAN under this prefix

# torch's storage classes: the name safetensors gives their numbers, and bytes per number
STORAGES = {
    "DoubleStorage": ("float64", 8),
    "FloatStorage": ("float32", 4),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2),
    "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
}
# A float is infinite or not a number exactly when all bits of its exponent are set.
EXPONENTS = {
    "float64": 0x7FF << 52,
    "float32": 0xFF << 23,
    "float16": 0x1F << 10,
    "bfloat16": 0xFF << 7,
}

# How a file saved before torch 1.6 begins: torch's own constants
LEGACY_MAGIC, LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001

# What the child sees: no secrets. Threads nobody needs would take memory; Windows needs its root.
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}
ENVIRONMENT |= {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}


# --- the parent's side -----------------------------------------------------------------------


def convert(
    source: Path,
    target: Path,
    keep: str = "vqgan",
    *,
    seconds: float = 120,
    memory: int = 4 * GIB,
) -> dict[str, Any]:
    """Write the weights of an old checkpoint to `target` (safetensors), read by a child process.

    A `.json` beside it tells the hashes and the converter's version; the same is returned.
    `memory` (bytes above what the child needs to start) and `seconds` limit the child.
    Raises ModelError saying what is wrong with the file; then nothing is written.
    """
    part = beside(target, f"{os.getpid()}.part")
    try:
        _run_child(source, part, keep, seconds, memory)
        report = {
            "source": source.name,
            "source_sha256": digest(source),
            "sha256": digest(part),
            "bytes": part.stat().st_size,
            "converter": VERSION,
        }
        publish(part, target)
    finally:
        part.unlink(missing_ok=True)
    target.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def _run_child(source: Path, part: Path, keep: str, seconds: float, memory: int) -> None:
    command = [sys.executable, "-m", "app.convert", str(source.resolve()), str(part.resolve())]
    command += ["--keep", keep, "--seconds", str(math.ceil(seconds)), "--memory", str(memory)]
    try:
        child = subprocess.run(
            command,
            cwd=ROOT,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _refused(source, f"reading it took longer than {seconds:g} s") from None
    if child.returncode or not part.exists():
        raise _refused(source, _last_words(child.stderr, child.returncode))


def _last_words(stderr: bytes, status: int) -> str:
    """The child's own reason, or how it died. It may quote the file: keep it printable."""
    if status < 0:
        return f"reading it broke the converter (signal {-status})"
    lines = stderr.decode("utf-8", "replace").strip().splitlines() or ["the converter said nothing"]
    return "".join(letter if letter.isprintable() else "?" for letter in lines[-1])[:500]


def _refused(source: Path, reason: str) -> ModelError:
    return ModelError(f"{source.name} cannot be used: {reason}. Nothing was converted.")


# --- the child's side: limits ----------------------------------------------------------------


class Refused(Exception):
    """The file is not what it should be; the message goes on after "cannot be used: "."""


def _refuse(reason: str) -> NoReturn:
    raise Refused(reason)


FORBIDDEN = (
    *("socket.", "subprocess.", "ctypes."),
    *("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile"),
    *("os.remove", "os.rename", "os.putenv"),
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def confine(memory: int, seconds: int) -> None:
    """Give up, for the rest of this process, what reading a file does not need."""
    sys.addaudithook(_watch)
    if resource is None:
        return
    statm = Path("/proc/self/statm")
    if statm.exists():  # Linux; what is mapped already must not count against the file
        mapped = int(statm.read_text().split()[0]) * resource.getpagesize()
        _lower(resource.RLIMIT_AS, mapped + memory)
    _lower(resource.RLIMIT_CPU, math.ceil(time.process_time()) + seconds)
    _lower(resource.RLIMIT_FSIZE, MOST_BYTES)
    _lower(resource.RLIMIT_CORE, 0)


def _lower(limit: int, value: int) -> None:
    now = resource.getrlimit(limit)[1]
    value = value if now == resource.RLIM_INFINITY else min(value, now)
    resource.setrlimit(limit, (value, value))


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    opens_to_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES
    if event.startswith(FORBIDDEN) or opens_to_write:
        raise PermissionError(f"{event} is not for a converter")


# --- the child's side: what a pickle may build -----------------------------------------------


class Storage(NamedTuple):
    """A run of numbers in the file, as the pickle names it."""

    key: str
    numbers: str  # a key of STORAGES, or a kind we do not know
    length: int


class View(NamedTuple):
    """A tensor, not yet read: which numbers of a storage it shows, and in which order.

    The fields are as the file gives them: `_refuse_odd_view` looks at them before they are used.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Inert:
    """Stands in for any class or function a checkpoint names: takes everything, does nothing."""

    def __new__(cls, *_: object, **__: object) -> Inert:
        """Swallow the arguments of the real class."""
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        """Swallow the arguments of the real class."""

    def _nothing(self, *_: Any, **__: Any) -> Any:
        """Swallow state, items and calls."""

    __call__ = __setstate__ = __setitem__ = append = extend = add = _nothing


class _Rebuild(Inert):
    """torch's function that makes a tensor: here it only notes what was asked for."""

    def __call__(self, storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> View:
        """Note it."""
        return View(storage, offset, shape, stride)


class _Parameter(Inert):
    """torch's function that marks a tensor as trainable: here it hands the tensor on."""

    def __call__(self, tensor: Any, *_: Any) -> Any:
        """Hand it on."""
        return tensor


# All that a table of weights needs. Everything else is Inert, whatever it is called.
KNOWN: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Rebuild(),
    ("torch._utils", "_rebuild_parameter"): _Parameter(),
    ("torch", "Size"): tuple,
    **{("torch", name): name for name in STORAGES},
}


class Unpickler(pickle.Unpickler):
    """Builds dictionaries, lists, numbers and text; Storages and Views; and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """The stub for a name. Nothing is imported."""
        return KNOWN.get((module, name), Inert)

    def persistent_load(self, pid: Any) -> object:
        """A storage, from ("storage", class, key, device, length) and, in older files, None."""
        match pid:
            case ("storage", str(numbers), str(key), _, int(length), *rest) if not any(rest):
                return Storage(key, numbers, length)
        return Inert()  # refused later, if one of the kept tensors needs it


# --- the child's side: the two formats -------------------------------------------------------

Read = Callable[[Storage], bytes]
Opened = tuple[object, Read]  # the pickled object, and a function that reads a Storage


def open_checkpoint(path: Path) -> AbstractContextManager[Opened]:
    """Open a checkpoint of either format. Raises Refused for what is none."""
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"PK"):
        return _open_zip(path)
    if head.lstrip()[:1] in (b"<", b"{"):
        _refuse("it is a web page or a message, not a checkpoint")
    if not head.startswith(b"\x80"):
        _refuse("it does not begin like a checkpoint")
    return _open_legacy(path)


@contextmanager
def _open_zip(path: Path) -> Iterator[Opened]:
    """A file saved by torch 1.6 or later: one pickle, and one record a storage."""
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        _refuse("its end is missing or damaged (it is a zip file cut short)")
    with archive:
        _refuse_odd_records(archive.infolist(), path.stat().st_size)
        records = archive.NameToInfo
        folder = _folder_of_weights(records)

        def read(storage: Storage) -> bytes:
            name = f"{folder}data/{storage.key}"
            if name not in records or records[name].file_size != _size(storage):
                _refuse(f"the record {name!r} is missing or has the wrong length")
            try:
                return archive.read(name)  # checks the CRC, which torch itself does not
            except zipfile.BadZipFile:
                _refuse(f"the record {name!r} is damaged (its checksum does not fit)")

        if f"{folder}byteorder" in records and archive.read(f"{folder}byteorder") != b"little":
            _refuse("its numbers are big-endian")
        yield Unpickler(io.BytesIO(archive.read(f"{folder}data.pkl"))).load(), read


def _size(storage: Storage) -> int:
    return storage.length * STORAGES[storage.numbers][1]


def _refuse_odd_records(records: list[zipfile.ZipInfo], size: int) -> None:
    names = [record.filename for record in records]
    oddities = {
        f"more than {MOST_RECORDS} records": len(records) > MOST_RECORDS,
        "compressed records": any(r.compress_type != zipfile.ZIP_STORED for r in records),
        "encrypted records": any(r.flag_bits & 1 for r in records),
        "two records of one name": len(set(names)) < len(names),
        "a record outside its folder": any(".." in n.split("/") or n[:1] in "/\\" for n in names),
        "records that lie upon each other": sum(r.file_size for r in records) > size,
        f"more than {MOST_BYTES // GIB} GB": size > MOST_BYTES,
    }
    for oddity, found in oddities.items():
        if found:
            _refuse(f"it holds {oddity}")


def _folder_of_weights(records: Mapping[str, zipfile.ZipInfo]) -> str:
    """The one folder inside the zip file that holds `data.pkl`, with its slash."""
    if any(name.endswith("/constants.pkl") for name in records):
        _refuse("it is a TorchScript program, which would have to be run")
    pickles = [name for name in records if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        _refuse(f"it holds {len(pickles)} tables of weights, and should hold one")
    if records[pickles[0]].file_size > MOST_PICKLE:
        _refuse(f"its table of weights is larger than {MOST_PICKLE // MIB} MB")
    return pickles[0].removesuffix("data.pkl")


@contextmanager
def _open_legacy(path: Path) -> Iterator[Opened]:
    """A file saved before torch 1.6: five pickles, then each storage with its length before it.

    Nothing but the file's own hash guards its numbers against a flipped bit.
    """
    with path.open("rb") as file:
        pickles = io.BytesIO(file.read(MOST_PICKLE))
        magic, protocol, system = (Unpickler(pickles).load() for _ in range(3))
        if (magic, protocol) != (LEGACY_MAGIC, LEGACY_PROTOCOL):
            _refuse("it is a pickle, but no checkpoint")
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            _refuse("its numbers are big-endian")
        unpickler = _Collector(pickles)
        root, order = unpickler.load(), Unpickler(pickles).load()
        places = _legacy_places(file, pickles.tell(), order, unpickler.storages)

        def read(storage: Storage) -> bytes:
            if unpickler.storages.get(storage.key) != storage or storage.key not in places:
                _refuse(f"the record {storage.key!r} is missing or described in two ways")
            file.seek(places[storage.key])
            return file.read(_size(storage))

        yield root, read


class _Collector(Unpickler):
    """Remembers every storage it met: a legacy file says nowhere else how wide its numbers are."""

    def __init__(self, file: BinaryIO) -> None:
        """Read one pickle from `file`."""
        super().__init__(file)
        self.storages: dict[str, Storage] = {}

    def persistent_load(self, pid: Any) -> object:
        """As Unpickler, remembered; the first description of a storage counts."""
        storage = super().persistent_load(pid)
        if isinstance(storage, Storage):
            self.storages.setdefault(storage.key, storage)
        return storage


def _legacy_places(
    file: BinaryIO, start: int, order: Any, storages: Mapping[str, Storage]
) -> dict[str, int]:
    """Where each storage's numbers begin. Their count leads them: eight bytes, little-endian."""
    places: dict[str, int] = {}
    keys: list[Any] = order if isinstance(order, list) else [None]
    for key in keys:
        if key not in storages or storages[key].numbers not in STORAGES:
            _refuse("its list of records is damaged")
        file.seek(start)
        if int.from_bytes(file.read(8), "little") != storages[key].length:
            _refuse(f"the record {key!r} is missing or has the wrong length")
        places[key] = start + 8
        start += 8 + _size(storages[key])
    return places


# --- the child's side: choosing, checking, writing -------------------------------------------


def wanted(root: object, keep: str) -> dict[str, View]:
    """The tensors to keep, by name, whatever else the checkpoint holds."""
    table = root.get("state_dict", root) if isinstance(root, dict) else None
    if not isinstance(table, dict):
        _refuse("it holds no table of weights")
    named = {key: value for key, value in table.items() if isinstance(key, str)}
    if any(key.startswith(INSIDE) for key in named):
        named = {k.removeprefix(INSIDE): v for k, v in named.items() if k.startswith(INSIDE)}
    kept = {
        key: value
        for key, value in named.items()
        if key.startswith(KEEP[keep]) and not key.endswith(UNUSED)
    }
    if not kept:
        _refuse(f"it holds no {keep}: its weights are {', '.join(sorted(named)[:5]) or 'none'}")
    return kept


def tensor(name: str, view: View, read: Read) -> np.ndarray[Any, Any]:
    """The bits of one tensor, as unsigned integers in its shape, contiguous.

    Raises Refused when it is odd, damaged, infinite or not a number.
    """
    _refuse_odd_view(name, view)
    kind, width = STORAGES[view.storage.numbers]
    numbers = read(view.storage)
    if len(numbers) != _size(view.storage):
        _refuse(f"{name} is cut short")
    cells = np.frombuffer(numbers, dtype=f"<u{width}")[view.offset :]
    bits = as_strided(cells, view.shape, [step * width for step in view.stride]).copy(order="C")
    exponent = bits.dtype.type(EXPONENTS[kind])
    if ((bits & exponent) == exponent).any():
        _refuse(f"{name} holds numbers that are infinite or not numbers")
    return bits


def _refuse_odd_view(name: str, view: View) -> None:
    """A view must be of floating-point numbers, inside its storage, none of them shown twice."""
    is_view = isinstance(view, View) and isinstance(view.storage, Storage)
    if not is_view or _kind(view.storage) not in EXPONENTS:
        _refuse(f"{name} is no tensor of floating-point numbers")
    storage, offset, shape, stride = view
    tuples = isinstance(shape, tuple) and isinstance(stride, tuple) and len(shape) == len(stride)
    if not tuples or len(shape) > MOST_DIMENSIONS:
        _refuse(f"{name} has an odd number of dimensions")
    whole = all(type(number) is int for number in (offset, *shape, *stride))
    if not whole or offset < 0 or min(shape, default=1) < 1 or min(stride, default=1) < 1:
        _refuse(f"{name} has an odd shape or stride")
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if last >= storage.length or math.prod(shape) > storage.length:
        _refuse(f"{name} reaches beyond its numbers")


def _kind(storage: Storage) -> str:
    return STORAGES[storage.numbers][0] if storage.numbers in STORAGES else "unknown"


def write(views: Mapping[str, View], read: Read, target: Path) -> None:
    """Read, check and write all tensors, a storage at a time."""
    read_once = functools.lru_cache(maxsize=1)(read)  # neighbours may share a storage
    by_storage = sorted(views.items(), key=lambda item: str(item[1]))
    bits = {name: tensor(name, view, read_once) for name, view in by_storage}
    specs = {
        name: TensorSpec(
            dtype=_kind(views[name].storage),
            shape=list(array.shape),
            data_ptr=array.__array_interface__["data"][0],
            data_len=array.nbytes,
        )
        for name, array in bits.items()
    }
    serialize_file(specs, target, metadata={"format": "pt"})


def main(arguments: list[str] | None = None) -> int:
    """`python -m app.convert source target --keep vqgan`: 0 when done, 2 if the file is refused."""
    parser = argparse.ArgumentParser(prog="python -m app.convert")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--keep", choices=list(KEEP), default="vqgan")
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--memory", type=int, default=4 * GIB)
    asked = parser.parse_args(arguments)
    confine(asked.memory, asked.seconds)
    try:
        with open_checkpoint(asked.source) as (root, read):
            write(wanted(root, asked.keep), read, asked.target)
    except Refused as refusal:
        reason = str(refusal)
    except MemoryError:
        reason = "reading it takes more memory than a checkpoint may"
    except Exception as error:  # a damaged pickle can fail in any way; the child ends here anyhow
        reason = f"it is damaged or no checkpoint ({type(error).__name__}: {error})"
    else:
        return 0
    sys.stderr.write(reason + "\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
