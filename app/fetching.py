"""A file comes here over the network, whole and of its known hash: the only place that touches it.

What broke off goes on where it stopped, from the same address or another; nothing appears under
its own name until it is right.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from huggingface_hub import hf_hub_url
from safetensors import SafetensorError, safe_open

from app.catalog import File, Format, ModelError, Source, always_there
from app.convert import MOST_BYTES
from app.files import MIB, Part, alone, beside, digest, set_aside

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all (if the server says)
OFFLINE = ("SYNESTHETE_OFFLINE", "HF_HUB_OFFLINE")
_GLANCE = 0.1  # seconds between two signs of life while we wait
_SPARE = 64 * MIB  # bytes that a download leaves free


def silent(done: int, total: int | None) -> None:
    """Nobody is looking."""


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
    progress: Progress = silent,
    patience: Patience = PATIENCE,
) -> str:
    """Fetch a file to `target` and return its SHA-256; do nothing when it is there and right.

    An interrupted download goes on where it stopped, in this call or a later one. A file whose
    hash is wrong is kept as `target` with `.bad` and fetched once more. Until a file is whole and
    right, nothing appears under its own name. Two processes fetch once.
    Raises ModelError saying what is wrong; `progress` may raise to stop, and a later call goes on.
    """
    with plain_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with alone(target, patience.stale) as alive:
            if target.exists():
                found = digest(target)
                if file.sha256 in (None, found):
                    return found
                set_aside(target, target)
            refuse_offline(target.parent.name)
            return _fetch(file, target, beating(alive, progress), patience)


def beating(alive: Callable[[], None], progress: Progress) -> Progress:
    """Show that we live with every piece that arrives."""

    def tell(done: int, total: int | None) -> None:
        alive()
        progress(done, total)

    return tell


@contextmanager
def plain_errors(place: Path) -> Iterator[None]:
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


def _reason(error: Exception, url: str) -> str:
    """Why a try failed, in plain words."""
    told = str(error) or type(error).__name__
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
        host = httpx.URL(url).host
        return f"{host} cannot be reached, is this machine connected to the network? ({told})"
    if isinstance(error, httpx.TimeoutException):
        return f"the server went silent ({told})"
    return told


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
                reason = _reason(error, self.url)
            if in_vain >= self.patience.tries:
                raise ModelError(
                    f"Cannot fetch {self.url}: {reason} (after {in_vain} tries; what has arrived "
                    f"is kept). Without it you have {always_there()}."
                )
            self._rest(self.patience.pause * 2 ** min(in_vain - 1, 5))
        return None

    def _rest(self, seconds: float) -> None:
        """Wait, and tell of it again and again: whoever listens may want to stop."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.progress(self.part.size, self.file.bytes)
            time.sleep(min(left, _GLANCE))

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
        need_room(self.url, expected - self.part.size, place)

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


def need_room(what: str, missing: int, place: Path) -> None:
    """Raise ModelError unless so many bytes, and some to spare, have room at `place`."""
    free, needed = shutil.disk_usage(place).free, missing + _SPARE
    if free < needed:
        raise ModelError(
            f"{what} needs {needed // MIB:,} MB, and {place} has {free // MIB:,} MB free. "
            "Make room, or name another folder in SYNESTHETE_MODELS."
        )
