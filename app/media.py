"""The door for files from people: each is decoded in a process of its own, under limits.

Decoders are the largest piece of foreign code that sees foreign bytes. Here, one that crashes,
loops or eats memory takes only its own process with it, and a person hears one sentence:

    parent                                     child
    opens the file, checks its size     ──►    imports the decoder, takes its limits on itself,
    waits, kills it when it is late            decodes what is open: it can open nothing more
    checks the numbers, or `Refused`    ◄──    a line of JSON, then raw numbers (never a pickle)

This contains accidents and bombs. It is no sandbox against a decoder that is made to run foreign
code: the child is still a process of the same user, if one that can open no file and no socket.
"""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from app.errors import Refused

if sys.platform != "win32":
    import resource
    import signal

MIB, GIB = 1 << 20, 1 << 30

Numbers = dict[str, NDArray[Any]]
Decode = Callable[..., tuple[Numbers, dict[str, Any]]]  # (file, name, **options)


@dataclass(frozen=True)
class Limits:
    """What one file may cost."""

    memory: int = GIB  # bytes of address space, of which the libraries for sound take a quarter
    processor: int = 30  # seconds of one core
    patience: float = 60.0  # seconds by the clock: the machine may be busy with a picture
    answer: int = 192 * MIB  # bytes that may come back


@dataclass(frozen=True)
class Decoder:
    """A kind of file: the function that reads it, and how a person hears of it."""

    function: str  # "module:function", imported by the child alone: it must not import torch
    family: str  # its codes begin like this: "audio.missing"
    wanted: str  # "Give the path of a sound."
    advice: str  # when its decoder gave up
    most_bytes: int
    limits: Limits = field(default_factory=Limits)
    smaller: str = "Give a smaller one"  # when it has more bytes


DECODERS: dict[str, Decoder] = {
    "sound": Decoder(
        function="app.sounds:decode",
        family="audio",
        wanted="Give the path of a sound",
        advice="Save it as WAV or FLAC, or give another",
        most_bytes=200_000_000,
        smaller="Give a shorter piece, or a compressed file",
    ),
    "picture": Decoder(
        function="app.images:decode_file",
        family="image",
        wanted="Give the path of a picture",
        advice="Save it as PNG or JPEG, or give another",
        most_bytes=25_000_000,
        limits=Limits(memory=2 * GIB),  # 40 megapixels of any kind were read in half of it
        smaller="Save it smaller first",
    ),
}


@dataclass(frozen=True, eq=False)
class Decoded:
    """What came back: arrays by name, and what was said about them."""

    numbers: Numbers
    said: Mapping[str, Any]


_ROOT = Path(__file__).resolve().parent.parent
_START = (
    "import json, sys; order = json.loads(sys.argv[1]); sys.path[:] = order.pop('path');"
    "from app.media import serve; serve(**order)"
)
# All that the child sees of our environment; secrets often lie there.
_ENVIRONMENT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "LANG", "LC_ALL")
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # each reserves memory
_KINDS = ("<f4", "|u1")  # of numbers that may come back
_MOST_HEADER = 64 * 1024  # bytes
_turns = threading.BoundedSemaphore(2)  # children at once, so that memory stays bounded


def decode(kind: str, path: Path | str, *, limits: Limits | None = None, **options: Any) -> Decoded:
    """Decode a file from people in a child. `kind` is a row of `DECODERS`.

    `options` (whatever JSON can hold) go to the decoder. `limits`: other ones than the row's.
    Raises `Refused` with the decoder's own code and sentence, or, of the row's family,
    `.missing`, `.empty` and `.too_big` before anything is decoded, and `.slow`, `.memory` and
    `.crashed` when the child did not survive the file.
    """
    decoder, path = DECODERS[kind], Path(path)
    limits = limits or decoder.limits
    name = repr(path.name)
    order = {
        "path": [str(_ROOT), *(os.path.abspath(folder) for folder in sys.path if folder)],
        "function": decoder.function,
        "limits": asdict(limits),
        "options": {"name": name, **options},
    }
    with _open(path, name, decoder) as file, _turns:
        content, ending = _ask(file, order, limits)
    return _understand(content, ending, name, decoder, limits)


def _open(path: Path, name: str, decoder: Decoder) -> BinaryIO:
    """An ordinary file of a fair size."""
    family, wanted = decoder.family, decoder.wanted
    try:
        if not path.is_file():  # a folder, a device, a pipe that would wait for ever
            kind = "is not a file" if path.exists() else "does not exist"
            raise Refused(f"{family}.missing", f"{name} {kind}. {wanted}.")
        file = path.open("rb", buffering=0)
        size = os.fstat(file.fileno()).st_size
    except OSError as error:
        message = f"{name} cannot be read: {error.strerror}. {wanted}."
        raise Refused(f"{family}.missing", message) from error
    if 0 < size <= decoder.most_bytes:
        return file
    file.close()
    if not size:
        raise Refused(f"{family}.empty", f"{name} is empty (0 bytes). {wanted}.")
    limit = decoder.most_bytes // 1_000_000
    message = f"{name} has more than {limit} MB. {decoder.smaller}."
    raise Refused(f"{family}.too_big", message)


def _ask(file: BinaryIO, order: Mapping[str, Any], limits: Limits) -> tuple[bytes, int | None]:
    """What the child wrote, and how it ended; None: it was late, and killed."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", _START, json.dumps(order)],
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # where libraries mutter
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | _ONE_THREAD,
        start_new_session=True,  # Ctrl-C is ours to answer
    )
    late = threading.Event()

    def end() -> None:
        late.set()
        child.kill()

    clock = threading.Timer(limits.patience, end)
    clock.daemon = True
    clock.start()
    most = _MOST_HEADER + limits.answer
    try:
        assert child.stdout is not None
        content = child.stdout.read(most + 1)
        if len(content) > most:
            return b"", 0  # more than anybody asked for
        ending = child.wait()
    finally:
        clock.cancel()
        child.kill()  # if we were interrupted
        child.communicate()
    return content, None if late.is_set() else ending


class _Broken(Exception):
    """Why a child's answer cannot be used; for the log, never for people."""


def _understand(
    content: bytes, ending: int | None, name: str, decoder: Decoder, limits: Limits
) -> Decoded:
    """Numbers, or the reason why there are none. The child is not trusted to count right."""
    late = ending is None or (sys.platform != "win32" and ending == -signal.SIGXCPU)
    if late:
        message = f"{name} takes too long to read. {decoder.advice}."
        raise Refused(f"{decoder.family}.slow", message)
    try:
        header, body = _split(content)
        if "memory" in header or (sys.platform != "win32" and ending == -signal.SIGKILL):
            limit = limits.memory // MIB
            message = f"{name} needs more than {limit:,} MB of memory to read. {decoder.advice}."
            raise Refused(f"{decoder.family}.memory", message)
        if "refused" in header:
            code, sentence = map(str, header["refused"])
            raise Refused(code, sentence)
        if "broke" in header:
            raise _Broken(header["broke"])
        return Decoded(_numbers(header["numbers"], body), dict(header["said"]))
    except (_Broken, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, Refused):
            raise
        message = f"{name} breaks the program that reads it (it ended with {ending})."
        message += f" {decoder.advice}."
        raise Refused(f"{decoder.family}.crashed", message) from error


def _split(content: bytes) -> tuple[dict[str, Any], bytes]:
    line, _, body = content.partition(b"\n")
    if not line and not body:
        return {}, b""
    if len(line) > _MOST_HEADER:
        raise _Broken("a header without end")
    header = json.loads(line)
    return header if isinstance(header, dict) else {}, body


def _numbers(described: Mapping[str, Any], body: bytes) -> Numbers:
    """Arrays that lie one behind the other in `body`, which they must fill."""
    found: Numbers = {}
    at = 0
    for name, (kind, shape) in described.items():
        if kind not in _KINDS or not all(isinstance(side, int) and side >= 0 for side in shape):
            raise _Broken(f"{kind} {shape}")
        count = int(np.prod(shape, dtype=object))
        end = at + count * np.dtype(kind).itemsize
        found[name] = np.frombuffer(body[at:end], kind).reshape(shape).copy()  # ours to change
        at = end
    if at != len(body):
        raise _Broken(f"{len(body)} bytes for {at}")
    return found


# ---- in the child --------------------------------------------------------------------------------


def serve(function: str, limits: Mapping[str, Any], options: Mapping[str, Any]) -> NoReturn:
    """Decode standard input, write the answer to standard output, and end. Only for the child.

    Everything is imported before the limits begin to act: afterwards no file can be opened.
    """
    work: Decode = pkgutil.resolve_name(function)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not end up among the numbers
    with open(0, "rb", closefd=False) as file:
        _obey(Limits(**limits))
        header, arrays = _answer(work, file, options)
    out.write(json.dumps(header).encode() + b"\n")
    for array in arrays:
        out.write(array.data)
    out.flush()
    os._exit(0)  # at once: whatever a decoder left behind may be broken


def _answer(
    work: Decode, file: BinaryIO, options: Mapping[str, Any]
) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    try:
        numbers, said = work(file, **options)
    except Refused as refused:
        return {"refused": [refused.code, refused.message]}, []
    except MemoryError:
        return {"memory": True}, []
    except Exception:  # decoders raise anything at all when a file is broken
        return {"broke": traceback.format_exc()[-4_000:]}, []
    arrays = [np.ascontiguousarray(array) for array in numbers.values()]
    described = [[array.dtype.str, array.shape] for array in arrays]
    return {"numbers": dict(zip(numbers, described, strict=True)), "said": said}, arrays


def _obey(limits: Limits) -> None:
    """Have the system hold this process to its limits. Windows has none; the clock is left."""
    if sys.platform == "win32":
        return
    for kind, most, at_last in (
        (resource.RLIMIT_AS, limits.memory, limits.memory),
        (resource.RLIMIT_CPU, limits.processor, limits.processor + 1),  # asked first, then killed
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NOFILE, 0, 0),  # what is open stays open; no more files, no sockets
    ):
        _, allowed = resource.getrlimit(kind)
        if allowed != resource.RLIM_INFINITY:
            most, at_last = min(most, allowed), min(at_last, allowed)
        with suppress(ValueError, OSError):  # macOS knows some of them by name only
            resource.setrlimit(kind, (most, at_last))
